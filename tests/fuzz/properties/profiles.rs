//! `profiles.json` to profiles: the readers agree with each other.

#[path = "../../../src/store/profiles"]
mod read {
    mod scan;

    pub(crate) use rememberizer_cli::store::{Profile, UnknownKey};

    use crate::model::ProfileName;

    /// As `src/store/profiles.rs` has it.
    const VERSION: u64 = 1;

    pub(crate) fn select(bytes: &[u8], name: Option<&ProfileName>) -> Option<scan::Selected> {
        scan::select(bytes, name).ok()
    }

    pub(crate) fn all(bytes: &[u8]) -> Option<(ProfileName, Vec<(ProfileName, Profile)>)> {
        scan::all(bytes).ok()
    }

    pub(crate) fn names(bytes: &[u8]) -> Option<Vec<String>> {
        scan::names(bytes).ok()
    }

    pub(crate) fn rest(bytes: &[u8]) -> (Option<u64>, Vec<UnknownKey>) {
        (scan::version(bytes), scan::unknown_keys(bytes))
    }
}

/// Panics where the property does not hold.
pub(crate) fn check(data: &[u8]) {
    let (version, unknown) = read::rest(data);
    for key in &unknown {
        assert!(key.line > 0 && key.column > 0, "{key:?}");
    }
    let chosen = read::select(data, None);
    let Some((default, all)) = read::all(data) else {
        return;
    };
    assert!(version.is_some_and(|version| version <= 1));
    let chosen = chosen.expect("what can be read whole can be read in part");
    assert_eq!(chosen.name, default);
    let names = read::names(data).expect("names too");
    assert_eq!(names.len(), all.len());
    for (name, _) in &all {
        let selected = read::select(data, Some(name)).expect("each of them");
        // The last of a name counts, as in every reader of JSON.
        let last = all.iter().rev().find(|(other, _)| other == name);
        assert_eq!(selected.profile.as_ref(), last.map(|(_, profile)| profile));
        assert_eq!(selected.default, default);
    }
}
