//! `spec.minimize`: what the program of an image never reaches is left out of it, before the contract is judged.

use super::contents;
use super::finish::{Checked, Held, Pushed, Stored, Trouble, check};
use super::reach::sought_again;
pub(super) use super::reach::{Could, Sought, sought, too_little};
use crate::contract;
use crate::minimized::{Full, FullPlatform, Minimized, ToTry};
use crate::request::{BuildRequest, ReportRef, Tagging, Tried};
use whittle_api::{
    ContentsStatus, LeftOut, MinimizeMode, MinimizeOutcome, OnFailure, PlatformStatus, Rejected,
};
use whittle_dockerfile::advice::{Hint, HintKind};
use whittle_image::smaller::index;
use whittle_image::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, digest_of, display_size};
use whittle_registry::{Client, SmallerError};

/// A pushed image that was read back, and what its contents say.
pub(super) struct Judged {
    pub pushed: Pushed,
    pub checked: Checked,
    pub held: Held,
}

/// What is told of a smaller image beside the one that the tags are to point to.
#[derive(Default)]
pub(super) struct Told {
    pub minimized: Option<Minimized>,
    /// That much could go.
    pub hint: Option<String>,
}

/// What could go of an image, or has gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    /// Bytes that its largest platform has without, or would have.
    pub size: Option<i64>,
    /// The largest of it first.
    pub left: Vec<LeftOut>,
    /// A sentence for people.
    pub message: String,
}

/// What became of it.
pub(super) enum Outcome {
    /// Nobody asks for it, and there is nothing to say.
    Nothing,
    /// Nobody asks for it, and much could go.
    Hint(String),
    /// So much could go.
    Suggested(Found),
    /// So little would go that nothing was changed.
    TooLittle(Found),
    /// Why what the program reaches is unknown.
    NotPossible(String),
    /// The smaller image of this full one did not answer in the build before.
    Before(Rejected),
    /// The full image is to be tried first.
    ToTry(ToTry),
    /// The smaller image is pushed.
    Made(Pushed, Found),
}

/// The image that the tags are to point to, and what is told of it: the smaller one where one was made, else the full one.
pub(super) async fn choose(
    client: &Client,
    request: &BuildRequest,
    full: Judged,
    sought: Option<&Sought>,
) -> Result<(Judged, Told), Trouble> {
    let (pushed, found) = match smaller(client, request, &full, sought).await? {
        Outcome::Made(pushed, found) => (pushed, found),
        other => {
            return Ok((full, say(request, told(other))));
        }
    };
    let mut checked = check(client, &pushed).await?;
    let held = contents::hold(client, request, &mut checked.platforms, None).await?;
    let small = Judged {
        pushed,
        checked,
        held,
    };
    if let Some(why) = breaks_more(request, &small, &full) {
        let told = told(Outcome::NotPossible(why));
        return Ok((full, say(request, told)));
    }
    for stored in &small.checked.platforms {
        let PlatformStatus {
            platform,
            digest,
            size,
            ..
        } = &stored.status;
        let size = display_size(*size);
        request.place.say(&format!(
            "smaller {platform} {}@{digest} {size}",
            request.inputs.output.image
        ));
    }
    request.place.say(&format!("minimize: {}", found.message));
    let exercised = (request.inputs.minimize.as_ref()).is_some_and(|it| !it.exercise.is_empty());
    let to_try = sought.filter(|_| exercised);
    let to_try = to_try.map(|it| it.to_try(&request.job, &small.checked.platforms));
    let minimized = Minimized {
        starts: to_try.map(|it| it.platforms).unwrap_or_default(),
        ..made(&small, full, found)
    };
    let told = Told {
        minimized: Some(minimized),
        hint: None,
    };
    Ok((small, told))
}

/// What is left of the image without that which its program never reaches.
async fn smaller(
    client: &Client,
    request: &BuildRequest,
    full: &Judged,
    sought: Option<&Sought>,
) -> Result<Outcome, Trouble> {
    let Some(sought) = sought else {
        return Ok(Outcome::Nothing);
    };
    if let Some(known) = known(request, &full.pushed.digest) {
        return Ok(known);
    }
    let applies = request
        .inputs
        .minimize
        .as_ref()
        .map(|it| it.mode == MinimizeMode::Apply);
    match (applies, find(client, request, full, sought).await) {
        (Some(true), outcome) => outcome,
        // Nothing depends on it.
        (Some(false), Err(trouble)) => Ok(Outcome::NotPossible(trouble.to_string())),
        (None, Err(_) | Ok(Outcome::NotPossible(_))) => Ok(Outcome::Nothing),
        (_, Ok(outcome)) => Ok(outcome),
    }
}

/// What needs no look at the image.
fn known(request: &BuildRequest, full: &str) -> Option<Outcome> {
    let minimize = request.inputs.minimize.as_ref()?;
    if minimize.mode != MinimizeMode::Apply {
        return None;
    }
    if request.inputs.health_check.is_none() {
        let why = "mode Apply requires spec.healthCheck: only an image that answers it shows that nothing is missing";
        return Some(Outcome::NotPossible(why.into()));
    }
    let before = request.rejected.as_ref().filter(|it| it.full == full)?;
    Some(Outcome::Before(Rejected {
        reason: before.reason,
        message: before.message.clone(),
        input: String::new(),
    }))
}

/// Looks for what could go; where `spec.minimize` is to be applied, makes the smaller image and pushes it by its digest.
async fn find(
    client: &Client,
    request: &BuildRequest,
    full: &Judged,
    sought: &Sought,
) -> Result<Outcome, Trouble> {
    let platforms = &full.checked.platforms;
    let all = || platforms.iter().filter_map(|it| it.could.as_ref());
    if let Some(why) = all().find_map(|could| could.unsure.as_ref()) {
        return Ok(Outcome::NotPossible(why.clone()));
    }
    let size = |stored: &Stored| stored.status.size;
    let largest = platforms.iter().max_by_key(|it| size(it));
    let Some((stored, could)) = largest.and_then(|it| Some((it, it.could.as_ref()?))) else {
        return Ok(Outcome::Nothing);
    };
    let program = stored.config.command().first().cloned();
    let found = could.found(size(stored), program.as_deref());
    let mode = request.inputs.minimize.as_ref().map(|it| it.mode);
    if !all().any(Could::is_much) {
        return Ok(match mode {
            None => Outcome::Nothing,
            Some(_) => Outcome::TooLittle(too_little(size(stored), found)),
        });
    }
    match mode {
        None if could.is_worth_a_hint(size(stored)) => {
            return Ok(Outcome::Hint(could.advised(found).message));
        }
        None => return Ok(Outcome::Nothing),
        Some(MinimizeMode::Suggest) => return Ok(Outcome::Suggested(could.advised(found))),
        Some(MinimizeMode::Apply) => {}
    }
    let asked = request.inputs.minimize.as_ref();
    let traces = asked.is_some_and(|it| it.trace) && request.tagging == Tagging::Later;
    if traces || asked.is_some_and(|it| !it.exercise.is_empty()) {
        let to_try = sought.to_try(&request.job, platforms);
        if !to_try.fits() {
            let why = "ENTRYPOINT and CMD are too long for minimize.trace and minimize.exercise: more than 8 KiB";
            return Ok(Outcome::NotPossible(why.into()));
        }
        if traces {
            return Ok(Outcome::ToTry(to_try));
        }
    }
    let mut written = Vec::new();
    for stored in platforms {
        let image = sought.image(client, stored).await?;
        let reach = sought.reach(&image, stored);
        let smaller = client
            .push_smaller(client, &stored.manifest, &stored.config, image, reach)
            .await;
        match smaller {
            Ok(smaller) => written.push((stored.manifest.digest.clone(), smaller.manifest)),
            Err(SmallerError::Read(error)) if !falls_back(request) => return Err(error.into()),
            Err(error) => {
                let why = format!("the smaller image cannot be pushed: {error}");
                return Ok(Outcome::NotPossible(why));
            }
        }
    }
    let one = full.checked.media_type == OCI_MANIFEST || full.checked.media_type == DOCKER_MANIFEST;
    let digest = match &written[..] {
        [(_, manifest)] if one => digest_of(manifest),
        _ => {
            let bytes = match index(&full.checked.bytes, &written) {
                Ok(bytes) => bytes,
                Err(why) => return Ok(Outcome::NotPossible(why)),
            };
            let digest = digest_of(&bytes);
            client.put_manifest(&digest, OCI_INDEX, &bytes).await?;
            digest
        }
    };
    let platform = full.pushed.platform.clone();
    Ok(Outcome::Made(Pushed { digest, platform }, found))
}

/// The full image is used where there is no smaller one.
fn falls_back(request: &BuildRequest) -> bool {
    let minimize = request.inputs.minimize.as_ref();
    minimize.is_some_and(|it| it.on_failure == OnFailure::UseFull)
}

/// What of the contract the smaller image breaks, and the full one does not, where that one is to be used then.
fn breaks_more(request: &BuildRequest, small: &Judged, full: &Judged) -> Option<String> {
    let falls_back = falls_back(request);
    let enforced = |it: &Judged| it.held.breaches.iter().find(|it| it.enforced).cloned();
    let breach = enforced(small).filter(|_| falls_back && enforced(full).is_none())?;
    Some(format!(
        "the smaller image would break the contract: {}",
        breach.line()
    ))
}

/// What is told where the image stays as it was built.
fn told(outcome: Outcome) -> Told {
    let told = |outcome, found: Found| {
        Some(Minimized {
            outcome,
            message: found.message,
            left: found.left,
            size: found.size,
            ..Minimized::default()
        })
    };
    let (minimized, hint) = match outcome {
        Outcome::Nothing => (None, None),
        Outcome::Hint(text) => (None, Some(text)),
        Outcome::Suggested(found) | Outcome::Made(_, found) => {
            let hint = found.message.clone();
            (told(MinimizeOutcome::Suggested, found), Some(hint))
        }
        Outcome::TooLittle(found) => (told(MinimizeOutcome::TooLittle, found), None),
        Outcome::ToTry(to_try) => {
            let minimized = Minimized {
                // What stands where a report has no room for the rest.
                message: "the image could not be tried: the report on it was too large".into(),
                trial: Some(Box::new(to_try)),
                ..Minimized::default()
            };
            return Told {
                minimized: Some(minimized),
                hint: None,
            };
        }
        Outcome::NotPossible(message) => {
            let found = Found {
                message,
                ..Found::default()
            };
            (told(MinimizeOutcome::NotPossible, found), None)
        }
        Outcome::Before(rejected) => {
            let message = format!(
                "not tried again: the smaller image of the same full image was rejected before: {}",
                rejected.message
            );
            let minimized = Minimized {
                outcome: MinimizeOutcome::FullUsed,
                message,
                rejected: Some(rejected),
                ..Minimized::default()
            };
            (Some(minimized), None)
        }
    };
    Told { minimized, hint }
}

/// Says in the log what is told.
fn say(request: &BuildRequest, told: Told) -> Told {
    match &told.minimized {
        Some(minimized) if minimized.trial.is_some() => {
            let said = "minimize: the image is to be tried first";
            request.place.say(said);
        }
        Some(minimized) => {
            let (outcome, message) = (minimized.outcome, &minimized.message);
            let said = format!("minimize: {outcome:?}: {message}");
            request.place.say(&said);
        }
        None => {}
    }
    told
}

/// What is told where the smaller image was made, with what it takes to go back to the full one.
fn made(small: &Judged, full: Judged, found: Found) -> Minimized {
    let size = |judged: &Judged| {
        let all = judged.checked.platforms.iter();
        all.map(|it| it.status.size).max()
    };
    let platforms = full.checked.platforms.iter().map(|stored| {
        let status = &stored.status;
        FullPlatform {
            platform: status.platform.clone(),
            digest: status.digest.clone(),
            size: status.size,
            report: status.contents.as_ref().and_then(|it| it.report.clone()),
        }
    });
    Minimized {
        outcome: MinimizeOutcome::Applied,
        message: found.message,
        left: found.left,
        digest: Some(small.pushed.digest.clone()),
        size: size(small),
        full: Some(Full {
            size: size(&full).unwrap_or(0),
            platforms: platforms.collect(),
            breaches: full
                .held
                .breaches
                .into_iter()
                .filter(|breach| breach.rule != contract::GROWTH)
                .collect(),
            digest: full.pushed.digest,
        }),
        ..Minimized::default()
    }
}

/// Makes the smaller image of one that an earlier runner has pushed, and that was tried since.
pub(super) async fn of_tried(
    client: &Client,
    request: &BuildRequest,
    tried: &Tried,
) -> Result<(Judged, Told), Trouble> {
    let pushed = Pushed {
        digest: tried.image.clone(),
        platform: tried.platforms.first().map(|it| it.platform.clone()),
    };
    let mut checked = check(client, &pushed).await?;
    let sought = sought_again(request, &tried.of, &tried.traces, &checked.platforms);
    for stored in &mut checked.platforms {
        let known = tried.platforms.iter();
        let known = known.filter(|it| it.digest == stored.status.digest);
        let report = known.filter_map(|it| it.report.clone()).next();
        stored.status.contents = report.map(|report| ContentsStatus {
            report: Some(report),
            ..ContentsStatus::default()
        });
        let image = sought.image(client, stored).await?;
        stored.could = Some(sought.could(&image, stored));
    }
    // Growth is against smaller images: the last good one may be one of these.
    let breaches = tried
        .breaches
        .iter()
        .filter(|it| it.rule != contract::GROWTH);
    let held = Held {
        breaches: breaches.cloned().collect(),
        unhealthy: vec![],
    };
    let full = Judged {
        pushed,
        checked,
        held,
    };
    let (judged, mut told) = choose(client, request, full, Some(&sought)).await?;
    if let Some(minimized) = &mut told.minimized {
        minimized.not_held.clone_from(&tried.not_held);
        if let Some(note) = &tried.note {
            minimized.message = format!("{}; {note}", minimized.message);
        }
    }
    Ok((judged, told))
}

/// The full image, read back as the smaller one was: its own report says what it holds. Where there is none, the tags move
/// all the same.
pub(super) async fn read_back(
    client: &Client,
    request: &BuildRequest,
    digest: &str,
    full: &[FullPlatform],
) -> Result<Checked, Trouble> {
    let pushed = Pushed {
        digest: digest.to_owned(),
        platform: full.first().map(|it| it.platform.clone()),
    };
    let mut checked = check(client, &pushed).await?;
    for stored in &mut checked.platforms {
        let status = &mut stored.status;
        let known = full.iter().find(|it| it.digest == status.digest);
        let Some(report) = known.and_then(|it| it.report.clone()) else {
            continue;
        };
        let wanted = ReportRef {
            platform: status.platform.clone(),
            digest: status.digest.clone(),
            size: status.size,
            report,
        };
        match contents::fetch(client, &wanted).await {
            Ok(contents) => status.contents = Some(contents),
            Err(error) => {
                let said = format!("cannot read the report on the full image: {error}");
                request.place.say(&said);
            }
        }
    }
    Ok(checked)
}

/// That much could go, as a hint.
pub(super) fn hint(message: &str) -> Hint {
    Hint {
        kind: HintKind::SmallerImage,
        line: None,
        message: whittle_api::bounded(message.to_owned(), 600),
    }
}

#[cfg(test)]
#[path = "minimize_tests.rs"]
mod tests;
