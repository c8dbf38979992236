//! Parses `profiles.json`: the functions that read all profiles or only one must agree.

#[path = "../../../src/store/profiles"]
mod read {
    pub(crate) mod document;
    #[path = "../lazy_object.rs"]
    pub(crate) mod lazy_object;

    pub(crate) use rememberizer_cli::store::{Profile, UnknownKey};

    /// The same as in `src/store/profiles.rs`.
    const VERSION: u64 = 1;
}

use read::document::Document;

/// Panics if the property does not hold.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let lines = text.matches('\n').count() + 1;
            assert!((1..=lines).contains(&error.line), "{error:?}");
            assert!(error.column > 0 && !error.why.is_empty(), "{error:?}");
            assert!(error.newer_version.is_none_or(|version| version > 1));
            return;
        }
    };
    let Ok((default, all)) = document.all() else {
        return;
    };
    let unknown = document.unknown_keys().expect("the document is valid");
    for key in &unknown {
        assert!(key.line > 0 && key.column > 0, "{key:?}");
    }
    let selected = document.select(None).expect("the document is valid");
    assert_eq!(selected.name, default);
    for (name, profile) in &all {
        let selected = document.select(Some(name)).expect("the document is valid");
        assert_eq!(selected.profile.as_ref(), Some(profile));
        assert_eq!(selected.default_name, default);
    }
    assert_eq!(document.names().len(), all.len());
}
