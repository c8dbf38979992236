//! The state of the server: accounts, mailed codes, sessions and their refresh tokens, spent
//! captcha responses. Each method is one atomic step under the caller's lock. HTTP is not known here.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::Sender;

use super::settings::{Dialect, RotationPolicy, Settings};
use super::tokens::Mint;

/// A user account.
#[derive(Clone, Debug)]
pub struct Account {
    /// The server chooses if it is 0.
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

/// The tokens of a new session or of an exchange. Without a refresh token, the old one stays valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub access: String,
    pub refresh: Option<String>,
}

/// Why a refresh token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshTokenError {
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

#[derive(Default)]
pub struct State {
    pub mint: Mint,
    pub accounts: Vec<Account>,
    /// The last code by address in lower case.
    pub codes: HashMap<String, String>,
    /// Receives each address and code that is mailed.
    pub mailbox: Option<Sender<(String, String)>>,
    /// The number of successful exchanges.
    pub exchanges: u64,
    /// The number of codes that were checked.
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

    /// Finds an account by address or user name, in any case.
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
            // The receiver may have been dropped.
            let _ = mailbox.send((email.to_owned(), code.clone()));
        }
        self.codes.insert(email.to_lowercase(), code);
    }

    /// Accepts each of the configured captcha responses once.
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
    pub fn exchange(
        &mut self,
        token: &str,
        settings: &Settings,
    ) -> Result<Tokens, RefreshTokenError> {
        let at = match self.check(token, settings) {
            Ok(at) => at,
            Err(error) => {
                if let Some(refresh) = self.refreshes.iter().find(|r| r.token == token)
                    && refresh.spent
                    && settings.rotation == RotationPolicy::RevokeFamily
                {
                    // RFC 9700 §4.14: the token was used by two parties.
                    self.families[refresh.family].revoked = true;
                }
                return Err(error);
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

    /// Ends the session of a valid refresh token.
    pub fn end(&mut self, token: &str, settings: &Settings) -> Result<(), RefreshTokenError> {
        let at = self.check(token, settings)?;
        if !settings.logout_keeps_session {
            let family = self.refreshes[at].family;
            self.families[family].revoked = true;
        }
        Ok(())
    }

    /// Returns the index of a refresh token, if it is valid now.
    pub fn check(&self, token: &str, settings: &Settings) -> Result<usize, RefreshTokenError> {
        let at = self.refreshes.iter().position(|r| r.token == token);
        let at = at.ok_or(RefreshTokenError::Unknown)?;
        let refresh = &self.refreshes[at];
        if refresh.spent || self.families[refresh.family].revoked {
            Err(RefreshTokenError::Blacklisted)
        } else if refresh.expires <= settings.now() {
            Err(RefreshTokenError::Expired)
        } else {
            Ok(at)
        }
    }

    /// The account's last refresh token that is valid now.
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
        let lifetime = settings.access_lifetime;
        self.mint.jwt("access", account, lifetime, settings)
    }

    fn new_refresh(&mut self, family: usize, settings: &Settings) -> String {
        let (now, lifetime) = (settings.now(), settings.refresh_lifetime);
        let account = self.families[family].account;
        let token = match settings.dialect {
            Dialect::SimpleJwt => self.mint.jwt("refresh", account, lifetime, settings),
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
