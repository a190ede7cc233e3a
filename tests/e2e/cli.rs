//! The command line against a cluster: each command as a person types it.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use serde_json::{Value, json};
use tokio::process::Command;
use whittle_api::ImageBuild;

use crate::field::{Field, PATIENCE};

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// What it printed, where it ended so.
    #[track_caller]
    pub fn ends(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:#?}");
        &self.out
    }

    /// What it printed to standard error, where it ended so.
    #[track_caller]
    pub fn fails(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:#?}");
        &self.err
    }
}

/// Runs whittle to its end.
pub async fn whittle(arguments: &[&str]) -> Ran {
    with(arguments, &[]).await
}

/// The same, with variables.
pub async fn with(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let ran = Command::new(env!("CARGO_BIN_EXE_whittle"))
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ran = tokio::time::timeout(2 * PATIENCE, ran).await;
    let ran = ran
        .unwrap_or_else(|_| panic!("whittle {arguments:?} does not end"))
        .unwrap();
    Ran {
        code: ran.status.code(),
        out: String::from_utf8(ran.stdout).unwrap(),
        err: String::from_utf8(ran.stderr).unwrap(),
    }
}

impl Field {
    /// Runs whittle in this namespace.
    pub async fn whittle(&self, arguments: &[&str]) -> Ran {
        whittle(&[arguments, &["-n", &self.namespace]].concat()).await
    }
}

fn files(run: &str) -> Value {
    json!({"Dockerfile": format!("FROM busybox:1.36\nRUN {run}\n")})
}

#[tokio::test]
async fn a_build_is_followed_asked_about_and_repeated() {
    let field = Field::new("cli").await;
    field
        .build("hello", files("echo from the first step"), json!({}))
        .await;
    field.whittle(&["wait", "hello"]).await.ends(0);
    let told = field.whittle(&["status", "hello"]).await;
    let told = told.ends(0);
    assert!(told.starts_with("hello  Ready, built "), "{told}");
    assert!(told.contains(&field.image("hello")), "{told}");
    let log = field.whittle(&["logs", "hello"]).await;
    let log = log.ends(0);
    assert!(log.contains("from the first step\n"), "{log}");
    assert!(log.contains(" DONE "), "{log}");

    // By a change of what is run: the log of the second build is another one.
    let change = json!({"spec": {"source": {"inline": {"files": {"Dockerfile": "FROM busybox:1.36\nRUN echo from the second step\n"}}}}});
    field.change("hello", change).await;
    field.succeeds_again("hello", 2).await;
    let log = field.whittle(&["logs", "hello"]).await;
    assert!(log.ends(0).contains("from the second step\n"), "{log:?}");
    for arguments in [
        ["logs", "hello", "--previous"],
        ["logs", "hello", "--build=1"],
    ] {
        let log = field.whittle(&arguments).await;
        assert!(log.ends(0).contains("from the first step\n"), "{log:?}");
    }
    let raw = field.whittle(&["logs", "hello", "--output=rawjson"]).await;
    for line in raw.ends(0).lines() {
        let status: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(
            status.get("vertexes").is_some() || status.get("logs").is_some(),
            "{line}"
        );
    }

    let again = field.whittle(&["rebuild", "hello", "--follow"]).await;
    let out = again.ends(0);
    assert!(out.contains("hello: a build is requested\n"), "{out}");
    assert!(out.contains("CACHED"), "{out}");
    assert!(out.contains("hello  Ready, built "), "{out}");
    let history = field.whittle(&["history", "hello"]).await;
    let rows: Vec<Vec<&str>> = history
        .ends(0)
        .lines()
        .map(|it| it.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 4, "{history:?}");
    assert_eq!(
        rows[1][..3],
        ["3", "Succeeded,", "unchanged"],
        "{history:?}"
    );
    let builds: Value = serde_json::from_str(
        field
            .whittle(&["history", "hello", "-o", "json"])
            .await
            .ends(0),
    )
    .unwrap();
    let job = builds[2]["job"].as_str().unwrap();
    assert!(job.starts_with("hello-"), "{job}");
    assert!(
        field
            .jobs("hello")
            .await
            .iter()
            .any(|it| it.name_any() == job),
        "{job}"
    );

    // What is taken from the cache prints nothing.
    let ran = |out: &str| {
        let mut lines = out.lines();
        lines.any(|it| it.ends_with("from the second step") && !it.contains("RUN"))
    };
    assert!(!ran(out), "{out}");
    let anew = field
        .whittle(&["rebuild", "hello", "--no-cache", "--follow"])
        .await;
    assert!(ran(anew.ends(0)), "{anew:?}");

    assert_eq!(
        field.whittle(&["status", "-o", "name"]).await.ends(0),
        "imagebuild.whittle.dev/hello\n"
    );
    let object: Value = serde_json::from_str(
        field
            .whittle(&["status", "hello", "-o", "json"])
            .await
            .ends(0),
    )
    .unwrap();
    assert_eq!(object["kind"], "ImageBuild");
    let table = field.whittle(&["status"]).await;
    assert!(table.ends(0).contains("BUILDER"), "{table:?}");
    let cache = field.whittle(&["cache"]).await;
    assert!(cache.ends(0).starts_with("default"), "{cache:?}");
    let doctor = field
        .whittle(&["doctor", "--image", &field.image("hello")])
        .await;
    let found = doctor.ends(0);
    for name in [
        "API server",
        "CRDs",
        "controller",
        "callback",
        "rights",
        "nodes",
        "storage",
        "Pod Security",
        "builder",
    ] {
        assert!(found.contains(&format!("✓ {name}")), "{name}: {found}");
    }
    // After that its builder begins anew, which the doctor would tell.
    let pruned = field.whittle(&["cache", "prune"]).await;
    assert!(
        pruned
            .ends(0)
            .contains("is emptied at the next moment without a build"),
        "{pruned:?}"
    );

    field.whittle(&["suspend", "hello"]).await.ends(0);
    let asked = field.whittle(&["rebuild", "hello"]).await;
    assert!(
        asked
            .ends(0)
            .contains("starts when it is resumed: whittle resume hello"),
        "{asked:?}"
    );
    field.whittle(&["resume", "hello"]).await.ends(0);
    field.succeeds_again("hello", 5).await;
    field.close().await;
}

#[tokio::test]
async fn a_build_that_fails_ends_the_commands_with_1_and_tells_the_line() {
    let field = Field::new("clifails").await;
    field
        .build("broken", files("echo so it goes; exit 7"), json!({}))
        .await;
    let waited = field.whittle(&["wait", "broken"]).await;
    assert!(
        waited.fails(1).contains("broken: the build failed"),
        "{waited:?}"
    );
    let told = field.whittle(&["status", "broken"]).await;
    let told = told.ends(1);
    for part in [
        "broken  Failed: StepFailed",
        "exit code",
        ">    2 | RUN echo so it goes; exit 7",
        "so it goes",
        "whittle logs broken",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let again = field.whittle(&["rebuild", "broken", "--follow"]).await;
    assert!(again.ends(1).contains("ERROR"), "{again:?}");
    let waited = field.whittle(&["rebuild", "broken", "--wait"]).await;
    assert!(
        waited.fails(1).contains("broken: the build failed"),
        "{waited:?}"
    );
    field.close().await;
}

#[tokio::test]
async fn a_build_is_canceled_by_its_number_and_waits_end_in_time() {
    let field = Field::new("clicancel").await;
    field.build("slow", files("sleep 1800"), json!({})).await;
    field.step_runs("slow", "sleep").await;
    let timed = field.whittle(&["wait", "slow", "--timeout=2s"]).await;
    assert!(
        timed
            .fails(124)
            .contains("timed out after 2s: it is Building"),
        "{timed:?}"
    );
    let other = field.whittle(&["cancel", "slow", "--build=9"]).await;
    assert!(
        other
            .fails(3)
            .contains("build 9 does not run: build 1 does"),
        "{other:?}"
    );
    field.whittle(&["cancel", "slow"]).await.ends(0);
    let ended = field.whittle(&["wait", "slow", "--for=Ended"]).await;
    ended.ends(0);
    let told = field.whittle(&["why", "slow"]).await;
    assert!(told.ends(1).contains("slow  Failed: Canceled"), "{told:?}");
    let idle = field.whittle(&["cancel", "slow"]).await;
    assert!(idle.fails(3).contains("no build runs or waits"), "{idle:?}");
    let gone = tokio::spawn(with_namespace(
        field.namespace.clone(),
        &["wait", "slow", "--for=deleted"],
    ));
    let builds = field.api::<ImageBuild>();
    builds
        .delete("slow", &DeleteParams::background())
        .await
        .unwrap();
    assert!(gone.await.unwrap().ends(0).contains("slow: deleted"));
    field.close().await;
}

async fn with_namespace(namespace: String, arguments: &'static [&'static str]) -> Ran {
    whittle(&[arguments, &["-n", &namespace]].concat()).await
}

#[tokio::test]
async fn what_is_wrong_is_said_with_the_next_step() {
    let field = Field::new("cliwrong").await;
    let missing = field.whittle(&["status", "nope"]).await;
    let expected = format!(
        "ImageBuild nope not found in namespace {}: see `whittle status -A`",
        field.namespace
    );
    assert!(missing.fails(3).contains(&expected), "{missing:?}");
    let missing = field.whittle(&["rebuild", "-l", "app=nope"]).await;
    assert!(
        missing
            .fails(3)
            .contains("no ImageBuild has the labels app=nope"),
        "{missing:?}"
    );
    let unnamed = field.whittle(&["cancel"]).await;
    assert!(
        unnamed.fails(2).contains("no ImageBuild is named"),
        "{unnamed:?}"
    );
    let context = field.whittle(&["status", "--context=nope"]).await;
    assert!(
        context.fails(2).contains("the kubeconfig cannot be used"),
        "{context:?}"
    );
    let empty = field.whittle(&["status"]).await;
    assert!(
        empty.ends(0).starts_with("No ImageBuilds in namespace"),
        "{empty:?}"
    );

    // Nobody listens there.
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().join("nobody");
    std::fs::write(&nobody, kubeconfig("https://127.0.0.1:9", "none")).unwrap();
    let away = whittle(&["status", "--kubeconfig", nobody.to_str().unwrap()]).await;
    assert!(
        away.fails(3).contains("the cluster is unreachable"),
        "{away:?}"
    );
    let none = with(
        &["status"],
        &[("KUBECONFIG", "/dev/null"), ("HOME", "/nonexistent")],
    )
    .await;
    assert!(none.code == Some(2) || none.code == Some(3), "{none:?}");

    let denied = folder.path().join("denied");
    std::fs::write(&denied, of_nobody(&field).await).unwrap();
    let denied = denied.to_str().unwrap();
    for command in ["status", "logs", "rebuild", "wait", "cancel", "history"] {
        let ran = field
            .whittle(&[command, "hello", "--kubeconfig", denied])
            .await;
        assert!(
            ran.fails(3).contains("denied: imagebuilds.whittle.dev"),
            "{command}: {ran:?}"
        );
    }
    let doctor = field.whittle(&["doctor", "--kubeconfig", denied]).await;
    assert!(doctor.fails(3).contains("missing"), "{doctor:?}");
    assert!(doctor.out.contains("✗ rights"), "{doctor:?}");
    field.close().await;
}

/// The kubeconfig of a ServiceAccount with no rights.
pub async fn of_nobody(field: &Field) -> String {
    let accounts = field.api::<ServiceAccount>();
    let account: ServiceAccount =
        serde_json::from_value(json!({"metadata": {"name": "nobody"}})).unwrap();
    accounts
        .create(&PostParams::default(), &account)
        .await
        .unwrap();
    let request = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let token = accounts
        .create_token_request("nobody", &PostParams::default(), &request)
        .await
        .unwrap();
    kubeconfig(&server(), &token.status.unwrap().token)
}

/// The address of the API server, as the kubeconfig has it.
fn server() -> String {
    let text = std::fs::read_to_string(crate::field::variable("KUBECONFIG")).unwrap();
    let config: Value = serde_saphyr::from_str(&text).unwrap();
    config["clusters"][0]["cluster"]["server"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A kubeconfig with a token.
fn kubeconfig(server: &str, token: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]})
    .to_string()
}

/// A program on a terminal of its own.
struct Screen {
    child: Box<dyn portable_pty::Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    parser: Arc<Mutex<vt100::Parser>>,
}

impl Screen {
    fn of(program: &str, arguments: &[&str]) -> Self {
        let size = PtySize {
            rows: 40,
            cols: 120,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(program);
        command.args(arguments);
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let keys = pair.master.take_writer().unwrap();
        let parser = Arc::new(Mutex::new(vt100::Parser::new(40, 120, 0)));
        let shared = parser.clone();
        std::thread::spawn(move || {
            // The terminal stays as long as it is read.
            let _master = pair.master;
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                shared.lock().unwrap().process(&bytes[..count]);
            }
        });
        Self {
            child,
            keys,
            parser,
        }
    }

    fn text(&self) -> String {
        let parser = self.parser.lock().unwrap();
        let rows = parser.screen().rows(0, 120);
        let rows: Vec<String> = rows.map(|row| row.trim_end().to_owned()).collect();
        rows.join("\n").trim_end().to_owned()
    }

    /// Waits until the screen shows something.
    async fn shows(&self, what: &str, shows: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if shows(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "not shown: {what}:\n{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the program has ended.
    async fn ends(&mut self) -> u32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.exit_code();
            }
            assert!(
                Instant::now() < deadline,
                "it does not end:\n{}",
                self.text()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// A screen without what differs from run to run.
fn steady(text: &str) -> String {
    let times = regex::Regex::new(r"\b\d+(\.\d+)?s\b|\b\d+:\d\d(:\d\d)?\b").unwrap();
    let spinner = regex::Regex::new("[⠁-⣿]").unwrap();
    let text = spinner.replace_all(text, "*").into_owned();
    let text = times.replace_all(&text, "TIME").into_owned();
    let ids = regex::Regex::new(r"sha256:[0-9a-f]{64}").unwrap();
    ids.replace_all(&text, "DIGEST").into_owned()
}

#[tokio::test]
async fn a_terminal_shows_the_steps_that_run_and_ctrl_c_ends_the_following_alone() {
    let field = Field::new("cliscreen").await;
    let dockerfile = "FROM busybox:1.36\nRUN echo first\nRUN echo working on it; sleep 1800\n";
    field
        .build("slow", json!({"Dockerfile": dockerfile}), json!({}))
        .await;
    field.step_runs("slow", "sleep").await;
    let arguments = ["logs", "slow", "-f", "-n", &field.namespace];
    let mut screen = Screen::of(env!("CARGO_BIN_EXE_whittle"), &arguments);
    let text = screen
        .shows("the step that runs", |text| {
            text.contains("working on it") && text.contains("✓ #")
        })
        .await;
    let lines: Vec<&str> = text
        .lines()
        .filter(|it| it.contains("[2/3]") || it.contains("[3/3]"))
        .collect();
    insta::assert_snapshot!(steady(&lines.join("\n")), @r"
    ✓ #5 [2/3] RUN echo first TIME
    * #6 [3/3] RUN echo working on it; sleep 1800 TIME  working on it
    ");
    screen.keys.write_all(b"\x03").unwrap();
    screen
        .shows("how to cancel", |text| {
            text.contains("Ctrl-C once more within 5 s cancels it")
        })
        .await;
    assert_eq!(screen.ends().await, 130);
    let status = field.status("slow").await;
    assert!(status.current.is_some(), "the build goes on");

    let mut screen = Screen::of(env!("CARGO_BIN_EXE_whittle"), &arguments);
    screen
        .shows("the step that runs", |text| text.contains("working on it"))
        .await;
    screen.keys.write_all(b"\x03").unwrap();
    screen
        .shows("how to cancel", |text| text.contains("Ctrl-C once more"))
        .await;
    screen.keys.write_all(b"\x03").unwrap();
    assert_eq!(screen.ends().await, 130);
    field.ready("slow", "False", "Canceled").await;
    field.close().await;
}

#[tokio::test]
async fn a_shell_opens_beside_a_container_that_has_none() {
    let field = Field::new("clidebug").await;
    let dockerfile = "FROM golang:1.26 AS build\nWORKDIR /src\nCOPY main.go .\nRUN CGO_ENABLED=0 go build -o /sleeper main.go\nFROM scratch\nCOPY --from=build /sleeper /\nUSER 65532\nENTRYPOINT [\"/sleeper\"]\n";
    let files = json!({"Dockerfile": dockerfile, "main.go": "package main\nimport \"time\"\nfunc main() { time.Sleep(time.Hour) }\n"});
    field
        .build(
            "sleeper",
            files,
            json!({"debug": {"image": "busybox:1.36"}}),
        )
        .await;
    let status = field.succeeds("sleeper").await;
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "sleeps"}, "spec": {
        "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
        "containers": [{"name": "main", "image": status.image}]}}))
    .unwrap();
    field
        .api::<Pod>()
        .create(&PostParams::default(), &pod)
        .await
        .unwrap();
    field
        .until("the Pod runs", async || {
            let pod = field.api::<Pod>().get("sleeps").await.unwrap();
            (pod.status?.phase? == "Running").then_some(())
        })
        .await;
    let debug = status.debug.unwrap().image;
    let printed = field.whittle(&["debug", "sleeps", "--print"]).await;
    let line = format!(
        "kubectl debug pod/sleeps --namespace={} --image={debug} --target=main --profile=baseline -it -- sh\n",
        field.namespace
    );
    assert_eq!(printed.ends(0), line);
    let wrong = field.whittle(&["debug", "sleeps", "-c", "nope"]).await;
    assert!(
        wrong
            .fails(2)
            .contains("container nope not found in Pod sleeps: it has main"),
        "{wrong:?}"
    );
    let gone = field.whittle(&["debug", "nope"]).await;
    assert!(gone.fails(3).contains("Pod nope not found"), "{gone:?}");
    let arguments = ["debug", "sleeps", "-n", &field.namespace];
    let mut screen = Screen::of(env!("CARGO_BIN_EXE_whittle"), &arguments);
    let prompts = |text: &str| text.lines().last().is_some_and(|it| it.ends_with('$'));
    screen.shows("a prompt", prompts).await;
    screen.keys.write_all(b"ps -o args; exit\r").unwrap();
    screen
        .shows("the target's process", |text| {
            text.lines().any(|it| it.trim() == "/sleeper")
        })
        .await;
    assert_eq!(screen.ends().await, 0);
    field.close().await;
}

#[tokio::test]
async fn names_of_imagebuilds_are_completed() {
    let field = Field::new("clicomplete").await;
    field
        .build("shop-api", files("true"), json!({"suspend": true}))
        .await;
    field
        .build("shop-web", files("true"), json!({"suspend": true}))
        .await;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("kubectl_complete-imagebuild");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_whittle"), &program).unwrap();
    // The namespace of the current context, as a person has it.
    let text = std::fs::read_to_string(crate::field::variable("KUBECONFIG")).unwrap();
    let mut config: Value = serde_saphyr::from_str(&text).unwrap();
    for context in config["contexts"].as_array_mut().unwrap() {
        context["context"]["namespace"] = field.namespace.clone().into();
    }
    let path: PathBuf = folder.path().join("config");
    std::fs::write(&path, config.to_string()).unwrap();
    let offered = Command::new(&program)
        .args(["status", "shop-"])
        .env("KUBECONFIG", &path)
        .output()
        .await
        .unwrap();
    assert_eq!(
        String::from_utf8(offered.stdout).unwrap(),
        "shop-api\nshop-web\n:4\n"
    );
    field.close().await;
}
