//! Secrets in the context.

use super::*;

const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\n";

#[test]
fn a_secret_that_is_copied_is_hinted_at() {
    for (path, head) in [
        (".env", "PORT=80\nDB_PASSWORD=hunter22\n"),
        (".env.production", "export STRIPE_SECRET_KEY='sk_live_1'"),
        (
            "prod.env",
            "DATABASE_URL=postgres://app:s3cr3t@db.example.com/app",
        ),
        ("id_ed25519", KEY),
        ("latest/id_rsa", KEY),
        ("certs/tls.key", "-----BEGIN PRIVATE KEY-----"),
        (
            "certs/server.pem",
            "-----BEGIN CERTIFICATE-----\nx\n-----BEGIN RSA PRIVATE KEY-----",
        ),
        (".npmrc", "//registry.npmjs.org/:_authToken=npm_abc"),
        (".netrc", "machine x login y password z"),
        (".pypirc", "[pypi]\npassword = pypi-abc"),
        (".git-credentials", "https://me:ghp_abc@github.com"),
        (
            ".docker/config.json",
            r#"{"auths": {"x": {"auth": "bWU6"}}}"#,
        ),
        (
            "deploy/kubeconfig",
            "users:\n- name: x\n  user:\n    client-key-data: LS0t\n",
        ),
        (".kube/config", "    token: abc"),
        ("release.jks", "\u{fe}\u{ed}"),
        (
            "my-service-account.json",
            "{\"private_key\": \"-----BEGIN PRIVATE KEY-----\\n\"}",
        ),
        ("home/.aws/credentials", "aws_secret_access_key = x"),
        ("terraform.tfstate", "{\"version\": 4, \"resources\": []}"),
    ] {
        assert!(is_candidate(path), "{path}");
        let case = Case {
            files: &[(path, head)],
            ..Case::default()
        };
        let hints = case.of("FROM a@@\nWORKDIR /app\nCOPY . .\n");
        assert_eq!(hints.len(), 1, "{path}: {hints:#?}");
        assert_eq!(
            (hints[0].kind, hints[0].line),
            (K::SecretInContext, Some(3)),
            "{path}"
        );
        let start = format!(
            "Dockerfile:3: `COPY . .` copies {path} into the image, which looks like a secret"
        );
        assert!(hints[0].message.starts_with(&start), "{}", hints[0].message);
        assert!(!hints[0].message.contains("hunter22"));
    }
}

#[test]
fn a_file_that_only_has_such_a_name_is_no_secret() {
    for (path, head) in [
        (".env", ""),
        (
            ".env",
            "PORT=3000\nNODE_ENV=production\n# TOKEN=abc\nTOKEN=\nPASSWORD=changeme\nTTL_TOKEN=1",
        ),
        (
            ".env",
            "API_KEY=${API_KEY}\nSECRET=<your secret>\nVITE_API_KEY=abc\nTOKEN_URL=https://x",
        ),
        (
            ".env",
            "DATABASE_URL=postgres://localhost:5432/app\nREDIS=redis://:secret@localhost",
        ),
        (".env.example", "TOKEN=abc"),
        (".env.local.sample", "TOKEN=abc"),
        ("app.template.env", "TOKEN=abc"),
        ("id_rsa.pub", "ssh-rsa AAAA"),
        ("ca.pem", "-----BEGIN CERTIFICATE-----"),
        ("public.key", "-----BEGIN PUBLIC KEY-----"),
        ("slides.key", "PK\u{3}\u{4}"),
        (
            ".npmrc",
            "registry=https://npm.example.com\n//npm.example.com/:_authToken=${NPM_TOKEN}",
        ),
        (".git-credentials", "https://me@github.com"),
        (
            ".docker/config.json",
            "{\"auths\": {}, \"credsStore\": \"x\"}",
        ),
        ("truststore.jks", "x"),
        ("credentials.json", "{\"client_id\": \"x\"}"),
        ("testdata/tls.key", "-----BEGIN PRIVATE KEY-----"),
        ("node_modules/x/test.pem", "-----BEGIN PRIVATE KEY-----"),
        ("kubeconfig", "users: []"),
        (".env", "LICENSE_KEY=REPLACE_LICENSE_KEY_HERE"),
        (
            ".env",
            "API_TOKEN=<token>\nDB_PASSWORD=change-me\nKEY=insert-key-here\nUSE_AUTH_TOKEN=yes",
        ),
        (".env.test", "TOKEN=abc"),
        ("test-certs/tls.key", "-----BEGIN PRIVATE KEY-----"),
        ("pkg/__fixtures__/a.pem", "-----BEGIN PRIVATE KEY-----"),
        (
            "src/test/resources/server.key",
            "-----BEGIN PRIVATE KEY-----",
        ),
        (
            "internal/tls_test_data/server.key",
            "-----BEGIN PRIVATE KEY-----",
        ),
        ("certs/snakeoil.key", "-----BEGIN PRIVATE KEY-----"),
        (
            "app/src/androidTest/assets/a.pem",
            "-----BEGIN PRIVATE KEY-----\nMIIEvQ",
        ),
        ("tls.key", "-----BEGIN PRIVATE KEY-----\n<your key>\n"),
        ("tls.pem", "-----BEGIN RSA PRIVATE KEY-----\n...\n"),
        (
            "gcp-service-account.json",
            "{\"private_key\": \"-----BEGIN PRIVATE KEY-----\\nREPLACE_ME\\n\"}",
        ),
        (".netrc", "machine x login y password <token>"),
        (
            "home/.aws/credentials",
            "aws_secret_access_key = YOUR_SECRET_KEY",
        ),
        ("certs/testkey.pem", "-----BEGIN PRIVATE KEY-----"),
        ("testcerts/a.key", "-----BEGIN PRIVATE KEY-----"),
        ("localhost-key.pem", "-----BEGIN PRIVATE KEY-----"),
        ("config.json", "{\"auth\": \"x\"}"),
    ] {
        let case = Case {
            files: &[(path, head)],
            ..Case::default()
        };
        let hints = case.of("FROM a@@\nCOPY . .\n");
        assert!(hints.is_empty(), "{path}: {hints:#?}");
    }
}

#[test]
fn only_the_line_that_takes_a_secret_in_is_told() {
    let case = Case {
        files: &[("config/.env", "TOKEN=abc"), ("id_rsa", KEY)],
        ..Case::default()
    };
    for text in [
        "FROM a@@\nRUN true",
        "FROM a@@\nCOPY src /src",
        "FROM a@@\nCOPY *.json config/*.yaml .",
        "FROM a@@ AS b\nFROM c@@\nCOPY --from=b . .",
        "FROM a@@ AS b\nCOPY . .\nFROM c@@",
        "FROM a@@\nCOPY --exclude=**/.env --exclude=id_rsa . .",
        "FROM a@@\nCOPY $DIR /x",
        "FROM a@@\nCOPY configs id_rsa.pub /x/",
        "FROM a@@\nRUN --mount=type=bind,target=/src true",
    ] {
        assert_eq!(case.kinds(text), [], "{text}");
    }
    for (copy, named) in [
        ("COPY config /etc/config", "config/.env into"),
        ("COPY ./config/ /etc/config", "config/.env into"),
        ("COPY id_rsa /root/.ssh/", "id_rsa into"),
        ("COPY conf*/ id_* /", "config/.env and id_rsa into"),
        ("ADD . /", "config/.env and id_rsa into"),
        ("COPY --exclude=config . /", "id_rsa into"),
        ("COPY [\"config/.env\", \"/\"]", "config/.env into"),
    ] {
        let hints = case.of(&format!("FROM a@@\n{copy}\n"));
        assert_eq!(hints.len(), 1, "{copy}: {hints:#?}");
        assert!(hints[0].message.contains(named), "{}", hints[0].message);
    }
    let hints = case
        .of("FROM a@@ AS build\nCOPY . .\nFROM b@@\nCOPY --from=build /app /app\nCOPY config /\n");
    let messages = lines(&hints).join("\n");
    assert!(
        messages.contains("copies id_rsa into stage build"),
        "{messages}"
    );
    assert!(
        messages.contains("copies config/.env into the image"),
        "{messages}"
    );
}

#[test]
fn candidates_are_patterns_that_need_not_match() {
    for pattern in CANDIDATES {
        assert!(pattern.contains('*'), "{pattern}");
    }
    for path in [
        ".env",
        "a/b/.env",
        ".env.local",
        "x/.docker/config.json",
        "a-credentials-1.json",
    ] {
        assert!(is_candidate(path), "{path}");
    }
    for path in [
        "env",
        "a.env.txt",
        "config.json",
        "id_rsa.pub",
        "keys",
        "main.go",
        "",
    ] {
        assert!(!is_candidate(path), "{path}");
    }
}
