use super::*;

fn basic_of(user: &str, password: &str) -> Credentials {
    Credentials::Basic {
        username: user.into(),
        password: password.into(),
    }
}

fn find(config: &DockerConfig, image: &str) -> Option<Credentials> {
    config.find(&Repository::parse(image)).cloned()
}

fn of(text: &str) -> DockerConfig {
    DockerConfig::parse(text).unwrap()
}

#[test]
fn hosts_are_found_however_the_key_is_written() {
    let config = of(r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"Ym9iOmh1bnRlcjIy"},
            "Registry.example.com:5000":{"username":"u","password":"p:w"},
            "https://ghcr.io/v2/":{"identitytoken":"idt"},
            "quay.io":{"registrytoken":"rt"},
            "empty.example.com":{}, "null.example.com":null}}"#);
    for image in ["busybox", "docker.io/team/app", "index.docker.io/team/app"] {
        assert_eq!(find(&config, image), Some(basic_of("bob", "hunter22")));
    }
    assert_eq!(
        find(&config, "registry.example.com:5000/a"),
        Some(basic_of("u", "p:w"))
    );
    assert_eq!(
        find(&config, "ghcr.io/a/b"),
        Some(Credentials::Refresh("idt".into()))
    );
    assert_eq!(
        find(&config, "quay.io/a/b"),
        Some(Credentials::Bearer("rt".into()))
    );
    assert_eq!(find(&config, "empty.example.com/a"), None);
    assert_eq!(find(&config, "registry.example.com/a"), None);
    assert_eq!(config.keys().count(), 4);
    let unusable: Vec<String> = config
        .unusable()
        .iter()
        .map(|(key, why)| format!("{key}: {why}"))
        .collect();
    assert_eq!(
        unusable,
        [
            "empty.example.com: the password is missing",
            "null.example.com: the password is missing"
        ]
    );
}

#[test]
fn of_several_paths_of_one_host_the_longest_that_fits_is_taken() {
    let config = of(r#"{"auths":{
            "registry.example.com":{"username":"all","password":"0"},
            "registry.example.com/other":{"username":"other","password":"1"},
            "registry.example.com/team":{"username":"team","password":"2"},
            "registry.example.com/team/app":{"username":"app","password":"3"},
            "*.example.com/team":{"username":"pattern","password":"4"}}}"#);
    for (image, user) in [
        ("registry.example.com/team/app", "app"),
        ("registry.example.com/team/lib", "team"),
        ("registry.example.com/other/x", "other"),
        ("registry.example.com/x", "all"),
        ("mirror.example.com/team/x", "pattern"),
    ] {
        let Some(Credentials::Basic { username, .. }) = find(&config, image) else {
            panic!("{image}");
        };
        assert_eq!(username, user, "{image}");
    }
    assert_eq!(find(&config, "mirror.example.com/x"), None);
}

#[test]
fn line_ends_are_no_part_of_a_password_and_base64_may_be_broken_or_unpadded() {
    // bob:hunter22, bob:hunter22\n, the same broken and without padding.
    for auth in [
        "Ym9iOmh1bnRlcjIy",
        "Ym9iOmh1bnRlcjIyCg==",
        "Ym9iOmh1bnRlcjIyCg",
        "Ym9iOmh1\\nbnRlcjIy\\n",
        "Ym9iOmh1\\r\\nbnRlcjIyCg==\\r\\n",
    ] {
        let config = of(&format!(
            r#"{{"auths":{{"a.example":{{"auth":"{auth}"}}}}}}"#
        ));
        assert_eq!(
            find(&config, "a.example/x"),
            Some(basic_of("bob", "hunter22")),
            "{auth}"
        );
        assert!(config.secrets().contains(&"hunter22".to_owned()));
    }
    let config = of(r#"{"auths":{"a.example":{"username":"bob\n","password":"hunter22\r\n"}}}"#);
    assert_eq!(
        find(&config, "a.example/x"),
        Some(basic_of("bob", "hunter22"))
    );
    for (auth, why) in [
        (
            "no base64!",
            "its auth is invalid: not user:password in base64",
        ),
        ("Ym9i", "its auth is invalid: not user:password in base64"),
        ("Ym9iOg==", "the password is missing"),
    ] {
        let config = of(&format!(
            r#"{{"auths":{{"a.example":{{"auth":"{auth}"}}}}}}"#
        ));
        assert_eq!(config.unusable()[0].1, why, "{auth}");
    }
}

#[test]
fn a_store_is_known_by_its_name_and_what_stands_beside_it_is_used() {
    let config = of(
        r#"{"auths":{"a.example":{},"b.example":{"auth":"Ym9iOmh1bnRlcjIy"}},
        "credsStore":"desktop","credHelpers":{"c.example":"ecr-login","d.example":null}}"#,
    );
    assert_eq!(
        find(&config, "b.example/x"),
        Some(basic_of("bob", "hunter22"))
    );
    assert_eq!(config.helper("a.example"), Some("desktop"));
    assert_eq!(config.helper("c.example"), Some("ecr-login"));
    assert_eq!(config.helpers().count(), 2);
    assert_eq!(of("{}").helper("a.example"), None);
    // buildctl would run the store, and fail: it gets what is there.
    assert_eq!(
        config.for_buildctl(&[]),
        r#"{"auths":{"b.example":{"username":"bob","password":"hunter22"}}}"#
    );
}

#[test]
fn buildctl_gets_one_entry_for_each_host_that_it_may_ask() {
    let config = of(r#"{"auths":{
            "https://index.docker.io/v1/":{"identitytoken":"idt"},
            "registry.example.com/team":{"username":"team","password":"1"},
            "registry.example.com/other":{"username":"other","password":"2"},
            "*.dkr.ecr.eu-central-1.amazonaws.com":{"username":"AWS","password":"3"},
            "https://ghcr.io/v2/":{"registrytoken":"rt"},
            "bad.example.com":{"auth":"x"}}}"#);
    let used = [
        "registry.example.com/team/app",
        "registry.example.com/other/base",
        "123.dkr.ecr.eu-central-1.amazonaws.com/base",
        "nowhere.example.com/x",
    ]
    .map(Repository::parse);
    assert_eq!(
        config.for_buildctl(&used),
        r#"{"auths":{"123.dkr.ecr.eu-central-1.amazonaws.com":{"username":"AWS","password":"3"},"ghcr.io":{"registrytoken":"rt"},"https://index.docker.io/v1/":{"identitytoken":"idt"},"registry.example.com":{"username":"team","password":"1"}}}"#
    );
}

#[test]
fn the_file_before_config_json_is_read_too() {
    let config = DockerConfig::parse_legacy(
        r#"{"https://registry.example.com/v1/":{"auth":"Ym9iOmh1bnRlcjIy","email":"a@b.c"}}"#,
    )
    .unwrap();
    assert_eq!(
        find(&config, "registry.example.com/x"),
        Some(basic_of("bob", "hunter22"))
    );
}

#[test]
fn every_secret_of_the_file_is_known_for_redaction() {
    let config = of(r#"{"auths":{"a":{"auth":"Ym9iOmh1bnRlcjIy"}}}"#);
    assert_eq!(config.secrets(), ["Ym9iOmh1bnRlcjIy", "hunter22"]);
    let (_, credentials) = &config.entries[0];
    assert_eq!(format!("{credentials:?}"), "Basic(…)");
    // As they are sent: a line end is no part of them, and an identity token may stand where a password does.
    for (entry, sent) in [
        (r#"{"identitytoken":" idtoken1\n"}"#, "idtoken1"),
        (r#"{"registrytoken":"rgtoken1\n"}"#, "rgtoken1"),
        (r#"{"username":"u","password":"hunter22\n"}"#, "hunter22"),
        (r#"{"auth":"PHRva2VuPjppZHRva2VuMg=="}"#, "idtoken2"),
    ] {
        let config = of(&format!(r#"{{"auths":{{"a":{entry}}}}}"#));
        let known = config.secrets().iter().any(|secret| secret == sent);
        assert!(known, "{entry}: {:?}", config.secrets());
    }
}

#[test]
fn a_file_that_is_no_config_says_where_it_is_wrong_and_nothing_of_what_stands_there() {
    for (text, said) in [
        ("", "invalid JSON at line 1"),
        ("{\"auths\":\n{\"a\":hunter22}}", "invalid JSON at line 2"),
        (r#"{"auths":"hunter22"}"#, "auths has the wrong type"),
        (
            r#"{"auths":{"a.example":{"password":{"b":"hunter22"}}}}"#,
            "auths.a.example.password has the wrong type",
        ),
        (r#"["hunter22"]"#, "the whole has the wrong type"),
        (r#""hunter22""#, "the whole has the wrong type"),
        (
            r#"{"credsStore":["hunter22"]}"#,
            "credsStore has the wrong type",
        ),
    ] {
        assert_eq!(
            DockerConfig::parse(text).unwrap_err().to_string(),
            said,
            "{text}"
        );
    }
    for text in [
        "{}",
        r#"{"auths":null,"credHelpers":null,"credsStore":null}"#,
        "\u{feff}{}",
    ] {
        assert!(of(text).keys().next().is_none(), "{text}");
    }
}

#[test]
fn another_file_gives_the_host_of_one_repository_what_this_one_has_not() {
    let one = |host: &str, password: &str| {
        let text =
            format!(r#"{{"auths":{{"{host}":{{"username":"u","password":"{password}"}}}}}}"#);
        DockerConfig::parse(&text).unwrap()
    };
    let own = one("a.example", "own");
    let cache = DockerConfig::parse(
        r#"{"auths":{"a.example":{"username":"u","password":"cache"},"b.example/team":{"username":"u","password":"cache"},
            "c.example":{"username":"u","password":"more"}}}"#,
    )
    .unwrap();
    let written = |place: &str| {
        let repository = Repository::parse(place);
        own.for_buildctl_with(&[], Some((&cache, &repository)))
    };
    // What pushes the image goes first.
    assert_eq!(written("a.example/cache"), own.for_buildctl(&[]));
    let both = written("b.example/team/cache");
    assert!(
        both.contains("a.example") && both.contains("own") && both.contains("b.example"),
        "{both}"
    );
    assert!(
        !both.contains("c.example") && !both.contains("more"),
        "{both}"
    );
    assert!(!written("b.example/other/cache").contains("b.example"));
}
