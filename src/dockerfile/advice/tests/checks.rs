//! BuildKit's own checks.

use super::*;

/// What BuildKit warns of in a line, by its own rules.
fn warned(line: &str, check: &str) -> Vec<Hint> {
    Case {
        warnings: &[(check, 2)],
        ..Case::default()
    }
    .of(&format!("FROM a@@\n{line}\n"))
}

#[test]
fn the_list_form_is_advised_only_where_no_shell_is_needed() {
    let check = "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)";
    for text in [
        "npm start",
        "node \"my app.js\"",
        "python -m app --x=1",
        "awk '{print $1}' x",
        "echo \\$X",
        "a#b ~c",
    ] {
        let text = text.replace("~c", "c~");
        assert_eq!(warned(&format!("CMD {text}"), check).len(), 1, "{text}");
    }
    for text in [
        "gunicorn -b :$PORT app:app",
        "node \"$ENTRY\"",
        "a && b",
        "a | tee /log",
        "a; b",
        "a > /log",
        "a < /x",
        "a 2>&1",
        "java -jar /app/*.jar",
        "a `date`",
        "PORT=80 node x.js",
        "cd /app && a",
        "exec a",
        ". /env",
        "source /env",
        "ls ~/x",
        "if [ -f x ]; then a; fi",
        "(a)",
        "[ -f /x ] && a",
        "command a",
        "time a",
    ] {
        assert_eq!(warned(&format!("CMD {text}"), check), [], "{text}");
        assert_eq!(warned(&format!("ENTRYPOINT {text}"), check), [], "{text}");
    }
    // Told once, as what it is.
    let hints = warned("CMD ['a']", check);
    assert_eq!(hints.len(), 1, "{hints:#?}");
    assert_eq!(hints[0].kind, K::BrokenJsonForm);
}

#[test]
fn a_secret_in_arg_or_env_is_told_by_its_name_and_its_value() {
    let told = |line: &str, build_args: &[(&str, &str)]| {
        let (keyword, rest) = line.split_once(' ').unwrap();
        let name = rest.split(['=', ' ']).next().unwrap();
        let check = format!(
            "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data ({keyword} \"{name}\") (line 4)"
        );
        let case = Case {
            warnings: &[(&check, 4)],
            build_args,
            ..Case::default()
        };
        case.of(&format!(
            "ARG GLOBAL_TOKEN=none\nFROM a@@\nARG NPM_TOKEN\n{line}\n"
        ))
        .len()
    };
    for line in [
        "ARG GITHUB_TOKEN",
        "ARG GITHUB_TOKEN=",
        "ARG DB_PASSWORD=hunter22",
        "ENV DB_PASSWORD=hunter22",
        "ENV DB_PASSWORD hunter22",
        "ENV NPM_TOKEN=$NPM_TOKEN",
        "ENV NPM_TOKEN=${NPM_TOKEN:-}",
        "ENV NPM_TOKEN=\"${NPM_TOKEN}\"",
        "ENV AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIK7MDENGbPxRfiCY",
    ] {
        assert_eq!(told(line, &[]), 1, "{line}");
    }
    for line in [
        "ENV USE_GKE_GCLOUD_AUTH_PLUGIN=True",
        "ENV DOCKER_CREDENTIAL_GCR_CONFIG=/kaniko/x.json",
        "ARG GPG_KEY=C823E3E5B12AF29C67F81976F5CECB3CB5E9BD2D",
        "ENV GPG_KEY 0D96DF4D4110E5C43FBFB17F2D347EA6AA65421D",
        "ENV MC_ADMIN_PASSWORD=\"\"",
        "ENV MC_ADMIN_PASSWORD=''",
        "ENV LICENSE_KEY=REPLACE_ME",
        "ENV API_TOKEN=__API_TOKEN__",
        "ENV API_TOKEN=%API_TOKEN%",
        "ENV AUTH_MODE=token",
        "ENV TOKEN=$UNKNOWN",
        "ARG ENABLE_AUTH=1",
        "ARG ENABLE_AUTH",
    ] {
        assert_eq!(told(line, &[]), 0, "{line}");
    }
    assert_eq!(told("ARG GLOBAL_TOKEN", &[]), 0);
    assert_eq!(
        told("ARG AUTH_KEY=none", &[("AUTH_KEY", "s3cr3tvalue9")]),
        1
    );
    assert_eq!(told("ARG AUTH_KEY", &[("AUTH_KEY", "/run/secrets/key")]), 0);
}

#[test]
fn a_check_of_a_stage_that_is_not_needed_is_not_told() {
    let check = "JSONArgsRecommended: JSON arguments recommended for CMD (line 2)";
    let case = Case {
        warnings: &[(check, 2)],
        ..Case::default()
    };
    assert_eq!(case.kinds("FROM a@@ AS x\nCMD run\nFROM b@@\n"), []);
}

#[test]
fn build_checks_that_matter_are_passed_on_with_their_line() {
    let case = Case {
        warnings: &[
            (
                "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"API_KEY\") (line 2)",
                2,
            ),
            (
                "StageNameCasing: Stage name 'Build' should be lowercase (line 1)",
                1,
            ),
            (
                "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)",
                1,
            ),
            (
                "LegacyKeyValueFormat: \"ENV key=value\" should be used (line 1)",
                1,
            ),
            (
                "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 3)",
                3,
            ),
            (
                "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 3)",
                3,
            ),
            ("something else", 1),
        ],
        ..Case::default()
    };
    let hints = case.of("FROM a@@\nENV API_KEY=x\nCMD run\n");
    assert_eq!(
        lines(&hints),
        [
            "Dockerfile:2: SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \
             \"API_KEY\"): the value stays readable in the image's history; use spec.secrets and RUN \
             --mount=type=secret",
            "Dockerfile:3: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended \
             behavior related to OS signals: written as [\"program\", \"argument\"] it needs no shell, and \
             the program gets SIGTERM",
        ]
    );
}

#[test]
fn an_undefined_variable_is_told_once_and_by_its_cause() {
    let warned = |name: &str, line: i32, build_args: &[(&str, &str)], text: &str| {
        let said = format!("UndefinedVar: Usage of undefined variable '${name}' (line {line})");
        Case {
            warnings: &[(&said, line)],
            build_args,
            ..Case::default()
        }
        .of(text)
    };
    let hints = warned(
        "VERSION",
        3,
        &[],
        "ARG VERSION=1\nFROM a@@\nLABEL v=$VERSION\n",
    );
    assert_eq!(hints.len(), 1);
    assert_eq!((hints[0].kind, hints[0].line), (K::ArgNotDeclared, Some(3)));
    let hints = warned(
        "VERSION",
        2,
        &[("VERSION", "1")],
        "FROM a@@\nLABEL v=$VERSION\n",
    );
    assert_eq!(hints.len(), 1, "{hints:#?}");
    assert_eq!((hints[0].kind, hints[0].line), (K::ArgNotDeclared, Some(2)));
    let hints = warned("NOTHING", 2, &[], "FROM a@@\nWORKDIR $NOTHING\n");
    assert_eq!((hints[0].kind, hints[0].line), (K::BuildCheck, Some(2)));
    // What is added to itself may well be empty before.
    assert_eq!(
        warned(
            "LD_LIBRARY_PATH",
            2,
            &[],
            "FROM a@@\nENV LD_LIBRARY_PATH=/l:$LD_LIBRARY_PATH\n"
        ),
        []
    );
}

#[test]
fn a_base_that_the_build_gives_needs_no_default() {
    let text = "ARG BASE\nFROM $BASE\n";
    let warnings: &[(&str, i32)] = &[(
        "InvalidDefaultArgInFrom: Default value for ARG $BASE results in empty or invalid base image name (line 2)",
        2,
    )];
    let case = Case {
        warnings,
        ..Case::default()
    };
    assert_eq!(case.kinds(text), [(K::BuildCheck, Some(2))]);
    let pinned = format!("a{PIN}");
    let case = Case {
        warnings,
        build_args: &[("BASE", &pinned)],
        ..Case::default()
    };
    assert_eq!(case.kinds(text), []);
}
