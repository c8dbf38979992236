use super::*;

const WANTED: WantedCookie<'_> = WantedCookie {
    name: "refresh_token",
    host: "api.example.test:8080",
};

fn find_value(text: &str) -> Result<String, CookieError> {
    find_cookie(text.as_bytes(), WANTED).map(|found| found.value.expose().to_owned())
}

#[track_caller]
fn assert_found(text: &str, value: &str) {
    assert_eq!(find_value(text).as_deref(), Ok(value), "{text}");
}

#[test]
fn finds_the_cookie_in_headers() {
    assert_found("Cookie: a=b; refresh_token=good; c=d", "good");
    assert_found("cookie:refresh_token=good", "good");
    assert_found("a=b; refresh_token=good=", "good=");
    assert_found(
        "GET / HTTP/1.1\r\nHost: api.example.test\r\nCookie: refresh_token=good\r\n",
        "good",
    );
    assert_found(
        "refresh_token=longest-path; refresh_token=other",
        "longest-path",
    );
    assert_eq!(
        find_value("Host: evil.test\nCookie: refresh_token=bad"),
        Err(CookieError::OtherHost {
            name: "refresh_token".into(),
            host: "api.example.test".into(),
            hosts: vec!["evil.test".into()],
        })
    );
    for text in [
        "Cookie: xrefresh_token=bad; refresh_tokenx=bad",
        "Set-Cookie: refresh_token=bad",
    ] {
        assert_eq!(
            find_value(text),
            Err(CookieError::Missing("refresh_token".into())),
            "{text}"
        );
    }
    for text in ["", "eyJhbGciOi.bare.token", "two\nlines=1", "\u{0}"] {
        assert_eq!(find_value(text), Err(CookieError::UnknownFormat), "{text}");
    }
    assert_eq!(
        find_value("refresh_token=b\u{7}d"),
        Err(CookieError::InvalidValue("refresh_token".into()))
    );
}

#[test]
fn the_first_of_several_cookies_in_a_header_is_used() {
    let found = find_value("Cookie: refresh_token=; refresh_token=old");
    assert!(matches!(found, Err(CookieError::Missing(_))), "{found:?}");
    assert_found("Cookie: refresh_token=new; refresh_token=old", "new");
}

#[test]
fn finds_the_cookie_in_cookies_txt() {
    let line = |prefix: &str, domain: &str, flag: &str, value: &str| {
        format!("{prefix}{domain}\t{flag}\t/\tTRUE\t1900000000\trefresh_token\t{value}\n")
    };
    let file = |lines: &[String]| format!("# Netscape HTTP Cookie File\n\n{}", lines.concat());
    assert_found(
        &file(&[line("#HttpOnly_", "api.example.test", "FALSE", "good")]),
        "good",
    );
    assert_found(&line("", ".example.test", "TRUE", "good"), "good");
    assert_found(
        &line("", "api.example.test", "FALSE", "good").replace('\t', " "),
        "good",
    );
    let longest = [
        line("", ".example.test", "TRUE", "parent"),
        line("#HttpOnly_", "api.example.test", "FALSE", "good"),
        line("", ".test", "TRUE", "top"),
    ];
    assert_found(&file(&longest), "good");
    let other_hosts = file(&[
        line("", "example.test", "FALSE", "bad"),
        line("#HttpOnly_.", "evil.test", "TRUE", "bad"),
        line("", "xapi.example.test", "FALSE", "bad"),
        line("# ", "api.example.test", "FALSE", "comment"),
    ]);
    let Err(CookieError::OtherHost { hosts, .. }) = find_value(&other_hosts) else {
        panic!("{:?}", find_value(&other_hosts));
    };
    assert_eq!(hosts, ["evil.test", "example.test", "xapi.example.test"]);
    assert_eq!(
        find_value("# Netscape HTTP Cookie File\n"),
        Err(CookieError::Missing("refresh_token".into()))
    );
}

#[test]
fn finds_the_cookie_in_json() {
    let cookie = |domain: &str, more: &str, value: &str| {
        format!(
            "{{\"domain\":\"{domain}\",\"name\":\"refresh_token\",\"value\":\"{value}\",\"path\":\"/\"{more}}}"
        )
    };
    assert_found(
        &format!(
            "[{}]",
            cookie("api.example.test", ",\"hostOnly\":true", "good")
        ),
        "good",
    );
    assert_found(
        &format!(
            "[{}]",
            cookie(".example.test", ",\"hostOnly\":false", "go\\u006fd")
        ),
        "good",
    );
    assert_found(
        &format!(
            "{{\"cookies\":[{}],\"origins\":[]}}",
            cookie(".example.test", "", "good")
        ),
        "good",
    );
    let mixed = cookie("api.example.test", "", "good");
    assert_found(&format!("[{{\"name\":7}},{mixed},[]]"), "good");
    let response = format!(
        "{{\"id\":1,\"result\":{{\"cookies\":[{},{},{}]}}}}",
        cookie("example.test", "", "host-only"),
        cookie("api.example.test", ",\"partitionKey\":{}", "partitioned"),
        cookie(".example.test", "", "good"),
    );
    assert_eq!(
        find_cookie(response.as_bytes(), WANTED).map(|found| found.value.expose().to_owned()),
        Ok("good".into())
    );
    assert_eq!(
        find_value("[{\"name\":\"refresh_token\",\"value\":\"without-domain\"}]"),
        Err(CookieError::Missing("refresh_token".into()))
    );
    for text in ["{}", "[", "{\"cookies\":7}"] {
        assert_eq!(find_value(text), Err(CookieError::UnknownFormat), "{text}");
    }
}

#[test]
fn finds_the_cookie_in_curl_commands() {
    // Chrome, bash.
    assert_found(
        "curl 'https://api.example.test/api/v1/account/' \\\n  -H 'accept: */*' \\\n  -b 'a=\"x\"; refresh_token=good; c=d' \\\n  --data-raw '{\"refresh_token\":\"x\"}'",
        "good",
    );
    // Chrome, bash, with characters for which Chrome uses `$'…'`.
    assert_found(
        "curl 'https://api.example.test/' -b $'a=it\\'s\\u0021; refresh_token=g\\x6fod; c=\\041'",
        "good",
    );
    // Firefox, bash.
    assert_found(
        "curl 'https://api.example.test/' --compressed -X POST -H 'User-Agent: x' -H 'Cookie: a=b; refresh_token=good' --data-raw 'Cookie: refresh_token=bad'",
        "good",
    );
    // Chrome and Firefox, cmd.
    assert_found(
        "curl ^\"https://api.example.test/a?b=1^&c=2^\" ^\r\n  -H ^\"accept: */*^\" ^\r\n  -b ^\"a=^\\^\"x^\\^\"; p=50^%^41; refresh_token=good^%^2B^\" ^\r\n  --data-raw ^\"^{^\\^\"a^\\^\":1^}^\"",
        "good%2B",
    );
    assert_found(
        "curl.exe \"https://api.example.test/\" ^\r\n  -H \"Cookie: a=\"\"x\"\"; refresh_token=good\"",
        "good",
    );
    // Commands written by hand.
    assert_found(
        "curl -bx=y\\;refresh_token=good https://api.example.test",
        "good",
    );
    assert_found(
        "curl --cookie=\"refresh_token=g\\$d\" --url https://api.example.test",
        "g$d",
    );
    assert_found(
        "curl --header='cookie: refresh_token=good' https://example.test",
        "good",
    );
    // Several commands; the cookie of another host is ignored.
    assert_found(
        "curl 'https://evil.test/' -b 'refresh_token=bad' ;\ncurl 'https://api.example.test/' -b 'refresh_token=good'",
        "good",
    );
    for text in [
        "curl 'https://evil.test/' -b 'refresh_token=bad'",
        "curl -b 'refresh_token=bad' -e https://api.example.test https://evil.test/",
    ] {
        assert!(
            matches!(find_value(text), Err(CookieError::OtherHost { .. })),
            "{text}"
        );
    }
    assert_eq!(
        find_value("curl 'https://api.example.test/' -b cookies.txt"),
        Err(CookieError::Missing("refresh_token".into()))
    );
}

#[test]
fn domains_match_hosts() {
    for (host, domain, matches) in [
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "0.0.1", false),
        ("a.test", "A.TEST", true),
        ("a.test", "", false),
        ("xa.test", "a.test", false),
    ] {
        assert_eq!(domain_matches(host, domain), matches, "{host} {domain}");
    }
    assert_eq!(
        displayable_host(".Example.test"),
        Some("example.test".into())
    );
    for text in ["eyJhbGciOi", "a_b.test", "a b.test", ""] {
        assert_eq!(displayable_host(text), None);
    }
}

/// A pair is an access cookie and a refresh cookie. It is used if no cookie has the wanted name.
#[test]
fn the_only_pair_of_cookies_is_used() {
    let pair = |text: &str| find_cookie(text.as_bytes(), WANTED).map(|found| found.names);
    let names = CookieNames::new(Some("my-access"), Some("My.Refresh"));
    for text in [
        "sessionid=x; my-access=a; My.Refresh=good",
        "curl https://api.example.test -b 'my-access=a' -b 'My.Refresh=good'",
        "api.example.test FALSE / TRUE 0 my-access a
         .example.test TRUE / TRUE 0 My.Refresh good
         evil.test FALSE / TRUE 0 refresh_token bad
         evil.test FALSE / TRUE 0 other_refresh bad",
    ] {
        assert_found(text, "good");
        assert_eq!(pair(text), Ok(Some(names.clone())), "{text}");
    }
    let both = "my-access=a; my-refresh=bad; refresh_token=good";
    assert_found(both, "good");
    assert_eq!(pair(both), Ok(None));
    for text in [
        "my-refresh=bad; a=b",
        "my-access=a; my-refresh=bad; other-refresh=bad",
        "my-access=a; your-access=a; my-refresh=bad",
        "access-refresh=bad; my-refresh=bad",
        "my access=a; my refresh=bad",
        "my-access=a; my-refresh=b d",
        "my-access=a; my-refresh=; refresh_token=",
        "curl https://evil.test/ -b 'my-access=a; my-refresh=bad'",
    ] {
        assert!(
            matches!(find_value(text), Err(CookieError::Missing(_))),
            "{text}"
        );
    }
}

#[test]
fn finds_the_cookie_in_utf_16() {
    let text = "\u{feff}Cookie: refresh_token=good\r\n";
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let value = find_cookie(&bytes, WANTED).map(|found| found.value.expose().to_owned());
    assert_eq!(value.as_deref(), Ok("good"));
}
