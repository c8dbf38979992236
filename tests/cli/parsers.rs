//! Checks the properties of `tests/fuzz/properties`, for parsers of untrusted text, with the
//! seeds, with inputs that once failed, and with mutations of both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::hostile::runner;
use crate::support::{Test, test};

#[path = "../fuzz/properties/cookie.rs"]
mod cookie;
#[path = "../fuzz/properties/cookie_text.rs"]
mod cookie_text;
#[path = "../fuzz/properties/entry.rs"]
mod entry;
#[path = "../fuzz/properties/message.rs"]
mod message;
#[path = "../fuzz/properties/profiles.rs"]
mod profiles;
#[path = "../fuzz/properties/words.rs"]
mod words;

/// Mutations a parser.
const CASES: u32 = 3_000;

pub fn tests() -> Vec<Test> {
    vec![
        test("parsers::cookie", || {
            assert_property_holds("cookie", cookie::check)
        }),
        test("parsers::cookie_text", || {
            assert_property_holds("cookie_text", cookie_text::check);
        }),
        test("parsers::no_other_cookie", no_other_cookie),
        test("parsers::message", || {
            assert_property_holds("message", message::check)
        }),
        test("parsers::entry", || {
            assert_property_holds("entry", entry::check)
        }),
        test("parsers::profiles", || {
            assert_property_holds("profiles", profiles::check)
        }),
        test("parsers::words", || {
            assert_property_holds("words", words::check)
        }),
    ]
}

/// Texts that are part of the syntax of a parser.
const PIECES: [&[u8]; 24] = [
    b"\n",
    b"\0",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\x1b[2J",
    b"\xff\xfe",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b";",
    b" ",
    b"-1",
    b"99999999999999999999",
    b"1e400",
    b"null",
    "\u{202e}\u{200b}é".as_bytes(),
    b"Max-Age=",
    b"version",
    b"../",
];

/// A mutation of a seed at a position.
#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, &'static [u8]),
    Replace(Index, u8),
    Remove(Index, usize),
    Double(Index, usize),
    End(Index),
}

fn random_edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        (at(), select(&PIECES[..])).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (at(), 1..40_usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        (at(), 1..400_usize).prop_map(|(at, count)| Edit::Double(at, count)),
        at().prop_map(Edit::End),
    ]
}

fn apply_edits(mut bytes: Vec<u8>, edits: Vec<Edit>) -> Vec<u8> {
    for edit in edits {
        let length = bytes.len();
        let place = |at: Index| at.index(length + 1);
        match edit {
            Edit::Insert(at, piece) => {
                let at = place(at);
                bytes.splice(at..at, piece.iter().copied());
            }
            Edit::Replace(at, byte) => {
                if let Some(old) = bytes.get_mut(place(at)) {
                    *old = byte;
                }
            }
            Edit::Remove(at, count) => {
                let at = place(at);
                bytes.drain(at..length.min(at + count));
            }
            Edit::Double(at, count) => {
                let at = place(at);
                let piece = bytes[at..length.min(at + count)].to_vec();
                bytes.splice(at..at, piece);
            }
            Edit::End(at) => bytes.truncate(place(at)),
        }
    }
    bytes
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
    let seeds: Vec<Vec<u8>> = std::fs::read_dir(dir.join(name))
        .unwrap()
        .map(|seed| std::fs::read(seed.unwrap().path()).unwrap())
        .collect();
    assert!(seeds.len() > 1, "seeds of {name}");
    seeds
}

/// Damages each form of copied cookies a thousand times. The value that is found must not be
/// the value of another cookie, and an error must not contain a value. (Removing a part of the
/// text can join two cookies into one.)
fn no_other_cookie() {
    let damage = || {
        random_edit().prop_filter("joins nothing", |edit| {
            !matches!(edit, Edit::Remove(..) | Edit::Double(..))
        })
    };
    for seed in seeds("cookie_text") {
        let found = cookie_text::find(&seed);
        assert!(found.is_ok_and(|value| value.starts_with("SECRET_good")));
        let mut runner = runner(1_000);
        let edits = prop::collection::vec(damage(), 1..4);
        let result = runner.run(&edits, |edits| {
            let text = apply_edits(seed.clone(), edits);
            let shown = String::from_utf8_lossy(&text);
            match cookie_text::find(&text) {
                Ok(value) => prop_assert!(!value.starts_with("SECRET_other"), "{shown}"),
                Err(error) => prop_assert!(!error.contains("SECRET_"), "{shown}: {error}"),
            }
            Ok(())
        });
        if let Err(failure) = result {
            panic!("{failure}");
        }
    }
}

fn assert_property_holds(name: &str, check: fn(&[u8])) {
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| check(seed));
    let mutations = (select(seeds), prop::collection::vec(random_edit(), 1..6));
    let mut runner = runner(CASES);
    let result = runner.run(&mutations, |(seed, edits)| {
        let input = apply_edits(seed, edits);
        catch_unwind(AssertUnwindSafe(|| check(&input)))
            .map_err(|_| TestCaseError::fail(format!("{:?}", String::from_utf8_lossy(&input))))
    });
    if let Err(failure) = result {
        panic!("{name}: {failure}");
    }
}
