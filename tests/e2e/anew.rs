//! A daemon begins anew: without its cache, where that is broken or somebody asks; in another process, where it hangs.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use whittle_api::{Builder, Emptied, ImageBuild, IsolationMode, Sharing, find};

use crate::faults::{arguments_of, processes_of};
use crate::field::Field;

const BUILDER: &str = "whittle-builder-default";
const POD: &str = "whittle-builder-default-0";

async fn patch(field: &Field, patch: Value) {
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let builders = field.api::<Builder>();
    builders.patch("default", &params, &patch).await.unwrap();
}

async fn status(field: &Field) -> Option<whittle_api::BuilderStatus> {
    field.api::<Builder>().get("default").await.unwrap().status
}

async fn emptied(field: &Field) -> Emptied {
    let look = async || status(field).await?.emptied;
    field
        .until("the Builder says that its cache was thrown away", look)
        .await
}

async fn pod(field: &Field) -> Option<Pod> {
    field.api::<Pod>().get_opt(POD).await.unwrap()
}

/// It sleeps, and its Pod is gone.
async fn sleeps(field: &Field) {
    patch(field, json!({"spec": {"idleTimeout": "1s"}})).await;
    let asleep = async || {
        let ready = find(&status(field).await?.conditions, "Ready")?
            .reason
            .clone();
        (ready == "Idle" && pod(field).await.is_none()).then_some(())
    };
    field.until("the builder sleeps", asleep).await;
}

/// A step that says what it finds in its cache mount, and leaves something there.
fn counts(line: &str) -> Value {
    let run = "RUN --mount=type=cache,target=/seen ls /seen | wc -l > /found && touch /seen/a";
    json!({"Dockerfile": format!("FROM busybox:1.36\n{run}\nRUN echo {line} && test -f /found\n")})
}

/// What stands in the Builder's volume, on the node.
async fn volume(field: &Field) -> PathBuf {
    let claims = field.api::<PersistentVolumeClaim>();
    let claim = claims.get(&format!("cache-{POD}")).await.unwrap();
    let volumes = Api::<PersistentVolume>::all(field.client.clone());
    let name = claim.spec.unwrap().volume_name.unwrap();
    let volume = volumes.get(&name).await.unwrap();
    volume.spec.unwrap().local.unwrap().path.into()
}

#[tokio::test]
async fn a_cache_is_thrown_away_once_when_somebody_asks_and_builds_go_on() {
    let field = Field::new("prune").await;
    field.build("hello", counts("first"), json!({})).await;
    field.succeeds("hello").await;
    let before = pod(&field).await.unwrap().uid();
    patch(
        &field,
        json!({"metadata": {"annotations": {"whittle.dev/prune": "first"}}}),
    )
    .await;
    let told = emptied(&field).await;
    assert!(
        told.message.contains("whittle.dev/prune"),
        "{}",
        told.message
    );
    assert_ne!(pod(&field).await.unwrap().uid(), before);
    let root = volume(&field).await.join("userns");
    assert!(root.join("whittle-emptied").exists(), "{}", root.display());
    let old = async || {
        let names = std::fs::read_dir(&root).unwrap().flatten();
        let old = names.filter(|it| it.file_name().to_string_lossy().ends_with(".whittle-old"));
        (old.count() == 0).then_some(())
    };
    field.until("what was thrown away is deleted", old).await;
    field.build("hello", counts("second"), json!({})).await;
    let steps = field.succeeds_again("hello", 2).await.steps.unwrap();
    assert_eq!(steps.cached, 0, "{steps:?}");

    // It is not thrown away again when the daemon starts anew.
    sleeps(&field).await;
    field.build("hello", counts("third"), json!({})).await;
    let steps = field.succeeds_again("hello", 3).await.steps.unwrap();
    assert!(steps.cached > 0, "{steps:?}");
    assert_eq!(emptied(&field).await, told);
    // Who asks while it sleeps need not wait for a build.
    sleeps(&field).await;
    patch(
        &field,
        json!({"metadata": {"annotations": {"whittle.dev/prune": "second"}}}),
    )
    .await;
    let again = async || (emptied(&field).await != told).then_some(());
    field.until("it is thrown away again", again).await;
    field.close().await;
}

#[tokio::test]
async fn a_cache_that_is_broken_is_thrown_away_and_told_and_the_next_build_succeeds() {
    let field = Field::new("broken").await;
    field.build("hello", counts("first"), json!({})).await;
    field.succeeds("hello").await;
    sleeps(&field).await;
    let root = volume(&field).await.join("userns");
    let database = root.join("runc-overlayfs/metadata_v2.db");
    // In the middle of the first page after its head.
    let file = std::fs::File::options()
        .write(true)
        .open(&database)
        .unwrap();
    file.set_len(9000).unwrap();
    field.build("hello", counts("second"), json!({})).await;
    let built = field.succeeds_again("hello", 2).await;
    assert_eq!(built.history.len(), 2);
    assert_eq!(field.jobs("hello").await.len(), 2, "no attempt was lost");
    let told = emptied(&field).await.message;
    assert!(
        told.contains("runc-overlayfs/metadata_v2.db is broken"),
        "{told}"
    );
    let warned = async || {
        let events = field
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .unwrap();
        let mut own = events
            .into_iter()
            .filter(|it| it.reason.as_deref() == Some("CacheEmptied"));
        own.next()
            .filter(|it| it.type_.as_deref() == Some("Warning"))
    };
    field.until("an Event warns of it", warned).await;

    // One of which BuildKit would make another costs no cache, also where it would end by a signal.
    sleeps(&field).await;
    let history = root.join("history.db");
    let file = std::fs::File::options().write(true).open(&history).unwrap();
    file.set_len(9000).unwrap();
    field.build("hello", counts("third"), json!({})).await;
    let steps = field.succeeds_again("hello", 3).await.steps.unwrap();
    assert!(steps.cached > 0, "{steps:?}");
    assert_eq!(emptied(&field).await.message, told);
    field.close().await;
}

#[tokio::test]
async fn a_daemon_that_hangs_is_found_by_its_build_and_started_anew() {
    let mut field = Field::new("hangs").await;
    field.patience *= 2;
    let slow = json!({"Dockerfile": "FROM busybox:1.36\nRUN sleep 20\n"});
    field.build("hello", slow, json!({"retries": 1})).await;
    field.step_runs("hello", "RUN sleep").await;
    let hung = pod(&field).await.unwrap();
    let mut daemons = processes_of(&hung.uid().unwrap());
    daemons.retain(|it| arguments_of(*it).next().as_deref() == Some("buildkitd"));
    assert!(!daemons.is_empty(), "its processes are found");
    for daemon in &daemons {
        let stopped = Command::new("kill")
            .args(["-STOP", &daemon.to_string()])
            .status()
            .unwrap();
        assert!(stopped.success());
    }
    let found = async || {
        let status = field
            .api::<ImageBuild>()
            .get("hello")
            .await
            .unwrap()
            .status?;
        status
            .current?
            .last_failure
            .filter(|it| it.contains("the builder hangs"))
    };
    field.until("the build finds that it hangs", found).await;
    let status = field.succeeds("hello").await;
    assert_eq!(status.history.len(), 1);
    assert_eq!(field.jobs("hello").await.len(), 2);
    assert_ne!(pod(&field).await.unwrap().uid(), hung.uid());
    field.close().await;
}

#[tokio::test]
async fn a_volume_grows_with_the_size_that_the_builder_asks_for() {
    let field = Field::new("grows").await;
    field.build("hello", counts("first"), json!({})).await;
    field.succeeds("hello").await;
    patch(&field, json!({"spec": {"cache": {"size": "6Gi"}}})).await;
    let said = async || {
        let ready = find(&status(&field).await?.conditions, "Ready")?.clone();
        (ready.status == "True" && ready.message.contains("6Gi")).then_some(ready.message)
    };
    // The StorageClass of the local cluster does not allow it: the cache goes on as large as it is.
    let said = field
        .until("the Builder says why its volume stays", said)
        .await;
    assert!(said.contains("allowVolumeExpansion"), "{said}");
    field.build("hello", counts("second"), json!({})).await;
    let steps = field.succeeds_again("hello", 2).await.steps.unwrap();
    assert!(steps.cached > 0, "{steps:?}");
    assert!(
        field
            .api::<Pod>()
            .get(&format!("{BUILDER}-0"))
            .await
            .is_ok()
    );
    field.close().await;
}

/// Sets back when each record of a cache was last used: its times are nanoseconds, of as many digits before as after.
fn age(database: &Path, hours: i64) {
    const KEY: &[u8] = br#"cache.lastUsedAt{"value":"#;
    let mut bytes = std::fs::read(database).unwrap();
    let mut found = 0;
    for at in 0..bytes.len() - KEY.len() {
        if !bytes[at..].starts_with(KEY) {
            continue;
        }
        let number = &mut bytes[at + KEY.len()..];
        let end = number.iter().position(|byte| *byte == b'}').unwrap();
        let text = std::str::from_utf8(&number[..end]).unwrap();
        let then = text.parse::<i64>().unwrap() - hours * 3_600_000_000_000;
        number[..end].copy_from_slice(then.to_string().as_bytes());
        found += 1;
    }
    assert!(found > 0, "the database has times");
    std::fs::write(database, bytes).unwrap();
}

#[tokio::test]
async fn a_module_cache_of_600_mb_that_nobody_used_for_a_weekend_is_kept() {
    let field = Field::new("weekend").await;
    field
        .isolated(IsolationMode::UserNamespace, Sharing::Namespace)
        .await;
    // Its volume is the node's disk, which others fill.
    let cache = json!({"size": "2Gi", "minFree": "1%"});
    patch(&field, json!({"spec": {"cache": cache}})).await;
    let with = |run: &str| {
        let mount = "RUN --mount=type=cache,target=/go/pkg/mod";
        json!({"Dockerfile": format!("FROM busybox:1.36\n{mount} {run}\n")})
    };
    let fills = with("head -c 629145600 /dev/zero >/go/pkg/mod/all");
    field.build("hello", fills, json!({})).await;
    field.succeeds("hello").await;
    sleeps(&field).await;
    let database = "userns/runc-overlayfs/metadata_v2.db";
    age(&volume(&field).await.join(database), 72);
    patch(&field, json!({"spec": {"idleTimeout": "10m"}})).await;
    // The daemon collects garbage when it starts, and a minute after a build at the latest.
    let awake = json!({"Dockerfile": "FROM busybox:1.36\nRUN sleep 75\n"});
    field.build("hello", awake, json!({})).await;
    field.succeeds_again("hello", 2).await;
    let there = with("test $(stat -c %s /go/pkg/mod/all) = 629145600");
    field.build("hello", there, json!({})).await;
    field.succeeds_again("hello", 3).await;
    field.close().await;
}
