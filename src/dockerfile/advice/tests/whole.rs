//! All together.

use strum::IntoEnumIterator;

use super::*;
use crate::advice::stages::Stages;
use crate::reader::parse;

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
    let no_args = BTreeMap::new();
    let file = parse(text).unwrap();
    let stages = Stages::read(&file, None, &no_args).unwrap();
    let found: Vec<_> = stages
        .all
        .iter()
        .map(|stage| (stage.name, stage.line))
        .collect();
    assert_eq!(found, [(Some("one"), 2), (None, 8)]);
    let instruction_at = |line: i32| {
        let mut all = file
            .instructions
            .iter()
            .map(|instruction| instruction.lines);
        all.find(|(first, last)| (*first..=*last).contains(&line))
    };
    assert_eq!(instruction_at(5), Some((3, 5)));
    assert_eq!(instruction_at(10), Some((9, 11)));
    assert_eq!(instruction_at(7), None);
    assert_eq!(instruction_at(99), None);
    let nonsense = parse("nonsense").unwrap_or_default();
    assert!(Stages::read(&nonsense, None, &no_args).is_none_or(|stages| stages.all.is_empty()));
}

#[test]
fn every_kind_stands_in_the_documentation() {
    let docs = include_str!("../../../../docs/hints.md");
    for kind in HintKind::iter() {
        assert!(
            docs.contains(&format!("\n### {}\n", kind.as_str())),
            "{}",
            kind.as_str()
        );
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    let headings = docs.lines().filter(|line| line.starts_with("### ")).count();
    assert_eq!(headings, HintKind::iter().count());
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
        "$(",
        "${a",
        "`",
        "apk add x; ",
        "A=1; npm ci; ",
        "rm -rf /var/cache; ",
        "pip install x && ",
        "\"$(",
        "(",
        "$((",
        "${a:-\"",
        "sh -c '",
        "<<a ",
        "sudo ",
    ] {
        let text = format!("FROM a\nRUN {}\n", piece.repeat(20_000));
        look(&text, ".env");
    }
}
