//! Sources before modules.

use super::*;

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
        let start = format!("Dockerfile:3: `COPY . .` is before `{says}` (line 5), so each change");
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
        hint.message.contains("the modules, if any,"),
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
        "FROM golang@@\nCOPY . .\nRUN GOFLAGS=-mod=vendor go build -o /app .",
        "FROM golang@@\nCOPY . .\nRUN env GOFLAGS=-mod=vendor CGO_ENABLED=0 go build -o /app .",
        "FROM golang@@\nCOPY . .\nRUN export GOFLAGS='-mod=vendor' && go build -o /app .",
        "FROM golang@@\nARG GOFLAGS=-mod=vendor\nCOPY . .\nRUN go build -o /app .",
        "FROM golang@@\nRUN go env -w GOFLAGS=-mod=vendor\nCOPY . .\nRUN go build -o /app .",
        "FROM golang@@\nCOPY . .\nRUN go build -mod vendor -o /app .",
        "FROM golang@@\nENV GO111MODULE=off\nCOPY . .\nRUN go build -o /app .",
        "FROM rust@@\nCOPY . .\nRUN CARGO_NET_OFFLINE=true cargo build",
        "FROM maven@@\nCOPY . .\nRUN mvn -o package",
        "FROM maven@@\nCOPY . .\nRUN --mount=type=cache,target=/root/.m2 mvn package",
        "FROM maven@@\nCOPY pom.xml .\nRUN mvn dependency:go-offline\nCOPY . .\nRUN mvn package",
        "FROM gradle@@\nCOPY *.gradle .\nRUN gradle dependencies\nCOPY . .\nRUN gradle build",
        "FROM gradle@@\nCOPY . .\nRUN ./gradlew --version && ./gradlew wrapper && ./gradlew clean -x test",
        "FROM dotnet@@\nCOPY *.csproj .\nRUN dotnet restore\nCOPY . .\nRUN dotnet publish --no-restore",
        "FROM dotnet@@\nCOPY *.csproj .\nRUN dotnet restore\nCOPY . .\nRUN dotnet publish",
        "FROM a@@\nCOPY . .\nRUN mvn --version && dotnet --info && gradle -v",
        "FROM a@@\nCOPY . .\nRUN pip install --no-cache-dir -r https://example.com/r.txt",
        "FROM a@@\nCOPY . .\nRUN bundle install --local",
        "FROM a@@\nCOPY . .\nRUN command -v yarn || echo none",
    ]);
}

#[test]
fn builds_that_download_on_the_way_count() {
    for (run, says) in [
        ("mvn -B package", "mvn package"),
        ("mvn -f pom.xml -DskipTests clean install", "mvn install"),
        ("./mvnw -q -P prod verify", "mvn verify"),
        ("./gradlew build", "gradlew build"),
        ("gradle --no-daemon clean bootJar -x test", "gradle bootJar"),
        ("sh ./gradlew build; ./gradlew assemble", "gradlew assemble"),
        ("dotnet publish -c Release -o /app", "dotnet publish"),
        ("dotnet build", "dotnet build"),
        ("GOOS=linux go build .", "go build"),
        ("cargo +nightly build", "cargo build"),
        ("sbt assembly", "sbt"),
        ("stack build", "stack build"),
        ("swift build -c release", "swift build"),
    ] {
        let hint = one(&format!("FROM a@@\nCOPY . .\nRUN {run}\n"));
        assert_eq!(
            (hint.kind, hint.line),
            (K::SourcesBeforeModules, Some(2)),
            "{run}"
        );
        assert!(
            hint.message.contains(&format!("before `{says}`")),
            "{}",
            hint.message
        );
    }
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
