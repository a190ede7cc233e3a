//! What is said of a Builder, from its StatefulSet and its Pod.

mod trouble;

use trouble::{CLAIM_FAILED, has_node};
pub use trouble::{ended, is_refused, said_after, why_not};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::builder::replicas;
use crate::builder::volume::claim;
use crate::imagebuild::decide::is_built;
use crate::imagebuild::outcome::waits_for_volumes;
use crate::names::{CONFIG_DIGEST, RESTARTED_AT};
use crate::pods;
use crate::pods::{Of, Question};
use crate::refusal::{Refusal, Told, Whose, Why, of_call};
use whittle_api::quantity::duration;
use whittle_api::{
    Builder, BuilderStatus, Certificates, ImageBuild, READY, RECONCILING, Reason, ReplicasStatus,
    STALLED, Sharing, clear, find, set,
};

/// What is known of a Builder's use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Builds that run on it or wait for it.
    pub wanted: usize,
    /// When it was last used, as far as anybody knows.
    pub last: Option<Timestamp>,
}

impl Use {
    /// That of a Builder with these ImageBuilds and these runners' Jobs.
    pub fn of<'a>(builds: impl Iterator<Item = &'a ImageBuild>, jobs: &[Job]) -> Self {
        let waiting = builds.filter(|build| !build.spec.suspend && !is_built(build));
        let running = jobs.iter().filter(|job| pods::is_active(job));
        Self {
            wanted: waiting.count() + running.count(),
            last: jobs.iter().filter_map(pods::last_change).max(),
        }
    }
}

impl Use {
    /// That of a Builder which this ImageBuild has to itself.
    pub fn of_one(build: &ImageBuild) -> Self {
        let status = build.status.as_ref();
        let ended = status.and_then(|status| status.completed_at.as_ref());
        let is_due = !build.spec.suspend && !is_built(build);
        Self {
            wanted: usize::from(is_due || Self::runs(build)),
            last: ended.map(|time| time.0),
        }
    }

    /// True while an attempt runs.
    pub fn runs(build: &ImageBuild) -> bool {
        let current = build
            .status
            .as_ref()
            .and_then(|status| status.current.as_ref());
        current.is_some_and(|current| current.started)
    }
}

/// Whether the daemon is to be up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Up; the time after which it may go to sleep, where it ever may.
    Awake(Option<SignedDuration>),
    /// Nothing has been built for `idleTimeout`.
    Asleep,
}

/// Whether the daemon is to be up, given whether it sleeps, its use, and when its Pod started. One that sleeps is woken
/// by a build alone.
pub fn rest(
    builder: &Builder,
    sleeps: bool,
    used: &Use,
    pod_started: Option<Timestamp>,
    now: Timestamp,
) -> Rest {
    let idle = duration(&builder.spec.idle_timeout);
    if idle.is_zero() {
        return Rest::Awake(None);
    }
    if used.wanted > 0 {
        return Rest::Awake(Some(idle));
    }
    if sleeps {
        return Rest::Asleep;
    }
    let made = builder.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let Some(last) = [used.last, pod_started, made].into_iter().flatten().max() else {
        return Rest::Awake(Some(idle));
    };
    let left = idle - now.duration_since(last);
    if left.is_positive() {
        // Not to the second: nobody waits for it.
        Rest::Awake(Some(left + SignedDuration::from_secs(1)))
    } else {
        Rest::Asleep
    }
}

/// The daemon sleeps: it is well, and its volume stays.
pub fn say_idle(status: &mut BuilderStatus, builder: &Builder, now: Timestamp) {
    status.observed_generation = builder.metadata.generation;
    let message = format!(
        "idle: nothing was built for {}: the builder sleeps, its cache is kept, and the next \
            build wakes it",
        builder.spec.idle_timeout
    );
    put(
        status,
        builder,
        READY,
        Some(true),
        (Reason::Idle, &message),
        now,
    );
    clear(&mut status.conditions, RECONCILING);
    clear(&mut status.conditions, STALLED);
}

/// The builds that name it have Builders of their own: it has no daemon, and is well.
pub fn say_each_has_its_own(status: &mut BuilderStatus, builder: &Builder, now: Timestamp) {
    status.observed_generation = builder.metadata.generation;
    let whose = match builder.spec.sharing {
        Sharing::Build => "build",
        _ => "ImageBuild",
    };
    let message = format!("each {whose} has a Builder of its own (spec.sharing)");
    put(
        status,
        builder,
        READY,
        Some(true),
        (Reason::Ready, &message),
        now,
    );
    clear(&mut status.conditions, RECONCILING);
    clear(&mut status.conditions, STALLED);
}

/// What was read of a Builder's daemon.
pub struct Daemon<'a> {
    /// Its StatefulSet.
    pub set: &'a StatefulSet,
    /// Its Pod; of several replicas that which tells the most.
    pub pod: Option<&'a Pod>,
    /// The replica that it is.
    pub replica: i32,
    /// The replicas, where there may be several.
    pub replicas: Option<&'a ReplicasStatus>,
    /// Events of the StatefulSet, of the Pod and of its claim, newest first, while it is not up.
    pub events: &'a [Told],
    /// Why its volume is smaller than the spec says, where it is.
    pub too_small: Option<&'a str>,
}

/// Which events say why a daemon is not up: those of its StatefulSet's controller, of what makes volumes, of its node.
/// None where its Pod says enough.
pub fn question(
    builder: &Builder,
    set: &StatefulSet,
    (replica, pod): (i32, Option<&Pod>),
) -> Option<Question> {
    let Some(pod) = pod else {
        return Some(Question::not_made(set));
    };
    if !has_node(pod) {
        // Its claim is not read: nothing but its events is needed of it.
        return Some(Question {
            of: Of::Named("PersistentVolumeClaim", claim(&builder.name_any(), replica)),
            reasons: &CLAIM_FAILED,
        });
    }
    waits_for_volumes(pod).then(|| Question::not_started(pod))
}

/// Begins the digest of a Builder's Secrets: the version of their files, of which 2 brought the key that git
/// credentials are sealed with. It is no field of its own: one that an older CRD drops would make them due for ever.
pub const CERTIFICATES_VERSION: &str = "v2 ";

/// True where these certificates are to be made anew: of age, of another authority, or without what this version needs.
pub fn are_due(known: &Certificates, authority: &str, now: Timestamp) -> bool {
    known.authority != authority
        || !known.digest.starts_with(CERTIFICATES_VERSION)
        || now >= known.renew_at.0
}

/// True where a Builder's Secrets have all files that runners of this version mount, as far as its status tells.
pub fn has_certificates(builder: &Builder) -> bool {
    let status = builder.status.as_ref();
    let known = status.and_then(|status| status.certificates.as_ref());
    known.is_some_and(|known| known.digest.starts_with(CERTIFICATES_VERSION))
}

/// True where applying `wanted` would restart the daemon.
pub fn would_restart(existing: &StatefulSet, wanted: &StatefulSet) -> bool {
    fn starts_with(set: &StatefulSet) -> [Option<&String>; 2] {
        let template = set.spec.as_ref().map(|spec| &spec.template);
        let metadata = template.and_then(|template| template.metadata.as_ref());
        let all = metadata.and_then(|metadata| metadata.annotations.as_ref());
        [CONFIG_DIGEST, RESTARTED_AT].map(|name| all.and_then(|all| all.get(name)))
    }
    starts_with(existing) != starts_with(wanted)
}

fn put(
    status: &mut BuilderStatus,
    builder: &Builder,
    kind: &'static str,
    to: Option<bool>,
    why: (Reason, &str),
    now: Timestamp,
) {
    if kind == READY {
        status.state = Some(why.0);
    }
    let generation = builder.metadata.generation;
    set(&mut status.conditions, kind, to, why, generation, now);
}

/// The daemon is not up, and waits for something that others make.
pub fn say_waiting(status: &mut BuilderStatus, builder: &Builder, message: &str, now: Timestamp) {
    status.observed_generation = builder.metadata.generation;
    let why = (Reason::Starting, message);
    put(status, builder, READY, Some(false), why, now);
    put(status, builder, RECONCILING, Some(true), why, now);
    clear(&mut status.conditions, STALLED);
}

/// A change waits for builds to end: the daemon goes on as it is, and takes builds.
pub fn say_draining(status: &mut BuilderStatus, builder: &Builder, active: usize, now: Timestamp) {
    let message =
        format!("a change that restarts the builder waits for {active} running builds to end");
    put(
        status,
        builder,
        READY,
        Some(false),
        (Reason::Draining, &message),
        now,
    );
    put(
        status,
        builder,
        RECONCILING,
        Some(true),
        (Reason::Draining, &message),
        now,
    );
    clear(&mut status.conditions, STALLED);
}

/// The API server refuses an object of the Builder. What is wrong in itself waits for another spec; the rest is tried
/// again, and goes on by itself. A daemon that is up as this spec wants it goes on taking builds: `set` is the
/// StatefulSet that stands.
pub fn say_refused(
    status: &mut BuilderStatus,
    builder: &Builder,
    set: Option<&StatefulSet>,
    refusal: &Refusal,
    now: Timestamp,
) {
    let up = set.is_some_and(is_ready) && crate::imagebuild::decide::is_ready(builder);
    status.observed_generation = builder.metadata.generation;
    let name = builder.name_any();
    let namespace = builder.namespace().unwrap_or_default();
    let invalid = refusal.why == Why::Invalid;
    let message = if invalid && refusal.words.contains("updates to statefulset spec") {
        format!(
            "{} is rejected: a volume's class is immutable, and its size can only grow; delete the \
                Builder (and with it its cache) and create it again: kubectl delete builder \
                {name} -n {namespace}. The API server says: {}",
            refusal.what, refusal.words
        )
    } else {
        let whose = crate::platforms::whose(builder);
        of_call(refusal, &namespace, Whose::Builder(&whose))
    };
    let why = (refusal.why.reason(), message.as_str());
    if !up {
        put(status, builder, READY, Some(false), why, now);
    }
    if invalid {
        put(status, builder, STALLED, Some(true), why, now);
        clear(&mut status.conditions, RECONCILING);
    } else {
        put(status, builder, RECONCILING, Some(true), why, now);
        clear(&mut status.conditions, STALLED);
    }
}

/// Since when the daemon is not up.
pub fn since(status: &BuilderStatus, now: Timestamp) -> Timestamp {
    find(&status.conditions, READY)
        .filter(|c| c.status != "True")
        .map_or(now, |c| c.last_transition_time.0)
}

/// Says how the daemon is; true where it takes builds.
pub fn say(status: &mut BuilderStatus, builder: &Builder, daemon: &Daemon, now: Timestamp) -> bool {
    status.observed_generation = builder.metadata.generation;
    if takes_builds(daemon) {
        let mut message = "the builder accepts builds".to_owned();
        if let Some(replicas) = daemon.replicas {
            message += &replicas::words(replicas);
            if replicas.ready < replicas.desired {
                let (_, why) = trouble::why_not(builder, daemon, now, now);
                message += &format!("; replica {}: {why}", daemon.replica);
            }
        }
        if let Some(why) = daemon.too_small {
            message += &format!("; {why}");
        }
        let why = (Reason::Ready, message.as_str());
        put(status, builder, READY, Some(true), why, now);
        clear(&mut status.conditions, RECONCILING);
        clear(&mut status.conditions, STALLED);
        return true;
    }
    let (reason, message) = trouble::why_not(builder, daemon, since(status, now), now);
    let why = (reason, message.as_str());
    put(status, builder, READY, Some(false), why, now);
    put(status, builder, RECONCILING, Some(true), why, now);
    clear(&mut status.conditions, STALLED);
    false
}

/// How far a StatefulSet is: what is looked at, and what wakes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rollout {
    generation: Option<i64>,
    observed: Option<i64>,
    ready: i32,
    updated: i32,
}

impl Rollout {
    /// That of a StatefulSet.
    pub fn of(set: &StatefulSet) -> Self {
        let status = set.status.as_ref();
        Self {
            generation: set.metadata.generation,
            observed: status.and_then(|status| status.observed_generation),
            ready: status.and_then(|s| s.ready_replicas).unwrap_or(0),
            updated: status.and_then(|s| s.updated_replicas).unwrap_or(0),
        }
    }
}

/// True where there is a daemon that takes builds.
pub fn takes_builds(daemon: &Daemon) -> bool {
    match daemon.replicas {
        Some(replicas) => replicas.ready > 0,
        None => is_ready(daemon.set),
    }
}

/// True where every replica runs the newest template and is ready.
pub fn is_ready(set: &StatefulSet) -> bool {
    let spec = set.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let rollout = Rollout::of(set);
    rollout.observed == rollout.generation && rollout.ready >= wanted && rollout.updated >= wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::objects::objects;
    use crate::fixtures;
    use k8s_openapi::api::apps::v1::StatefulSetStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::SignedDuration;

    fn set() -> StatefulSet {
        objects(&fixtures::builder(), &fixtures::settings(), "c").stateful_set
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    #[test]
    fn certificates_are_due_when_of_age_or_of_another_authority() {
        let known = Certificates {
            authority: "a".into(),
            not_after: Time(now() + SignedDuration::from_hours(48)),
            renew_at: Time(now() + SignedDuration::from_hours(24)),
            digest: format!("{CERTIFICATES_VERSION}d"),
        };
        assert!(!are_due(&known, "a", now()));
        assert!(are_due(&known, "b", now()));
        assert!(are_due(&known, "a", now() + SignedDuration::from_hours(25)));
    }

    #[test]
    fn secrets_that_an_earlier_version_wrote_are_made_anew() {
        let written = r#"{"authority": "a", "notAfter": "2100-01-01T00:00:00Z", "renewAt": "2100-01-01T00:00:00Z", "digest": "d"}"#;
        let known: Certificates = serde_json::from_str(written).unwrap();
        assert!(are_due(&known, "a", now()));
    }

    fn said(status: &mut BuilderStatus, set: &StatefulSet) -> bool {
        let daemon = Daemon {
            set,
            pod: None,
            replica: 0,
            replicas: None,
            events: &[],
            too_small: None,
        };
        say(status, &fixtures::builder(), &daemon, now())
    }

    #[test]
    fn a_daemon_of_an_older_template_is_not_ready() {
        let mut set = set();
        set.status = Some(StatefulSetStatus {
            replicas: 1,
            ready_replicas: Some(1),
            updated_replicas: Some(0),
            ..Default::default()
        });
        let mut status = BuilderStatus::default();
        assert!(!said(&mut status, &set));
        set.status.as_mut().unwrap().updated_replicas = Some(1);
        assert!(said(&mut status, &set));
        assert!(whittle_api::is_true(&status.conditions, READY));
    }

    #[test]
    fn other_certificates_would_restart_the_daemon_and_the_same_would_not() {
        let other = objects(&fixtures::builder(), &fixtures::settings(), "other").stateful_set;
        assert!(would_restart(&set(), &other));
        assert!(!would_restart(&set(), &set()));
    }

    #[test]
    fn another_node_would_restart_the_daemon() {
        let mut builder = fixtures::builder();
        builder
            .spec
            .node_selector
            .insert("disk".into(), "fast".into());
        let moved = objects(&builder, &fixtures::settings(), "c").stateful_set;
        assert!(would_restart(&set(), &moved));
    }

    #[test]
    fn a_daemon_sleeps_once_nothing_was_built_for_its_time_and_nothing_waits() {
        let mut builder = fixtures::builder();
        builder.spec.idle_timeout = "10m".into();
        let ago = |minutes| Some(now() - SignedDuration::from_mins(minutes));
        let used = |wanted, last| Use { wanted, last };
        assert_eq!(
            rest(&builder, false, &used(0, ago(11)), ago(20), now()),
            Rest::Asleep
        );
        for (used, started) in [
            (used(1, ago(11)), ago(20)),
            (used(0, ago(9)), ago(20)),
            (used(0, ago(11)), ago(9)),
        ] {
            let rest = rest(&builder, false, &used, started, now());
            assert!(matches!(rest, Rest::Awake(Some(_))), "{used:?}");
        }
        assert_eq!(
            rest(&builder, false, &used(0, ago(9)), None, now()),
            Rest::Awake(Some(SignedDuration::from_secs(61)))
        );
        assert_eq!(
            rest(&builder, true, &used(0, ago(9)), None, now()),
            Rest::Asleep
        );
        assert!(matches!(
            rest(&builder, true, &used(1, None), None, now()),
            Rest::Awake(_)
        ));
        builder.spec.idle_timeout = "0s".into();
        assert_eq!(
            rest(&builder, false, &used(0, None), None, now()),
            Rest::Awake(None)
        );
    }

    #[test]
    fn builds_that_wait_and_jobs_that_run_want_their_builder_up() {
        let mut builds = [(); 3].map(|()| fixtures::inline());
        builds[1].spec.suspend = true;
        builds[2].metadata.deletion_timestamp = Some(Time(now()));
        let job = |status: serde_json::Value| -> Job {
            let made = serde_json::json!({"creationTimestamp": "1970-01-01T00:00:05Z"});
            serde_json::from_value(serde_json::json!({"metadata": made, "status": status})).unwrap()
        };
        let ended = serde_json::json!({"completionTime": "1970-01-01T00:00:09Z"});
        let jobs = [job(serde_json::json!({})), job(ended)];
        let used = Use::of(builds.iter(), &jobs);
        assert_eq!(used.wanted, 2);
        assert_eq!(used.last, Some(Timestamp::from_second(9).unwrap()));
        assert_eq!(Use::of([].iter(), &[]), Use::default());
    }

    #[test]
    fn who_knows_why_a_daemon_is_not_up_depends_on_how_far_its_pod_is() {
        let (builder, mut set) = (fixtures::builder(), set());
        set.metadata.uid = Some("s".into());
        let asked = |pod: Option<&Pod>| question(&builder, &set, (0, pod));
        let not_made = asked(None).unwrap();
        assert_eq!(not_made.of, Of::Uid("s".into()));
        assert_eq!(not_made.reasons, ["FailedCreate"]);
        let mut pod = Pod::default();
        let claim = asked(Some(&pod)).unwrap();
        let name = format!("cache-{}-0", crate::names::builder("default"));
        assert_eq!(claim.of, Of::Named("PersistentVolumeClaim", name));
        assert_eq!(claim.reasons, CLAIM_FAILED);
        pod.spec.get_or_insert_default().node_name = Some("node".into());
        assert_eq!(asked(Some(&pod)), None);
        pod.metadata.uid = Some("p".into());
        pod.status = Some(serde_json::from_value(serde_json::json!({"phase": "Pending"})).unwrap());
        assert_eq!(asked(Some(&pod)).unwrap().of, Of::Uid("p".into()));
    }

    #[test]
    fn a_builder_that_sleeps_is_well_but_takes_no_builds() {
        let (mut builder, mut status) = (fixtures::builder(), BuilderStatus::default());
        say_idle(&mut status, &builder, now());
        assert!(whittle_api::is_true(&status.conditions, READY));
        builder.status = Some(status);
        assert!(!crate::imagebuild::decide::is_ready(&builder));
    }
}
