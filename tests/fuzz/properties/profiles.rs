//! `profiles.json` to profiles: the readers agree with each other.

#[path = "../../../src/store/profiles"]
mod read {
    pub(crate) mod document;
    #[path = "../lazy_object.rs"]
    pub(crate) mod lazy_object;

    pub(crate) use rememberizer_cli::store::{Profile, UnknownKey};

    /// As `src/store/profiles.rs` has it.
    const VERSION: u64 = 1;
}

use read::document::Document;

/// Panics where the property does not hold.
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
    let unknown = document.unknown_keys().expect("what can be read whole");
    for key in &unknown {
        assert!(key.line > 0 && key.column > 0, "{key:?}");
    }
    let chosen = document.select(None).expect("can be read in part");
    assert_eq!(chosen.name, default);
    for (name, profile) in &all {
        let selected = document.select(Some(name)).expect("each of them");
        assert_eq!(selected.profile.as_ref(), Some(profile));
        assert_eq!(selected.default_name, default);
    }
    assert_eq!(document.names().len(), all.len());
}
