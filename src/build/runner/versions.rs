//! `git.ref.semver`: the tag that is built. BuildKit knows no ranges; the server is asked for its tags before it fetches one.

use std::path::Path;

use super::files::ssh_refusal;
use crate::failure::plain;
use crate::request::BuildRequest;
use whittle_api::{Failure, FailureReason, GitRef, GitSource};
use whittle_git::{Auth, Error, Http, Kind, Range, Remote, Wanted, look};

/// The request with the tag in the place of the range; none where the source names no range.
pub(super) async fn located(request: &BuildRequest) -> Result<Option<BuildRequest>, Failure> {
    let git = request.inputs.source.git.as_ref();
    let Some((git, range)) =
        git.and_then(|git| Some((git, git.reference.as_ref()?.semver.as_ref()?)))
    else {
        return Ok(None);
    };
    if let Some(refusal) = ssh_refusal(git, &request.place) {
        return Err(refusal);
    }
    let tag = newest(git, range, &request.place.git_auth)
        .await
        .map_err(|error| {
            let secret = git.secret_ref.as_ref().map(|secret| secret.name.as_str());
            plain(reason(error.kind), error.told(&git.url, secret))
        })?;
    let said = format!("source: tag {tag} is the newest version in the range {range}");
    request.place.say(&said);
    let mut located = request.clone();
    if let Some(git) = &mut located.inputs.source.git {
        git.reference = Some(GitRef {
            tag: Some(tag),
            ..GitRef::default()
        });
    }
    Ok(Some(located))
}

/// The tag with the newest version in the range. `mounted`: the folder of the Secret of `git.secretRef`.
async fn newest(git: &GitSource, range: &str, mounted: &Path) -> Result<String, Error> {
    let remote = Remote::parse(&git.url)?;
    let auth = Auth::read(mounted, &remote)?;
    let wanted = Wanted::Versions(Range::parse(range)?);
    let revision = look(&Http::new()?, &remote, &auth, &wanted).await?;
    // `tag@sha1:commit`; a tag may hold an @ itself.
    let tag = revision.rsplit_once('@').map_or("", |(tag, _)| tag);
    Ok(tag.to_owned())
}

fn reason(kind: Kind) -> FailureReason {
    match kind {
        Kind::Url | Kind::NotFound | Kind::NoRef | Kind::NoMatch | Kind::Range => {
            FailureReason::SourceNotFound
        }
        Kind::Denied | Kind::HostKey => FailureReason::SourceDenied,
        Kind::Unreachable | Kind::RateLimited | Kind::Redirect | Kind::Protocol => {
            FailureReason::SourceUnreachable
        }
    }
}
