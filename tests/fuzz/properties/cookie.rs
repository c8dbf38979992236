//! Reads tokens from `Set-Cookie` headers, one per line. The first line is the `Date` header.

use crate::model;

#[expect(dead_code, reason = "the program uses the rest of these files")]
#[path = "../../../src/api"]
mod api {
    mod cookie;
    mod jwt;
    mod received_at;

    use crate::model::{CookieNames, Grant, Timestamp};

    pub(crate) fn grant(date: Option<&str>, headers: &[&[u8]]) -> Grant {
        let reader = cookie::CookieReader {
            host: "api.rememberizer.ai",
            names: &CookieNames::default(),
            received_at: received_at::ReceivedAt::new(
                Timestamp::from_secs(1_795_489_145),
                date,
                std::time::Duration::ZERO,
            ),
            log: &|_| {},
        };
        reader.read_grant(headers.iter().copied())
    }
}

/// Panics if the property does not hold.
pub(crate) fn check(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let date = lines.next().and_then(|line| std::str::from_utf8(line).ok());
    let headers: Vec<_> = lines.collect();
    let grant = api::grant(date, &headers);
    let again = api::grant(date, &headers);
    let texts = |grant: &model::Grant| {
        let access = grant.access.as_ref().map(|t| t.value.secret().expose());
        let refresh = grant.refresh.as_ref().map(|t| t.value.secret().expose());
        [access.map(str::to_owned), refresh.map(str::to_owned)]
    };
    assert_eq!(
        texts(&grant),
        texts(&again),
        "two reads have the same result"
    );
    for text in texts(&grant).into_iter().flatten() {
        assert!(!text.is_empty(), "an empty value is not a token");
        assert!(
            text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b';'),
            "a token can be sent in a header: {text:?}"
        );
    }
}
