//! What the server remembers: accounts, mailed codes, sessions and their refresh tokens, spent
//! captchas. Each method is one atomic step under the caller's lock. Knows nothing of HTTP.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::Sender;

use super::settings::{Dialect, RotationPolicy, Settings};
use super::tokens::Mint;

/// A person.
#[derive(Clone, Debug)]
pub struct Account {
    /// 0 lets the server choose.
    pub id: u64,
    pub email: String,
    pub username: String,
    pub name: String,
    pub password: String,
    pub verified: bool,
}

impl Account {
    /// A verified account whose user name and name are the local part of the address.
    pub fn new(email: &str, password: &str) -> Self {
        let local = email.split('@').next().unwrap_or_default();
        Account {
            id: 0,
            email: email.to_owned(),
            username: local.to_owned(),
            name: local.to_owned(),
            password: password.to_owned(),
            verified: true,
        }
    }

    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    pub fn username(mut self, username: &str) -> Self {
        self.username = username.to_owned();
        self
    }

    pub fn unverified(mut self) -> Self {
        self.verified = false;
        self
    }
}

/// What a session's start or an exchange hands out. No refresh token: the old one stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub access: String,
    pub refresh: Option<String>,
}

/// Why a refresh token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Unknown,
    Expired,
    /// Spent, or of a session that was ended.
    Blacklisted,
}

struct Family {
    account: u64,
    revoked: bool,
}

struct Refresh {
    token: String,
    family: usize,
    expires: i64,
    spent: bool,
}

/// Everything the server remembers.
#[derive(Default)]
pub struct State {
    pub mint: Mint,
    pub accounts: Vec<Account>,
    /// Codes by address in lower case, the last one mailed.
    pub codes: HashMap<String, String>,
    /// Where mailed codes are announced, as address and code.
    pub mailbox: Option<Sender<(String, String)>>,
    /// Exchanges that succeeded, whether or not their answer arrived.
    pub exchanges: u64,
    /// Mailed codes that were compared, right or wrong.
    pub code_checks: u64,
    families: Vec<Family>,
    refreshes: Vec<Refresh>,
    spent_captchas: HashSet<String>,
}

impl State {
    /// Adds an account and returns its id.
    pub fn add_account(&mut self, mut account: Account) -> u64 {
        if account.id == 0 {
            account.id = 1 + self.accounts.iter().map(|a| a.id).max().unwrap_or(100);
        }
        let id = account.id;
        self.accounts.push(account);
        id
    }

    pub fn by_id(&mut self, id: u64) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|account| account.id == id)
    }

    /// By address or user name, whatever the case.
    pub fn by_login(&self, login: &str) -> Option<&Account> {
        let login = login.to_lowercase();
        self.accounts.iter().find(|account| {
            account.email.to_lowercase() == login || account.username.to_lowercase() == login
        })
    }

    /// Makes a six-digit code and mails it.
    pub fn mail_code(&mut self, email: &str) {
        let code = format!("{:06}", self.mint.number() % 1_000_000);
        if let Some(mailbox) = &self.mailbox {
            // Nobody listening any more is no fault of the server.
            let _ = mailbox.send((email.to_owned(), code.clone()));
        }
        self.codes.insert(email.to_lowercase(), code);
    }

    /// Accepts each of the known captcha answers once.
    pub fn spend_captcha(&mut self, answer: &str, settings: &Settings) -> bool {
        settings.captcha.iter().any(|good| good == answer)
            && self.spent_captchas.insert(answer.to_owned())
    }

    /// Starts a session.
    pub fn begin(&mut self, account: u64, settings: &Settings) -> Tokens {
        self.families.push(Family {
            account,
            revoked: false,
        });
        let refresh = self.new_refresh(self.families.len() - 1, settings);
        Tokens {
            access: self.new_access(account, settings),
            refresh: Some(refresh),
        }
    }

    /// Exchanges a refresh token for a new access token, by the rotation policy in force.
    pub fn exchange(&mut self, token: &str, settings: &Settings) -> Result<Tokens, Refused> {
        let at = match self.check(token, settings) {
            Ok(at) => at,
            Err(refused) => {
                if let Some(refresh) = self.refreshes.iter().find(|r| r.token == token)
                    && refresh.spent
                    && settings.rotation == RotationPolicy::RevokeFamily
                {
                    // RFC 9700 §4.14: either the thief or the owner came second.
                    self.families[refresh.family].revoked = true;
                }
                return Err(refused);
            }
        };
        let family = self.refreshes[at].family;
        let account = self.families[family].account;
        self.exchanges += 1;
        let refresh = match settings.rotation {
            RotationPolicy::Off => None,
            RotationPolicy::Rotate => Some(self.new_refresh(family, settings)),
            RotationPolicy::Blacklist | RotationPolicy::RevokeFamily => {
                self.refreshes[at].spent = true;
                Some(self.new_refresh(family, settings))
            }
        };
        Ok(Tokens {
            access: self.new_access(account, settings),
            refresh,
        })
    }

    /// Ends the session of a refresh token. The token must still be good.
    pub fn end(&mut self, token: &str, settings: &Settings) -> Result<(), Refused> {
        let at = self.check(token, settings)?;
        if !settings.logout_keeps_session {
            let family = self.refreshes[at].family;
            self.families[family].revoked = true;
        }
        Ok(())
    }

    /// Where a refresh token is kept, if it would be accepted now.
    pub fn check(&self, token: &str, settings: &Settings) -> Result<usize, Refused> {
        let at = self.refreshes.iter().position(|r| r.token == token);
        let at = at.ok_or(Refused::Unknown)?;
        let refresh = &self.refreshes[at];
        if refresh.spent || self.families[refresh.family].revoked {
            Err(Refused::Blacklisted)
        } else if refresh.expires <= settings.now() {
            Err(Refused::Expired)
        } else {
            Ok(at)
        }
    }

    /// The refresh token of an account that was issued last and would be accepted now.
    pub fn current_refresh(&self, account: u64, settings: &Settings) -> Option<&str> {
        let own = |r: &&Refresh| self.families[r.family].account == account;
        let mut own = self.refreshes.iter().rev().filter(own);
        own.find(|r| self.check(&r.token, settings).is_ok())
            .map(|r| r.token.as_str())
    }

    /// Ends every session.
    pub fn revoke_all(&mut self) {
        for family in &mut self.families {
            family.revoked = true;
        }
    }

    fn new_access(&mut self, account: u64, settings: &Settings) -> String {
        let (now, lifetime) = (settings.now(), settings.access_lifetime);
        self.mint.jwt("access", account, now, lifetime)
    }

    fn new_refresh(&mut self, family: usize, settings: &Settings) -> String {
        let (now, lifetime) = (settings.now(), settings.refresh_lifetime);
        let account = self.families[family].account;
        let token = match settings.dialect {
            Dialect::SimpleJwt => self.mint.jwt("refresh", account, now, lifetime),
            Dialect::FusionAuth => self.mint.opaque(),
        };
        self.refreshes.push(Refresh {
            token: token.clone(),
            family,
            expires: now + lifetime,
            spent: false,
        });
        token
    }
}
