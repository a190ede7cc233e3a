//! Builders that have daemons for platforms: one image on several of them, and a platform whose daemon has no node.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use whittle_api::{Builder, BuiltBy, ImageBuildStatus, PlatformDaemonStatus};

use crate::field::{Field, registry};
use crate::registry::{blob, manifest};

/// Comes out the same wherever and whenever it is built.
const SAME: &str = "FROM scratch\nARG TARGETARCH\nENV OF=$TARGETARCH\nLABEL a=b\nUSER 65532\n";

/// A Builder with these daemons for platforms.
async fn builder(field: &Field, name: &str, platforms: Value) {
    let small = json!({"requests": {"cpu": "50m", "memory": "64Mi"}});
    field
        .create(json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": name}, "spec": {
            "platforms": platforms, "cache": {"size": "1Gi"}, "resources": small,
            "registries": [{"host": registry(), "plainHTTP": true}, {"host": "docker.io", "mirrors": [registry()]}]}}))
        .await;
}

/// The same node for each of them: the cluster has one.
fn here(platforms: &[&str]) -> Value {
    let here = json!({"kubernetes.io/os": "linux"});
    let all = platforms.iter();
    all.map(|it| json!({"platform": it, "nodeSelector": here}))
        .collect()
}

/// For both platforms, on this Builder.
fn both(builder: &str) -> Value {
    json!({"platforms": ["linux/amd64", "linux/arm64"], "builderRef": {"name": builder},
        "buildArgs": {"SOURCE_DATE_EPOCH": "1700000000"}, "output": {"annotations": {"note": "<x&y>"}}})
}

/// What a Builder says of its daemons for platforms, once that is so.
async fn daemons(
    field: &Field,
    what: &str,
    is: impl Fn(&[PlatformDaemonStatus]) -> bool,
) -> Vec<PlatformDaemonStatus> {
    let builders = field.api::<Builder>();
    let said = async || {
        let status = builders.get("default").await.unwrap().status?;
        status.platforms.filter(|all| is(all))
    };
    field.until(what, said).await
}

fn built_by(status: &ImageBuildStatus) -> Vec<Option<BuiltBy>> {
    let all = status.platforms.iter();
    all.map(|it| it.solve.map(|solve| solve.builder)).collect()
}

#[tokio::test]
async fn an_image_of_two_daemons_is_that_of_one_digest_for_digest() {
    let field = Field::new("native").await;
    builder(&field, "plain", json!([])).await;
    builder(&field, "default", here(&["linux/amd64", "linux/arm64"])).await;
    daemons(&field, "both daemons take builds", |all| {
        all.len() == 2 && all.iter().all(|it| it.ready)
    })
    .await;
    let files = json!({"Dockerfile": SAME});
    field.build("one", files.clone(), both("plain")).await;
    field.build("several", files, both("default")).await;
    let (one, several) = (field.succeeds("one").await, field.succeeds("several").await);
    assert_eq!(several.digest, one.digest);
    let digests = |status: &ImageBuildStatus| -> Vec<(String, String)> {
        let all = status.platforms.iter();
        all.map(|it| (it.platform.clone(), it.digest.clone()))
            .collect()
    };
    assert_eq!(digests(&several), digests(&one));
    assert_eq!(built_by(&one), [None, None]);
    assert_eq!(built_by(&several), [Some(BuiltBy::Native); 2]);
    for platform in &several.platforms {
        assert!(platform.solve.unwrap().milliseconds > 0, "{platform:?}");
    }
    let tag = manifest(&field.image("several"), "latest").await.0;
    assert_eq!(Some(tag), several.digest);
    let pods = ListParams::default().labels("whittle.dev/component=builder");
    let pods = field.api::<Pod>().list(&pods).await.unwrap();
    let mut pods: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
    pods.sort();
    assert_eq!(
        pods,
        [
            "whittle-builder-default-0",
            "whittle-builder-default-linux-amd64-0",
            "whittle-builder-default-linux-arm64-0",
            "whittle-builder-plain-0"
        ]
    );

    // With a layer of its own, and a step that runs: each platform has its file, and the log says whose lines are whose.
    let files = json!({"Dockerfile": "FROM --platform=$BUILDPLATFORM busybox:1.36 AS made\nARG TARGETARCH\nRUN echo of-$TARGETARCH | tee /a\n\
        FROM scratch\nCOPY --from=made /a /a\n"});
    field.build("layers", files, both("default")).await;
    let status = field.succeeds("layers").await;
    let image = field.image("layers");
    for platform in &status.platforms {
        let (_, found) = manifest(&image, &platform.digest).await;
        let config = blob(&image, found["config"]["digest"].as_str().unwrap()).await;
        let config: Value = serde_json::from_slice(&config).unwrap();
        let architecture = config["architecture"].as_str().unwrap();
        assert_eq!(format!("linux/{architecture}"), platform.platform);
    }
    let runner = field.runner("layers", "Succeeded").await;
    let log = field.log(&runner.name_any()).await;
    for platform in ["amd64", "arm64"] {
        let line = format!(" of-{platform}");
        let mut lines = log.lines().filter(|it| it.ends_with(&line));
        let first = lines.next().unwrap_or_else(|| panic!("{log}"));
        assert!(first.starts_with(&format!("linux/{platform} #")), "{first}");
    }

    // A failure names the platform.
    let files = json!({"Dockerfile": "FROM --platform=$BUILDPLATFORM busybox:1.36\nARG TARGETARCH\nRUN [ $TARGETARCH = amd64 ] && sleep 600\n"});
    field.build("fails", files, both("default")).await;
    let failure = field
        .fails("fails", whittle_api::FailureReason::StepFailed)
        .await;
    assert!(failure.message.contains("linux/arm64"), "{failure:?}");

    // One that is named no more goes, and its platform is the ordinary daemon's.
    let patch = Patch::Merge(json!({"spec": {"platforms": here(&["linux/arm64"])}}));
    let builders = field.api::<Builder>();
    let params = PatchParams::default();
    builders.patch("default", &params, &patch).await.unwrap();
    field
        .until("the daemon of linux/amd64 is gone", async || {
            let gone = builders.get_opt("default-linux-amd64").await.unwrap();
            gone.is_none().then_some(())
        })
        .await;
    field
        .build("rest", json!({"Dockerfile": SAME}), both("default"))
        .await;
    let status = field.succeeds("rest").await;
    let by = [Some(BuiltBy::Ordinary), Some(BuiltBy::Native)];
    assert_eq!((built_by(&status), status.digest), (by.into(), one.digest));
    field.close().await;
}

#[tokio::test]
async fn a_platform_whose_daemon_has_no_node_is_built_on_the_ordinary_one_and_status_says_so() {
    let field = Field::new("no-node").await;
    let nowhere = json!([{"platform": "linux/arm64", "nodeSelector": {"example.com/pool": "arm"}}]);
    builder(&field, "default", nowhere).await;
    field
        .build("cross", json!({"Dockerfile": SAME}), both("default"))
        .await;
    let waits = field.ready("cross", "Unknown", "Queued").await;
    let waits = whittle_api::find(&waits.conditions, whittle_api::READY).unwrap();
    assert!(waits.message.contains("linux/arm64"), "{waits:?}");
    let status = field.succeeds("cross").await;
    let by = [Some(BuiltBy::Ordinary), Some(BuiltBy::Cross)];
    assert_eq!(built_by(&status), by);
    let said = daemons(&field, "it is said why", |all| {
        all.iter().any(|it| !it.ready && it.message.is_some())
    })
    .await;
    assert!(
        said[0].message.as_ref().unwrap().contains("node"),
        "{said:?}"
    );
    // Nobody waits for it again.
    field
        .build("again", json!({"Dockerfile": SAME}), both("default"))
        .await;
    let again = field.succeeds("again").await;
    assert_eq!(built_by(&again), by);
    assert!(again.queued_seconds.unwrap_or(0) < 30, "{again:?}");
    let runner = field.runner("again", "Succeeded").await;
    let log = field.log(&runner.name_any()).await;
    assert!(
        log.contains("linux/arm64: cross-built or emulated"),
        "{log}"
    );
    field.close().await;
}
