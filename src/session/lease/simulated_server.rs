//! The simulated server, which rotates refresh tokens.

use std::collections::{HashMap, HashSet};

use super::machine::{Answer, Scenario};

/// The number of a token family: all refresh tokens that descend from one login.
type Family = u32;

pub(super) struct Server {
    /// Whether the server revokes a family if one of its tokens is used twice.
    revokes_families: bool,
    /// For how many seconds the server accepts a used token again, with the same result.
    pub(super) retry_window: f64,
    next_token: u32,
    current_tokens: HashMap<Family, String>,
    families: HashMap<String, Family>,
    /// When each refresh token was exchanged.
    used_at: HashMap<String, f64>,
    /// The refresh token that was issued for each exchanged token.
    successors: HashMap<String, String>,
    pub(super) revoked: HashSet<Family>,
    pub(super) exchanges: u32,
    pub(super) first_exchange: Option<f64>,
    /// The number of exchanges of a token that was exchanged before.
    pub(super) double_exchanges: u32,
    /// Whether a family was revoked because a token was used twice.
    pub(super) was_token_reuse_punished: bool,
}

impl Server {
    /// Creates a server that has issued the tokens `t1`, of family 1, and `login`, of family 2.
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            revokes_families: !scenario.has("no_family"),
            retry_window: scenario.get("retry_window"),
            next_token: 2,
            current_tokens: HashMap::from([(1, "t1".to_owned()), (2, "login".to_owned())]),
            families: HashMap::from([("t1".to_owned(), 1), ("login".to_owned(), 2)]),
            used_at: HashMap::new(),
            successors: HashMap::new(),
            revoked: HashSet::new(),
            exchanges: 0,
            first_exchange: None,
            double_exchanges: 0,
            was_token_reuse_punished: false,
        }
    }

    /// Exchanges a refresh token. Refuses a token that was exchanged before, unless within
    /// `retry_window`.
    pub(super) fn exchange(&mut self, token: &str, time: f64) -> Answer {
        let Some(family) = self.families.get(token).copied() else {
            return Answer::Refused;
        };
        if self.revoked.contains(&family) {
            return Answer::Refused;
        }
        self.exchanges += 1;
        self.first_exchange.get_or_insert(time);
        if let Some(used_at) = self.used_at.get(token) {
            self.double_exchanges += 1;
            let is_retry = time - used_at <= self.retry_window
                && self.successors.get(token) == self.current_tokens.get(&family);
            if is_retry && self.retry_window > 0.0 {
                return Answer::Tokens(self.current_tokens[&family].clone());
            }
            if self.revokes_families {
                self.revoked.insert(family);
                self.was_token_reuse_punished = true;
            }
            return Answer::Refused;
        }
        let new = format!("t{}", self.next_token);
        self.next_token += 1;
        self.used_at.insert(token.to_owned(), time);
        self.successors.insert(token.to_owned(), new.clone());
        self.families.insert(new.clone(), family);
        self.current_tokens.insert(family, new.clone());
        Answer::Tokens(new)
    }

    /// Revokes the family of a token. A server that does not revoke families ignores a token
    /// that is not current.
    pub(super) fn revoke(&mut self, token: &str) {
        if let Some(family) = self.families.get(token)
            && (self.revokes_families
                || self.current_tokens.get(family).map(String::as_str) == Some(token))
        {
            self.revoked.insert(*family);
        }
    }
}
