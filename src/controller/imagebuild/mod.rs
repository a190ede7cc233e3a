//! The loop over ImageBuilds.

pub mod alone;
pub(crate) mod brief;
mod carry_out;
pub mod decide;
mod ended;
pub(crate) mod gate;
pub(crate) mod in_advance;
pub mod job;
mod kueue;
pub(crate) mod minimized;
mod observe;
pub(crate) mod outcome;
#[cfg(test)]
mod request_rules_tests;
mod status;
pub mod trial;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::Receiver;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::runtime::controller::{Action as Requeue, Config};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::utils::WatchStreamExt;
use kube::runtime::{Controller, PredicateConfig, watcher};
use kube::{Resource, ResourceExt};

use super::{AT_ONCE, Context, Error, after_error, in_time, shared, triggers};
use crate::imagebuild::carry_out::{carry_out, tell};
use crate::imagebuild::decide::{Action, Step};
pub(crate) use crate::imagebuild::ended::Ended;
use crate::installation;
use crate::installation::Claim;
use crate::names;
use crate::platforms;
use crate::pods;
use crate::queues::{Look, Place};
use crate::sharing;
use crate::watches::Watches;
use whittle_api::{Builder, ImageBuild};

const KIND: &str = "ImageBuild";
/// Everything is looked at again after this long, whatever events were missed.
const RESYNC: Duration = Duration::from_secs(3600);

/// What wakes this loop, from watches that others listen to as well.
pub struct Heard {
    builds: shared::Heard<ImageBuild>,
    /// Those that start, end or hang.
    runs: shared::Heard<ImageBuild>,
    builders: shared::Heard<Builder>,
}

impl Heard {
    /// Listens from now on.
    pub fn from(watches: &mut Watches) -> Self {
        Self {
            builds: watches.builds.listen(triggers::image_build),
            runs: watches.builds.listen(triggers::build_runs),
            builders: watches.builders.listen(triggers::builder_ready),
        }
    }
}

/// A build that waits for its turn is looked at again after this long; it is woken before where its turn comes.
const ITS_TURN: Duration = Duration::from_secs(30);

/// Runs until `stop`. `wake` names ImageBuilds whose runners have called back.
pub async fn run(
    context: Arc<Context>,
    heard: Heard,
    wake: Receiver<ObjectRef<ImageBuild>>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let mine = watcher::Config::default().labels(&format!(
        "{} in ({},{})",
        names::COMPONENT,
        names::RUNNER,
        names::GATE
    ));
    let mine = mine.page_size(brief::PAGE);
    let store = context.known.builds.clone();
    let config = PredicateConfig::default;
    let jobs = context.cluster.watch::<Job>(mine.clone());
    let seeing = context.clone();
    let jobs = jobs
        .inspect(move |event| {
            if let Ok(event) = event {
                seeing.see_job(event);
            }
        })
        .touched_objects()
        .predicate_filter(triggers::job, config());
    let pods = context.cluster.watch::<Pod>(mine);
    let seeing = context.clone();
    let pods = pods
        .inspect(move |event| {
            if let Ok(event) = event {
                seeing.see_pod(event);
            }
        })
        .touched_objects()
        .predicate_filter(triggers::pod, config());
    let (waiting, queued) = (context.clone(), context.clone());
    Controller::for_shared_stream(heard.builds, store)
        .with_config(Config::default().concurrency(context.settings.concurrency))
        .owns_stream(jobs)
        .watches_stream(pods, |pod: Pod| {
            let name = pod.annotations().get(names::IMAGE_BUILD).cloned();
            name.map(|name| ObjectRef::new(&name).within(&pod.namespace().unwrap_or_default()))
        })
        .watches_shared_stream(heard.builders, move |builder: Arc<Builder>| {
            waiting_for(&waiting, &builder)
        })
        .watches_shared_stream(heard.runs, move |build: Arc<ImageBuild>| {
            next_after(&queued, &build)
        })
        .reconcile_on(wake)
        .graceful_shutdown_on(stop)
        .run(
            |build, context: Arc<Context>| async move {
                context.metrics.reconcile(KIND);
                in_time(reconcile(&build, &context)).await
            },
            |build, error: &Error, context| after_error(build.as_ref(), KIND, error, &context),
            context,
        )
        .for_each(|_| async {})
        .await;
}

impl Context {
    fn see_job(&self, event: &watcher::Event<Job>) {
        self.queues.job(event);
        self.candidates.job(event);
        match event {
            watcher::Event::Apply(job) | watcher::Event::InitApply(job) => {
                self.used.see_job(job, Timestamp::now());
                if pods::has_ended(job) {
                    self.forget_request(job);
                }
            }
            watcher::Event::Delete(job) => self.forget_request(job),
            watcher::Event::InitDone => self.listed.is("Job"),
            _ => {}
        }
    }

    /// What a runner was handed, and will not ask for again, also where its ImageBuild has gone.
    fn forget_request(&self, job: &Job) {
        let namespace = job.namespace().unwrap_or_default();
        self.waiting.forget(&namespace, &job.name_any());
    }

    fn see_pod(&self, event: &watcher::Event<Pod>) {
        self.queues.pod(event);
        if matches!(event, watcher::Event::InitDone) {
            self.listed.is("Pod");
        }
    }
}

/// The ImageBuilds that wait for this Builder.
fn waiting_for(context: &Context, builder: &Builder) -> Vec<ObjectRef<ImageBuild>> {
    let namespace = builder.namespace().unwrap_or_default();
    if sharing::is_own(builder) {
        let owner =
            sharing::owner(builder).map(|(name, _)| ObjectRef::new(name).within(&namespace));
        return owner.into_iter().collect();
    }
    // Also those that wait for the daemon of one of its platforms.
    let whose = platforms::whose(builder);
    let builds = context.queues.builds(&namespace, &whose);
    builds
        .iter()
        .filter(|build| !decide::is_built(build))
        .map(|build| ObjectRef::from_obj(build.as_ref()))
        .collect()
}

/// After the replica that was chosen was found to go: the Builder's status says so by then.
const CLOSED: Duration = Duration::from_secs(2);

/// How many builds are woken where one has ended: a few, in case the first of them wait for something else.
const NEXT: usize = 3;

/// Of those that stand back and wait anywhere in the cluster, so many are looked at for some whose Builder has room.
const LOOKED_AT: usize = 50;

/// True where the Builder of a build that waits for its turn takes it now.
fn has_room(context: &Context, build: &ImageBuild) -> bool {
    let namespace = build.namespace().unwrap_or_default();
    let of = ObjectRef::new(&build.spec.builder_ref.name).within(&namespace);
    let most = context.known.builders.get(&of);
    let queue = context.queues.queue(build);
    queue.running + queue.before < most.as_deref().map_or(1, decide::most)
}

/// The ImageBuilds whose turn it is where `build` has ended or gone, or hangs and takes no place: the first that wait
/// for the same Builder.
fn next_after(context: &Context, build: &ImageBuild) -> Vec<ObjectRef<ImageBuild>> {
    let status = build.status.as_ref();
    let known = context.known.builds.get(&ObjectRef::from_obj(build));
    let stands = known.is_some_and(|known| known.uid() == build.uid());
    if stands
        && status.is_some_and(|status| status.current.is_some())
        && !decide::lacks_its_own(build)
        && !decide::waits_to_retry(build)
    {
        return vec![];
    }
    let namespace = build.namespace().unwrap_or_default();
    let mut queued = context
        .queues
        .builds(&namespace, &build.spec.builder_ref.name);
    let held = context.queues.holds_back(&namespace);
    queued.retain(|other| decide::is_queued(other));
    // What cannot start comes last, and is not left out: the build that has ended may be counted still.
    queued.sort_by_cached_key(|other| (held && decide::stands_back(other), decide::turn(other)));
    queued.truncate(NEXT);
    if decide::stands_back(build) {
        // One of those that stand back may go on anywhere in the cluster.
        let mut back = context.queues.waiting_back();
        back.truncate(LOOKED_AT);
        back.sort_by_cached_key(|other| !has_room(context, other));
        queued.extend(back.into_iter().take(NEXT));
    }
    let mut names: Vec<_> = queued
        .iter()
        .map(|other| ObjectRef::from_obj(other.as_ref()))
        .collect();
    names.dedup();
    names
}

async fn reconcile(cached: &ImageBuild, context: &Context) -> Result<Requeue, Error> {
    if let Some(rest) = rests(cached) {
        return Ok(Requeue::requeue(rest));
    }
    let (namespace, name) = (cached.namespace().unwrap_or_default(), cached.name_any());
    let builder = ObjectRef::new(&cached.spec.builder_ref.name).within(&namespace);
    let look = Look::at(cached, context.known.builders.get(&builder).as_deref());
    let queues = context.queues().await;
    let now = Timestamp::now();
    let left = cached.status.as_ref();
    let left = left.and_then(|status| decide::left_to_wait(cached, status, now));
    let left = left.map_or(ITS_TURN, std_duration).min(ITS_TURN);
    let over = left.is_zero() || decide::is_overdue(cached, now);
    if !over && queues.waits_still(look, cached) {
        return Ok(Requeue::requeue(left));
    }
    // Live: a cache may be behind, and what it does not show would be built twice.
    let Some(mut build) = context.cluster.image_build(&namespace, &name).await? else {
        return Ok(Requeue::await_change());
    };
    let uid = build.uid().unwrap_or_default();
    if let Some(rest) = rests(&build) {
        queues.leave_place(&uid);
        return Ok(Requeue::requeue(rest));
    }
    let now = context.clock.read(&mut build);
    // What stands in the status as far as we know, whatever becomes of the step.
    let mut standing = build.clone();
    let error = match go_on(build, look, now, &mut standing, context).await {
        Err(Error::Cluster(error)) if error.is_conflict() => return Ok(Requeue::requeue(AT_ONCE)),
        Err(Error::Cluster(error)) => error,
        other => return other,
    };
    let Some(refusal) = error.refusal() else {
        if error.is_missing() {
            // It went meanwhile, and the watch may have told so before: nobody looks at it again.
            queues.leave_place(&uid);
            queues.not_told(&uid);
            let there = context.cluster.image_build(&namespace, &name).await?;
            if there.is_none() {
                return Ok(Requeue::await_change());
            }
        }
        return Err(error.into());
    };
    // What was refused was not made.
    queues.leave_place(&uid);
    context.metrics.error(KIND);
    tracing::warn!(kind = KIND, namespace, name, %error, "denied by the API server; reported in its status");
    let step = decide::refused(&standing, &refusal, Timestamp::now());
    // An Event first: where it is the status that is refused, nothing else tells of it.
    tell(&standing, &step, context).await;
    let step = Step {
        notice: None,
        ..step
    };
    carry_out(&mut standing, &step, context).await?;
    Ok(after(&step))
}

fn after(step: &Step) -> Requeue {
    let after = step.look_again.map_or(RESYNC, std_duration);
    Requeue::requeue(after.min(RESYNC))
}

/// How long nothing need be looked at; none where something is to be done now.
fn rests(build: &ImageBuild) -> Option<Duration> {
    if !decide::is_settled(build) {
        return None;
    }
    let until = decide::rests(build, Timestamp::now()).map_or(RESYNC, std_duration);
    let until = until.min(RESYNC);
    (!until.is_zero()).then_some(until)
}

async fn go_on(
    build: ImageBuild,
    look: Look,
    now: Timestamp,
    standing: &mut ImageBuild,
    context: &Context,
) -> Result<Requeue, Error> {
    let namespace = build.namespace().unwrap_or_default();
    let job = build.status.as_ref().and_then(decide::runner);
    let job = job.map(str::to_owned);
    let report = job
        .as_ref()
        .and_then(|job| context.early_reports.report(&namespace, job));
    let queues = context.queues().await;
    let ticket = queues.ticket(&namespace, &build.spec.builder_ref.name);
    let (ran, cluster) = (&context.ran, &context.cluster);
    let webhook = webhook(&build, context);
    let observed = observe::observe(build, queues, ran, report, now, cluster).await?;
    let mut observed = decide::Observed {
        webhook,
        handed: job
            .as_ref()
            .and_then(|job| context.waiting.handed(&namespace, job)),
        ..observed
    };
    for standby in &mut observed.standbys {
        standby.waits = context.waiting.waits(&namespace, &standby.job);
    }
    if let Some(builder) = &observed.builder {
        let ours = &context.settings.installation;
        match installation::claim(builder, ours) {
            Claim::Ours => {}
            Claim::Theirs(other) => return Ok(left_alone(&observed.build, other, context).await),
            Claim::Nobodys => {
                if context
                    .cluster
                    .claim_builder(builder, ours)
                    .await?
                    .is_none()
                {
                    return Ok(Requeue::requeue(AT_ONCE));
                }
            }
        }
    }
    let step = decide::decide(&observed, &context.settings, now);
    let uid = observed.build.uid().unwrap_or_default();
    // What is fetched once an image is built needs nothing of the builder, and takes no place there.
    let builds = step.status.current.is_some();
    let most_back = context.settings.triggers.max_concurrent;
    let stands_back = decide::stands_back_by(&step.status).then_some(most_back);
    let begins = match &step.action {
        Action::Start(attempt) if builds => Some(attempt.job.name_any()),
        Action::Adopt(handover) => Some(handover.job.clone()),
        _ => None,
    };
    if let Some(job) = begins {
        let current = step.status.current.as_ref();
        let place = Place {
            uid: &uid,
            job: &job,
            stands_back,
            replica: current.and_then(|current| current.replica),
        };
        if !queues.take_place(&ticket, &place) {
            let closes = queues.closes(&ticket, &place);
            return Ok(Requeue::requeue(if closes { CLOSED } else { AT_ONCE }));
        }
        if matches!(step.action, Action::Adopt(_)) && !context.waiting.claim(&namespace, &job) {
            // It does not wait any more.
            queues.leave_place(&uid);
            return Ok(Requeue::requeue(AT_ONCE));
        }
    } else if decide::leaves_its_place(&observed, &step) {
        // Before the status says so: that wakes the next one.
        queues.leave_place(&uid);
    }
    if decide::is_queued(&observed.build) && decide::says_queued(&step.status) {
        let most = observed.builder.as_ref().map_or(1, decide::most);
        queues.told(look, &observed.build, (most, stands_back), &observed.queue);
    } else {
        queues.not_told(&uid);
    }
    carry_out(standing, &step, context).await?;
    if let Some(job) = job.filter(|job| decide::runner(&step.status) != Some(job)) {
        context.early_reports.forget(&namespace, &job);
        context.waiting.forget(&namespace, &job);
    }
    Ok(after(&step))
}

/// The path where servers of its source post; none where it asks for none.
fn webhook(build: &ImageBuild, context: &Context) -> Option<String> {
    build.spec.triggers.as_ref()?.webhook.as_ref()?;
    let credentials = context.authority.credentials();
    Some(credentials.webhook(&build.namespace()?, &build.uid()?))
}

/// How long an ImageBuild on another installation's Builder may be without a word from that one, before this one says
/// why nothing happens.
const SILENCE: Duration = Duration::from_secs(60);

/// An ImageBuild on another installation's Builder: its status is left alone. Where that one does not speak, an Event
/// tells the person who waits.
async fn left_alone(build: &ImageBuild, other: &str, context: &Context) -> Requeue {
    context.metrics.left_alone(KIND);
    let known_for = context.others.leave(KIND, build, other);
    let seen = build.status.as_ref().and_then(|s| s.observed_generation);
    if seen >= build.metadata.generation {
        return Requeue::requeue(RESYNC);
    }
    if known_for < SILENCE {
        return Requeue::requeue(SILENCE);
    }
    let namespace = build.namespace().unwrap_or_default();
    let builder = &build.spec.builder_ref.name;
    let ours = &context.settings.installation;
    let words = installation::explain(&namespace, builder, other, ours);
    let about = build.object_ref(&());
    context
        .tell(
            &about,
            true,
            whittle_api::Reason::BuilderOfAnotherInstallation,
            &words,
        )
        .await;
    Requeue::requeue(RESYNC)
}

fn std_duration(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}

#[cfg(test)]
mod scripted_tests;
