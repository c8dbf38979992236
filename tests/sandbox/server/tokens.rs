//! Creates and reads tokens: JWTs with the claims of a simplejwt server, and opaque strings. The
//! signature is a keyed hash, which only shows whether this server created a token. This module
//! does not know accounts and sessions.

use std::hash::{BuildHasher, RandomState};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::settings::Settings;

/// Creates tokens with the signing key of one server.
#[derive(Default)]
pub struct TokenIssuer {
    key: RandomState,
    /// How many numbers have been created.
    count: u64,
}

/// Why an access token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTokenError {
    Invalid,
    Expired,
}

impl TokenIssuer {
    /// Returns a random number that differs at each call.
    pub fn unique_number(&mut self) -> u64 {
        self.count += 1;
        self.key.hash_one(self.count)
    }

    /// Returns a token of 32 hexadecimal digits.
    pub fn opaque(&mut self) -> String {
        format!("{:016x}{:016x}", self.unique_number(), self.unique_number())
    }

    /// Returns a JWT of type `access` or `refresh` that expires after `lifetime` seconds.
    pub fn jwt(
        &mut self,
        token_type: &str,
        user_id: u64,
        lifetime: i64,
        settings: &Settings,
    ) -> String {
        let now = settings.now();
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        let mut claims = json!({
            "token_type": token_type,
            "exp": now + lifetime,
            "iat": now,
            "jti": self.opaque(),
            "user_id": user_id.to_string(),
        });
        if settings.token_length > 0 {
            // Base64 encodes three bytes as four characters.
            claims["padding"] = "x".repeat(settings.token_length / 4 * 3).into();
        }
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.sign(&signed);
        format!("{signed}.{signature}")
    }

    /// Returns the account id in a valid access token.
    pub fn read_access(&self, token: &str, now: i64) -> Result<u64, AccessTokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(AccessTokenError::Invalid)?;
        if signature != self.sign(signed) {
            return Err(AccessTokenError::Invalid);
        }
        let claims = signed.split_once('.').map(|(_, claims)| claims);
        let claims = URL_SAFE_NO_PAD.decode(claims.unwrap_or_default());
        let claims: Value = serde_json::from_slice(&claims.unwrap_or_default()).unwrap_or_default();
        let (Some(exp), Some(user)) = (claims["exp"].as_i64(), claims["user_id"].as_str()) else {
            return Err(AccessTokenError::Invalid);
        };
        if claims["token_type"] != "access" {
            return Err(AccessTokenError::Invalid);
        }
        if exp <= now {
            return Err(AccessTokenError::Expired);
        }
        user.parse().map_err(|_| AccessTokenError::Invalid)
    }

    fn sign(&self, signed: &str) -> String {
        let words = [0u8, 1, 2, 3].map(|word| self.key.hash_one((word, signed)).to_be_bytes());
        URL_SAFE_NO_PAD.encode(words.concat())
    }
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
