//! The state of the server: accounts, mailed codes, sessions and their refresh tokens, used
//! captcha responses. The caller holds the lock, so each method is one atomic step. This module
//! does not know HTTP.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::Sender;

use super::settings::{Dialect, RotationPolicy, Settings};
use super::tokens::TokenIssuer;

/// A user account.
#[derive(Clone, Debug)]
pub struct Account {
    /// 0 lets the server choose an id.
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

/// The tokens of a new session, or those that an exchange returns. If `refresh` is `None`, the old
/// refresh token stays valid.
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
    /// The token was used, or its session has ended.
    Blacklisted,
}

/// A session, whose refresh tokens form a token family (RFC 9700 §4.14).
struct Family {
    account: u64,
    revoked: bool,
}

struct IssuedRefreshToken {
    token: String,
    /// An index in `State::families`.
    family: usize,
    /// In seconds since 1970.
    expires_at: i64,
    used: bool,
}

#[derive(Default)]
pub struct State {
    pub issuer: TokenIssuer,
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
    refreshes: Vec<IssuedRefreshToken>,
    used_captchas: HashSet<String>,
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

    pub fn account_by_id(&mut self, id: u64) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|account| account.id == id)
    }

    /// Finds an account by address or user name, in any case.
    pub fn account_by_login(&self, login: &str) -> Option<&Account> {
        let login = login.to_lowercase();
        self.accounts.iter().find(|account| {
            account.email.to_lowercase() == login || account.username.to_lowercase() == login
        })
    }

    /// Creates a six-digit code and mails it.
    pub fn mail_code(&mut self, email: &str) {
        let code = format!("{:06}", self.issuer.unique_number() % 1_000_000);
        if let Some(mailbox) = &self.mailbox {
            // The receiver may have been dropped.
            let _ = mailbox.send((email.to_owned(), code.clone()));
        }
        self.codes.insert(email.to_lowercase(), code);
    }

    /// Returns whether the captcha response is accepted. Each configured response is accepted once.
    pub fn use_captcha(&mut self, response: &str, settings: &Settings) -> bool {
        settings.captcha.iter().any(|accepted| accepted == response)
            && self.used_captchas.insert(response.to_owned())
    }

    /// Starts a session.
    pub fn begin_session(&mut self, account: u64, settings: &Settings) -> Tokens {
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

    /// Exchanges a refresh token for a new access token, according to `settings.rotation`.
    pub fn exchange(
        &mut self,
        token: &str,
        settings: &Settings,
    ) -> Result<Tokens, RefreshTokenError> {
        let index = match self.find_valid_refresh(token, settings) {
            Ok(index) => index,
            Err(error) => {
                if let Some(refresh) = self.refreshes.iter().find(|r| r.token == token)
                    && refresh.used
                    && settings.rotation == RotationPolicy::RevokeFamily
                {
                    // RFC 9700 §4.14: the token was used by two parties.
                    self.families[refresh.family].revoked = true;
                }
                return Err(error);
            }
        };
        let family = self.refreshes[index].family;
        let account = self.families[family].account;
        self.exchanges += 1;
        let refresh = match settings.rotation {
            RotationPolicy::Off => None,
            RotationPolicy::Rotate => Some(self.new_refresh(family, settings)),
            RotationPolicy::Blacklist | RotationPolicy::RevokeFamily => {
                self.refreshes[index].used = true;
                Some(self.new_refresh(family, settings))
            }
        };
        Ok(Tokens {
            access: self.new_access(account, settings),
            refresh,
        })
    }

    /// Ends the session of a valid refresh token.
    pub fn end_session(
        &mut self,
        token: &str,
        settings: &Settings,
    ) -> Result<(), RefreshTokenError> {
        let index = self.find_valid_refresh(token, settings)?;
        if !settings.logout_keeps_session {
            let family = self.refreshes[index].family;
            self.families[family].revoked = true;
        }
        Ok(())
    }

    /// Returns the index of a refresh token, if it is valid now.
    pub fn find_valid_refresh(
        &self,
        token: &str,
        settings: &Settings,
    ) -> Result<usize, RefreshTokenError> {
        let index = self.refreshes.iter().position(|r| r.token == token);
        let index = index.ok_or(RefreshTokenError::Unknown)?;
        let refresh = &self.refreshes[index];
        if refresh.used || self.families[refresh.family].revoked {
            Err(RefreshTokenError::Blacklisted)
        } else if refresh.expires_at <= settings.now() {
            Err(RefreshTokenError::Expired)
        } else {
            Ok(index)
        }
    }

    /// Returns the last refresh token of the account that is valid now.
    pub fn current_refresh(&self, account: u64, settings: &Settings) -> Option<&str> {
        let is_valid = |refresh: &&IssuedRefreshToken| {
            self.families[refresh.family].account == account
                && self.find_valid_refresh(&refresh.token, settings).is_ok()
        };
        let last = self.refreshes.iter().rev().find(is_valid);
        last.map(|refresh| refresh.token.as_str())
    }

    /// Ends every session.
    pub fn revoke_all(&mut self) {
        for family in &mut self.families {
            family.revoked = true;
        }
    }

    fn new_access(&mut self, account: u64, settings: &Settings) -> String {
        let lifetime = settings.access_lifetime;
        self.issuer.jwt("access", account, lifetime, settings)
    }

    fn new_refresh(&mut self, family: usize, settings: &Settings) -> String {
        let (now, lifetime) = (settings.now(), settings.refresh_lifetime);
        let account = self.families[family].account;
        let token = match settings.dialect {
            Dialect::SimpleJwt => self.issuer.jwt("refresh", account, lifetime, settings),
            Dialect::FusionAuth => self.issuer.opaque(),
        };
        self.refreshes.push(IssuedRefreshToken {
            token: token.clone(),
            family,
            expires_at: now + lifetime,
            used: false,
        });
        token
    }
}
