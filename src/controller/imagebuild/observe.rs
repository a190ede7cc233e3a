//! Reads all that the next step of an ImageBuild depends on.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::decide::{self, Observed, OutOfMemory, PendingCheck, PendingTrial, Queue, Standby};
use super::gate::{self, Check};
use super::outcome::{self, Seen, State};
use super::trial::{self, Trial};
use crate::clocks::Ran;
use crate::cluster::{Cluster, Error};
use crate::flux;
use crate::platforms;
use crate::pods::{self, Of, Question};
use crate::queues::Queues;
use crate::refusal::Told;
use crate::sharing::{self, Own};
use whittle_api::{Builder, FailureReason, HealthCheck, ImageBuild};
use whittle_build::failure;
use whittle_build::report::Report;

/// Reads all that the next step of this ImageBuild depends on.
///
/// `ran` says how long containers were seen to run. `queues` says from the watches what its place in the queue is. `report` is what the attempt's runner has called back, where it has.
pub async fn observe(
    build: ImageBuild,
    queues: &Queues,
    ran: &Ran,
    report: Option<Report>,
    now: Timestamp,
    cluster: &Cluster,
) -> Result<Observed, Error> {
    let namespace = build.namespace().unwrap_or_default();
    let uid = build.uid().unwrap_or_default();
    let current = build
        .status
        .as_ref()
        .and_then(|status| status.current.clone());
    let early = build.status.as_ref().and_then(|s| s.early.as_ref());
    let early = early.map(|early| early.job.clone());
    let runner = build.status.as_ref().and_then(decide::runner);
    let runner = runner.map(str::to_owned);
    let fetches = current.is_none() && early.is_none();
    let (builder, pods, job, told, flux) = futures::try_join!(
        cluster.builder_of(&build),
        cluster.runner_pods(&namespace, &uid),
        async {
            match &runner {
                Some(job) => cluster.job(&namespace, job).await,
                None => Ok(None),
            }
        },
        async {
            match &early {
                Some(job) => cluster.job(&namespace, job).await,
                None => Ok(None),
            }
        },
        async {
            match &build.spec.source.flux {
                Some(source) => flux::read(cluster, &namespace, source).await,
                None => Ok(None),
            }
        },
    )?;
    let pod = pod_of(&pods, job.as_ref());
    let attempt_of = |named| sharing::own(&build, named, &current.as_ref()?.job);
    let own = match builder.as_ref().and_then(attempt_of) {
        Some(wanted) => {
            let stands = cluster.builder(&namespace, &wanted.name_any()).await?;
            Some(Own { wanted, stands })
        }
        None => None,
    };
    let record = match (fetches, pod) {
        // Nothing was told that its end could say something else of.
        (true, None) => outcome::Record::Pending,
        (true, pod) => outcome::record(pod),
        (false, _) => outcome::record(pod_of(&pods, told.as_ref())),
    };
    let fetched = report.clone().filter(|_| fetches);
    let events = match Question::of_attempt(job.as_ref(), pod) {
        Some(question) => cluster.events(&namespace, &question).await?,
        None => vec![],
    };
    let attempt = outcome::state(
        &Seen {
            owner: &uid,
            job: job.as_ref(),
            pod,
            events: &events,
            report: report.as_ref(),
        },
        now,
    );
    let ran_on = own
        .as_ref()
        .map_or(builder.as_ref(), |own| own.stands.as_ref());
    let lost_since = match &attempt {
        State::Told(Report::Failed(failed)) | State::Ended(Report::Failed(failed))
            if failed.failure.reason == FailureReason::BuilderLost =>
        {
            let since = build.status.as_ref().and_then(|status| status.since());
            since.map(|since| since.0)
        }
        // Later it is another build that the daemon may have ended for.
        State::Absent => {
            let waits =
                |it: &&whittle_api::Current| it.retry_at.as_ref().is_some_and(|at| now < at.0);
            let current = current.as_ref().filter(waits);
            current.and_then(decide::builder_lost_at)
        }
        _ => None,
    };
    // Which of them there are is asked when an attempt is about to start, or its request is handed over; and where one was lost.
    let handed = current.as_ref().is_some_and(|it| it.standby.is_some());
    let daemons = match &builder {
        Some(builder) if attempt == State::Absent || handed || lost_since.is_some() => {
            platforms_of(&build, builder, cluster).await?
        }
        _ => vec![],
    };
    let lost = match &attempt {
        State::Told(Report::Failed(failed)) | State::Ended(Report::Failed(failed)) => {
            Some(failed.failure.message.as_str())
        }
        _ => current.as_ref().and_then(|it| it.last_failure.as_deref()),
    };
    let whose = failure::whose(lost.unwrap_or_default());
    let limit = match (ran_on.filter(|_| whose.is_ordinary()), lost_since) {
        (Some(builder), Some(since)) => {
            let replica = current
                .as_ref()
                .and_then(|it| it.replica.or(it.last_replica));
            cluster
                .builder_out_of_memory(builder, replica.unwrap_or(0), since)
                .await?
        }
        _ => None,
    };
    let mut builder_out_of_memory = limit.map(|limit| OutOfMemory {
        limit,
        native: None,
    });
    for seen in &daemons {
        if let (None, Some(since), Some(daemon), Some(builder)) = (
            &builder_out_of_memory,
            lost_since,
            seen.daemon(),
            builder.as_ref(),
        ) && whose.is_of(&daemon.name_any())
        {
            let limit = cluster.builder_out_of_memory(daemon, 0, since).await?;
            builder_out_of_memory = limit.map(|limit| OutOfMemory {
                limit,
                native: Some((
                    daemon.name_any(),
                    platforms::memory_field(builder, &seen.platform),
                )),
            });
        }
    }
    // Also while something is fetched for a build that has ended: the next one may be due.
    let (queue, (stray_checks, in_advance)) = match attempt == State::Absent || current.is_none() {
        true => {
            let queue = match builder.as_ref().is_some_and(decide::is_ready) {
                true => queues.queue(&build),
                // Nobody's turn comes before it is ready, and then each is looked at again.
                false => Queue::default(),
            };
            (queue, cluster.left_and_ready(&build).await?)
        }
        false => Default::default(),
    };
    let checks = match decide::pending_check(&build, build.status.as_ref()) {
        Some(pending) => checks(&build, &pending, ran, now, cluster).await?,
        None => vec![],
    };
    // Once a runner has what came of them, it is not read again.
    let trials = match decide::pending_trial(&build, build.status.as_ref()) {
        Some(pending)
            if !pending.done
                || matches!(
                    attempt,
                    State::Absent | State::Pending(_) | State::Suspended(_)
                ) =>
        {
            trials(&build, &pending, now, cluster).await?
        }
        _ => vec![],
    };
    // One that waits for its request builds nothing.
    let waits = |pod: &Pod| in_advance.iter().any(|job| pods::belongs_to(pod, job));
    let standbys = in_advance.iter().map(Standby::of).collect();
    let mut pods = pods;
    pods.retain(|pod| !waits(pod));
    let (others_alive, stuck) = pods::earlier(&pods, job.as_ref(), now);
    Ok(Observed {
        build,
        builder,
        own,
        platforms: daemons,
        attempt,
        record,
        fetched,
        others_alive,
        stuck,
        webhook: None,
        flux,
        queue,
        builder_out_of_memory,
        checks,
        trials,
        stray_checks,
        standbys,
        handed: None,
    })
}

/// The daemons that a Builder has for the platforms of this build.
async fn platforms_of(
    build: &ImageBuild,
    builder: &Builder,
    cluster: &Cluster,
) -> Result<Vec<platforms::Seen>, Error> {
    let namespace = build.namespace().unwrap_or_default();
    let asked = || build.spec.platforms.iter().map(|it| it.0.as_str());
    let mut all = platforms::wanted(builder);
    all.retain(|(platform, _)| platforms::is_asked_for(platform, asked()));
    let read = all.into_iter().map(async |(platform, wanted)| {
        let stands = cluster.builder(&namespace, &wanted.name_any()).await?;
        Ok(platforms::Seen {
            platform,
            wanted,
            stands,
        })
    });
    futures::future::try_join_all(read).await
}

/// Where the trial of each platform stands.
async fn trials(
    build: &ImageBuild,
    pending: &PendingTrial,
    now: Timestamp,
    cluster: &Cluster,
) -> Result<Vec<Trial>, Error> {
    let architectures = cluster.architectures().await?;
    let mut trials = Vec::new();
    for starts in &pending.of.platforms {
        let platform = starts.platform.clone();
        let state = if gate::has_node(&platform, &architectures) {
            let name = decide::trial_name(&pending.of.job, &platform);
            tried(build, &name, &pending.check, now, cluster).await?
        } else {
            trial::State::NoNode
        };
        trials.push(Trial { platform, state });
    }
    Ok(trials)
}

async fn tried(
    build: &ImageBuild,
    name: &str,
    check: &HealthCheck,
    now: Timestamp,
    cluster: &Cluster,
) -> Result<trial::State, Error> {
    let namespace = build.namespace().unwrap_or_default();
    let uid = build.uid().unwrap_or_default();
    let (job, pod, events) = pod_of_check(&namespace, name, cluster).await?;
    let seen = gate::Seen {
        owner: &uid,
        job: job.as_ref(),
        pod: pod.as_ref(),
        ran: SignedDuration::ZERO,
        refused: events.first(),
    };
    let Some(pod) = pod.as_ref().filter(|pod| trial::has_ended(pod)) else {
        return Ok(trial::state(&seen, check, now));
    };
    Ok(match cluster.outcome(&namespace, &pod.name_any()).await {
        Ok(Some(outcome)) => trial::State::Done(Box::new(outcome)),
        Ok(None) => trial::State::Failed("what its container printed is not whole".into()),
        // Its kubelet may answer later; if it never does, there is no time left at some point.
        Err(why) => trial::State::Waiting(format!("its log cannot be read: {why}")),
    })
}

/// How the trial of a smaller image stands that follows its check; none where it has not begun.
async fn exercised(
    build: &ImageBuild,
    name: &str,
    pending: &PendingCheck,
    wanted: &decide::Wanted,
    now: Timestamp,
    cluster: &Cluster,
) -> Result<Option<gate::State>, Error> {
    let state = tried(build, name, &pending.check, now, cluster).await?;
    if state == trial::State::Absent {
        return Ok(None);
    }
    let mut state = wanted.judge(state);
    if let gate::State::Failed { log, .. } = &mut state {
        let namespace = build.namespace().unwrap_or_default();
        if let (_, Some(pod), _) = pod_of_check(&namespace, name, cluster).await? {
            *log = cluster.last_lines(&namespace, &pod.name_any()).await;
        }
    }
    Ok(Some(state))
}

/// The Job of a check, its Pod, and what is said of one that could not be made.
async fn pod_of_check(
    namespace: &str,
    name: &str,
    cluster: &Cluster,
) -> Result<(Option<Job>, Option<Pod>, Vec<Told>), Error> {
    let job = cluster.job(namespace, name).await?;
    let pod = match &job {
        Some(job) => cluster.pod_of(namespace, job).await?,
        None => None,
    };
    let events = match (&job, &pod) {
        (Some(job), None) => cluster.events(namespace, &Question::not_made(job)).await?,
        _ => vec![],
    };
    Ok((job, pod, events))
}

/// Where the check of each platform stands.
async fn checks(
    build: &ImageBuild,
    pending: &PendingCheck,
    ran: &Ran,
    now: Timestamp,
    cluster: &Cluster,
) -> Result<Vec<Check>, Error> {
    let architectures = cluster.architectures().await?;
    let mut checks = Vec::new();
    for of in &pending.built.platforms {
        let platform = of.platform.clone();
        let state = if gate::has_node(&platform, &architectures) {
            let name = decide::check_name(&pending.attempt, &pending.built, &platform);
            let exercised = match &pending.trial {
                Some(wanted) => {
                    let name = decide::trial_name(&name, &platform);
                    exercised(build, &name, pending, wanted, now, cluster).await?
                }
                None => None,
            };
            match exercised {
                // The check has passed before, and its Pod may have gone.
                Some(state) => state,
                None => {
                    let state = check(build, &name, &pending.check, ran, now, cluster).await?;
                    let state = gate::as_another_user(&pending.check, of, state);
                    match (&state, &pending.trial) {
                        (gate::State::Passed { .. }, Some(_)) => gate::State::Exercising,
                        _ => state,
                    }
                }
            }
        } else {
            gate::State::NoNode
        };
        checks.push(Check { platform, state });
    }
    Ok(checks)
}

async fn check(
    build: &ImageBuild,
    name: &str,
    check: &HealthCheck,
    ran: &Ran,
    now: Timestamp,
    cluster: &Cluster,
) -> Result<gate::State, Error> {
    let namespace = build.namespace().unwrap_or_default();
    let uid = build.uid().unwrap_or_default();
    let (job, pod, refused) = pod_of_check(&namespace, name, cluster).await?;
    let running = pod.as_ref().filter(|pod| gate::runs(pod));
    let seen = gate::Seen {
        owner: &uid,
        job: job.as_ref(),
        pod: pod.as_ref(),
        ran: running.map(|pod| ran.of(pod)).unwrap_or_default(),
        refused: refused.first(),
    };
    let mut state = gate::state(&seen, check, now);
    if let (gate::State::Ended { seconds }, Some(pod)) = (&state, &pod) {
        let wanted = check.run.as_ref().and_then(|run| run.stdout.as_deref());
        state = match wanted {
            None => gate::State::Passed { seconds: *seconds },
            Some(wanted) => match cluster.output(&namespace, &pod.name_any()).await {
                Ok(output) => gate::printed(*seconds, wanted, &output),
                Err(why) => gate::State::Waiting {
                    message: format!("it has ended; what it printed cannot be read: {why}"),
                    left: None,
                },
            },
        };
    }
    let (gate::State::Failed { .. }, Some(pod)) = (&state, &pod) else {
        return Ok(state);
    };
    let question = Question {
        of: Of::Uid(pod.uid().unwrap_or_default()),
        reasons: &["Unhealthy"],
    };
    let unhealthy = cluster.events(&namespace, &question).await?;
    let log = cluster.last_lines(&namespace, &pod.name_any()).await;
    Ok(gate::explain(
        state,
        unhealthy.first().map(|event| event.words.as_str()),
        log,
    ))
}

/// The Job's Pod. More than one that looks like it is worth a look at who may make Pods there.
fn pod_of<'a>(pods: &'a [Pod], job: Option<&Job>) -> Option<&'a Pod> {
    let how_many = pods::how_many(pods, job);
    if how_many > 1 {
        let job = job.map(ResourceExt::name_any);
        tracing::warn!(
            job,
            how_many,
            "several Pods claim to belong to this Job, which has one: check who may create Pods \
                in its namespace"
        );
    }
    pods::of(pods, job)
}
