//! Runners that are made in advance: after a build its ImageBuild's next one has a Pod already, which waits for its request
//! (`Builder.spec.standby`). Which of them are to be is decided for a Builder as a whole ([`decide`]); an attempt takes one over by
//! naming its Job in the status, as any other (`imagebuild::decide`), and is handed its request by the callback ([`Waiting`]).

mod candidates;
pub mod decide;
mod waiting;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::{Context, Error, in_time};
use crate::builder::{Admission, admit};
use crate::cluster::credentials::Attempt as Credential;
use crate::imagebuild::job::Attempt;
use crate::names;
use crate::queues::Name;
use decide::{Seen, most, plan, waits};
use whittle_api::Builder;

pub use candidates::{Candidates, is_in_advance};
pub use waiting::{Handed, Waiting};

/// ImageBuilds that are asked for by the Jobs that are there; of others those are looked at that build most often.
const OWNERS: usize = 64;
/// After an error.
const AGAIN: Duration = Duration::from_secs(10);
/// Where one could not be thrown away, as an attempt was about to take it over.
const SOON: Duration = Duration::from_secs(5);

/// Runs until `stop`.
pub async fn run(context: Arc<Context>, stop: impl Future<Output = ()>) {
    let stop = stop.fuse();
    futures::pin_mut!(stop);
    loop {
        let builder = tokio::select! {
            () = &mut stop => return,
            builder = context.candidates.next() => builder,
        };
        match in_time(look(&builder, &context)).await {
            Ok(Some(after)) => context.candidates.touch_later(builder, after),
            Ok(None) => {}
            Err(error) => {
                let (namespace, name) = &builder;
                tracing::warn!(namespace, builder = name, %error, "cannot look after the runners that wait; retrying");
                context.candidates.touch_later(builder, AGAIN);
            }
        }
    }
}

/// Does what is to be done beside this Builder, and says when to look again. Where nobody asks for that, nothing is read.
async fn look(of: &Name, context: &Context) -> Result<Option<Duration>, Error> {
    // Before all were listed nothing is known of what builds.
    context.queues().await;
    let (namespace, name) = of;
    let known = context
        .known
        .builders
        .get(&ObjectRef::new(name).within(namespace));
    let asks = known.is_some_and(|known| known.spec.standby > 0);
    if !asks && !context.candidates.has_jobs(of) || names::check_builder(name).is_err() {
        return Ok(None);
    }
    let Some(seen) = see(of, context).await? else {
        return Ok(None);
    };
    let plan = plan(&seen, &context.settings, Timestamp::now());
    let mut after = plan.look_again.and_then(|it| Duration::try_from(it).ok());
    for job in &plan.remove {
        if !context.waiting.retire(namespace, job) {
            after = Some(SOON);
            continue;
        }
        match context.cluster.stop(namespace, job).await {
            Ok(()) => tracing::debug!(namespace, job, "a runner that waited is thrown away"),
            // The others are looked after.
            Err(error) if error.refusal().is_some() => {
                tracing::debug!(namespace, job, %error, "a runner that waited cannot be thrown away");
            }
            Err(error) => return Err(error.into()),
        }
    }
    for job in plan.hopeless {
        context.candidates.gives_up(job);
    }
    for attempt in &plan.make {
        make(namespace, attempt, context).await?;
    }
    let some = !plan.make.is_empty() || !seen.jobs.is_empty();
    context.candidates.found(of, some);
    Ok(after)
}

/// What matters of a Builder; none where it is another installation's.
async fn see(of: &Name, context: &Context) -> Result<Option<Seen>, Error> {
    let (namespace, name) = of;
    let (builder, mut jobs) = futures::try_join!(
        context.cluster.builder(namespace, name),
        context.cluster.in_advance(namespace, name),
    )?;
    // Anybody may write labels: what has another name or owner is somebody else's, and costs nothing more.
    jobs.retain(|job| owner(job).is_some());
    let ours = |builder: &Builder| {
        let selected = context.cluster.selects(builder);
        match admit(builder, &context.settings.installation, selected) {
            Admission::Ours => Some(true),
            Admission::Theirs(_) => None,
            Admission::Claim | Admission::Nobodys => Some(false),
        }
    };
    let builder = match builder {
        None => None,
        Some(builder) => match ours(&builder) {
            None => return Ok(None),
            Some(is) => Some(builder).filter(|_| is),
        },
    };
    let now = Timestamp::now();
    let first = builder.as_ref().map_or_else(Vec::new, |builder| {
        let (most, idle) = (most(builder), waits(builder));
        context.candidates.first(of, most, idle, now)
    });
    let owners = jobs.iter().filter_map(owner).map(str::to_owned);
    let asked: BTreeSet<String> = owners.take(OWNERS).chain(first.iter().cloned()).collect();
    let mut seen = Seen::default();
    for name in asked {
        if let Some(build) = context.cluster.image_build(namespace, &name).await? {
            seen.builds.insert(name, build);
        }
    }
    Ok(Some(Seen {
        builder,
        first,
        jobs,
        ..seen
    }))
}

/// The ImageBuild that a Job belongs to; none where its name or its owner is not as Whittle gives them.
fn owner(job: &Job) -> Option<&str> {
    let owners = job.owner_references().iter();
    let mut owners = owners.filter(|it| it.controller == Some(true) && it.kind == "ImageBuild");
    let owner = owners.next()?.name.as_str();
    let good = names::is_attempt(&job.name_any()) && names::is_object(owner);
    good.then_some(owner)
}

async fn make(namespace: &str, attempt: &Attempt, context: &Context) -> Result<(), Error> {
    let job = attempt.job.name_any();
    if context.candidates.is_hopeless(&job) {
        return Ok(());
    }
    let labels = attempt.job.labels();
    let token = context.authority.credentials().token(&Credential {
        namespace: namespace.to_owned(),
        uid: labels
            .get(names::IMAGE_BUILD_UID)
            .cloned()
            .unwrap_or_default(),
        job: job.clone(),
    });
    let Err(error) = context.cluster.start_in_advance(attempt, &token).await else {
        tracing::debug!(namespace, job, "a runner is made in advance");
        return Ok(());
    };
    if error.refusal().is_none() {
        return Err(error.into());
    }
    // A quota or a policy: a build says so, and no build has begun.
    tracing::info!(namespace, job, %error, "no runner is made in advance: denied by the API server");
    context.candidates.gives_up(job.clone());
    context.cluster.stop(namespace, &job).await?;
    Ok(())
}
