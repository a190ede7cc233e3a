use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

fn check(value: Value) -> HealthCheck {
    serde_json::from_value(value).unwrap()
}

/// A folder with a program in the place of what starts the image's own.
fn place(text: &str) -> (tempfile::TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = folder.path().to_owned();
    let place = Place {
        program,
        outcome,
        address: ADDRESS,
    };
    (folder, place)
}

async fn tried(text: &str, how: Option<Value>) -> Ran {
    with_tls();
    let (_folder, place) = place(text);
    let asked = Asked {
        check: how.map(check),
        ..Asked::default()
    };
    ran(&asked, &place).await.unwrap()
}

/// The client of HTTP wants to know by whom, also where it does not encrypt.
fn with_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Answers each connection so.
async fn server(address: &str, status: &'static str) -> u16 {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let text =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    port
}

#[test]
fn an_image_is_started_as_its_pod_would_be() {
    let config = ImageConfig {
        entrypoint: vec!["/app".into()],
        cmd: vec!["serve".into()],
        env: vec!["A=1".into()],
        user: "app".into(),
        working_dir: "/srv".into(),
        ..ImageConfig::default()
    };
    let of = |root, how: Option<Value>| {
        let how = how.map(check);
        Asked::of(&config, root, how.as_ref(), "1".into())
    };
    let plain = of(false, None);
    assert_eq!(plain.command, ["/app", "serve"]);
    assert_eq!(
        (&*plain.user, plain.as_root, &*plain.directory),
        ("app", false, "/srv")
    );
    // Restricted: root is somebody else.
    assert_eq!(of(true, None).user, "65532");
    let http = json!({"httpGet": {"port": 1}, "runAs": "Image"});
    let as_image = of(true, Some(http));
    assert_eq!((&*as_image.user, as_image.as_root), ("app", true));
    let args = json!({"exec": {"command": ["/app", "$(B)"]}, "args": ["$(B)", "$$(B)"],
        "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "x$(A)"}]});
    let asked = of(false, Some(args));
    assert_eq!(asked.command, ["/app", "x2", "$(B)"]);
    assert_eq!(asked.variables()["A"], "2");
    assert_eq!(asked.variables()["B"], "x2");
    let exec = asked.check.unwrap().exec.unwrap();
    assert_eq!(exec.command, ["/app", "x2"]);
    let run = of(false, Some(json!({"run": {"args": ["--version"]}})));
    assert_eq!(run.command, ["/app", "--version"]);
}

#[tokio::test]
async fn what_answers_is_ready_and_is_ended_with_all_that_it_started() {
    let port = server(ADDRESS, "204 No Content").await;
    let text = "echo hello; (trap '' TERM; exec sleep 1000) & echo $! > \"${0%/*}/child\"; wait";
    let (folder, place) = place(text);
    with_tls();
    let asked = Asked {
        check: Some(check(json!({"httpGet": {"port": port}}))),
        ..Asked::default()
    };
    let found = ran(&asked, &place).await.unwrap();
    assert!(found.ready && found.ended.is_none(), "{found:?}");
    if let Ok(child) = fs::read_to_string(folder.path().join("child")) {
        // Nobody has it any more but whoever collects orphans. A process that was killed is there until the kernel comes to it.
        let gone = || match fs::read_to_string(format!("/proc/{}/stat", child.trim())) {
            Ok(status) => status.contains(") Z") || status.contains(") X"),
            Err(_) => true,
        };
        for _ in 0..1000 {
            if gone() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{} runs still", child.trim());
    }
}

#[tokio::test]
async fn what_answers_otherwise_or_to_itself_alone_is_not_ready_in_its_time() {
    let port = server(ADDRESS, "503 Service Unavailable").await;
    let how = json!({"httpGet": {"port": port}, "timeoutSeconds": 1});
    let found = tried("sleep 1000", Some(how)).await;
    assert!(!found.ready && found.ended.is_none(), "{found:?}");
    assert_eq!(
        found.unhealthy.as_deref(),
        Some("Readiness probe failed: HTTP probe failed with statuscode: 503")
    );
    let port = server("127.0.0.1", "200 OK").await;
    let how = json!({"tcpSocket": {"port": port}, "timeoutSeconds": 1});
    let found = tried("sleep 1000", Some(how)).await;
    assert!(!found.ready, "{found:?}");
    assert!(found.unhealthy.unwrap().contains("refused"));
}

#[tokio::test]
async fn how_a_program_ends_and_what_it_prints_is_told() {
    let run = || Some(json!({"run": {}, "timeoutSeconds": 60}));
    let found = tried("seq 1 100; echo error >&2; exit 3", run()).await;
    assert_eq!((found.ended, found.ready), (Some(3), false));
    assert!(found.output.starts_with("1\n2\n"), "{}", found.output);
    let lines: Vec<&str> = found.log.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[19]), (20, "82", "error"));
    let found = tried("kill -9 $$", run()).await;
    assert_eq!(found.ended, Some(137));
    let fault = "echo 'exec: \"x\": permission denied' > \"${0%/*}/fault\"; exit 128";
    let found = tried(fault, run()).await;
    assert_eq!(found.ended, None);
    assert!(found.not_started.unwrap().contains("permission denied"));
}

#[tokio::test]
async fn a_command_in_the_image_is_its_answer_and_its_words_the_cause() {
    // The first call starts the image, others are asked.
    let text = "[ \"$2\" ] || exec sleep 1000\nshift 2\nexec \"$@\"";
    let exec = |words: Value| Some(json!({"exec": {"command": words}, "timeoutSeconds": 1}));
    assert!(tried(text, exec(json!(["true"]))).await.ready);
    let found = tried(text, exec(json!(["sh", "-c", "echo no; exit 1"]))).await;
    assert_eq!(
        found.unhealthy.as_deref(),
        Some("Readiness probe failed: no")
    );
    assert!(!found.ready);
}

#[tokio::test]
async fn an_image_of_which_nothing_is_asked_stays_up_or_ends() {
    let found = tried("sleep 1000", None).await;
    assert!(found.ready && found.ended.is_none(), "{found:?}");
    let found = tried("exit 1", None).await;
    assert_eq!((found.ready, found.ended), (false, Some(1)));
}

#[test]
fn an_outcome_is_read_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Ran::read(folder.path()).is_err());
    let ran = Ran {
        unhealthy: Some("x\n".repeat(1000)),
        output: "\0".repeat(FIRST),
        ..Ran::default()
    };
    let text = serde_json::to_vec(&ran).unwrap();
    fs::write(folder.path().join(RAN), text).unwrap();
    let read = Ran::read(folder.path()).unwrap();
    assert_eq!(read.output, ran.output);
    let line = read.unhealthy.unwrap();
    assert!(line.len() <= WORDS && !line.contains('\n'), "{line}");
}
