//! `spec.minimize`: what stands in the status of it, and what becomes of a build whose smaller image did not answer its
//! health check.

use k8s_openapi::jiff::Timestamp;

use super::gate::How;
use super::status::{self, Notice};
use whittle_api::{
    ContentsStatus, Failure, FailureReason, ImageBuild, ImageBuildStatus, MINIMIZED,
    MinimizeOutcome, MinimizedStatus, OnFailure, PlatformStatus, Reason, Rejected, Rejection,
    bounded, clear,
};
use whittle_build::contract;
use whittle_build::inputs::requested_at;
use whittle_build::minimized::{Full, FullPlatform, Minimized, RejectedBefore};
use whittle_build::report::{Built, Failed};
use whittle_image::{digest_of, display_size};

/// Bytes that are kept of what the Pod of a smaller image said.
const WORDS: usize = 700;
/// Of these, its last lines.
const LINES: usize = 300;

/// What follows where a smaller image did not answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The full image is checked.
    Full(Box<Built>),
    /// The build ends.
    Ends(Box<Failed>),
}

/// A smaller image that did not answer.
#[derive(Clone, Debug, PartialEq)]
pub struct NotAnswered {
    /// How.
    pub rejected: Rejected,
    /// What follows.
    pub next: Next,
}

impl NotAnswered {
    /// As the condition has it.
    pub fn reason(&self) -> Reason {
        reason(self.rejected.reason)
    }

    /// An Event.
    pub fn notice(&self) -> Notice {
        Notice {
            warning: true,
            reason: self.reason(),
            message: self.rejected.message.clone(),
        }
    }
}

fn reason(rejection: Rejection) -> Reason {
    match rejection {
        Rejection::DoesNotStart => Reason::DoesNotStart,
        Rejection::NotReady => Reason::NotReady,
    }
}

/// Digest of all that another try of a smaller image depends on, but for the full image: a person who asks for a build has
/// it tried again, and so has another version of Whittle.
pub fn input(build: &ImageBuild) -> String {
    let spec = &build.spec;
    let all = (
        &spec.minimize,
        &spec.health_check,
        requested_at(build),
        &spec.rebuild,
        env!("CARGO_PKG_VERSION"),
    );
    digest_of(&serde_json::to_vec(&all).expect("plain data is always JSON"))
}

/// The smaller image that was rejected in the last good build, where another try would be the same.
pub fn before(build: &ImageBuild, status: &ImageBuildStatus) -> Option<RejectedBefore> {
    let known = status.minimized.as_ref()?;
    let rejected = known.rejected.as_ref()?;
    let same = known.outcome == MinimizeOutcome::FullUsed && rejected.input == input(build);
    same.then(|| RejectedBefore {
        full: known.full_digest.clone(),
        reason: rejected.reason,
        message: rejected.message.clone(),
    })
}

/// The full image beside a smaller one that is not used; none where the report is about another.
pub fn full(built: &Built) -> Option<&Full> {
    let minimized = built.minimized.as_deref()?;
    let full = minimized.full.as_ref()?;
    (minimized.outcome != MinimizeOutcome::Applied).then_some(full)
}

/// Its platforms, for the runner that moves the tags: empty where the report is about another image.
pub fn full_platforms(built: &Built) -> Vec<FullPlatform> {
    let Some(full) = full(built) else {
        return vec![];
    };
    if !full.platforms.is_empty() {
        return full.platforms.clone();
    }
    let known = built.platforms.iter();
    known
        .map(|platform| FullPlatform {
            platform: platform.platform.clone(),
            digest: platform.digest.clone(),
            size: platform.size,
            report: None,
        })
        .collect()
}

/// What follows where the image of this report did not answer its health check; none where it is not a smaller one.
pub fn not_answered(
    build: &ImageBuild,
    built: &Built,
    failure: &Failure,
    how: How,
) -> Option<NotAnswered> {
    let minimized = built.minimized.as_deref()?;
    if minimized.outcome != MinimizeOutcome::Applied {
        return None;
    }
    let rejected = Rejected {
        reason: match how {
            How::TimedOut => Rejection::NotReady,
            How::Ended | How::NotTried => Rejection::DoesNotStart,
        },
        message: words(failure),
        // What was never tried is tried again.
        input: match how {
            How::NotTried => String::new(),
            How::Ended | How::TimedOut => input(build),
        },
    };
    let asked = build.spec.minimize.as_ref();
    let falls_back = asked.is_none_or(|it| it.on_failure == OnFailure::UseFull);
    let next = match &minimized.full {
        Some(full) if falls_back => {
            let help = match asked.is_some_and(|it| it.trace) {
                true => "list what it needs in spec.minimize.keep",
                false => {
                    "set spec.minimize.trace: true, or list what it needs in spec.minimize.keep"
                }
            };
            let message = format!("the full image is used: {}; {help}", rejected.message);
            let told = Minimized {
                outcome: MinimizeOutcome::FullUsed,
                message,
                rejected: Some(rejected.clone()),
                ..minimized.clone()
            };
            fall_back(build, built, full, told)
        }
        full => {
            let stands = full.as_ref().map_or_else(String::new, |full| {
                format!(
                    "; the full image is {}@{}",
                    build.spec.output.image, full.digest
                )
            });
            let failure = Failure {
                reason: FailureReason::HealthCheckFailed,
                message: format!(
                    "{}{stands}: list what it needs in spec.minimize.keep, or set spec.minimize.onFailure: UseFull",
                    rejected.message
                ),
                ..failure.clone()
            };
            Next::Ends(Box::new(built.clone().rejected(failure)))
        }
    };
    Some(NotAnswered { rejected, next })
}

/// What follows where nothing could show that the smaller image works; none where the image of this report is not one.
pub fn unproven(build: &ImageBuild, built: &Built) -> Option<Next> {
    let minimized = built.minimized.as_deref()?;
    let full = minimized.full.as_ref()?;
    if minimized.outcome != MinimizeOutcome::Applied {
        return None;
    }
    let message = "the full image is used: no node of the cluster has a platform of the image, so the smaller one could not be \
        checked";
    let told = Minimized {
        outcome: MinimizeOutcome::NotPossible,
        message: message.into(),
        ..minimized.clone()
    };
    Some(fall_back(build, built, full, told))
}

/// The full image takes the place of the smaller one, where it keeps its contract.
fn fall_back(build: &ImageBuild, built: &Built, full: &Full, told: Minimized) -> Next {
    let image = format!("{}@{}", build.spec.output.image, full.digest);
    let contract = build.spec.contract.clone().unwrap_or_default();
    let Some(broken) = contract::failure(&full.breaches, &contract, &image) else {
        return Next::Full(Box::new(instead(built, full, told)));
    };
    let built = Built {
        breaches: full.breaches.clone(),
        ..built.clone()
    };
    let message = format!(
        "{}, but it breaks the contract: {}",
        told.message, broken.message
    );
    let broken = Failure { message, ..broken };
    Next::Ends(Box::new(built.rejected(broken)))
}

/// What the Pod said, in one line.
fn words(failure: &Failure) -> String {
    let mut said = format!(
        "the smaller image did not answer its health check: {}",
        failure.message
    );
    let lines = failure.log.as_deref().unwrap_or_default().lines();
    let mut last = String::new();
    for line in lines.rev().map(str::trim).filter(|it| !it.is_empty()) {
        if last.len() + line.len() > LINES && !last.is_empty() {
            break;
        }
        last = match last.is_empty() {
            true => bounded(line.to_owned(), LINES),
            false => format!("{line} | {last}"),
        };
    }
    said = bounded(said, WORDS - LINES);
    match last.is_empty() {
        true => said,
        false => format!("{said}; its last lines: {last}"),
    }
}

/// The report on the full image, as far as it is known: what it holds is read back by the runner that moves its tags.
fn instead(built: &Built, full: &Full, told: Minimized) -> Built {
    let platforms = built.platforms.iter().map(|small| {
        let known = full
            .platforms
            .iter()
            .find(|it| it.platform == small.platform);
        PlatformStatus {
            platform: small.platform.clone(),
            // A node takes its own platform out of the index.
            digest: known.map_or(&full.digest, |it| &it.digest).clone(),
            size: known.map_or(full.size, |it| it.size),
            solve: small.solve,
            layers: vec![],
            // As whom its Pod runs is the same in both.
            contents: small.contents.as_ref().map(|contents| ContentsStatus {
                user: contents.user.clone(),
                user_id: contents.user_id,
                root: contents.root,
                ..ContentsStatus::default()
            }),
        }
    });
    Built {
        digest: full.digest.clone(),
        platforms: platforms.collect(),
        breaches: full.breaches.clone(),
        minimized: Some(Box::new(told)),
        ..built.clone()
    }
}

/// The report on an image that was made smaller after its trial, or was not: what the runner before has told of the build stays.
pub fn merged(full: Built, told: Built) -> Built {
    let platforms = match told.digest == full.digest {
        true => full.platforms,
        false => with_solves(told.platforms, &full.platforms),
    };
    Built {
        digest: told.digest,
        platforms,
        breaches: told.breaches,
        // A second trial would come to the same.
        minimized: told
            .minimized
            .map(|it| Box::new(Minimized { trial: None, ..*it })),
        advice: full.advice.into_iter().chain(told.advice).collect(),
        ..full
    }
}

/// These platforms, each built where that of the other report was: whoever told of them has built nothing.
fn with_solves(platforms: Vec<PlatformStatus>, built: &[PlatformStatus]) -> Vec<PlatformStatus> {
    let of = |platform: PlatformStatus| {
        let known = built.iter().find(|it| it.platform == platform.platform);
        PlatformStatus {
            solve: platform.solve.or(known.and_then(|it| it.solve)),
            ..platform
        }
    };
    platforms.into_iter().map(of).collect()
}

/// The report on what was tagged: of a full image beside a smaller one the runner that moved the tags says what it holds.
pub fn tagged(pushed: Built, told: Built) -> Built {
    if full(&pushed).is_none() {
        return pushed;
    }
    let platforms = match told.platforms.is_empty() {
        false => with_solves(told.platforms, &pushed.platforms),
        true => pushed
            .platforms
            .into_iter()
            .map(|platform| PlatformStatus {
                contents: None,
                ..platform
            })
            .collect(),
    };
    Built {
        platforms,
        ..pushed
    }
}

/// Enters what became of it into the status of an image that its tags point to: of this digest and size.
pub fn enter(
    status: &mut ImageBuildStatus,
    build: &ImageBuild,
    minimized: Option<Box<Minimized>>,
    (digest, size): (&str, Option<i64>),
    now: Timestamp,
) {
    let Some(minimized) = minimized.map(|it| *it) else {
        status.minimized = None;
        clear(&mut status.conditions, MINIMIZED);
        return;
    };
    let (full_digest, full_size) = match &minimized.full {
        Some(full) => (full.digest.clone(), Some(full.size)),
        None => (digest.to_owned(), size),
    };
    // Of one that was not tried again, what was tried.
    let known = status.minimized.take().filter(|known| {
        minimized.outcome == MinimizeOutcome::FullUsed && known.full_digest == full_digest
    });
    let known = known.unwrap_or_default();
    let entered = MinimizedStatus {
        outcome: minimized.outcome,
        digest: minimized.digest.or(known.digest),
        size: minimized.size.or(known.size),
        full_digest,
        full_size,
        left: match minimized.left.is_empty() {
            true => known.left,
            false => minimized.left,
        },
        message: minimized.message,
        rejected: minimized.rejected.map(|rejected| Rejected {
            input: match (rejected.input.is_empty(), known.rejected) {
                (true, Some(known)) => known.input,
                _ => rejected.input,
            },
            ..rejected
        }),
    };
    let (applied, reason) = match entered.outcome {
        MinimizeOutcome::Applied => (true, Reason::Applied),
        MinimizeOutcome::Suggested => (false, Reason::Suggested),
        MinimizeOutcome::TooLittle => (false, Reason::TooLittle),
        MinimizeOutcome::NotPossible => (false, Reason::NotPossible),
        MinimizeOutcome::FullUsed => {
            let rejected = entered.rejected.as_ref();
            let how = rejected.map_or(Rejection::default(), |it| it.reason);
            (false, self::reason(how))
        }
    };
    let sizes = entered.size.zip(entered.full_size).filter(|_| applied);
    let message = match sizes {
        Some((small, full)) => format!(
            "{} instead of {}: {}",
            display_size(small),
            display_size(full),
            entered.message
        ),
        None => entered.message.clone(),
    };
    let why = (reason, message.as_str());
    status::put(status, build, MINIMIZED, Some(applied), why, now);
    status.minimized = Some(entered);
}

/// Of an image that was made smaller, what it was before, for the message on its success.
pub fn instead_of(status: &ImageBuildStatus) -> String {
    let applied = |it: &&MinimizedStatus| it.outcome == MinimizeOutcome::Applied;
    let full = status.minimized.as_ref().filter(applied);
    match full.and_then(|it| it.full_size) {
        Some(size) => format!(" instead of {}", display_size(size)),
        None => String::new(),
    }
}
