use super::*;
use crate::fixtures::request;
use whittle_api::{
    BuildSecret, Compression, ConfigMapKeyRef, Platform, RegistryConfig, SecretKeyRef,
};

const IMAGE: Goal = Goal::Image {
    target: None,
    metadata: "/tmp/metadata.json",
};

fn git(url: &str) -> GitSource {
    GitSource {
        url: url.into(),
        reference: None,
        sub_path: None,
        secret_ref: None,
    }
}

fn branch(url: &str, branch: &str, sub_path: Option<&str>) -> GitSource {
    GitSource {
        reference: Some(GitRef {
            branch: Some(branch.into()),
            ..GitRef::default()
        }),
        sub_path: sub_path.map(Into::into),
        ..git(url)
    }
}

#[test]
fn inline_files_come_as_a_local_context() {
    let files = Files {
        context: Some("/tmp/context".into()),
        ..Files::default()
    };
    insta::assert_snapshot!(build(&request(), &files, &IMAGE).join("\n"), @r"
    --addr
    tcp://builder.demo.svc:1234
    --tlsservername
    builder.demo.svc
    --tlscacert
    /whittle/tls/builder-ca.crt
    --tlscert
    /whittle/tls/tls.crt
    --tlskey
    /whittle/tls/tls.key
    build
    --progress=rawjson
    --frontend
    dockerfile.v0
    --opt
    cmdline=builtin
    --opt
    filename=Dockerfile
    --local
    context=/tmp/context
    --local
    dockerfile=/tmp/context
    --output
    type=image,name=registry.example.com/team/hello,push=true,push-by-digest=true,oci-mediatypes=true,compression=gzip,force-compression=true
    --metadata-file
    /tmp/metadata.json
    ");
}

#[test]
fn a_build_with_everything_keeps_values_apart_whatever_is_in_them() {
    let mut request = request();
    request.inputs.source.git = Some(branch(
        "https://git.example.com:8443/team/hello",
        "main",
        Some("cmd/hello"),
    ));
    request.inputs.dockerfile = "build/Dockerfile".into();
    request.inputs.build_args = [
        ("EMPTY".into(), String::new()),
        ("FLAGS".into(), "-s -w, \"x\"=1; $(rm -rf /)".into()),
    ]
    .into();
    request.inputs.secrets = vec![BuildSecret {
        id: "npmrc".into(),
        secret_ref: SecretKeyRef {
            name: "npm".into(),
            key: ".npmrc".into(),
        },
    }];
    request.inputs.platforms = vec![
        Platform("linux/amd64".into()),
        Platform("linux/arm64".into()),
    ];
    request.inputs.output.compression = Compression::Zstd;
    request.inputs.output.labels = [("org.example.title".into(), "a, b".into())].into();
    request.inputs.output.annotations = [("org.example.text".into(), "one, \"two\"".into())].into();
    request.registries = vec![RegistryConfig {
        host: "registry.example.com:5000".into(),
        ca_ref: Some(ConfigMapKeyRef::default()),
        ..RegistryConfig::default()
    }];
    let files = Files {
        git_header: Some("/tmp/git-header".into()),
        policy: Some("/tmp/policy.json".into()),
        ..Files::default()
    };
    let goal = Goal::Image {
        target: Some("runtime"),
        metadata: "/tmp/metadata.json",
    };
    let args = build(&request, &files, &goal);
    insta::assert_snapshot!(args[11..].join("\n"), @r#"
    --progress=rawjson
    --frontend
    dockerfile.v0
    --opt
    cmdline=builtin
    --opt
    filename=build/Dockerfile
    --opt
    target=runtime
    --opt
    build-arg:EMPTY=
    --opt
    build-arg:FLAGS=-s -w, "x"=1; $(rm -rf /)
    --opt
    label:org.example.title=a, b
    --opt
    context=https://git.example.com:8443/team/hello.git#refs/heads/main:cmd/hello
    --secret
    id=npmrc,src=/whittle/secrets/npmrc/value
    --secret
    id=GIT_AUTH_HEADER.git.example.com:8443,src=/tmp/git-header
    --source-policy-file
    /tmp/policy.json
    --opt
    platform=linux/amd64,linux/arm64
    --registry-auth-tlscontext
    host=registry.example.com:5000,ca=/whittle/registry-ca/registry.example.com_5000/ca.crt
    --output
    type=image,name=registry.example.com/team/hello,push=true,push-by-digest=true,oci-mediatypes=true,compression=zstd,force-compression=true,"annotation.org.example.text=one, ""two"""
    --metadata-file
    /tmp/metadata.json
    "#);
}

#[test]
fn an_ssh_key_is_named_by_its_path() {
    let mut request = request();
    request.inputs.source.git = Some(git("git@git.example.com:team/hello.git"));
    let files = Files {
        ssh_key: Some("/whittle/git/ssh-privatekey".into()),
        ..Files::default()
    };
    let args = build(&request, &files, &IMAGE);
    let at = args.iter().position(|arg| arg == "--ssh").unwrap();
    assert_eq!(args[at + 1], "default=/whittle/git/ssh-privatekey");
    assert!(args.contains(&"context=git@git.example.com:team/hello.git".to_owned()));
}

#[test]
fn refs_are_written_in_full_and_commits_as_they_are() {
    let url = "https://git.example.com/hello.git";
    assert_eq!(git_context(&git(url), None), url);
    assert_eq!(
        git_context(&branch(url, "feature/x", None), None),
        format!("{url}#refs/heads/feature/x")
    );
    let tag = GitSource {
        reference: Some(GitRef {
            tag: Some("v1".into()),
            ..GitRef::default()
        }),
        ..git(url)
    };
    assert_eq!(git_context(&tag, None), format!("{url}#refs/tags/v1"));
    let by_flux = GitSource {
        reference: Some(GitRef {
            branch: Some("main".into()),
            commit: Some("8".repeat(40)),
            ..GitRef::default()
        }),
        ..git(url)
    };
    assert!(git_context(&by_flux, None).contains(&format!("#{}", "8".repeat(40))));
    let commit = GitSource {
        reference: Some(GitRef {
            commit: Some("8".repeat(40)),
            ..GitRef::default()
        }),
        ..git(url)
    };
    assert_eq!(
        git_context(&commit, None),
        format!("{url}#{}", "8".repeat(40))
    );
}

#[test]
fn a_folder_is_written_cleanly_also_without_a_ref() {
    let url = "https://git.example.com/hello.git";
    let folder = |text: &str| {
        git_context(
            &GitSource {
                sub_path: Some(text.into()),
                ..git(url)
            },
            None,
        )
    };
    assert_eq!(folder("./cmd//hello/"), format!("{url}#:cmd/hello"));
    assert_eq!(folder("50%"), format!("{url}#:50%252525"));
    assert_eq!(folder("."), url);
}

#[test]
fn a_url_without_git_at_its_end_gets_it_and_a_policy_takes_it_away_again() {
    let source = branch("https://git.example.com/team/hello/", "main", Some("cmd"));
    assert_eq!(
        git_context(&source, None),
        "https://git.example.com/team/hello.git#refs/heads/main:cmd"
    );
    insta::assert_snapshot!(source_policy(&source, (None, false), "hello-1", None), @r#"{"rules":[{"action":"CONVERT","selector":{"identifier":"git://git.example.com/team/hello.git#refs/heads/main:cmd","match_type":"EXACT"},"updates":{"identifier":"git://git.example.com/team/hello#refs/heads/main:cmd","attrs":{"git.fullurl":"https://git.example.com/team/hello"}}},{"action":"CONVERT","selector":{"identifier":"git://*","match_type":"WILDCARD"},"updates":{"identifier":"git://${1}","attrs":{"whittle.job":"hello-1"}}}]}"#);
    for url in [
        "https://git.example.com/hello.git",
        "ssh://git@git.example.com/hello",
    ] {
        let policy = source_policy(&git(url), (None, false), "hello-1", None);
        assert!(!policy.contains("EXACT"), "{policy}");
    }
}

#[test]
fn known_hosts_reach_the_builder_by_a_policy_for_every_git_source() {
    let keys = "git.example.com ssh-ed25519 AAAA\n";
    let policy = source_policy(
        &git("git@git.example.com:hello"),
        (None, false),
        "hello-1",
        Some(keys),
    );
    insta::assert_snapshot!(policy, @r#"{"rules":[{"action":"CONVERT","selector":{"identifier":"git://*","match_type":"WILDCARD"},"updates":{"identifier":"git://${1}","attrs":{"git.knownsshhosts":"git.example.com ssh-ed25519 AAAA\n","whittle.job":"hello-1"}}}]}"#);
}

#[test]
fn git_credentials_are_for_the_host_and_port_of_the_source_alone() {
    assert_eq!(
        host("https://git.example.com:8443/a/b@c"),
        "git.example.com:8443"
    );
    assert_eq!(host("ssh://git@git.example.com/a"), "git.example.com");
    assert_eq!(basic_auth("bob", "hunter22"), "basic Ym9iOmh1bnRlcjIy");
}

#[test]
fn no_argument_grants_an_entitlement_or_adds_an_attestation() {
    let files = Files::default();
    for args in [
        build(&request(), &files, &IMAGE),
        build(
            &request(),
            &files,
            &Goal::Files {
                recipe: "/tmp/recipe",
                into: "/tmp/out",
            },
        ),
        prune(&request()),
    ] {
        assert!(
            !args
                .iter()
                .any(|arg| arg.contains("allow") || arg.contains("attest")),
            "{args:?}"
        );
    }
}

#[test]
fn a_commit_that_is_known_takes_the_place_of_the_ref() {
    let url = "https://git.example.com/hello.git";
    let source = branch(url, "main", Some("cmd"));
    let mut pin = Pin {
        commit: "abc".into(),
        kept: None,
    };
    assert_eq!(git_context(&source, Some(&pin)), format!("{url}#abc:cmd"));
    pin.kept = Some(("refs/heads/main".into(), "abc".into()));
    assert_eq!(
        git_context(&source, Some(&pin)),
        format!("{url}?checksum=abc&fetch-by-commit=true#refs/heads/main:cmd")
    );
}

#[test]
fn a_percent_sign_is_escaped_as_often_as_it_is_decoded() {
    let of = |url| git_context(&branch(url, "100%", None), None);
    assert_eq!(
        of("https://git.example.com/x.git"),
        "https://git.example.com/x.git#refs/heads/100%252525"
    );
    assert_eq!(
        of("git@git.example.com:x.git"),
        "git@git.example.com:x.git#refs/heads/100%2525"
    );
    let odd = branch("https://git.example.com/x", "feature/#12(ü)%", None);
    let policy = source_policy(&odd, (None, false), "hello-1", None);
    assert!(policy.contains("git://git.example.com/x.git#refs/heads/feature/#12(ü)%2525"));
}

#[test]
fn git_is_kept_in_what_is_taken_out_of_the_source_where_the_build_asks_for_it() {
    let mut request = request();
    request.inputs.source.git = Some(git("https://git.example.com/hello.git"));
    let goal = Goal::Files {
        recipe: "/tmp/recipe",
        into: "/tmp/survey",
    };
    let option = "build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR=";
    for (value, kept) in [("1", true), ("true", true), ("0", false), ("yes", false)] {
        let name = "BUILDKIT_CONTEXT_KEEP_GIT_DIR".to_owned();
        request.inputs.build_args = [(name, value.to_owned())].into();
        assert_eq!(keeps_git(&request), kept, "{value}");
        let args = build(&request, &Files::default(), &goal);
        assert!(args.contains(&format!("{option}{value}")), "{args:?}");
    }
    request.inputs.build_args.clear();
    let args = build(&request, &Files::default(), &goal);
    assert!(!keeps_git(&request) && !args.iter().any(|arg| arg.starts_with(option)));
}

#[test]
fn files_are_taken_from_the_git_context_by_a_dockerfile_of_our_own() {
    let mut request = request();
    request.inputs.source.git = Some(git("https://git.example.com/hello.git"));
    request.inputs.platforms = vec![
        Platform("linux/amd64".into()),
        Platform("linux/arm64".into()),
    ];
    let goal = Goal::Files {
        recipe: "/tmp/recipe",
        into: "/tmp/survey",
    };
    let args = build(&request, &Files::default(), &goal);
    insta::assert_snapshot!(args[12..].join("\n"), @r"
    --frontend
    dockerfile.v0
    --opt
    cmdline=builtin
    --opt
    dockerfilekey=recipe
    --local
    recipe=/tmp/recipe
    --opt
    context=https://git.example.com/hello.git
    --output
    type=local,dest=/tmp/survey
    ");
}

#[test]
fn a_pattern_for_one_path_matches_it_alone_and_need_not_match() {
    let pattern = |path| pattern_of(path).unwrap();
    assert_eq!(pattern("Dockerfile"), "Dockerfil[e]");
    assert_eq!(pattern("a[1]/x.y"), "a\\[1]/x.[y]");
    assert_eq!(pattern_of("a/b*"), None);
    let recipe = survey_recipe(&["**/.en[v]".into(), "a \"b".into()]);
    assert_eq!(
        recipe,
        "FROM scratch\nCOPY --parents [\"**/.en[v]\", \"a \\\"b\", \"/\"]\n"
    );
}

#[test]
fn a_platform_with_two_names_is_built_once() {
    let mut request = request();
    request.inputs.platforms = ["linux/arm64/v8", "linux/amd64", "linux/arm64"]
        .map(|name| whittle_api::Platform(name.into()))
        .into();
    let args = build(&request, &Files::default(), &IMAGE);
    assert!(
        args.contains(&"platform=linux/arm64,linux/amd64".to_owned()),
        "{args:?}"
    );
}

fn with_cache(image: &str) -> BuildRequest {
    let cache = Some(CacheRegistry {
        image: image.into(),
        secret_ref: None,
    });
    BuildRequest { cache, ..request() }
}

#[test]
fn layers_travel_by_a_registry_and_one_that_does_not_take_them_fails_no_build() {
    let mut request = with_cache("registry.example.com/team/cache");
    request.inputs.output.compression = Compression::Zstd;
    let files = Files::default();
    let value = |goal: &Goal, name: &str| {
        let args = build(&request, &files, goal);
        let at = args.iter().position(|arg| arg == name);
        at.map(|at| args[at + 1].clone())
    };
    let tag = cache_reference(&request, request.cache.as_ref().unwrap());
    assert_eq!(
        tag.split_once(":demo.hello-").map(|(_, hash)| hash.len()),
        Some(20)
    );
    let imports = format!("type=registry,ref={tag}");
    let exports = format!("{imports},mode=max,compression=zstd,ignore-error=true");
    assert_eq!(value(&IMAGE, "--import-cache").as_deref(), Some(&*imports));
    assert_eq!(value(&IMAGE, "--export-cache").as_deref(), Some(&*exports));
    // The stage for debugging reads what is there, and leaves it.
    let debug = Goal::Image {
        target: Some("debug"),
        metadata: "/m",
    };
    assert_eq!(value(&debug, "--import-cache").as_deref(), Some(&*imports));
    assert_eq!(value(&debug, "--export-cache"), None);
    let survey = Goal::Files {
        recipe: "/r",
        into: "/i",
    };
    assert_eq!(value(&survey, "--import-cache"), None);
}

#[test]
fn without_the_cache_the_image_alone_is_made_again_and_not_what_shares_its_steps() {
    let (mut request, files) = (with_cache("localhost:5000/c"), Files::default());
    let told = |request: &BuildRequest, goal: &Goal| {
        build(request, &files, goal).contains(&"no-cache=".to_owned())
    };
    assert!(!told(&request, &IMAGE));
    request.no_cache = true;
    assert!(told(&request, &IMAGE));
    let debug = Goal::Image {
        target: Some("debug"),
        metadata: "/m",
    };
    assert!(!told(&request, &debug));
}

#[test]
fn each_image_build_and_set_of_platforms_has_a_tag_of_its_own() {
    let tag = |namespace: &str, name: &str, platforms: &[&str]| {
        let mut request = with_cache("localhost:5000/c");
        (request.namespace, request.name) = (namespace.into(), name.into());
        let platforms = platforms.iter().map(|name| Platform((*name).to_owned()));
        request.inputs.platforms = platforms.collect();
        let reference = cache_reference(&request, request.cache.as_ref().unwrap());
        reference
            .strip_prefix("localhost:5000/c:")
            .unwrap()
            .to_owned()
    };
    let two = ["linux/amd64", "linux/arm64"];
    let back = ["linux/arm64/v8", "linux/amd64"];
    assert_eq!(tag("a", "b", &two), tag("a", "b", &back));
    let long = "n".repeat(253);
    let other = format!("{}m", "n".repeat(252));
    let all = [
        tag("a", "b", &two),
        tag("a", "b", &two[..1]),
        tag("a", "b", &[]),
        tag("a", "c", &two),
        tag("b", "b", &two),
        tag("a", "b.c", &[]),
        tag("a", &long, &[]),
        tag("a", &other, &[]),
    ];
    let unique: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!(unique.len(), all.len());
    for tag in all {
        assert!(
            tag.len() <= 128 && tag.starts_with(|c: char| c.is_ascii_alphanumeric()),
            "{tag}"
        );
        assert!(
            tag.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        );
    }
}

#[test]
fn files_from_git_have_the_time_of_the_commit_where_that_is_asked_for() {
    let source = git("https://git.example.com/hello.git");
    let policy = |commit_times| source_policy(&source, (None, commit_times), "hello-1", None);
    assert!(policy(true).contains(r#""git.mtime":"commit""#));
    assert!(!policy(false).contains("mtime"));
    assert_eq!(
        time_recipe("build/Docker[file", "837dd14"),
        "FROM scratch\nCOPY --parents [\"build/Docker\\\\[fil?\", \"/837dd14/\"]\n"
    );
    assert!(time_recipe("Dockerfil*", "c").contains("\"Dockerfil?\""));
}

#[test]
fn what_is_known_of_the_source_is_annotated_on_manifests_and_on_the_index_of_several() {
    let mut request = request();
    request.inputs.output.annotations = [("a".into(), "mine".into())].into();
    let files = Files {
        annotations: [("b".into(), "x,y".into())].into(),
        ..Files::default()
    };
    let output = |request: &BuildRequest| {
        let args = build(request, &files, &IMAGE);
        let at = args.iter().position(|arg| arg == "--output").unwrap();
        args[at + 1].clone()
    };
    assert!(output(&request).ends_with(r#"true,annotation.a=mine,"annotation.b=x,y""#));
    // Two names of one platform make no index.
    let platform = |name: &str| Platform(name.into());
    request.inputs.platforms = vec![platform("linux/arm64"), platform("linux/arm64/v8")];
    assert!(!output(&request).contains("annotation-index"));
    request.inputs.platforms[1] = platform("linux/amd64");
    let with_index = output(&request);
    assert!(
        with_index.ends_with(r#""annotation.b=x,y","annotation-index.b=x,y""#),
        "{with_index}"
    );
    assert!(!with_index.contains("annotation-index.a"));
}

#[test]
fn a_daemon_without_a_name_is_asked_without_certificates_and_an_image_for_a_layout_is_not_pushed() {
    let mut request = request();
    request.builder_address = "unix:///run/b.sock".into();
    request.builder_server_name = String::new();
    request.place.layout = Some("/x/layout".into());
    let args = build(&request, &Files::default(), &IMAGE);
    assert_eq!(args[..2], ["--addr", "unix:///run/b.sock"]);
    assert!(!args.iter().any(|arg| arg.starts_with("--tls")), "{args:?}");
    let at = args.iter().position(|arg| arg == "--output").unwrap();
    assert_eq!(
        args[at + 1],
        "type=oci,tar=false,dest=/x/layout,oci-mediatypes=true,compression=gzip,force-compression=true"
    );
    let pushed = build(&crate::fixtures::request(), &Files::default(), &IMAGE);
    let at = pushed.iter().position(|arg| arg == "--output").unwrap();
    assert!(pushed[at + 1].contains("push=true"), "{pushed:?}");
}

#[test]
fn steps_get_the_proxy_unless_the_build_names_its_own_and_looks_at_sources_do_not() {
    let mut request = request();
    let all = [
        ("HTTP_PROXY", "http://proxy:3128"),
        ("NO_PROXY", "localhost,.svc"),
    ];
    request.proxy = all
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let args = |request: &BuildRequest, goal: &Goal| build(request, &Files::default(), goal);
    let image = Goal::Image {
        target: None,
        metadata: "/tmp/m",
    };
    let with = args(&request, &image);
    for expected in [
        "build-arg:HTTP_PROXY=http://proxy:3128",
        "build-arg:NO_PROXY=localhost,.svc",
    ] {
        assert!(with.iter().any(|arg| arg == expected), "{with:?}");
    }
    request.inputs.build_args = [("http_proxy".to_owned(), String::new())].into();
    let own = args(&request, &image);
    assert!(!own.iter().any(|arg| arg.contains("3128")), "{own:?}");
    assert!(own.iter().any(|arg| arg == "build-arg:http_proxy="));
    assert!(own.iter().any(|arg| arg.starts_with("build-arg:NO_PROXY=")));
    let files = Goal::Files {
        recipe: "/r",
        into: "/i",
    };
    let look = args(&request, &files);
    assert!(!look.iter().any(|arg| arg.contains("PROXY")), "{look:?}");
}

#[test]
fn an_image_is_run_from_its_registry_or_its_layout_and_never_from_the_cache() {
    let mut request = crate::fixtures::request();
    let digest = format!("sha256:{}", "a".repeat(64));
    let goal = Goal::Check {
        recipe: "/x/recipe",
        program: "/x/program",
        image: ("linux/amd64", &digest),
        into: "/x/outcome",
    };
    let line = |request: &BuildRequest| build(request, &Files::default(), &goal).join(" ");
    let text = check_recipe(&request, &digest, false);
    assert!(text.starts_with(&format!(
        "FROM registry.example.com/team/hello@{digest} AS check\n"
    )));
    assert!(
        text.contains("--network=none [\"/.whittle-trial/whittle\", \"check-image\"]\n"),
        "{text}"
    );
    let said = line(&request);
    for words in [
        "--local whittle=/x/program",
        "--opt no-cache= ",
        "--opt platform=linux/amd64 ",
        "--output type=local,dest=/x/outcome",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("--oci-layout"), "{said}");
    request.place.layout = Some("/x/layout".into());
    let of_layout = |on_build| check_recipe(&request, &digest, on_build);
    assert!(of_layout(false).starts_with("FROM whittle-image AS check\n"));
    // Its triggers would run.
    let copied = "FROM scratch AS check\nCOPY --from=whittle-image / /\nUSER 0:0\n";
    assert!(of_layout(true).starts_with(copied));
    let said = line(&request);
    let context = format!("--opt context:whittle-image=oci-layout://whittle-image@{digest}");
    assert!(
        said.contains("--oci-layout whittle-image=/x/layout") && said.contains(&context),
        "{said}"
    );
}

#[test]
fn the_first_platform_of_a_daemon_is_its_own() {
    let told = r#"[{"id":"x","platforms":[{"architecture":"amd64","os":"linux"},{"architecture":"arm64","os":"linux"}]}]"#;
    assert_eq!(native(told).as_deref(), Some("linux/amd64"));
    for none in ["", "[]", "null", r#"[{"platforms":[]}]"#] {
        assert_eq!(native(none), None);
    }
}

#[test]
fn a_part_of_an_image_is_an_index_also_of_one_platform() {
    let mut part = request();
    part.inputs.platforms = vec![Platform("linux/arm64".into())];
    let files = Files {
        annotations: [("a".to_owned(), "b".to_owned())].into(),
        ..Files::default()
    };
    let alone = build(&part, &files, &IMAGE).join(" ");
    assert!(!alone.contains("multi-platform") && !alone.contains("annotation-index"));
    part.part = true;
    let args = build(&part, &files, &IMAGE).join(" ");
    for text in [
        "--opt platform=linux/arm64 --opt multi-platform=true",
        "annotation.a=b,annotation-index.a=b",
    ] {
        assert!(args.contains(text), "{args}");
    }
}
