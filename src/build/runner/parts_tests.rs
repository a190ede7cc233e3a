use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::callback::Callback;
use super::super::files::prepare;
use super::super::pushing::Pushing;
use super::super::redact::Redactor;
use super::*;
use crate::fixtures;
use crate::place::Place;
use whittle_api::Platform;

const ORDINARY: &str = "tcp://builder.demo.svc:1234";

fn native(platform: &str, address: Option<&str>) -> Native {
    Native {
        platform: platform.into(),
        builder: format!("default-{}", platform.replace('/', "-")),
        address: address.map(str::to_owned),
        memory: None,
        memory_field: None,
        missing: address
            .is_none()
            .then(|| "no node matches its nodeSelector".into()),
    }
}

fn asks(platforms: &[&str], natives: Vec<Native>) -> BuildRequest {
    let mut request = fixtures::request();
    let named = platforms.iter().map(|it| Platform((*it).into()));
    request.inputs.platforms = named.collect();
    request.natives = natives;
    request
}

/// What each daemon is asked for: its address, its platforms, how they are built there.
fn asked(request: &BuildRequest) -> Vec<(String, Vec<String>, Vec<BuiltBy>)> {
    let of = |part: Part| {
        (
            part.request.builder_address.clone(),
            buildctl::platforms(&part.request),
            part.platforms.iter().map(|(_, by)| *by).collect(),
        )
    };
    parts(request).into_iter().map(of).collect()
}

#[test]
fn a_builder_without_daemons_for_platforms_is_asked_as_ever() {
    assert!(parts(&asks(&["linux/amd64", "linux/arm64"], vec![])).is_empty());
    // The Builder's own platform is that of its ordinary daemon.
    let natives = vec![native("linux/arm64", Some("tcp://arm:1234"))];
    assert!(parts(&asks(&[], natives)).is_empty());
}

#[test]
fn each_platform_goes_to_its_own_daemon_and_the_rest_to_the_ordinary_one_together() {
    let request = asks(
        &["linux/amd64", "linux/arm64/v8", "linux/s390x", "linux/386"],
        vec![
            native("linux/arm64", Some("tcp://arm:1234")),
            native("linux/s390x", None),
        ],
    );
    let ordinary = ["linux/amd64", "linux/s390x", "linux/386"].map(str::to_owned);
    assert_eq!(
        asked(&request),
        [
            (
                ORDINARY.to_owned(),
                ordinary.to_vec(),
                vec![BuiltBy::Ordinary, BuiltBy::Cross, BuiltBy::Ordinary]
            ),
            (
                "tcp://arm:1234".to_owned(),
                vec!["linux/arm64".to_owned()],
                vec![BuiltBy::Native]
            ),
        ]
    );
    assert!(parts(&request).iter().all(|part| part.request.part));
}

#[test]
fn what_one_daemon_builds_alone_is_no_part() {
    let natives = vec![native("linux/arm64", Some("tcp://arm:1234"))];
    for (platform, address) in [("linux/arm64", "tcp://arm:1234"), ("linux/amd64", ORDINARY)] {
        let all = parts(&asks(&[platform], natives.clone()));
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].request.builder_address, address);
        assert!(!all[0].request.part);
    }
}

#[test]
fn why_a_platform_is_not_built_on_its_own_daemon_is_said() {
    let request = asks(
        &["linux/arm64", "linux/s390x"],
        vec![
            native("linux/arm64", Some("tcp://arm:1234")),
            native("linux/s390x", None),
        ],
    );
    assert_eq!(
        announced(&request),
        [
            "linux/arm64: on its own daemon, Builder default-linux-arm64",
            "linux/s390x: cross-built or emulated on the ordinary daemon, as Builder default-linux-s390x is not up: no node matches its \
             nodeSelector"
        ]
    );
}

#[test]
fn progress_is_that_of_all_parts() {
    let shares = Shares::of(2);
    let of = |done, total, step: &str| Progress {
        done,
        total,
        step: step.into(),
    };
    assert_eq!(shares.progress(0, of(1, 4, "a")), of(1, 4, "a"));
    assert_eq!(shares.progress(1, of(2, 3, "b")), of(3, 7, "b"));
    assert_eq!(shares.progress(0, of(4, 4, "c")), of(6, 7, "c"));
}

/// What the failure of each part says where its daemon says this.
fn said(request: &BuildRequest, message: &str) -> Vec<String> {
    let redactor = Redactor::load(request);
    let of = |part: &Part| {
        let failed = plain(FailureReason::BuilderLost, message.into());
        part.failure(failed, request, &redactor).message
    };
    parts(request).iter().map(of).collect()
}

#[test]
fn a_failure_names_the_platform_and_begins_as_any_other() {
    let natives = vec![native("linux/arm64", Some("tcp://arm:1234"))];
    let request = asks(&["linux/amd64", "linux/arm64"], natives.clone());
    let own = "(platform linux/arm64, on Builder default-linux-arm64)";
    assert_eq!(
        said(&request, "the builder hangs"),
        [
            "the builder hangs (platform linux/amd64)".to_owned(),
            format!("the builder hangs {own}")
        ]
    );
    let named = "step failed: [linux/amd64 build 2/3] RUN make";
    assert_eq!(
        said(&request, named),
        [named.to_owned(), format!("{named} {own}")]
    );
    let alone = asks(&["linux/arm64"], natives);
    assert_eq!(said(&alone, "EOF"), [format!("EOF {own}")]);
    assert_eq!(
        crate::failure::whose(&format!("EOF {own}")),
        crate::failure::Whose::Native("default-linux-arm64")
    );
}

#[test]
fn a_failure_of_a_platform_without_its_own_daemon_says_why_it_has_none() {
    let mut request = asks(&["linux/arm64"], vec![native("linux/arm64", None)]);
    let why = "; it was built on the ordinary daemon, as Builder default-linux-arm64 is not up: no node matches its nodeSelector";
    assert_eq!(said(&request, "EOF"), [format!("EOF{why}")]);
    request.natives[0].missing = Some("x".repeat(900));
    assert!(said(&request, "EOF")[0].len() < 400);
    let both = asks(
        &["linux/amd64", "linux/arm64"],
        vec![native("linux/arm64", None)],
    );
    let why = why.replace("it was", "linux/arm64 was");
    assert_eq!(said(&both, "EOF"), [format!("EOF{why}")]);
    assert_eq!(crate::failure::whose("EOF"), crate::failure::Whose::Any);
}

#[test]
fn where_a_platform_was_built_is_entered_whatever_it_is_called() {
    let solve = PlatformSolve {
        builder: BuiltBy::Native,
        milliseconds: 7,
    };
    let platform = |name: &str| PlatformStatus {
        platform: name.into(),
        digest: "sha256:bb".into(),
        size: 1,
        solve: None,
        layers: vec![],
        contents: None,
    };
    let mut platforms = [platform("linux/arm64"), platform("linux/amd64")];
    mark(&mut platforms, &[("linux/arm64".into(), solve)]);
    assert_eq!(platforms.map(|it| it.solve), [Some(solve), None]);
}

/// A registry that keeps manifests by their digests, which stand in their paths.
async fn registry(manifests: Vec<Vec<u8>>) -> (String, Kept) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let known = manifests.into_iter().map(|it| (digest_of(&it), it));
    let kept = Kept(Arc::new(Mutex::new(known.collect())));
    let serves = kept.clone();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serves.clone().answer(socket));
        }
    });
    (host, kept)
}

#[derive(Clone)]
struct Kept(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Kept {
    async fn answer(self, mut socket: TcpStream) {
        let (mut request, mut buffer) = (vec![], [0; 4096]);
        let (head, mut body) = loop {
            let read = socket.read(&mut buffer).await.unwrap();
            request.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((head, _)) = text.split_once("\r\n\r\n") {
                break (head.to_owned(), request[head.len() + 4..].to_vec());
            }
        };
        let lower = head.to_lowercase();
        let length = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |it| it.trim().parse().unwrap());
        while body.len() < length {
            let read = socket.read(&mut buffer).await.unwrap();
            body.extend_from_slice(&buffer[..read]);
        }
        let path = head.split(' ').nth(1).unwrap();
        let digest = path.rsplit('/').next().unwrap().to_owned();
        let known = match head.starts_with("PUT ") {
            true => self.0.lock().unwrap().insert(digest, body).map(|_| vec![]),
            false => self.0.lock().unwrap().get(&digest).cloned(),
        };
        let (status, body) = match (head.starts_with("PUT "), known) {
            (true, _) => ("201 Created", vec![]),
            (false, Some(bytes)) => ("200 OK", bytes),
            (false, None) => ("404 Not Found", vec![]),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-type: {OCI_INDEX}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = socket.write_all(&[head.as_bytes(), &body].concat()).await;
    }
}

fn index(architectures: &[&str]) -> Vec<u8> {
    let entry = |architecture: &&str| {
        format!(
            "{{\"mediaType\": \"application/vnd.oci.image.manifest.v1+json\", \"digest\": \"{}\", \"size\": 7, \"platform\": \
             {{\"architecture\": \"{architecture}\", \"os\": \"linux\"}}}}",
            digest_of(architecture.as_bytes())
        )
    };
    let entries: Vec<String> = architectures.iter().map(entry).collect();
    format!(
        "{{\n  \"schemaVersion\": 2,\n  \"manifests\": [\n    {}\n  ]\n}}",
        entries.join(",\n    ")
    )
    .into_bytes()
}

/// Runs a buildctl that says it has pushed these for the platforms that it was asked for, and fails for another.
async fn built(natives: Vec<Native>) -> (Result<Made, Failure>, String, Kept, State) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let parts = [index(&["amd64", "386"]), index(&["arm64"])];
    let script = folder.path().join("buildctl");
    let text = format!(
        r#"#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in --metadata-file) file=$2 ;; --addr) at=$2 ;; platform=*) of=${{1#*=}} ;; esac
  shift
done
echo '{{"vertexes":[{{"digest":"sha256:a","name":"['"$of"' 1/1] RUN make","started":"2026-11-21T01:00:00Z","completed":"2026-11-21T01:00:02Z"}}]}}' >&2
case $of in
  linux/amd64,linux/386) digest={} ;;
  linux/arm64) digest={} ;;
  *) echo 'error: failed to solve: no such machine' >&2; exit 1 ;;
esac
echo "{{\"containerimage.digest\": \"$digest\"}}" >"$file"
echo "$at $of" >>{}
"#,
        digest_of(&parts[0]),
        digest_of(&parts[1]),
        folder.path().join("asked").display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (host, kept) = registry(parts.into()).await;
    let mut request = asks(&["linux/amd64", "linux/arm64", "linux/386"], natives);
    request.inputs.output.image = format!("{host}/team/hello");
    request.place = Place::within(folder.path(), vec![script.into()]);
    std::fs::create_dir_all(&request.place.scratch).unwrap();
    let (callback, redactor) = (Callback::start(&request), Redactor::load(&request));
    let solver = Solver {
        request: &request,
        callback: &callback,
        redactor: &redactor,
        pushing: &Pushing::default(),
        share: None,
    };
    let prepared = prepare(&request).unwrap();
    let with = (&DockerConfig::default(), &Facts::default());
    let mut state = State::default();
    let made = image(&solver, &prepared, (None, "image"), with, &mut state).await;
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap_or_default();
    (made, asked, kept, state)
}

#[tokio::test]
async fn what_several_daemons_have_pushed_is_one_index() {
    let natives = vec![native("linux/arm64", Some("tcp://arm:1234"))];
    let (made, asked, kept, state) = built(natives).await;
    let made = made.unwrap();
    let whole = index(&["amd64", "arm64", "386"]);
    assert_eq!(made.pushed.digest, digest_of(&whole));
    assert_eq!(kept.0.lock().unwrap()[&digest_of(&whole)], whole);
    let mut asked: Vec<&str> = asked.lines().collect();
    asked.sort_unstable();
    let ordinary = format!("{ORDINARY} linux/amd64,linux/386");
    assert_eq!(asked, ["tcp://arm:1234 linux/arm64", &ordinary]);
    let by: Vec<_> = made
        .solves
        .iter()
        .map(|(platform, solve)| (platform.as_str(), solve.builder))
        .collect();
    assert_eq!(
        by,
        [
            ("linux/amd64", BuiltBy::Ordinary),
            ("linux/386", BuiltBy::Ordinary),
            ("linux/arm64", BuiltBy::Native)
        ]
    );
    assert_eq!(state.steps().total, 2);
}

#[tokio::test]
async fn a_platform_that_fails_is_named_and_nothing_is_joined() {
    let natives = ["linux/arm64", "linux/386"].map(|it| native(it, Some("tcp://other:1234")));
    let (made, _, kept, _) = built(natives.into()).await;
    let failure = made.err().unwrap();
    assert!(failure.message.contains("no such machine"), "{failure:?}");
    assert!(failure.message.contains("(platform linux/"), "{failure:?}");
    assert_eq!(kept.0.lock().unwrap().len(), 2);
}
