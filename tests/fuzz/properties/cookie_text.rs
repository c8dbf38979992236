//! Finds a cookie in text that a user copied from a browser.

#[expect(dead_code, reason = "the program uses the rest of these files")]
#[path = "../../../src/takeover"]
mod takeover {
    mod cookies;

    pub(crate) fn find(text: &[u8]) -> Result<String, String> {
        let wanted = cookies::WantedCookie {
            name: "refresh_token",
            host: "api.example.test:8443",
        };
        let found = cookies::find_cookie(text, wanted);
        found
            .map(|found| found.value.expose().to_owned())
            .map_err(|error| format!("{error} {error:?}"))
    }
}

pub(crate) use takeover::find;

/// The cookie values in the seeds begin with this text. Errors show host names, which cannot contain
/// its underscore.
const VALUE: &str = "secret_";

/// Panics if the property does not hold.
pub(crate) fn check(data: &[u8]) {
    let found = find(data);
    assert_eq!(found, find(data), "two searches have the same result");
    match found {
        Ok(value) => {
            let fits = value.bytes().all(|b| b.is_ascii_graphic() && b != b';');
            assert!(
                fits && !value.is_empty(),
                "the value can be sent in a header: {value:?}"
            );
        }
        Err(error) => {
            let shown = error.to_ascii_lowercase();
            assert!(!shown.contains(VALUE), "the error quotes a value: {error}");
        }
    }
}
