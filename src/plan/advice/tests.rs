//! For every hint a Dockerfile that earns it, and those that nearly do.

use super::*;
use HintKind as K;

/// A pinned base, so that tests of other rules hear nothing of it.
const PIN: &str = "@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

#[derive(Default)]
struct Case<'a> {
    target: Option<&'a str>,
    build_args: &'a [(&'a str, &'a str)],
    files: &'a [(&'a str, &'a str)],
    warnings: &'a [(&'a str, i32)],
}

impl Case<'_> {
    /// `@@` stands for the digest.
    fn of(&self, dockerfile: &str) -> Vec<Hint> {
        let build_args = self
            .build_args
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let files: Vec<ContextFile> = self
            .files
            .iter()
            .map(|(path, head)| ContextFile {
                path: (*path).to_owned(),
                head: head.as_bytes().to_vec(),
            })
            .collect();
        let warnings: Vec<BuildWarning> = self
            .warnings
            .iter()
            .map(|(text, line)| BuildWarning {
                text: (*text).to_owned(),
                line: Some(*line),
                url: None,
            })
            .collect();
        advise(&View {
            dockerfile_path: "Dockerfile",
            dockerfile: &dockerfile.replace("@@", PIN),
            target: self.target,
            build_args: &build_args,
            files: &files,
            warnings: &warnings,
        })
    }

    fn kinds(&self, dockerfile: &str) -> Vec<(K, Option<i32>)> {
        let hints = self.of(dockerfile);
        hints.iter().map(|hint| (hint.kind, hint.line)).collect()
    }
}

fn kinds(dockerfile: &str) -> Vec<(K, Option<i32>)> {
    Case::default().kinds(dockerfile)
}

fn one(dockerfile: &str) -> Hint {
    let hints = Case::default().of(dockerfile);
    assert_eq!(hints.len(), 1, "{dockerfile}\n{hints:#?}");
    hints[0].clone()
}

#[track_caller]
fn silent(dockerfiles: &[&str]) {
    for dockerfile in dockerfiles {
        let hints = Case::default().of(dockerfile);
        assert!(hints.is_empty(), "{dockerfile}\n{hints:#?}");
    }
}

// Sources before modules.

#[test]
fn a_download_behind_the_copy_of_everything_is_hinted_at() {
    for (run, says) in [
        ("go mod download", "go mod download"),
        ("npm ci --omit=dev && npm cache clean --force", "npm ci"),
        ("npm install --prefix web && rm -rf ~/.npm", "npm install"),
        ("npm --prefix web ci", "npm ci"),
        ("yarn --cwd web install", "yarn install"),
        ("pnpm --filter web install", "pnpm install"),
        ("pip3.11 install -r requirements.txt", "pip install -r"),
        (
            "python3.12 -m pip install -r requirements.txt",
            "pip install -r",
        ),
        ("sudo -u app env X=1 npm ci", "npm ci"),
        ("su app -c 'npm ci'", "npm ci"),
        ("conda env create -f environment.yml", "conda env create"),
        ("uv pip sync requirements.txt", "uv pip sync"),
        ("mix do local.hex --force, deps.get", "mix deps.get"),
        ("./mvnw dependency:resolve", "mvn dependency:resolve"),
        ("./gradlew --no-daemon dependencies", "gradlew dependencies"),
        ("R -e 'renv::restore()'", "renv::restore()"),
        ("yarn --frozen-lockfile", "yarn install"),
        (
            "corepack enable && pnpm i --frozen-lockfile",
            "pnpm install",
        ),
        (
            "pip install --no-cache-dir -r requirements.txt",
            "pip install -r",
        ),
        (
            "python -m pip install --no-cache-dir -rreqs.txt",
            "pip install -r",
        ),
        ("uv sync --frozen", "uv sync"),
        ("poetry install", "poetry install"),
        ("cargo fetch", "cargo fetch"),
        ("bundle install", "bundle install"),
        ("dotnet restore", "dotnet restore"),
        ("composer install", "composer install"),
        ("mvn -B dependency:go-offline", "mvn dependency:go-offline"),
    ] {
        let hint = one(&format!(
            "FROM a@@ AS b\nWORKDIR /src\nCOPY . .\nRUN true && \\\n  {run}\nFROM c@@\nCOPY --from=b /a /a\n"
        ));
        assert_eq!((hint.kind, hint.line), (K::SourcesBeforeModules, Some(3)));
        let start =
            format!("Dockerfile:3: `COPY . .` stands before `{says}` (line 5), so each change");
        assert!(hint.message.starts_with(&start), "{}", hint.message);
    }
}

#[test]
fn all_ways_to_copy_everything_count() {
    for copy in [
        "COPY ./ /src",
        "ADD . .",
        "COPY --chown=1:1 --link . .",
        "COPY [\".\", \"/src\"]",
        "COPY / /src",
        "COPY * ./",
        "copy go.mod . .",
    ] {
        let hint = one(&format!("FROM a@@\n{copy}\nRUN go mod download\n"));
        assert_eq!(
            (hint.kind, hint.line),
            (K::SourcesBeforeModules, Some(2)),
            "{copy}"
        );
    }
    silent(&[
        "FROM a@@\nCOPY src/ .\nRUN go mod download",
        "FROM a@@\nCOPY go.* ./\nRUN go mod download",
        "FROM a@@\nCOPY --from=b@@ . .\nRUN go mod download",
        "FROM a@@\nADD https://example.com/x .\nRUN go mod download",
    ]);
}

#[test]
fn manifests_that_go_first_leave_nothing_to_say() {
    silent(&[
        "FROM a@@\nCOPY go.mod go.sum ./\nRUN go mod download\nCOPY . .\nRUN go build ./...",
        "FROM a@@\nCOPY go.mod go.sum ./\nRUN go mod download\nCOPY . .\nRUN go mod download && go build",
        "FROM a@@ AS b\nCOPY package*.json ./\nRUN npm ci\nCOPY . .\nRUN npm ci --omit=dev\nFROM c@@\n\
         COPY --from=b /a /a",
        "FROM a@@\nCOPY requirements.txt .\nRUN pip install --no-cache-dir -r requirements.txt\nCOPY . .",
        "FROM a@@\nCOPY Cargo.* ./\nRUN mkdir src && echo 'fn main() {}' > src/main.rs && cargo build\n\
         COPY . .\nRUN cargo build",
        "FROM a@@ AS deps\nCOPY go.mod .\nRUN go mod download\nFROM deps\nCOPY . .\nRUN go build",
        // Modules of another stage.
        "FROM a@@ AS m\nCOPY go.mod go.sum /m/\nRUN cd /m && go mod download\nFROM a@@\n\
         COPY --from=m /go/pkg /go/pkg\nCOPY . .\nRUN go build",
        // cargo-chef
        "FROM a@@ AS chef\nFROM chef AS planner\nCOPY . .\nRUN cargo chef prepare --recipe-path r.json\n\
         FROM chef\nCOPY --from=planner /r.json .\nRUN cargo chef cook --release\nCOPY . .\n\
         RUN cargo build --release",
    ]);
}

#[test]
fn a_build_right_behind_the_copy_is_fine_with_a_cache_mount_only() {
    let hint = one("FROM golang@@\nCOPY . .\nRUN CGO_ENABLED=0 go build -o /app .\n");
    assert_eq!((hint.kind, hint.line), (K::SourcesBeforeModules, Some(2)));
    assert!(
        hint.message.contains("where it has any"),
        "{}",
        hint.message
    );
    assert!(
        hint.message.contains("/root/.cache/go-build"),
        "{}",
        hint.message
    );
    assert_eq!(
        one("FROM rust@@\nCOPY . .\nRUN cargo build --release\n").line,
        Some(2)
    );
    silent(&[
        "FROM golang@@\nCOPY . .\nRUN --mount=type=cache,target=/go/pkg/mod go build -o /app .",
        "FROM golang@@\nCOPY . .\nRUN --mount=type=cache,target=/root/.cache/go-build go build",
        "FROM golang@@\nCOPY . .\nRUN --mount=type=cache,target=/go/pkg/mod go mod download && go build",
        "FROM rust@@\nCOPY . .\nRUN --mount=type=cache,dst=/usr/local/cargo/registry cargo build",
        "FROM golang@@\nCOPY . .\nRUN go build -mod=vendor .",
        "FROM golang@@\nENV GOFLAGS=\"-mod=vendor -trimpath\"\nCOPY . .\nRUN go build .",
        "FROM golang@@\nRUN --mount=type=bind,target=. go build -o /app .",
    ]);
}

#[test]
fn programs_of_the_same_tools_that_download_no_modules_of_the_project_are_left_alone() {
    silent(&[
        "FROM a@@\nCOPY . .\nRUN go install example.com/tool@latest && go version && go generate ./...",
        "FROM a@@\nCOPY . .\nRUN npm install -g serve && npm cache clean --force && npm run build",
        "FROM a@@ AS b\nCOPY . .\nRUN npm install express\nFROM c@@\nCOPY --from=b /a /a",
        "FROM a@@\nCOPY . .\nRUN pip install --no-cache-dir .",
        "FROM a@@\nCOPY . .\nRUN yarn build && yarn --version && bundle exec rake",
        "FROM a@@\nCOPY . .\nRUN echo go mod download; : 'npm ci'",
        "FROM a@@\nCOPY . .\nRUN make && cargo install just",
        "FROM a@@\nCOPY . .\nRUN go mod init x && go mod tidy && go build",
        "FROM a@@\nCOPY go.mod go.sum ./\nCOPY vendor ./vendor\nCOPY . .\nRUN go build",
        "FROM a@@ AS b\nCOPY . .\nRUN npm install --offline\nFROM c@@\nCOPY --from=b /a /a",
        "FROM a@@ AS b\nCOPY . .\nRUN pip install --no-index -r requirements.txt",
    ]);
}

#[test]
fn a_stage_that_the_target_does_not_need_is_not_looked_at() {
    let text = "FROM a@@ AS x\nCOPY . .\nRUN npm ci\nFROM a@@ AS y\nRUN true\n";
    assert_eq!(kinds(text), []);
    let x = Case {
        target: Some("X"),
        ..Case::default()
    };
    let y = Case {
        target: Some("1"),
        ..Case::default()
    };
    let none = Case {
        target: Some("z"),
        ..Case::default()
    };
    assert_eq!(
        x.kinds(text),
        [
            (K::SourcesBeforeModules, Some(2)),
            (K::PackageCacheInLayer, Some(3))
        ]
    );
    assert_eq!(y.kinds(text), []);
    assert_eq!(none.kinds(text), []);
}

// Base images.

#[test]
fn a_base_without_a_tag_or_with_latest_is_hinted_at() {
    let hint = one("# note\nFROM debian\n");
    assert_eq!((hint.kind, hint.line), (K::BaseImageLatest, Some(2)));
    assert!(
        hint.message.starts_with("Dockerfile:2: debian has no tag"),
        "{}",
        hint.message
    );
    let hint = one("FROM registry.example.com:5000/team/base:latest AS b\n");
    assert_eq!((hint.kind, hint.line), (K::BaseImageLatest, Some(1)));
    let hint = one("ARG TAG=latest\nFROM alpine:${TAG}\n");
    assert_eq!((hint.kind, hint.line), (K::BaseImageLatest, Some(2)));
    assert_eq!(
        kinds("FROM a@@\nCOPY --from=busybox /bin/sh /\nRUN --mount=from=tools,target=/t true\n"),
        [(K::BaseImageLatest, Some(2)), (K::BaseImageLatest, Some(3))]
    );
}

#[test]
fn bases_by_tag_alone_share_one_hint() {
    let hint = one(
        "FROM golang:1.26 AS build\nRUN true\nFROM alpine:3.22\nCOPY --from=build /a /a\n\
         COPY --from=ghcr.io/x/y:1 /b /b\nCOPY --from=alpine:3.22 /c /c\n",
    );
    assert_eq!((hint.kind, hint.line), (K::BaseImageNotPinned, Some(1)));
    assert_eq!(
        hint.message,
        "Dockerfile:1: golang:1.26 (line 1), alpine:3.22 (line 3) and ghcr.io/x/y:1 (line 5) are named \
         by tags alone, which can be pushed anew; add their digests (name:tag@sha256:…) for the same base \
         on every build"
    );
    let both = kinds("FROM golang:1.26 AS build\nFROM alpine\nCOPY --from=build /a /a\n");
    assert_eq!(
        both,
        [
            (K::BaseImageNotPinned, Some(1)),
            (K::BaseImageLatest, Some(2))
        ]
    );
}

#[test]
fn what_is_no_image_of_a_registry_or_is_not_known_needs_no_digest() {
    silent(&[
        "FROM scratch",
        "FROM a@@ AS base\nFROM base\nCOPY --from=BASE /x /x\nCOPY --from=0 /y /y",
        "FROM a:1@@",
        "ARG BASE\nFROM $BASE",
        "ARG BASE\nFROM ${BASE:?no base}",
        "FROM ${UNKNOWN}/base",
        "ARG D=@@\nFROM alpine:3.22$D",
        "FROM --platform=$BUILDPLATFORM a@@",
        "FROM base-$TARGETARCH\nRUN true",
        "FROM unneeded:latest AS x\nFROM scratch",
    ]);
}

#[test]
fn build_arguments_go_before_the_defaults() {
    let text = "ARG V=latest\nARG IMAGE=alpine:$V\nFROM ${IMAGE}\n";
    assert_eq!(kinds(text), [(K::BaseImageLatest, Some(3))]);
    let pinned = format!("alpine{PIN}");
    let case = Case {
        build_args: &[("IMAGE", &pinned)],
        ..Case::default()
    };
    assert_eq!(case.kinds(text), []);
    assert_eq!(
        kinds("ARG V\nFROM alpine:${V:-3.22}\n"),
        [(K::BaseImageNotPinned, Some(2))]
    );
    assert_eq!(kinds("ARG V=x\nFROM a@@ AS x\nFROM $V\n"), []);
}

// Arguments.

#[test]
fn an_arg_of_elsewhere_is_hinted_at_where_a_run_uses_it() {
    let hint = one(
        "ARG VERSION=1\nFROM a@@ AS build\nRUN true && \\\n    go build -ldflags \"-X main.v=${VERSION}\"\n",
    );
    assert_eq!((hint.kind, hint.line), (K::ArgNotDeclared, Some(4)));
    assert_eq!(
        hint.message,
        "Dockerfile:4: $VERSION is empty here: the ARG of line 1 stands before the first FROM and holds \
         for FROM lines only; add `ARG VERSION` to stage build above this RUN"
    );
    let hint =
        one("FROM a@@ AS x\nARG REV\nRUN echo $REV\nFROM b@@\nCOPY --from=x /x /\nRUN echo $REV\n");
    assert_eq!((hint.kind, hint.line), (K::ArgNotDeclared, Some(6)));
    assert!(
        hint.message
            .contains("the ARG of line 2 holds for its own stage"),
        "{}",
        hint.message
    );
    let hint = one("FROM a@@\nRUN GOOS=$TARGETOS true\nARG TARGETARCH\nARG TARGETOS\n");
    assert!(
        hint.message.contains("follows on line 4 only"),
        "{}",
        hint.message
    );
    let hint = one("FROM a@@\nRUN GOARCH=$TARGETARCH true\n");
    assert!(
        hint.message.contains("only after `ARG TARGETARCH`"),
        "{}",
        hint.message
    );
    let hint = one("ARG V=1\nFROM a@@\nRUN <<EOF\nset -e\necho $V\nEOF\n");
    assert_eq!((hint.kind, hint.line), (K::ArgNotDeclared, Some(5)));
    let hint = one("ARG V=1\nFROM a@@\nRUN V=$V make\n");
    assert_eq!((hint.kind, hint.line), (K::ArgNotDeclared, Some(3)));
}

#[test]
fn a_variable_that_has_a_value_here_is_no_missing_arg() {
    let head = "ARG VERSION=1\nARG PLAIN\nFROM a@@ AS base\n";
    for tail in [
        "ARG VERSION\nRUN echo $VERSION",
        "ARG A=1 VERSION=2\nRUN echo $VERSION",
        "ENV VERSION=$VERSION\nRUN echo $VERSION",
        "ENV VERSION 3\nRUN echo $VERSION",
        "RUN VERSION=$(cat v) && echo $VERSION",
        "RUN export VERSION=2; echo \"${VERSION}\"",
        "RUN for VERSION in 1 2; do echo $VERSION; done",
        "RUN echo a | { read -r VERSION; echo $VERSION; }",
        "RUN echo '$VERSION' \\$VERSION \"\\${VERSION}\"",
        "RUN echo ${VERSION:-dev} ${VERSION:+x}",
        "RUN sh -c 'VERSION=1; echo $VERSION'",
        "RUN cat <<'EOF' > /x\n$VERSION\nEOF",
        "RUN [\"echo\", \"$VERSION\"]",
        "RUN . ./env.sh && echo $VERSION",
        "RUN --mount=type=secret,id=v,env=VERSION echo $VERSION",
        "RUN echo $VERSIONS $OTHER",
        "# RUN echo $VERSION\nRUN true \\\n # $VERSION\n && true",
        "ARG VERSION\nFROM base\nRUN echo $VERSION",
        "ENV VERSION=1\nFROM base\nFROM base\nRUN echo $VERSION",
        "SHELL [\"pwsh\", \"-Command\"]\nRUN echo $VERSION",
        "RUN <<EOF\n#!/usr/bin/env python3\nprint(\"$VERSION\")\nEOF",
        "COPY <<EOF /x\nrun $VERSION\nRUN echo $VERSION\nEOF",
        "RUN cat <<'EOF' > /etc/x\nRUN echo $VERSION\nFROM debian\nEOF",
        "ONBUILD RUN echo $VERSION",
        "CMD echo $VERSION",
    ] {
        silent(&[&format!("{head}{tail}\n")]);
    }
    silent(&[
        "FROM a@@\nRUN echo $HTTP_PROXY $https_proxy $HOME $PATH $PWD",
        "# escape=`\nARG V=1\nFROM mcr.microsoft.com/windows/nanoserver@@\nRUN echo $V",
        // The base image brings these.
        "ARG NODE_VERSION=22\nARG D=@@\nFROM node:${NODE_VERSION}$D\nRUN echo $NODE_VERSION",
        "ARG APP_VERSION=22\nFROM registry.example.com/app/base@@\nRUN echo $APP_VERSION",
        "ARG UID=1\nFROM a@@\nRUN useradd -u $UID x",
    ]);
}

#[test]
fn a_build_argument_that_no_arg_takes_is_hinted_at() {
    let case = Case {
        build_args: &[
            ("VERSION", "1"),
            ("http_proxy", "x"),
            ("SOURCE_DATE_EPOCH", "0"),
        ],
        ..Case::default()
    };
    let hints = case.of("FROM a@@\nARG VERSOIN\nRUN echo $VERSOIN\n");
    assert_eq!(hints.len(), 1, "{hints:#?}");
    assert_eq!(
        (hints[0].kind, hints[0].line),
        (K::BuildArgNotDeclared, None)
    );
    assert_eq!(
        hints[0].message,
        "Dockerfile: no ARG declares VERSION, so spec.buildArgs.VERSION changes nothing; did you mean \
         VERSOIN?"
    );
    for text in [
        "ARG VERSION\nFROM a@@",
        "FROM a@@\nARG X VERSION=2",
        "FROM a@@ AS other\nARG VERSION\nFROM b@@",
        "FROM a:onbuild@@",
    ] {
        assert_eq!(case.kinds(text), [], "{text}");
    }
    // Where a RUN uses it, its own hint says all.
    assert_eq!(
        case.kinds("FROM a@@\nRUN echo $VERSION"),
        [(K::ArgNotDeclared, Some(2))]
    );
}

// Secrets.

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
            "Dockerfile:3: `COPY . .` takes {path} into the image, which looks like a secret"
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
        messages.contains("takes id_rsa into stage build"),
        "{messages}"
    );
    assert!(
        messages.contains("takes config/.env into the image"),
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

// Caches of package managers.

#[test]
fn a_package_cache_in_a_layer_of_the_image_is_hinted_at() {
    for (run, line, cure) in [
        (
            "apt-get update && apt-get install -y curl",
            2,
            "/var/lib/apt/lists",
        ),
        (
            "set -e; \\\n  apt-get update; apt-get clean",
            3,
            "/var/lib/apt/lists",
        ),
        ("apk add curl", 2, "--no-cache"),
        ("apk add -U curl", 2, "--no-cache"),
        ("pip install flask", 2, "--no-cache-dir"),
        ("python3 -m pip install flask", 2, "--no-cache-dir"),
        ("npm ci", 2, "npm cache clean"),
        ("dnf -y install curl", 2, "clean all"),
        ("<<EOF\nyum install -y curl\nEOF", 3, "clean all"),
        (
            "--mount=type=cache,target=/var/cache/apt apt-get update && apt-get install -y curl",
            2,
            "/var/lib/apt/lists",
        ),
    ] {
        let hint = one(&format!("FROM a@@\nRUN {run}\n"));
        assert_eq!(
            (hint.kind, hint.line),
            (K::PackageCacheInLayer, Some(line)),
            "{run}"
        );
        assert!(hint.message.contains(cure), "{}", hint.message);
    }
    // It stays where the lists were made, however clean the next layer is.
    let text =
        "FROM a@@\nRUN apt-get update\nRUN apt-get install -y x && rm -rf /var/lib/apt/lists/*\n";
    assert_eq!(kinds(text), [(K::PackageCacheInLayer, Some(2))]);
    // In the image's own line of stages.
    let text = "FROM a@@ AS base\nRUN apk add curl\nFROM base\n";
    assert_eq!(kinds(text), [(K::PackageCacheInLayer, Some(2))]);
}

#[test]
fn what_leaves_no_cache_in_the_image_is_not_hinted_at() {
    for run in [
        "apt-get update && apt-get install -y curl && rm -rf /var/lib/apt/lists/*",
        "apt-get update && apt-get install -y curl && apt-get clean && rm -rf /var/lib/apt/*",
        "apt-get update \\\n && apt-get install -y curl \\\n # clean\n && rm -r /var/lib/apt/lists",
        "--mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt \
         apt-get update && apt-get install -y curl",
        "--mount=type=tmpfs,target=/var/lib/apt/lists apt-get update && apt-get install -y curl",
        "apt-get install -y curl",
        "apk add --no-cache curl",
        "apk --no-cache add curl",
        "apk add curl && rm -rf /var/cache/apk/*",
        "--mount=type=cache,target=/var/cache/apk apk add curl",
        "apk upgrade --no-cache && apk info",
        "pip install --no-cache-dir flask",
        "PIP_NO_CACHE_DIR=1 pip install flask",
        "--mount=type=cache,target=/root/.cache/pip pip install flask",
        "pip install flask && pip cache purge",
        "pip install --no-index --find-links=/wheels flask",
        "pip install /wheels/*.whl",
        "pip freeze",
        "npm ci && npm cache clean --force",
        "--mount=type=cache,target=/root/.npm npm ci",
        "npm run build && npm test",
        "dnf install -y curl && dnf clean all",
        "yum -y install curl && rm -rf /var/cache/yum",
        "dnf --installroot=/out install -y x",
        "echo apt-get update",
        "echo 'apk add x' > /note",
        "cat <<'EOF' > /x.sh\napt-get update\nEOF",
    ] {
        silent(&[&format!("FROM a@@\nRUN {run}\n")]);
    }
    silent(&[
        "FROM a@@ AS build\nRUN apt-get update && apt-get install -y gcc && apk add x && npm ci\n\
         FROM b@@\nCOPY --from=build /app /app",
        "FROM a@@\nENV PIP_NO_CACHE_DIR=1\nRUN pip install flask",
        "FROM a@@\nARG PIP_NO_CACHE_DIR=1\nRUN pip install flask",
        "FROM a@@\nENV npm_config_cache=/tmp/npm\nRUN npm ci",
        "FROM a@@\nONBUILD RUN apk add curl",
    ]);
}

// BuildKit's own checks.

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

// All together.

#[test]
fn good_dockerfiles_of_every_kind_get_no_hint() {
    silent(&[
        // Go to scratch, cross-compiled.
        "# syntax=docker/dockerfile:1\nARG GO_VERSION=1.26\nFROM --platform=$BUILDPLATFORM golang:${GO_VERSION}@@ AS build\n\
         WORKDIR /src\nCOPY go.mod go.sum ./\nRUN --mount=type=cache,target=/go/pkg/mod go mod download\n\
         COPY . .\nARG TARGETOS TARGETARCH\nARG VERSION=dev\n\
         RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \\\n    \
         CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \\\n    \
         go build -trimpath -ldflags=\"-s -w -X main.version=${VERSION}\" -o /out/app .\n\
         FROM scratch\nCOPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/\n\
         COPY --from=build /out/app /app\nUSER 65532:65532\nENTRYPOINT [\"/app\"]\n",
        // As the language guide of Docker has it, pinned.
        "FROM golang:1.26@@ AS build-stage\nWORKDIR /app\nCOPY go.mod go.sum ./\nRUN go mod download\n\
         COPY *.go ./\nRUN CGO_ENABLED=0 GOOS=linux go build -o /docker-gs-ping\n\
         FROM build-stage AS run-test-stage\nRUN go test -v ./...\n\
         FROM gcr.io/distroless/base-debian12@@ AS build-release-stage\nWORKDIR /\n\
         COPY --from=build-stage /docker-gs-ping /docker-gs-ping\nEXPOSE 8080\nUSER nonroot:nonroot\n\
         ENTRYPOINT [\"/docker-gs-ping\"]\n",
        // Node, three stages.
        "FROM node:22-alpine@@ AS base\nWORKDIR /app\nENV NODE_ENV=production\n\
         FROM base AS deps\nCOPY package.json package-lock.json ./\nRUN npm ci --omit=dev\n\
         FROM base AS build\nCOPY package*.json ./\nRUN npm ci --include=dev\nCOPY . .\nRUN npm run build\n\
         FROM base\nCOPY --from=deps /app/node_modules ./node_modules\nCOPY --from=build /app/dist ./dist\n\
         USER node\nHEALTHCHECK CMD wget -qO- localhost:3000 || exit 1\nCMD [\"node\", \"dist/index.js\"]\n",
        // As `docker init` writes it for Node.
        "ARG NODE_VERSION=22\nFROM node:${NODE_VERSION}-alpine@@\nENV NODE_ENV production\n\
         WORKDIR /usr/src/app\nRUN --mount=type=bind,source=package.json,target=package.json \\\n    \
         --mount=type=bind,source=package-lock.json,target=package-lock.json \\\n    \
         --mount=type=cache,target=/root/.npm \\\n    npm ci --omit=dev\nUSER node\nCOPY . .\nEXPOSE 3000\n\
         CMD node index.js\n",
        // Python, wheels.
        "FROM python:3.14-slim@@ AS wheels\nRUN apt-get update && apt-get install -y gcc\n\
         COPY requirements.txt .\nRUN pip wheel --wheel-dir /wheels -r requirements.txt\n\
         FROM python:3.14-slim@@\nENV PYTHONUNBUFFERED=1 \\\n    PYTHONDONTWRITEBYTECODE=1\n\
         COPY --from=wheels /wheels /wheels\n\
         RUN pip install --no-cache-dir --no-index --find-links=/wheels /wheels/* && rm -rf /wheels\n\
         COPY . /app\nCMD [\"python\", \"-m\", \"app\"]\n",
        // Rust with caches, as `docker init` writes it.
        "ARG RUST_VERSION=1.95\nARG APP_NAME=hello\nFROM rust:${RUST_VERSION}-slim@@ AS build\nARG APP_NAME\n\
         WORKDIR /app\nRUN --mount=type=bind,source=src,target=src \\\n    \
         --mount=type=bind,source=Cargo.toml,target=Cargo.toml \\\n    \
         --mount=type=cache,target=/app/target/ \\\n    --mount=type=cache,target=/usr/local/cargo/registry/ \\\n    \
         <<EOF\nset -e\ncargo build --locked --release\ncp ./target/release/$APP_NAME /bin/server\nEOF\n\
         FROM debian:bookworm-slim@@ AS final\nARG UID=10001\nRUN adduser \\\n    --disabled-password \\\n    \
         --uid \"${UID}\" \\\n    appuser\nUSER appuser\nCOPY --from=build /bin/server /bin/\nCMD [\"/bin/server\"]\n",
        // Debian with a foreign repository.
        "FROM debian:13-slim@@\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\n\
         RUN set -eux; \\\n    apt-get update; \\\n    apt-get install -y --no-install-recommends ca-certificates curl; \\\n    \
         curl -fsSL https://example.com/key | gpg --dearmor -o /usr/share/keyrings/x.gpg; \\\n    \
         arch=\"$(dpkg --print-architecture)\"; \\\n    \
         case \"$arch\" in \\\n      amd64) url=a ;; \\\n      arm64) url=b ;; \\\n      *) exit 1 ;; \\\n    esac; \\\n    \
         curl -fsSLo /x \"https://example.com/$url\"; \\\n    rm -rf /var/lib/apt/lists/*\n",
        // Java.
        "FROM maven:3@@ AS build\nCOPY pom.xml .\nRUN mvn -B dependency:go-offline\nCOPY src ./src\n\
         RUN mvn -B package -DskipTests\nFROM eclipse-temurin:21-jre@@\nCOPY --from=build /target/*.jar /app.jar\n\
         ENTRYPOINT [\"java\", \"-jar\", \"/app.jar\"]\n",
        // nginx, its configuration in a here-document.
        "FROM nginx:1.29@@\nCOPY <<'EOF' /etc/nginx/conf.d/default.conf\nserver {\n  listen $PORT;\n}\nEOF\n\
         RUN cat <<EOF > /etc/motd\nFROM here\nRUN apt-get update\nEOF\nCOPY dist /usr/share/nginx/html\n",
    ]);
}

#[test]
fn hints_come_by_line_each_once_and_ten_at_most() {
    let runs: String = (0..20).map(|_| "RUN apk add x\n").collect();
    let hints = Case::default().of(&format!("ARG V=1\nFROM alpine\n{runs}RUN echo $V\n"));
    assert_eq!(hints.len(), 10);
    assert!(hints.windows(2).all(|pair| pair[0].line <= pair[1].line));
    // What matters most stays.
    assert!(hints.iter().any(|hint| hint.kind == K::ArgNotDeclared));
}

#[test]
fn a_text_that_buildkit_would_refuse_gets_no_hint() {
    silent(&[
        "",
        "\n# nothing\n",
        "FORM debian\n",
        "RUN apk add x\nFROM debian\n",
        "FROM debian AS\n",
        "FROM debian\nRUN <<EOF\nfor ever\n",
        "FROM debian\nBLA x\n",
        "# escape=x\nFROM debian\n",
        "# syntax=example.com/my/frontend\nFROM debian\n",
    ]);
}

#[test]
fn stages_and_instructions_are_found_by_line() {
    let text = "ARG A\nFROM a AS one\nRUN x \\\n  # note\n  y\n\n# z\nfrom b\nRUN cat <<EOF\nFROM no AS stage\nEOF\nCMD z\n";
    assert_eq!(
        stages(text),
        [
            StageName {
                name: Some("one".into()),
                line: 2
            },
            StageName {
                name: None,
                line: 8
            }
        ]
    );
    assert_eq!(
        instruction_at(text, 5),
        Some((3..=5, "RUN x \\\n  # note\n  y".into()))
    );
    assert_eq!(
        instruction_at(text, 10),
        Some((9..=11, "RUN cat <<EOF\nFROM no AS stage\nEOF".into()))
    );
    assert_eq!(instruction_at(text, 7), None);
    assert_eq!(instruction_at(text, 99), None);
    assert_eq!(stages("nonsense"), []);
}

#[test]
fn every_kind_stands_in_the_documentation() {
    let docs = include_str!("../../../docs/hints.md");
    for kind in HintKind::ALL {
        assert!(
            docs.contains(&format!("\n### {}\n", kind.as_str())),
            "{}",
            kind.as_str()
        );
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    let headings = docs.lines().filter(|line| line.starts_with("### ")).count();
    assert_eq!(headings, HintKind::ALL.len());
}

/// Numbers that look like chance and are the same on every run (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }
}

#[test]
fn no_text_whatever_makes_it_panic() {
    const PIECES: [&str; 56] = [
        "FROM ",
        "RUN ",
        "COPY ",
        "ARG ",
        "ENV ",
        "ADD ",
        "SHELL ",
        "ONBUILD ",
        " AS ",
        "a",
        "b:latest",
        "\n",
        "\n",
        "\n",
        " ",
        "\\\n",
        "\\",
        "`",
        "'",
        "\"",
        "$",
        "${",
        "}",
        "$(",
        "$((",
        ")",
        "(",
        "<<",
        "<<-",
        "EOF",
        "\nEOF\n",
        "<",
        ">",
        "&&",
        "||",
        ";",
        "|",
        "#",
        "=",
        "--mount=",
        "type=cache,target=/x",
        "--from=",
        "--exclude=",
        "[\"",
        "\", \"",
        "\"]",
        "é",
        "\u{feff}",
        "\t",
        "\r\n",
        "go mod download",
        "apt-get update",
        ". .",
        "# escape=`\n",
        ":-",
        "sh -c ",
    ];
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let build_args = [("a".to_owned(), "$b${a:-'".to_owned())].into();
    let look = |dockerfile: &str, other: &str| {
        let files = [ContextFile {
            path: other.to_owned(),
            head: other.as_bytes().to_vec(),
        }];
        let warnings = [BuildWarning {
            text: other.to_owned(),
            line: Some(-1),
            url: None,
        }];
        advise(&View {
            dockerfile_path: "Dockerfile",
            dockerfile,
            target: None,
            build_args: &build_args,
            files: &files,
            warnings: &warnings,
        });
        stages(dockerfile);
        instruction_at(dockerfile, 2);
        is_candidate(other);
        kept(dockerfile, [other, "a/b", ""].into_iter());
    };
    for round in 0..2000 {
        let mut text = if round % 2 == 0 {
            String::from("FROM a\nRUN ")
        } else {
            String::new()
        };
        for _ in 0..chance.below(60) {
            text.push_str(PIECES[chance.below(PIECES.len())]);
        }
        let bytes: Vec<u8> = (0..chance.below(80))
            .map(|_| u8::try_from(chance.below(256)).unwrap())
            .collect();
        let bytes = String::from_utf8_lossy(&bytes).into_owned();
        look(&text, &bytes);
        look(&format!("FROM a\nRUN {bytes}"), &text);
        look(&bytes, &text);
    }
    // Deep and long.
    for piece in [
        "$(", "${a", "`", "\"$(", "(", "$((", "${a:-\"", "sh -c '", "<<a ", "sudo ",
    ] {
        let text = format!("FROM a\nRUN {}\n", piece.repeat(20_000));
        look(&text, ".env");
    }
}
