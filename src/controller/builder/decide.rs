//! From what was observed of one Builder to the next step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::builder::objects::{BuilderObjects, objects_in};
use crate::builder::replicas::{Load, Scaled};
use crate::builder::state::{Daemon, Rest, Use};
use crate::builder::{anew, isolation, network, platforms, replicas, state, volume};
use crate::egress::Closed;
use crate::imagebuild::{decide, outcome};
use crate::installation;
use crate::installation::Claim;
use crate::names;
use crate::outside;
use crate::placement;
use crate::platforms::Seen;
use crate::refusal;
use crate::refusal::{Refusal, Told};
use crate::settings::Settings;
use crate::sharing;
use whittle_api::quantity;
use whittle_api::{
    Builder, BuilderStatus, Certificates, ImageBuild, Isolation, IsolationMode, IsolationStatus,
    MissingKind, RECONCILING, Reason, ReplicasStatus, STALLED, find,
};
use whittle_image::digest_of;

/// Everything is looked at again after this long: certificates come of age.
pub const RESYNC: Duration = Duration::from_secs(3600);
/// What may just have changed is looked at again after this long.
pub const SOON: Duration = Duration::from_secs(5);
/// So is a Builder that waits for builds to end.
const DRAIN: Duration = Duration::from_secs(10);
/// So is one that may have more replicas than it needs, or of which some are not up.
const LULL: Duration = Duration::from_secs(60);

/// Whether this installation looks after a Builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission<'a> {
    /// It does.
    Ours,
    /// It does, and has yet to write that down: before anything else is written, as two installations would undo each
    /// other's certificates for ever.
    Claim,
    /// Another one does, by name.
    Theirs(&'a str),
    /// Nobody, until something changes: the garbage collector takes all that it owned; or the selector does not select
    /// it, and the ImageBuild that uses it first takes it.
    Nobodys,
}

/// Whether `installation` looks after `builder`, which its selector selects or not.
pub fn admit<'a>(builder: &'a Builder, installation: &str, selected: bool) -> Admission<'a> {
    if builder.metadata.deletion_timestamp.is_some() {
        return Admission::Nobodys;
    }
    match installation::claim(builder, installation) {
        Claim::Ours => Admission::Ours,
        Claim::Theirs(other) => Admission::Theirs(other),
        Claim::Nobodys if !selected => Admission::Nobodys,
        Claim::Nobodys => Admission::Claim,
    }
}

/// What was read of one Builder, and done for it since.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Builder, read live.
    pub builder: Builder,
    /// Digest of the authority that signs its certificates.
    pub authority: String,
    /// Its StatefulSet.
    pub set: Option<StatefulSet>,
    /// The Pods that this one runs; of several replicas also what just looks like one.
    pub pods: Vec<Pod>,
    /// What runs and waits, where there may be several replicas.
    pub load: Option<Load>,
    /// What runs on each of them since those that are to go get no more.
    pub running: BTreeMap<i32, usize>,
    /// What it is used for, where [`asks_for_use`].
    pub used: Option<Use>,
    /// Builds that keep it from a restart, where it [`restarts`].
    pub active: usize,
    /// Where an ImageBuild has it to itself: whom it serves.
    pub serves: Option<Serves>,
    /// Where it is the daemon of a platform: the Builder whose platform that is, as it stands.
    pub of: Option<Option<Builder>>,
    /// Its own daemons for platforms.
    pub platforms: Vec<Seen>,
    /// Builders that were such daemons, and are to go.
    pub left: Vec<Builder>,
    /// What came of [`Step::Platform`], by the names of the Builders: why not, where it was refused.
    pub told: BTreeMap<String, Option<String>>,
    /// What others say of its daemon, newest first, where [`asks_for_events`].
    pub events: Vec<Told>,
    /// A build of it waits for the certificates of its runners.
    pub wanted: bool,
    /// When a build last found its daemon to hang.
    pub hangs: Option<Timestamp>,
    /// One of its Secrets does not exist, where [`asks_for_secrets`].
    pub lost: bool,
    /// Certificates that were made after [`Step::Renew`].
    pub issued: Option<Certificates>,
    /// Its StatefulSet as the API server has it after [`Step::Apply`].
    pub applied: Option<StatefulSet>,
    /// What was said after [`Step::Enlarge`], where that was refused.
    pub enlarged: Option<Option<String>>,
    /// What its steps must not reach, where that is restricted.
    pub closed: Option<Arc<Closed>>,
    /// What the installation trusts besides the public authorities, PEM.
    pub trusted: Option<Arc<str>>,
    /// When it was looked at.
    pub now: Timestamp,
}

/// Whom a Builder serves that an ImageBuild has to itself, as they stand.
#[derive(Clone, Debug)]
pub struct Serves {
    /// The ImageBuild.
    pub build: Option<ImageBuild>,
    /// The Builder that it names.
    pub named: Option<Builder>,
}

/// What to do next. After all but the last, what was done is added to what was observed, and decided anew: so what is
/// cut off in between is begun anew from what stands in the cluster.
#[derive(Clone, Debug)]
pub enum Step {
    /// Make certificates, and write them into the Builder's Secrets: before the daemon that needs them.
    Renew,
    /// Apply these objects.
    Apply(Box<BuilderObjects>),
    /// Ask for a volume of this size.
    Enlarge(String),
    /// Write the Builder that is the daemon of a platform.
    Platform(Box<Seen>),
    /// Delete one that was.
    Leave(Box<Builder>),
    /// Delete the Builder, which nobody uses any more.
    Remove,
    /// Write the status, and look again.
    Say(Box<Say>),
}

/// What is said of a Builder, and when it is looked at again though nothing has changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Say {
    /// The status as it should stand.
    pub status: BuilderStatus,
    /// After this long.
    pub look_again: Duration,
}

impl Observed {
    /// The certificates that stand in the Secrets; none where they are to be made anew.
    fn certificates(&self) -> Option<&Certificates> {
        if let Some(of) = &self.of {
            // Whoever has them made renews them.
            let status = of.as_ref().and_then(|of| of.status.as_ref());
            return status?.certificates.as_ref();
        }
        let status = self.builder.status.as_ref();
        let known = status.and_then(|status| status.certificates.as_ref());
        self.issued.as_ref().or_else(|| {
            known.filter(|known| !self.lost && !state::are_due(known, &self.authority, self.now))
        })
    }

    /// True where there may be several replicas: by the spec, or still.
    pub fn has_several(&self) -> bool {
        let more = |set: &StatefulSet| replicas::of_set(set) > 1;
        sharing::has_daemon(&self.builder)
            && (placement::has_several(&self.builder) || self.set.as_ref().is_some_and(more))
    }

    /// The replicas' Pods.
    fn own_pods(&self) -> impl Iterator<Item = &Pod> {
        let set = self.set.as_ref().filter(|_| self.has_several());
        self.pods
            .iter()
            .filter(move |pod| set.is_none_or(|set| replicas::number(pod, set).is_some()))
    }

    /// The Pod that has run for the longest.
    fn oldest(&self) -> Option<&Pod> {
        let started = self.own_pods().filter(|pod| anew::started(pod).is_some());
        started.min_by_key(|pod| anew::started(pod))
    }

    /// The replica that is to be looked at where something is wrong, and its Pod.
    pub fn in_question(&self, set: &StatefulSet) -> (i32, Option<&Pod>) {
        if !self.has_several() {
            return (0, self.pods.first());
        }
        let replica = replicas::in_question(set, &self.pods);
        let mut pods = self.pods.iter();
        let pod = pods.find(|pod| replicas::number(pod, set) == Some(replica));
        (replica, pod)
    }

    /// How many replicas there are to be.
    pub fn scaled(&self) -> Scaled {
        let load = self.load.clone().unwrap_or_default();
        let awake = self.rest() != Rest::Asleep;
        replicas::scale(&self.builder, &load, awake, self.now)
    }

    /// What is said of the replicas of this set.
    fn replicas(&self, set: &StatefulSet) -> ReplicasStatus {
        let scaled = self.scaled();
        let status = ReplicasStatus {
            desired: scaled.desired,
            scaled_at: scaled.scaled_at,
            spare_since: scaled.spare_since,
            ..ReplicasStatus::default()
        };
        if !self.has_several() {
            let ready = set.status.as_ref().and_then(|it| it.ready_replicas);
            let up = self.rest() != Rest::Asleep && state::is_ready(set);
            return ReplicasStatus {
                ready: ready.filter(|_| up).unwrap_or(0).min(scaled.desired),
                ..status
            };
        }
        let wakes = self.sleeps() && replicas::of_set(set) > 0;
        let known = placement::each(&self.builder);
        let about = (scaled.desired, &self.running);
        let mut each = replicas::each(set, &self.pods, known, about, wakes, self.now);
        if scaled.desired == 1 && each.len() == 1 && self.builder.spec.autoscale.is_none() {
            // From now on it is like any other of one replica.
            each.clear();
            return ReplicasStatus {
                ready: i32::from(state::is_ready(set)),
                ..status
            };
        }
        ReplicasStatus {
            ready: replicas::ready(&each),
            each,
            ..status
        }
    }

    fn daemon<'a>(
        &'a self,
        set: &'a StatefulSet,
        replicas: Option<&'a ReplicasStatus>,
    ) -> Daemon<'a> {
        let (replica, pod) = self.in_question(set);
        Daemon {
            set,
            pod,
            replica,
            replicas: replicas.filter(|replicas| !replicas.each.is_empty()),
            events: &self.events,
            too_small: self.enlarged.as_ref().and_then(|said| said.as_deref()),
        }
    }

    /// Why the daemon is not up; none where it is, or is not to be.
    fn trouble(&self) -> Option<(Reason, String)> {
        let set = self.set.as_ref().filter(|set| !state::is_ready(set))?;
        let replicas = self.replicas(set);
        let daemon = self.daemon(set, Some(&replicas));
        if state::takes_builds(&daemon) {
            return None;
        }
        let status = self.builder.status.clone().unwrap_or_default();
        let since = state::since(&status, self.now);
        Some(state::why_not(&self.builder, &daemon, since, self.now))
    }

    /// How the daemon is to be isolated: another way than before, where it does not start so.
    fn isolation(&self, settings: &Settings) -> IsolationStatus {
        let mut stands = isolation::wanted(&self.builder, settings);
        let Some((reason, why)) = self.trouble() else {
            return stands;
        };
        let status = self.builder.status.clone().unwrap_or_default();
        let since = state::since(&status, self.now);
        let why = (reason, why.as_str());
        if let Some(other) = isolation::instead(&self.builder, settings, why, since, self.now) {
            return other;
        }
        if reason == Reason::NotIsolated && self.builder.spec.isolation == Isolation::UserNamespace
        {
            stands.failed_at = Some(Time(self.now));
        }
        stands
    }

    fn sleeps(&self) -> bool {
        let spec = self.set.as_ref().and_then(|set| set.spec.as_ref());
        spec.is_some_and(|spec| spec.replicas == Some(0))
    }

    /// Whether the daemon is to be up. One of which nobody has asked what it is used for is.
    fn rest(&self) -> Rest {
        let status = self.builder.status.as_ref();
        let isolation = status.and_then(|status| status.isolation.as_ref());
        if isolation.is_some_and(|isolation| isolation.failed_at.is_some()) {
            return Rest::Awake(None);
        }
        let to_be_emptied = anew::is_to_be_emptied(&self.builder);
        let Some(used) = self.used.as_ref().filter(|_| !to_be_emptied) else {
            let idle = quantity::duration(&self.builder.spec.idle_timeout);
            return Rest::Awake((!idle.is_zero()).then_some(idle));
        };
        let started = self.own_pods().filter_map(anew::started).max();
        state::rest(&self.builder, self.sleeps(), used, started, self.now)
    }

    /// Its objects, isolated as that says.
    fn objects(
        &self,
        mode: IsolationMode,
        settings: &Settings,
        certificates: &Certificates,
    ) -> BuilderObjects {
        let trusted = self.trusted.as_deref();
        let digest = trusted.map_or_else(String::new, |text| digest_of(text.as_bytes()));
        // The daemon reads what it trusts when it starts.
        let certificates = format!("{}{digest}", certificates.digest);
        let mut objects = objects_in(mode, &self.builder, settings, &certificates);
        if let (Some(text), Some(data)) = (trusted, &mut objects.config_map.data) {
            data.insert(outside::CA_KEY.to_owned(), text.to_owned());
        }
        if let Some(set) = &self.set {
            let idle = self.used.is_some_and(|used| used.wanted == 0);
            let at = anew::restarted_at(set, self.oldest(), self.hangs, idle, self.now);
            anew::restart(&mut objects.stateful_set, at);
            volume::keep(&mut objects.stateful_set, set);
        }
        objects
    }

    /// How many replicas the StatefulSet is to have while the Builder is awake.
    fn size(&self) -> i32 {
        let stands = self.set.as_ref().map_or(0, replicas::of_set);
        replicas::size(self.scaled().desired, stands, &self.running)
    }

    /// When its replicas may be other ones, or be said to be, though nothing wakes it.
    fn changes_within(&self, replicas: &ReplicasStatus) -> Duration {
        let all = &replicas.each;
        let scales = self.builder.spec.autoscale.as_ref();
        let waiting = self.load.as_ref().is_some_and(|load| load.waiting > 0);
        if scales.is_some() && waiting {
            SOON
        } else if all.iter().any(|it| it.draining) {
            DRAIN
        } else if scales.is_some_and(|scales| replicas.desired > scales.min) {
            let spare = replicas::spare(&self.builder);
            spare.unsigned_abs().clamp(SOON, LULL)
        } else if all.iter().any(|it| !it.ready) {
            LULL
        } else {
            RESYNC
        }
    }

    fn drains(&self, settings: &Settings) -> bool {
        self.active > 0 && restarts(self, settings)
    }
}

/// True where it counts what the Builder is used for. While it starts, it does not: only one that takes builds may fall
/// asleep, and only one that sleeps may be woken.
pub fn asks_for_use(observed: &Observed) -> bool {
    // The daemon of a platform rests with the Builder whose platform it is, also where it never came up: a Pod that waits for a node
    // keeps asking for one.
    let may_rest = observed.of.is_some() || decide::is_ready(&observed.builder);
    let idle = quantity::duration(&observed.builder.spec.idle_timeout);
    let old = anew::is_old(observed.oldest(), observed.now);
    (old || !idle.is_zero()) && observed.set.is_some() && (observed.sleeps() || may_rest)
}

/// True where the daemon would be restarted: new certificates are among what restarts it.
pub fn restarts(observed: &Observed, settings: &Settings) -> bool {
    let Some(set) = &observed.set else {
        return false;
    };
    if observed.of.is_some() && observed.certificates().is_none() {
        return false;
    }
    observed.certificates().is_none_or(|certificates| {
        let mode = isolation::wanted(&observed.builder, settings).mode;
        let wanted = observed.objects(mode, settings, certificates);
        state::would_restart(set, &wanted.stateful_set)
    })
}

/// True where it counts what others say of the daemon: it is to be up, and is not.
pub fn asks_for_events(observed: &Observed, settings: &Settings) -> bool {
    let down = observed.set.as_ref();
    down.is_some_and(|set| !state::is_ready(set))
        && observed.rest() != Rest::Asleep
        && !observed.drains(settings)
}

/// True where it asks whether its Secrets exist: as far as its status tells they do, and the kubelet says of one that it
/// does not.
pub fn asks_for_secrets(observed: &Observed) -> bool {
    if observed.of.is_some() {
        return false;
    }
    let own = names::builder_server_tls(&observed.builder.name_any());
    let missing = |event: &Told| {
        let missing = outcome::missing_object(&event.words).and_then(|it| it.missing);
        missing.is_some_and(|it| it.kind == MissingKind::Secret && it.name == own)
    };
    observed.certificates().is_some() && (observed.wanted || observed.events.iter().any(missing))
}

/// The next step.
pub fn decide(observed: &Observed, settings: &Settings) -> Step {
    let (builder, now) = (&observed.builder, observed.now);
    if let Some(serves) = &observed.serves
        && !sharing::is_of_use(builder, serves.build.as_ref(), serves.named.as_ref())
    {
        return Step::Remove;
    }
    if let Some(of) = &observed.of
        && !crate::platforms::is_of_use(builder, of.as_ref())
    {
        return Step::Remove;
    }
    if let Some(applied) = &observed.applied {
        // Not before it has a volume.
        if observed.enlarged.is_none()
            && state::is_ready(applied)
            && let Some(size) = volume::larger(builder, applied)
        {
            return Step::Enlarge(size);
        }
        return platforms::next(observed)
            .unwrap_or_else(|| Step::Say(Box::new(outcome(observed, applied, settings))));
    }
    if observed.drains(settings) {
        let mut status = builder.status.clone().unwrap_or_default();
        state::say_draining(&mut status, builder, observed.active, now);
        return say(status, DRAIN);
    }
    let Some(certificates) = observed.certificates() else {
        return match observed.of {
            Some(_) => platforms::waits(observed),
            None => Step::Renew,
        };
    };
    if !sharing::has_daemon(builder) && observed.set.is_none() {
        let mut status = builder.status.clone().unwrap_or_default();
        status.certificates = Some(certificates.clone());
        status.replicas = None;
        state::say_each_has_its_own(&mut status, builder, now);
        return say(status, RESYNC);
    }
    let isolation = observed.isolation(settings);
    let mut wanted = observed.objects(isolation.mode, settings, certificates);
    if let Some(closed) = &observed.closed {
        let allow = &settings.builder.egress.allow;
        network::hold(&mut wanted.network_policy, closed, allow);
    }
    let rests = isolation::rests_for(builder, &isolation, now).is_some();
    let down = rests || observed.rest() == Rest::Asleep || !sharing::has_daemon(builder);
    if let Some(spec) = &mut wanted.stateful_set.spec {
        spec.replicas = Some(if down { 0 } else { observed.size() });
    }
    if let Some(set) = &observed.set {
        let status = builder.status.clone().unwrap_or_default();
        let since = state::since(&status, now);
        if state::is_refused(&observed.daemon(set, None), since) {
            // A change of the StatefulSet has its controller try at once.
            let tried = (names::TRIED_AT.to_owned(), now.as_second().to_string());
            wanted.stateful_set.annotations_mut().extend([tried]);
        }
    }
    Step::Apply(Box::new(wanted))
}

fn say(status: BuilderStatus, look_again: Duration) -> Step {
    Step::Say(Box::new(Say { status, look_again }))
}

/// What is said once all stands as it should: `applied` is the StatefulSet.
fn outcome(observed: &Observed, applied: &StatefulSet, settings: &Settings) -> Say {
    let (builder, now) = (&observed.builder, observed.now);
    let mut status = builder.status.clone().unwrap_or_default();
    if let Some(certificates) = observed.certificates() {
        status.certificates = Some(certificates.clone());
    }
    let isolation = observed.isolation(settings);
    let rests = isolation::rests_for(builder, &isolation, now);
    let fails = isolation.failed_at.as_ref().map(|at| at.0) == Some(now);
    if !sharing::has_daemon(builder) {
        status.replicas = None;
        status.platforms = None;
        state::say_each_has_its_own(&mut status, builder, now);
        return Say {
            status,
            look_again: RESYNC,
        };
    }
    let isolation = status.isolation.insert(isolation);
    if let (Some(rests), false) = (rests, fails) {
        // What was said of it holds.
        return Say {
            status,
            look_again: rests.unsigned_abs(),
        };
    }
    let replicas = observed.replicas(applied);
    let daemon = observed.daemon(applied, Some(&replicas));
    let awake = observed.rest() != Rest::Asleep;
    let up = state::is_ready(applied) && awake;
    if up || awake && state::takes_builds(&daemon) {
        isolation.proven = true;
        isolation.failed_at = None;
    }
    status.replicas = Some(replicas.clone());
    status.platforms = platforms::said(observed);
    let pods: Vec<&Pod> = observed.own_pods().collect();
    status.emptied = anew::say(builder, &pods, up, now);
    if anew::news(builder, status.emptied.as_ref()).is_some() {
        // What was told of it is of what was thrown away.
        status.cache = None;
    }
    let look_again = match observed.rest() {
        Rest::Asleep => {
            state::say_idle(&mut status, builder, now);
            match decide::is_asleep(builder) {
                true => RESYNC,
                // A build that came while it fell asleep has woken nothing: look once more.
                false => SOON,
            }
        }
        Rest::Awake(after) => match state::say(&mut status, builder, &daemon, now) {
            true => {
                let idle = after.map_or(RESYNC, |after| RESYNC.min(after.unsigned_abs()));
                let again = idle.min(observed.changes_within(&replicas));
                match platforms::is_refused(observed) {
                    true => again.min(LULL),
                    false => again,
                }
            }
            false => {
                let again = again(builder, &status, now);
                let rests = after.filter(|_| observed.of.is_some());
                rests.map_or(again, |after| again.min(after.unsigned_abs()))
            }
        },
    };
    Say { status, look_again }
}

/// What is said where the API server refuses an object of the Builder; `set` is the StatefulSet that stands. What is
/// wrong in itself waits for another spec, which wakes; or for what stands in its way to go, which does not.
pub fn refused(
    builder: &Builder,
    set: Option<&StatefulSet>,
    refusal: &Refusal,
    now: Timestamp,
) -> Say {
    let mut status = builder.status.clone().unwrap_or_default();
    state::say_refused(&mut status, builder, set, refusal, now);
    let look_again = again(builder, &status, now);
    Say { status, look_again }
}

/// When to look again at a daemon that is not up: soon where nothing is known yet, or the spec is new.
fn again(builder: &Builder, status: &BuilderStatus, now: Timestamp) -> Duration {
    let trouble = |status: &BuilderStatus| {
        let conditions = &status.conditions;
        find(conditions, RECONCILING)
            .or_else(|| find(conditions, STALLED))
            .cloned()
    };
    let since = trouble(status).map_or(now, |c| c.last_transition_time.0);
    let known = builder.status.as_ref().is_some_and(|known| {
        known.observed_generation == builder.metadata.generation
            && trouble(known).is_some()
            && known.state() != Some(Reason::Starting)
    });
    let most = if known { RESYNC } else { SOON };
    refusal::look_again(since, now).unsigned_abs().min(most)
}

/// True where this ImageBuild wakes its Builder: also one that sleeps not, and may need more replicas.
pub fn wakes(build: &ImageBuild, builder: &Builder) -> bool {
    let scales = builder.spec.autoscale.is_some() && decide::is_queued(build);
    let needs = scales || decide::is_asleep(builder) || decide::doubts_its_builder(build);
    needs && !decide::is_settled(build)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
