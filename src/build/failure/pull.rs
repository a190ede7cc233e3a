//! Layers of base images that could not be pulled. BuildKit pulls them when a step needs them, and blames that step.

use super::outside::CA_FIELD;
use super::registry::{Fault, cause, fault};
use super::{Again, Case, Finding};
use whittle_api::FailureReason;

impl Case<'_> {
    pub(super) fn pull(&self, line: &mut Option<i32>) -> Option<Finding> {
        let said = self.error;
        let broke = said.contains("short read: expected ");
        let pulls = broke || said.contains("httpReadSeeker: ");
        if !pulls || self.ended.is_some() || said.contains("failed to push ") {
            return None;
        }
        let image = self.pulled(line);
        let head = format!("a layer of base image {image}");
        let said = said.rsplit_once("failed open: ").map_or(said, |(_, it)| it);
        Some(match fault(said) {
            Fault::Away => (
                FailureReason::BaseImageUnreachable,
                format!(
                    "{head}: its registry is unreachable or unavailable: {}",
                    cause(said)
                ),
                Again::Later,
            ),
            _ if broke => (
                FailureReason::BaseImageUnreachable,
                format!(
                    "{head} is truncated: {}",
                    said.rsplit_once("cache key: ").map_or(said, |(_, it)| it)
                ),
                Again::Later,
            ),
            Fault::Denied => (
                FailureReason::BaseImageDenied,
                format!(
                    "{head}: access denied: {}; check the credentials in the Secret of \
                        output.secretRef",
                    cause(said)
                ),
                Again::No,
            ),
            Fault::NotFound => (
                FailureReason::BaseImageNotFound,
                format!(
                    "{head} not found in its registry: push the image again, or use another tag"
                ),
                Again::No,
            ),
            Fault::Untrusted => (
                FailureReason::BuildFailed,
                format!(
                    "{head}: the certificate is not trusted: {}; set its CA in {CA_FIELD}",
                    cause(said)
                ),
                Again::No,
            ),
            Fault::Refused | Fault::Unclear => (
                FailureReason::BuildFailed,
                format!("{head} cannot be read: {}", cause(said)),
                Again::No,
            ),
        })
    }

    /// The image that was pulled, and the line that names it.
    fn pulled(&self, line: &mut Option<i32>) -> String {
        let by_url = repository_of(self.error);
        let step = self.instruction();
        let from = step.and_then(|one| {
            let mut words = one.text.split_whitespace();
            words.find_map(|word| word.strip_prefix("--from="))
        });
        // What a step is copied from, where it is an image; else the first one that the stage comes from.
        if let Some(from) = from.filter(|from| self.lines.stage(from).is_none()) {
            return by_url.unwrap_or_else(|| from.to_owned());
        }
        let mut stage = match from {
            Some(from) => self.lines.stage(from),
            None => step.and_then(|one| one.stage),
        };
        let mut base = None;
        while let Some(at) = stage {
            let found = &self.lines.stages[at];
            base = Some(found);
            stage = self.lines.stage(&found.base).filter(|above| *above < at);
        }
        *line = base.map(|base| base.line).or(*line);
        let named = || base.map(|base| base.base.clone());
        by_url
            .or_else(named)
            .unwrap_or_else(|| "of the step".into())
    }
}

/// `host/repository` of the URL of a blob.
fn repository_of(error: &str) -> Option<String> {
    let (before, _) = error.split_once("/blobs/")?;
    let (_, url) = before.rsplit_once("://")?;
    let (host, path) = url.split_once("/v2/")?;
    let plain = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    (plain(host) && plain(path)).then(|| format!("{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{judge_with, request};
    use super::super::{Again, Facts};
    use whittle_api::FailureReason as R;

    /// As BuildKit 0.33.1 said it, hosts changed.
    #[test]
    fn a_layer_that_cannot_be_pulled_is_the_base_images_not_the_steps() {
        const OPEN: &str =
            "failed to compute cache key: failed to copy: httpReadSeeker: failed open: ";
        const URL: &str = "unexpected status from GET request to https://r.example.com/v2/team/base/blobs/sha256:059f: ";
        let facts = Facts {
            dockerfile: Some("FROM r.example.com/team/base:1 AS base\nFROM base\nRUN x\n".into()),
            ..Facts::default()
        };
        for (said, reason, words) in [
            (
                format!("{OPEN}{URL}503 Service Unavailable"),
                R::BaseImageUnreachable,
                "503 Service Unavailable",
            ),
            (
                format!("{OPEN}{URL}500 Internal Server Error\nunknown: no space left on device"),
                R::BaseImageUnreachable,
                "500 Internal Server Error",
            ),
            (
                format!("{OPEN}{URL}401 Unauthorized"),
                R::BaseImageDenied,
                "output.secretRef",
            ),
            (
                format!("{OPEN}could not fetch content descriptor sha256:059f (application/vnd.oci.image.layer.v1.tar+gzip) from remote: not found"),
                R::BaseImageNotFound,
                "not found in its registry",
            ),
            (
                "failed to compute cache key: short read: expected 1751823 bytes but got 5000: unexpected EOF".into(),
                R::BaseImageUnreachable,
                "expected 1751823 bytes but got 5000",
            ),
            (
                format!("{OPEN}failed to do request: Get \"https://r.example.com/v2/team/base/blobs/sha256:059f\": dial tcp 10.0.0.9:443: connect: connection refused"),
                R::BaseImageUnreachable,
                "connection refused",
            ),
        ] {
            let text = format!(
                "Dockerfile:3\n--------------------\n   2 |     FROM base\n   3 | >>> RUN x\n--------------------\nerror: failed to solve: {said}"
            );
            let vertex = ("[stage-1 1/1] RUN x", said.as_str(), "");
            let verdict = judge_with(&request(), &facts, vertex, &text);
            let failure = &verdict.failure;
            assert_eq!(failure.reason, reason, "{failure:#?}");
            assert_eq!(failure.dockerfile_line, Some(1), "{failure:#?}");
            assert!(failure.message.contains("r.example.com/team/base"), "{failure:#?}");
            assert!(failure.message.contains(words), "{failure:#?}");
            let away = reason == R::BaseImageUnreachable;
            assert_eq!(verdict.again == Again::Later, away, "{failure:#?}");
        }
    }
}
