//! The form of tokens: JWTs with the claims a simplejwt server puts in, and opaque strings.
//! The signature is a keyed hash of this process, good enough to tell a forged token from an
//! own one and for nothing else. Knows nothing of accounts and sessions.

use std::hash::{BuildHasher, RandomState};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The key of one server, and its source of names that nobody guesses.
#[derive(Default)]
pub struct Mint {
    key: RandomState,
    made: u64,
}

/// Why an access token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    Invalid,
    Expired,
}

impl Mint {
    /// A number that differs each time.
    pub fn number(&mut self) -> u64 {
        self.made += 1;
        self.key.hash_one(self.made)
    }

    /// 32 hexadecimal digits.
    pub fn opaque(&mut self) -> String {
        format!("{:016x}{:016x}", self.number(), self.number())
    }

    /// A JWT of type `access` or `refresh`, times in seconds since 1970.
    pub fn jwt(&mut self, token_type: &str, user_id: u64, now: i64, lifetime: i64) -> String {
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        let claims = json!({
            "token_type": token_type,
            "exp": now + lifetime,
            "iat": now,
            "jti": self.opaque(),
            "user_id": user_id.to_string(),
        });
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.sign(&signed);
        format!("{signed}.{signature}")
    }

    /// The account of an access token that is genuine and not yet over.
    pub fn read_access(&self, token: &str, now: i64) -> Result<u64, Unfit> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Unfit::Invalid)?;
        if signature != self.sign(signed) {
            return Err(Unfit::Invalid);
        }
        let claims = signed.split_once('.').map(|(_, claims)| claims);
        let claims = URL_SAFE_NO_PAD.decode(claims.unwrap_or_default());
        let claims: Value = serde_json::from_slice(&claims.unwrap_or_default()).unwrap_or_default();
        let (Some(exp), Some(user)) = (claims["exp"].as_i64(), claims["user_id"].as_str()) else {
            return Err(Unfit::Invalid);
        };
        if claims["token_type"] != "access" {
            return Err(Unfit::Invalid);
        }
        if exp <= now {
            return Err(Unfit::Expired);
        }
        user.parse().map_err(|_| Unfit::Invalid)
    }

    fn sign(&self, signed: &str) -> String {
        let words = [0u8, 1, 2, 3].map(|word| self.key.hash_one((word, signed)).to_be_bytes());
        URL_SAFE_NO_PAD.encode(words.concat())
    }
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
