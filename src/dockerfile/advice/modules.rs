//! Commands that bring in the modules of a project.

use super::managers::{NODE_VALUED, PIP_VALUED};
use super::shell::Command;

/// How modules come in.
pub(super) struct Download {
    pub(super) ecosystem: &'static str,
    /// A command of its own; else a build that downloads on the way.
    pub(super) own: bool,
    /// As users write it.
    pub(super) command: String,
    pub(super) fix: &'static str,
}

impl Download {
    fn own(ecosystem: &'static str, command: &str, fix: &'static str) -> Option<Self> {
        Some(Self {
            ecosystem,
            own: true,
            command: command.to_owned(),
            fix,
        })
    }

    fn build(ecosystem: &'static str, command: &str, fix: &'static str) -> Option<Self> {
        Some(Self {
            ecosystem,
            own: false,
            command: command.to_owned(),
            fix,
        })
    }
}

const GO_CURE: &str = "copy go.mod and go.sum first and run `go mod download`, then copy the rest";
const GO_BUILD_CURE: &str = "copy go.mod and go.sum first and run `go mod download`, or give the RUN \
     --mount=type=cache,target=/go/pkg/mod and --mount=type=cache,target=/root/.cache/go-build";
const CARGO_CURE: &str = "give the RUN --mount=type=cache,target=/usr/local/cargo/registry and one on \
     target/ (copy the program out in the same RUN), or build the dependencies first with cargo-chef";
const NODE_CURE: &str = "copy package.json and the lock file first, install, then copy the rest";
const PYTHON_CURE: &str =
    "copy the files that name the dependencies first, install these, then copy the rest";
const RUBY_CURE: &str = "copy Gemfile and Gemfile.lock first, install, then copy the rest";
const PHP_CURE: &str = "copy composer.json and composer.lock first, install with --no-scripts \
     --no-autoloader, then copy the rest and run `composer dump-autoload`";
const MAVEN_CURE: &str = "copy pom.xml first and run `mvn dependency:go-offline`, then copy the rest, or give \
     the RUN --mount=type=cache,target=/root/.m2";
const GRADLE_CURE: &str = "copy the build files first and run `gradle dependencies`, then copy the rest, or \
     give the RUN --mount=type=cache,target=/root/.gradle";
const DOTNET_CURE: &str = "copy the project files first and run `dotnet restore`, then copy the rest, or give \
     the RUN --mount=type=cache,target=/root/.nuget/packages";
const OTHER_CURE: &str =
    "copy the files that name the dependencies first, download them, then copy the rest";

/// The ecosystem whose modules a variable keeps from being downloaded.
pub(super) fn brings_none(name: &str, value: &str) -> Option<&'static str> {
    let value = value.trim_matches(['"', '\'']);
    match name {
        "GOFLAGS" if value.contains("mod=vendor") => Some("go"),
        "GOPROXY" | "GO111MODULE" if value == "off" => Some("go"),
        "CARGO_NET_OFFLINE" if value == "true" => Some("cargo"),
        _ => None,
    }
}

/// What a command downloads; it goes by the name that its manager has alone.
pub(super) fn download(command: &Command) -> Option<Download> {
    if command.has("--offline") || command.has("--no-index") || asks_only(command) {
        return None;
    }
    match command.program() {
        "go" => go(command),
        "cargo" => cargo(command),
        "npm" | "yarn" | "yarnpkg" | "pnpm" | "bun" => node(command),
        "pip" | "uv" | "poetry" | "pipenv" | "pdm" | "pip-sync" | "conda" | "mamba"
        | "micromamba" => python(command),
        "bundle" | "bundler" => {
            let words = command.words_but(&["-j", "--jobs", "--retry", "--gemfile", "--path"]);
            let installs = matches!(words.first(), None | Some(&"install"));
            (installs && !command.has("--local"))
                .then(|| Download::own("ruby", "bundle install", RUBY_CURE))?
        }
        "composer" => match command.words_but(&["-d", "--working-dir"]).first()? {
            &"install" | &"i" => Download::own("php", "composer install", PHP_CURE),
            &"update" => Download::own("php", "composer update", PHP_CURE),
            _ => None,
        },
        "dotnet" => dotnet(command),
        "mvn" | "mvnw" | "mvnd" => maven(command),
        "gradle" | "gradlew" => gradle(command),
        _ => other(command),
    }
}

fn asks_only(command: &Command) -> bool {
    ["--version", "-version", "--help", "-h"]
        .iter()
        .any(|flag| command.has(flag))
        || (command.program() != "go" && command.words.len() == 2 && command.has("-v"))
}

/// The ecosystem whose manifest or modules the command makes.
pub(super) fn makes(command: &Command) -> Option<&'static str> {
    let mut plain = command.plain();
    match (command.program(), plain.next(), plain.next()) {
        ("go", Some("mod"), Some("init"))
        | ("dep", Some("ensure"), _)
        | ("glide", Some("install" | "up"), _)
        | ("govendor", Some("sync"), _)
        | ("godep", Some("restore"), _) => Some("go"),
        ("npm" | "yarn" | "pnpm" | "bun", Some("init" | "create"), _) => Some("node"),
        ("cargo", Some("init" | "new"), _) => Some("cargo"),
        ("uv" | "poetry", Some("init"), _) => Some("python"),
        ("dotnet", Some("new"), _) => Some("dotnet"),
        _ => None,
    }
}

fn go(command: &Command) -> Option<Download> {
    // `go install tool@latest` has nothing to do with the sources.
    let vendor = |pair: &[String]| pair[0] == "-mod" && pair[1] == "vendor";
    if command
        .args()
        .any(|word| word.contains('@') || word.contains("mod=vendor"))
        || command.words.windows(2).any(vendor)
    {
        return None;
    }
    let mut plain = command.plain();
    let own = |shown| Download::own("go", shown, GO_CURE);
    let shown = match (
        plain.next().unwrap_or_default(),
        plain.next().unwrap_or_default(),
    ) {
        ("mod", "download") => return own("go mod download"),
        ("mod", "tidy") => return own("go mod tidy"),
        ("mod", "vendor") => return own("go mod vendor"),
        ("get", _) => return own("go get"),
        ("build", _) => "go build",
        ("install", _) => "go install",
        ("test", _) => "go test",
        ("vet", _) => "go vet",
        ("run", _) => "go run",
        _ => return None,
    };
    Download::build("go", shown, GO_BUILD_CURE)
}

fn cargo(command: &Command) -> Option<Download> {
    if command.has("--frozen") {
        return None;
    }
    // `cargo +nightly build`
    let mut words = command.plain().filter(|word| !word.starts_with('+'));
    match (words.next()?, words.next().unwrap_or_default()) {
        ("fetch", _) => Download::own("cargo", "cargo fetch", CARGO_CURE),
        ("chef", "cook") => Download::own("cargo", "cargo chef cook", CARGO_CURE),
        ("build" | "b" | "zigbuild", _) => Download::build("cargo", "cargo build", CARGO_CURE),
        ("test" | "t", _) => Download::build("cargo", "cargo test", CARGO_CURE),
        ("run" | "r", _) => Download::build("cargo", "cargo run", CARGO_CURE),
        ("check" | "c", _) => Download::build("cargo", "cargo check", CARGO_CURE),
        ("install", _) if command.has_option(&["--path"]) => {
            Download::build("cargo", "cargo install", CARGO_CURE)
        }
        _ => None,
    }
}

fn node(command: &Command) -> Option<Download> {
    let own = |shown: &str| Download::own("node", shown, NODE_CURE);
    let words = command.words_but(NODE_VALUED);
    let first = words.first().copied().unwrap_or_default();
    let global = ["-g", "--global", "--location=global"]
        .iter()
        .any(|flag| command.has(flag));
    // No package is named, so that all of the manifest's are meant.
    let all = words.len() <= 1 && !global;
    match command.program() {
        "npm" => match first {
            "ci" | "clean-install" => own("npm ci"),
            "install" | "i" if all => own("npm install"),
            _ => None,
        },
        // The modules lie in the source where their cache must not change.
        "yarn" | "yarnpkg" if command.has("--immutable-cache") => None,
        "yarn" | "yarnpkg"
            if matches!(
                words.as_slice(),
                [] | ["install"] | ["workspaces", "focus", ..]
            ) =>
        {
            own("yarn install")
        }
        "pnpm" => match words.as_slice() {
            ["fetch"] => own("pnpm fetch"),
            ["recursive" | "multi", "install" | "i"] => own("pnpm install"),
            ["install" | "i"] if all => own("pnpm install"),
            _ => None,
        },
        "bun" if matches!(first, "install" | "i") && all => own("bun install"),
        _ => None,
    }
}

fn python(command: &Command) -> Option<Download> {
    let own = |shown: &str| Download::own("python", shown, PYTHON_CURE);
    let words = command.words_but(PIP_VALUED);
    let first = words.first().copied().unwrap_or_default();
    let second = words.get(1).copied().unwrap_or_default();
    match (command.program(), first, second) {
        ("pip", "install", _) if names_a_file(command) => own("pip install -r"),
        ("pip", "wheel", _) if names_a_file(command) => own("pip wheel -r"),
        ("pip", "download", _) if names_a_file(command) => own("pip download -r"),
        ("pip-sync", ..) => own("pip-sync"),
        ("uv", "sync", _) => own("uv sync"),
        ("uv", "pip", "install") if names_a_file(command) => own("uv pip install -r"),
        ("uv", "pip", "sync") => own("uv pip sync"),
        ("poetry", "install" | "sync", _) => own("poetry install"),
        ("pdm", "install" | "sync", _) => own("pdm install"),
        // With packages named, it is about these alone.
        ("pipenv", "install" | "sync", "") => own("pipenv install"),
        ("conda" | "mamba" | "micromamba", ..) if of_environment(command) => {
            Download::own("conda", "conda env create", PYTHON_CURE)
        }
        _ => None,
    }
}

/// `conda env create -f environment.yml`, `micromamba install --file=env.yaml`.
fn of_environment(command: &Command) -> bool {
    let verb = ["create", "update", "install"]
        .iter()
        .any(|verb| command.has(verb));
    verb && command
        .args()
        .any(|word| word == "-f" || word.starts_with("--file"))
}

/// `-r requirements.txt`
fn names_a_file(command: &Command) -> bool {
    let words: Vec<&str> = command.args().collect();
    words.iter().enumerate().any(|(at, word)| {
        let value = match word.strip_prefix("--requirement") {
            Some(value) if !value.is_empty() => value,
            Some(_) => words.get(at + 1).copied().unwrap_or_default(),
            None if *word == "-r" => words.get(at + 1).copied().unwrap_or_default(),
            None => match word.strip_prefix("-r") {
                Some(value) if value.contains('.') => value,
                _ => return false,
            },
        };
        !value.contains("://")
    })
}

fn dotnet(command: &Command) -> Option<Download> {
    if command.has("--no-restore") || command.has("--no-build") {
        return None;
    }
    let shown = match command.plain().next()? {
        "restore" => return Download::own("dotnet", "dotnet restore", DOTNET_CURE),
        "publish" => "dotnet publish",
        "build" => "dotnet build",
        "test" => "dotnet test",
        "pack" => "dotnet pack",
        "run" => "dotnet run",
        _ => return None,
    };
    Download::build("dotnet", shown, DOTNET_CURE)
}

fn maven(command: &Command) -> Option<Download> {
    const PHASES: [&str; 10] = [
        "package",
        "install",
        "verify",
        "compile",
        "test",
        "deploy",
        "test-compile",
        "integration-test",
        "prepare-package",
        "process-resources",
    ];
    if command.has("-o") {
        return None;
    }
    let words = command.words_but(&[
        "-f",
        "--file",
        "-pl",
        "--projects",
        "-P",
        "-s",
        "--settings",
        "-gs",
        "-D",
        "-rf",
        "-T",
        "-l",
        "-t",
    ]);
    let resolves = |word: &&&str| {
        word.starts_with("dependency:")
            || word.contains(":dependency:")
            || word.contains("go-offline")
            || word.contains(":resolve")
    };
    if let Some(goal) = words.iter().find(resolves) {
        let goal = if goal.contains("go-offline") {
            "dependency:go-offline"
        } else {
            *goal
        };
        return Download::own("maven", &format!("mvn {goal}"), MAVEN_CURE);
    }
    let builds = |word: &&&str| {
        PHASES.contains(*word)
            || word.starts_with("spring-boot:")
            || word.starts_with("jib:")
            || word.starts_with("quarkus:")
    };
    let phase = words.iter().find(builds)?;
    Download::build("maven", &format!("mvn {phase}"), MAVEN_CURE)
}

fn gradle(command: &Command) -> Option<Download> {
    let words = command.words_but(&[
        "-p",
        "--project-dir",
        "-b",
        "--build-file",
        "-c",
        "-I",
        "--init-script",
        "-g",
        "--gradle-user-home",
        "-x",
        "--exclude-task",
        "--console",
        "--max-workers",
        "-P",
        "-D",
    ]);
    let none = [
        "clean",
        "wrapper",
        "help",
        "tasks",
        "init",
        "properties",
        "projects",
    ];
    let task = words.iter().find(|task| !none.contains(*task))?;
    let shown = format!("{} {task}", command.program());
    let lower = task.to_lowercase();
    if lower.contains("dependenc") || lower.contains("resolve") || lower.contains("download") {
        return Download::own("gradle", &shown, GRADLE_CURE);
    }
    Download::build("gradle", &shown, GRADLE_CURE)
}

fn other(command: &Command) -> Option<Download> {
    let own = |ecosystem, shown: &str| Download::own(ecosystem, shown, OTHER_CURE);
    let build = |ecosystem, shown: &str| Download::build(ecosystem, shown, OTHER_CURE);
    let words: Vec<&str> = command.plain().collect();
    let has = |what: &str| command.args().any(|word| word.contains(what));
    match (command.program(), words.as_slice()) {
        ("mix", _) if has("deps.get") => own("elixir", "mix deps.get"),
        ("sbt", ["update", ..]) => own("sbt", "sbt update"),
        ("sbt", [task, ..]) if *task != "clean" || words.len() > 1 => build("sbt", "sbt"),
        ("lein", ["deps", ..]) => own("lein", "lein deps"),
        ("lein", ["uberjar" | "ring" | "compile", ..]) => build("lein", "lein uberjar"),
        ("stack", _) if has("only-dependencies") || has("dependencies-only") => {
            own("haskell", "stack build")
        }
        ("stack", ["build" | "install", ..]) => build("haskell", "stack build"),
        ("cabal", _) if has("only-dependencies") || has("dependencies-only") => {
            own("haskell", "cabal build")
        }
        ("cabal", ["build" | "v2-build" | "install", ..]) => build("haskell", "cabal build"),
        ("swift", ["package", "resolve", ..]) => own("swift", "swift package resolve"),
        ("swift", ["build", ..]) => build("swift", "swift build"),
        ("rebar3", ["get-deps", ..]) => own("erlang", "rebar3 get-deps"),
        ("rebar3", ["compile" | "release" | "as" | "tar", ..]) => build("erlang", "rebar3"),
        ("dart" | "flutter", ["pub", "get", ..]) => own("dart", "pub get"),
        ("shards", ["install", ..]) => own("crystal", "shards install"),
        ("R" | "Rscript", _) if has("renv::restore") => own("r", "renv::restore()"),
        _ => None,
    }
}
