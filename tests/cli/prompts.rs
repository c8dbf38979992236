//! Prompts at a terminal: the questions, what the screen shows, and how the user cancels.

use std::time::Duration;

use crate::sandbox::{Delay, Settings};
use crate::support::world::{EMAIL, PASSWORD};
use crate::support::{Part, Screen, Store, Test, World, on_both_stores, test};

const TMUX: &[Part] = &[Part::Command("tmux")];

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        test("prompts::cancelled_by_a_key", cancelled_by_a_key),
        test("prompts::editing", editing),
        test("prompts::long_and_pasted_lines", long_and_pasted_lines),
        test("prompts::other_profile", other_profile),
        test("prompts::another_store", another_store),
        test("prompts::captcha_is_last", captcha_is_last),
        test("prompts::captcha_is_known", captcha_is_known),
        test(
            "prompts::refused_field_is_asked_again",
            refused_field_is_asked_again,
        ),
        test("prompts::spinner", spinner),
    ];
    tests.extend(on_both_stores("prompts::first_minute", first_minute));
    tests.into_iter().map(|test| test.needs(TMUX)).collect()
}

/// Returns the text on the screen, without the prompts of the shell.
fn shown_text(screen: &Screen<'_>, code: i32) -> String {
    let (ended, shown) = screen.wait_for_exit();
    assert_eq!(ended, code, "{shown}");
    screen.clear();
    let (_, shown) = shown.split_once('\n').unwrap_or_default();
    shown.to_owned()
}

fn first_minute(world: &World) {
    let place = match world.store {
        Store::File => "a private file",
        Store::Keyring => "the keyring",
    };
    let screen = Screen::new(world);
    screen.start("rememberizer signup");
    screen.wait_for("? E-mail address for Rememberizer ›");
    screen.type_line("zoe@example.com");
    screen.wait_for("? Your name at Rememberizer ›");
    screen.type_line("Zoë 東京 Ångström");
    screen.wait_for("? New password for Rememberizer ›");
    screen.type_line("correct horse 9");
    screen.wait_for("? The same Rememberizer password again ›");
    screen.type_line("correct horse 8");
    screen.wait_for("warning: the two entries differ; try again");
    let twice = |text: &'static str| {
        screen.wait_until(text, |shown| shown.matches(text).count() == 2);
        screen.type_line("correct horse 9");
    };
    twice("? New password for Rememberizer ›");
    twice("? The same Rememberizer password again ›");
    screen.wait_for("mailed to zoe@example.com (blank: later) ›");
    screen.type_line("000000");
    screen.wait_until("the question again", |shown| {
        shown.matches("(blank: later)").count() == 2
    });
    screen.press("Enter");
    assert_eq!(
        shown_text(&screen, 0),
        "? E-mail address for Rememberizer › zoe@example.com\n\
         ? Your name at Rememberizer › Zoë 東京 Ångström\n\
         ? New password for Rememberizer ›\n\
         ? The same Rememberizer password again ›\n\
         warning: the two entries differ; try again\n\
         ? New password for Rememberizer ›\n\
         ? The same Rememberizer password again ›\n\
         zoe@example.com is signed up, and signed in (profile default)\n\
         ? Rememberizer code mailed to zoe@example.com (blank: later) › 000000\n\
         error: verification_code: Invalid verification code.\n\
         ? Rememberizer code mailed to zoe@example.com (blank: later) ›\n\
         when you have the mailed code, run: rememberizer verify"
    );
    let account = world.api.account("zoe@example.com").unwrap();
    assert_eq!(account.name, "Zoë 東京 Ångström");

    screen.start("rememberizer verify");
    screen.wait_for("(blank: later) ›");
    screen.press("Enter");
    assert_eq!(
        shown_text(&screen, 0),
        "? Rememberizer code mailed to zoe@example.com (blank: later) ›\n\
         when you have the code, run: rememberizer verify"
    );
    let tries = world.api.requests().len();
    screen.start("rememberizer verify");
    screen.wait_for("(blank: later) ›");
    screen.type_line(&format!(
        "  {} ",
        world.api.mailed_code("zoe@example.com").unwrap()
    ));
    assert!(shown_text(&screen, 0).ends_with("\nthe e-mail address is verified"));
    assert_eq!(
        world.api.requests().len(),
        tries + 1,
        "one code, one request"
    );

    screen.run("rememberizer logout");
    screen.start("rememberizer login");
    screen.wait_for("(zoe@example.com) ›");
    screen.press("Enter");
    screen.wait_for("? Rememberizer password for zoe@example.com ›");
    screen.type_line("correct horse 9");
    assert_eq!(
        shown_text(&screen, 0),
        format!(
            "? Rememberizer login (e-mail or user name) (zoe@example.com) ›\n\
             ? Rememberizer password for zoe@example.com ›\n\
             signed in as zoe@example.com on {} (profile default); the session is in {place}",
            world.api.address()
        )
    );
    screen.assert_terminal_is_restored();
}

/// The text of a question, and the answer to it.
type Answers = &'static [(&'static str, &'static str)];

/// Each question, with the answers that lead to it.
const QUESTIONS: [(&str, Answers, &str); 8] = [
    ("signup", &[], "address"),
    ("signup", &[("address", "bob@example.com")], "name at"),
    (
        "signup",
        &[("address", "bob@example.com"), ("name at", "Bob")],
        "New password",
    ),
    (
        "signup --email bob@example.com --name Bob",
        &[("New password", PASSWORD)],
        "again",
    ),
    ("login", &[], "Rememberizer login"),
    ("login ann@example.com", &[], "Rememberizer password"),
    ("verify -p there", &[], "Rememberizer code"),
    ("profile remove there", &[], "end its session?"),
];

fn cancelled_by_a_key() {
    let world = World::new(Store::File);
    world.login_as("there");
    let screen = Screen::new(&world);
    for (command, answers, question) in QUESTIONS {
        for (key, message) in [("C-c", "error: interrupted"), ("C-d", "")] {
            screen.start(&format!("rememberizer {command}"));
            for (asked, answer) in answers {
                screen.wait_for(asked);
                screen.type_line(answer);
            }
            screen.wait_for(question);
            screen.press(key);
            let shown = shown_text(&screen, 130);
            let last = shown.lines().last().unwrap_or_default();
            if message.is_empty() {
                assert!(
                    ["error: the input was closed", "error: nothing was entered"].contains(&last),
                    "{command} {key}:\n{shown}"
                );
            } else {
                assert_eq!(last, message, "{command} {key}:\n{shown}");
            }
            screen.assert_terminal_is_restored();
            screen.clear();
        }
    }
    assert!(world.entry_of("there").is_some());
    assert_eq!(world.entry(), None);
    assert!(world.api.session_alive(EMAIL));
}

/// The cursor keys move the cursor, and text is inserted at the cursor.
fn editing() {
    let world = World::new(Store::File);
    let screen = Screen::new(&world);
    screen.start("rememberizer signup --name Bob");
    screen.wait_for("address");
    screen.type_line("bob.example.com");
    screen.wait_for("warning: an e-mail address contains an @");
    screen.wait_until("the prompt again", |shown| {
        shown.matches("address for").count() == 2
    });
    screen.type_text("bibexample.comX");
    screen.press("BSpace");
    for _ in "bexample.com".chars() {
        screen.press("Left");
    }
    screen.press("BSpace");
    screen.type_text("o");
    screen.press("Right");
    screen.type_text("@");
    screen.wait_for("› bob@example.com");
    screen.press("Enter");
    screen.wait_for("New password");
    screen.type_text("wrong");
    screen.press("C-u");
    screen.type_text("correct horsX");
    for key in ["Left", "BSpace"] {
        screen.press(key);
    }
    screen.type_line("e 9");
    screen.wait_for("again");
    screen.type_line("correct horse 9");
    screen.wait_for("(blank: later)");
    screen.press("Enter");
    let shown = shown_text(&screen, 0);
    assert!(
        shown.contains("\n? E-mail address for Rememberizer › bob@example.com\n"),
        "{shown}"
    );
    assert!(world.api.account("bob@example.com").is_some());
    screen.assert_terminal_is_restored();
}

fn long_and_pasted_lines() {
    let world = World::new(Store::File);
    let screen = Screen::new(&world);
    screen.start("rememberizer login");
    screen.wait_for("Rememberizer login");
    screen.press("Up");
    screen.press("Enter");
    screen.wait_for("warning: the answer must not be blank");
    // The line is longer than several screen lines, and the terminal changes its size.
    let long = "京".repeat(60) + &"x".repeat(880) + "@example.com";
    screen.type_text(&long);
    screen.wait_for("@example.com");
    screen.resize(50, 12);
    screen.press("Enter");
    screen.wait_for("@example.com ›");
    screen.resize(100, 40);
    screen.type_line("no matter");
    screen.wait_for("Unable to log in");
    screen.press("C-c");
    let (code, _) = screen.wait_for_exit();
    assert_eq!(code, 130);
    let sent = world.api.requests().pop().unwrap();
    assert_eq!(sent.json()["login"], *long);
    screen.clear();
    screen.assert_terminal_is_restored();
    screen.clear();

    // A pasted text with a line break answers only the current question. The rest is neither an
    // answer to the next question nor a command for the shell.
    screen.start("rememberizer signup");
    screen.wait_for("address");
    screen.type_text("bob@example.com\rtouch pasted\r");
    screen.wait_for("name at");
    screen.type_text("Bob\r");
    screen.wait_for("New password");
    screen.type_text("correct horse 9\r");
    screen.wait_for("again");
    screen.type_text("correct horse 9\r");
    screen.wait_for("(blank: later)");
    screen.type_text(&format!(
        "{}\r",
        world.api.mailed_code("bob@example.com").unwrap()
    ));
    assert!(shown_text(&screen, 0).ends_with("the e-mail address is verified"));
    assert_eq!(world.api.account("bob@example.com").unwrap().name, "Bob");
    assert!(!world.home().join("pasted").exists());
}

fn other_profile() {
    let world = World::new(Store::File);
    world.login();
    let screen = Screen::new(&world);
    let (code, shown) = screen.run("rememberizer whoami -p work");
    assert_eq!(code, 3);
    assert!(shown.ends_with("\nerror: not signed in\nhint: rememberizer login --profile work"));
    screen.start("rememberizer signup --profile work --email bob@example.com --name Bob");
    screen.wait_for("New password");
    screen.type_line("correct horse 9");
    screen.wait_for("again");
    screen.type_line("correct horse 9");
    screen.wait_for("(blank: later)");
    screen.press("Enter");
    let (code, shown) = screen.wait_for_exit();
    assert_eq!(code, 0);
    assert!(
        shown.ends_with("\nwhen you have the mailed code, run: rememberizer verify --profile work")
    );
}

fn another_store() {
    let world = World::new(Store::File);
    let screen = Screen::new(&world);
    // There is no keyring, and no store was chosen.
    screen.run("unset REMEMBERIZER_STORE");
    screen.start("rememberizer login ann@example.com");
    screen.wait_for("[y/N]");
    screen.press("Enter");
    let refused = shown_text(&screen, 6);
    assert!(
        refused.contains("hint: ") && refused.ends_with("rememberizer login --store file"),
        "{refused}"
    );
    screen.start("rememberizer signup --email zoe@example.com --name Zoe");
    screen.wait_for("[y/N]");
    screen.press("Enter");
    let refused = shown_text(&screen, 6);
    assert!(
        refused.ends_with("rememberizer signup --store file"),
        "{refused}"
    );
    assert!(world.api.requests().is_empty());
    screen.start("rememberizer login ann@example.com");
    screen.wait_for("[y/N]");
    screen.type_line("y");
    screen.wait_for("password for ann@example.com");
    screen.type_line(PASSWORD);
    assert!(shown_text(&screen, 0).ends_with("; the session is in a private file"));
    screen.start("rememberizer login ann@example.com");
    screen.wait_for("password for ann@example.com");
    screen.press("C-c");
    screen.wait_for_exit();
}

fn captcha_is_last() {
    let world = World::with_settings(
        Store::File,
        Settings {
            captcha: vec!["good".to_owned()],
            ..Settings::default()
        },
    );
    let screen = Screen::new(&world);
    screen.start("rememberizer login ann@example.com");
    screen.wait_for("password for");
    screen.type_line(PASSWORD);
    let list = screen.wait_for("by pasting cookies");
    assert!(list.contains("in a browser window") && list.contains("with e-mail and password"));
    assert_eq!(world.api.requests().len(), 1, "the server asked for it");
    screen.press("Down");
    screen.press("Enter");
    screen.wait_for("captcha response \u{203a}");
    // A wrong captcha response cannot be used again: the list is shown again, and the other
    // answers stay.
    screen.type_line("wrong");
    screen.wait_until("a second list", |shown| {
        shown
            .lines()
            .filter(|line| line.contains("by pasting cookies"))
            .count()
            == 1
            && shown.contains("Error verifying reCAPTCHA")
    });
    screen.press("Down");
    screen.press("Enter");
    screen.wait_until("a second question", |shown| {
        shown.matches("captcha response \u{203a}").count() == 2
    });
    screen.type_line("good");
    assert!(shown_text(&screen, 0).contains("signed in as ann@example.com"));
    let sent: Vec<_> = world
        .api
        .requests()
        .iter()
        .map(|seen| seen.json())
        .collect();
    assert_eq!(sent.len(), 3);
    assert!(sent[0].get("captcha").is_none());
    assert_eq!(
        (&sent[1]["captcha"], &sent[2]["captcha"]),
        (&"wrong".into(), &"good".into())
    );
}

/// If the profile records that the server requires a captcha, the list comes first. The same
/// applies to the default service.
fn captcha_is_known() {
    let world = World::with_settings(
        Store::File,
        Settings {
            captcha: vec!["good".to_owned()],
            ..Settings::default()
        },
    );
    let url = world.api.base_url();
    let login = ["login", EMAIL, "--store=file", "--api-url", &url];
    world
        .run_env(&[("REMEMBERIZER_PASSWORD", PASSWORD)], &login)
        .expect(7);
    world.api.clear_requests();
    let screen = Screen::new(&world);
    screen.start("rememberizer login");
    screen.wait_for("by pasting cookies");
    screen.press("Down");
    screen.press("Down");
    screen.press("Enter");
    let answered = screen.wait_for("Paste them here");
    assert!(
        answered.contains("How do you want to sign in? \u{203a} by pasting cookies\n"),
        "the answer stays on the screen: {answered}"
    );
    let token = world.api.begin_session(EMAIL).refresh.unwrap();
    // Pastes several lines at once. None of them is shown.
    screen.type_text(&format!(
        "curl '{url}/account/' \\\n  -H 'accept: */*' \\\n  -b 'a=b; refresh_token={token}' \\\n  --compressed\n"
    ));
    let shown = shown_text(&screen, 0);
    assert!(shown.contains("signed in as ann@example.com"), "{shown}");
    assert!(
        !shown.contains(&token[..40]) && !shown.contains("curl"),
        "{shown}"
    );
    assert_eq!(world.api.count("/auth/signin/"), 0);
    // This is the default service. The test sends nothing to it.
    screen.start("env -u REMEMBERIZER_API_URL rememberizer login --profile other");
    screen.wait_for("by pasting cookies");
    screen.press("C-c");
    assert_eq!(screen.wait_for_exit().0, 130);
    screen.assert_terminal_is_restored();
    screen.clear();
    screen.start("env -u REMEMBERIZER_API_URL rememberizer login --profile other");
    screen.wait_for("by pasting cookies");
    screen.press("C-d");
    assert!(self::shown_text(&screen, 130).ends_with("error: the input was closed"));
    screen.assert_terminal_is_restored();
}

/// A refused field is asked for again, three times, with the previous answer as the default.
fn refused_field_is_asked_again() {
    let world = World::new(Store::File);
    let screen = Screen::new(&world);
    screen.start("rememberizer login ann@example.com");
    for attempt in 1..=3 {
        screen.wait_until("password prompt", |shown| {
            shown.matches("password for ann@example.com").count() == attempt
        });
        screen.type_line("wrong");
        if attempt < 3 {
            screen.wait_until("login prompt", |shown| {
                shown.matches("login (e-mail or user name)").count() == attempt
            });
            screen.press("Enter");
        }
    }
    let shown = shown_text(&screen, 4);
    assert_eq!(shown.matches("Unable to log in").count(), 3, "{shown}");
    assert_eq!(world.api.count("/auth/signin/"), 3);
    screen.clear();
    screen.start("rememberizer signup --email ann@example.com --name Ann");
    for prompt in ["New password", "The same Rememberizer password"] {
        screen.wait_for(prompt);
        screen.type_line("short");
    }
    // Both refused fields are asked for again, but not the name.
    screen.wait_for("E-mail address for Rememberizer");
    screen.type_line("zoe@example.com");
    screen.wait_until("password", |shown| {
        shown.matches("New password").count() == 2
    });
    screen.type_line(PASSWORD);
    screen.wait_until("again", |shown| {
        shown.matches("same Rememberizer password").count() == 2
    });
    screen.type_line(PASSWORD);
    screen.wait_for("code mailed to zoe@example.com");
    screen.press("Enter");
    screen.wait_for_exit();
    let last = world.api.requests().pop().unwrap().json();
    assert_eq!(
        (&last["email"], &last["name"]),
        (&"zoe@example.com".into(), &"Ann".into())
    );
}

fn spinner() {
    const WAITING: &str = "waiting for the server";
    let world = World::with_settings(
        Store::File,
        Settings {
            delays: vec![Delay::before(Duration::from_millis(1_500))],
            ..Settings::default()
        },
    );
    let screen = Screen::new(&world);
    let login = "REMEMBERIZER_PASSWORD='correct horse battery' rememberizer login ann@example.com";
    screen.start(login);
    screen.wait_for(WAITING);
    let shown = shown_text(&screen, 0);
    assert_eq!(
        shown.lines().last().unwrap_or_default(),
        format!(
            "signed in as ann@example.com on {} (profile default); the session is in a private file",
            world.api.address()
        )
    );
    assert!(!shown.contains(WAITING), "{shown}");
    screen.assert_terminal_is_restored();
    screen.clear();
    // The spinner is shown only at a terminal, and not with --quiet or --json.
    for command in [
        "rememberizer whoami 2>err",
        "rememberizer whoami -q 2>&1 | cat >err",
        "rememberizer whoami --json >out 2>err",
    ] {
        assert_eq!(screen.run(command).0, 0);
        let written = std::fs::read_to_string(world.home().join("err")).unwrap();
        assert!(!written.contains(WAITING) && !written.contains('\u{1b}'));
    }
    screen.start("rememberizer whoami");
    screen.wait_for(WAITING);
    screen.press("C-c");
    let (code, shown) = screen.wait_for_exit();
    assert_eq!(code, 130);
    assert!(shown.ends_with("\nerror: interrupted"), "{shown}");
    assert!(!shown.contains(WAITING), "{shown}");
    screen.assert_terminal_is_restored();
}
