//! Cookies that a person copied out of a browser, in any form.

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

/// The values in the seeds begin so. A host name, which errors show, has no such character.
const VALUE: &str = "secret_";

/// Panics where the property does not hold.
pub(crate) fn check(data: &[u8]) {
    let found = find(data);
    assert_eq!(found, find(data), "the same answer twice");
    match found {
        Ok(value) => {
            let fits = value.bytes().all(|b| b.is_ascii_graphic() && b != b';');
            assert!(
                fits && !value.is_empty(),
                "goes back in a header: {value:?}"
            );
        }
        Err(error) => {
            let shown = error.to_ascii_lowercase();
            assert!(!shown.contains(VALUE), "shows a value: {error}");
        }
    }
}
