//! What the controller keeps of the objects that it watches or lists: their authors may make them as large as the API
//! server lets them, and there may be many. A reconcile reads the object itself, live.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};

use super::decide;
use crate::builder::anew::hang;
use crate::{platforms, sharing};
use whittle_api::{
    Builder, BuilderSpec, CANCEL, Compression, ImageBuild, ImageBuildSpec, ImageBuildStatus,
    Output, PRUNE, PlatformDaemon, READY, REQUESTED_AT, ROLLBACK, Source, Stage, bounded,
};
use whittle_build::inputs::{self, Inputs};
use whittle_image::digest_of;

/// Objects of a page of ImageBuilds and Builders that is listed for a watch: each may have 1.5 MiB.
pub const PAGE: u32 = 4;

/// Leaves of an ImageBuild what wakes a reconcile, and its place in the queue. It is settled where the whole one is:
/// the digest of its inputs goes with them.
pub fn image_build(build: &mut ImageBuild) {
    let known = build
        .status
        .as_ref()
        .and_then(|status| status.input.as_ref());
    let requested = inputs::requested_at(build);
    let rest = ImageBuildSpec {
        source: Source::default(),
        dockerfile: String::new(),
        target: None,
        build_args: BTreeMap::new(),
        secrets: vec![],
        platforms: vec![],
        output: Output {
            image: String::new(),
            tags: vec![],
            secret_ref: None,
            compression: Compression::default(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        },
        debug: None,
        contract: None,
        health_check: None,
        minimize: None,
        rebuild: None,
        builder_ref: build.spec.builder_ref.clone(),
        triggers: None,
        priority: build.spec.priority,
        timeout: String::new(),
        queue_timeout: build.spec.queue_timeout.take(),
        retries: 0,
        suspend: build.spec.suspend,
        history_limit: 0,
    };
    let spec = std::mem::replace(&mut build.spec, rest);
    // It takes a while for a large one, and says nothing where there is none to compare with.
    let settled = known.is_some_and(|known| *known == Inputs::new(spec, requested).digest());
    let answered = decide::rollback::asked(build).is_none();
    metadata(&mut build.metadata, &[REQUESTED_AT, CANCEL, ROLLBACK]);
    // As the annotation is shortened, so is what it is held against.
    let shortened = whittle_api::rollback_asked(build).filter(|_| answered);
    let trimmed = decide::input(build);
    if let Some(status) = &mut build.status {
        let (waiting, usual) = (status.waiting(), status.usual());
        *status = ImageBuildStatus {
            observed_generation: status.observed_generation,
            started_at: status.started_at.take(),
            completed_at: status.completed_at.take(),
            // What its builds usually take, for those that wait behind it: the history itself is not kept.
            duration_seconds: usual,
            trigger: status.trigger.take().map(|mut trigger| {
                trigger.detail.clear();
                trigger
            }),
            pending: status.pending.take().map(|mut pending| {
                pending.detail.clear();
                pending
            }),
            last_revision: status.last_revision.take(),
            schedule: status.schedule.take().map(|mut schedule| {
                schedule.of.clear();
                schedule
            }),
            current: status.current.take().map(|mut current| {
                current.message = None;
                // Its Builder is looked at for that.
                let hangs = hang();
                let failure = current.last_failure.take();
                current.last_failure = failure.filter(|it| it.starts_with(&hangs)).map(|_| hangs);
                if let Stage::Checking { pushed }
                | Stage::Minimizing { pushed }
                | Stage::Tagging { pushed } = &mut current.stage
                {
                    pushed.clear();
                }
                current.progress = None;
                current.since = current.since.take().filter(|_| current.started);
                current.waiting = waiting;
                current
            }),
            // Nor where something else is asked for.
            rollback: status.rollback.take().map(|mut rollback| {
                rollback.message.clear();
                if let Some(shortened) = shortened {
                    rollback.request = shortened;
                }
                rollback
            }),
            // Nor before what is fetched was.
            fetch: status.fetch.take().map(|mut fetch| {
                fetch.last_failure = None;
                fetch
            }),
            input: settled.then_some(trimmed),
            // It is not settled before its record was seen.
            early: status.early.take().map(|mut early| {
                early.before.clear();
                early
            }),
            ..ImageBuildStatus::default()
        };
    }
}

/// Leaves of a Builder whether it is ready, or asleep, and how many builds it takes.
pub fn builder(builder: &mut Builder) {
    // Whose it is, where an ImageBuild has it to itself, or a Builder for a platform.
    let owned = sharing::is_own(builder) || platforms::parent(builder).is_some();
    let owner = owned.then(|| builder.metadata.owner_references.take());
    let labels = builder.metadata.labels.as_mut();
    let made_after = labels.and_then(|labels| labels.remove_entry(sharing::MADE_AFTER));
    metadata(&mut builder.metadata, &[PRUNE]);
    builder.metadata.owner_references = owner.flatten();
    builder.metadata.labels = made_after.map(|label| [label].into());
    builder.spec = BuilderSpec {
        sharing: builder.spec.sharing,
        standby: builder.spec.standby,
        // How many builds it takes.
        replicas: builder.spec.replicas,
        autoscale: builder.spec.autoscale,
        max_concurrent_builds: builder.spec.max_concurrent_builds,
        // Which others it wakes.
        platforms: names_of(std::mem::take(&mut builder.spec.platforms)),
        ..BuilderSpec::default()
    };
    if let Some(status) = &mut builder.status {
        status.conditions = ready(std::mem::take(&mut status.conditions));
        if let Some(cache) = &mut status.cache {
            // Its bytes are added up for metrics.
            cache.display.clear();
            cache.mounts.clear();
        }
    }
}

/// The platforms without what their daemons are like.
fn names_of(platforms: Vec<PlatformDaemon>) -> Vec<PlatformDaemon> {
    let name = |it: PlatformDaemon| PlatformDaemon {
        platform: it.platform,
        node_selector: BTreeMap::new(),
        tolerations: vec![],
        resources: None,
    };
    platforms.into_iter().map(name).collect()
}

/// Leaves of a runner's Pod whose it is, how it stands, and its limits.
pub fn pod(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    let Some(spec) = &mut pod.spec else { return };
    spec.volumes = None;
    spec.init_containers = None;
    spec.ephemeral_containers = None;
    for container in &mut spec.containers {
        container.env = None;
        container.args = None;
        container.command = None;
        container.volume_mounts = None;
    }
}

/// Leaves of a Node its addresses, and the ranges of its Pods.
pub fn node(node: &mut Node) {
    if let Some(spec) = &mut node.spec {
        let pods = spec.pod_cidrs.take();
        *spec = NodeSpec {
            pod_cidrs: pods,
            ..NodeSpec::default()
        };
    }
    if let Some(status) = &mut node.status {
        let addresses = status.addresses.take();
        *status = NodeStatus {
            addresses,
            ..NodeStatus::default()
        };
    }
}

/// The names, times and numbers, and digests of these annotations.
fn metadata(metadata: &mut ObjectMeta, annotations: &[&str]) {
    metadata.managed_fields = None;
    metadata.labels = None;
    metadata.finalizers = None;
    metadata.owner_references = None;
    let kept = metadata
        .annotations
        .take()
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| annotations.contains(&key.as_str()))
        .map(|(key, value)| (key, digest_of(value.as_bytes())))
        .collect::<BTreeMap<_, _>>();
    metadata.annotations = Some(kept).filter(|kept| !kept.is_empty());
}

/// Bytes of a message that are kept: it begins with the name of what is missing, where that is why.
const MESSAGE: usize = 320;

/// The condition Ready, with the beginning of its message.
fn ready(conditions: Vec<Condition>) -> Vec<Condition> {
    conditions
        .into_iter()
        .filter(|condition| condition.type_ == READY)
        .take(1)
        .map(|mut condition| {
            condition.message = bounded(condition.message, MESSAGE);
            condition
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use kube::ResourceExt;
    use whittle_api::Current;

    /// As large as etcd takes an object, in all places that its author can write.
    fn large() -> ImageBuild {
        let mut build = fixtures::inline();
        let text = "x".repeat(300_000);
        build.spec.build_args = [("A".to_owned(), text.clone())].into();
        build.spec.output.labels = [("a".to_owned(), text.clone())].into();
        build.metadata.labels = Some([("a".to_owned(), text.clone())].into());
        build.metadata.finalizers = Some(vec![text.clone()]);
        build.metadata.annotations = Some(
            [
                ("other".to_owned(), text.clone()),
                (REQUESTED_AT.to_owned(), text),
            ]
            .into(),
        );
        build
    }

    fn size(build: &ImageBuild) -> usize {
        serde_json::to_vec(build).unwrap().len()
    }

    #[test]
    fn what_is_kept_of_a_large_image_build_is_small() {
        let mut build = large();
        assert!(size(&build) > 1_400_000);
        image_build(&mut build);
        assert!(size(&build) < 1000, "{}", size(&build));
    }

    #[test]
    fn it_is_settled_where_the_whole_one_is_and_wakes_for_the_same_changes() {
        let mut settled = large();
        settled.metadata.generation = Some(3);
        settled.status = Some(ImageBuildStatus {
            observed_generation: Some(3),
            input: Some(decide::input(&settled)),
            ..ImageBuildStatus::default()
        });
        let mut changed = settled.clone();
        changed.spec.build_args.clear();
        let mut again = settled.clone();
        again
            .metadata
            .annotations
            .as_mut()
            .unwrap()
            .insert(REQUESTED_AT.into(), "now".into());
        let mut running = settled.clone();
        running.status.as_mut().unwrap().current = Some(Current {
            replica: None,
            last_replica: None,
            attempt: 1,
            job: "j".into(),
            generation: 3,
            message: Some("m".into()),
            retry_at: None,
            last_failure: None,
            since: None,
            started: false,
            waiting: None,
            progress: None,
            waiting_since: None,
            standby: None,
            stage: Stage::Checking { pushed: "p".into() },
        });
        for (whole, expected) in [
            (&settled, true),
            (&changed, false),
            (&again, false),
            (&running, false),
        ] {
            let mut brief = whole.clone();
            image_build(&mut brief);
            assert_eq!(decide::is_settled(whole), expected);
            assert_eq!(decide::is_settled(&brief), expected);
            let pushed = |build: &ImageBuild| {
                let current = build.status.as_ref()?.current.as_ref()?;
                Some(current.stage.pushed().is_some())
            };
            assert_eq!(pushed(&brief), pushed(whole));
        }
        let requested = |build: &ImageBuild| {
            let mut brief = build.clone();
            image_build(&mut brief);
            brief.metadata.annotations.unwrap()[REQUESTED_AT].clone()
        };
        assert_ne!(requested(&settled), requested(&again));
    }

    #[test]
    fn its_place_in_the_queue_is_that_of_the_whole_one() {
        use std::collections::BTreeSet;
        let mut other = large();
        other.metadata.uid = Some("other".into());
        let mut brief = other.clone();
        image_build(&mut brief);
        let mine = fixtures::inline();
        for active in [BTreeSet::new(), BTreeSet::from(["other".to_owned()])] {
            let running = decide::Runners {
                started: active.clone(),
                active,
            };
            assert_eq!(
                decide::Queue::of(&mine, &[brief.clone()], &running, false),
                decide::Queue::of(&mine, &[other.clone()], &running, false)
            );
        }
    }

    #[test]
    fn whom_a_builder_serves_is_kept() {
        let mut named = fixtures::builder();
        named.spec.sharing = whittle_api::Sharing::ImageBuild;
        let mut own = sharing::own(&fixtures::inline(), &named, "a-1").unwrap();
        let before = sharing::owner(&own).map(|(name, uid)| (name.to_owned(), uid.to_owned()));
        builder(&mut own);
        builder(&mut named);
        assert!(sharing::is_own(&own) && before.is_some());
        assert_eq!(
            sharing::owner(&own).map(|(name, uid)| (name.to_owned(), uid.to_owned())),
            before
        );
        assert!(!sharing::has_daemon(&named));
    }

    #[test]
    fn which_builders_are_the_daemons_of_its_platforms_is_kept() {
        let mut named = fixtures::builder();
        let large = serde_json::json!([{"platform": "linux/arm64", "nodeSelector": {"a": "b"}}]);
        named.spec.platforms = serde_json::from_value(large).unwrap();
        let mut daemon = platforms::wanted(&named).remove(0).1;
        builder(&mut daemon);
        builder(&mut named);
        assert!(named.spec.platforms[0].node_selector.is_empty());
        assert!(platforms::names(&named).eq([daemon.name_any()]));
        let parent = platforms::parent(&daemon).map(|(name, _)| name);
        assert_eq!(parent, Some("default"));
    }
}
