//! An early report is believed until the runner's Pod has ended; what the Pod ended with is the record.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::report::Report;
use whittle_api::{ImageBuildStatus, bounded};
use whittle_image::packed::{deflate, inflate};

/// Bytes of a status that is kept, packed. Where one has more, the programs of its images are left out.
const KEPT: usize = 256 * 1024;
/// The most that one may expand to.
const EXPANDED: u64 = 4 * 1024 * 1024;

/// A report in a few words.
pub fn told(report: &Report) -> String {
    match report {
        Report::Succeeded(built) => format!("success with {}", bounded(built.digest.clone(), 80)),
        Report::Failed(failed) => format!("failure {}", failed.failure.reason),
    }
}

/// A status, packed, so that it can be gone back to.
pub fn keep(status: &ImageBuildStatus) -> String {
    let pack = |status: &ImageBuildStatus| {
        let json = serde_json::to_vec(status).expect("a status is always JSON");
        STANDARD.encode(deflate(&json))
    };
    let kept = pack(status);
    if kept.len() <= KEPT {
        return kept;
    }
    let mut less = status.clone();
    for platform in &mut less.platforms {
        platform.contents = None;
        platform.layers.clear();
    }
    pack(&less)
}

/// What [`keep`] was given; none where that cannot be read.
pub fn restore(kept: &str) -> Option<ImageBuildStatus> {
    let json = inflate(&STANDARD.decode(kept).ok()?, EXPANDED).ok()?;
    serde_json::from_slice(&json).ok()
}

/// What is known of an ImageBuild beyond its runner's early word: its status, or what stood before where the record
/// has not been seen yet. For all that has consequences for others.
pub fn recorded(status: &ImageBuildStatus) -> Cow<'_, ImageBuildStatus> {
    match &status.early {
        None => Cow::Borrowed(status),
        Some(early) => Cow::Owned(restore(&early.before).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;
    use whittle_api::PlatformStatus;

    #[test]
    fn an_early_word_is_not_the_record() {
        let before = ImageBuildStatus {
            digest: Some("sha256:aa".into()),
            ..ImageBuildStatus::default()
        };
        assert_eq!(*recorded(&before), before);
        let told = ImageBuildStatus {
            digest: Some("sha256:66".into()),
            early: Some(whittle_api::Early {
                job: "job".into(),
                digest: "sha256:00".into(),
                before: keep(&before),
                until: Time(Timestamp::UNIX_EPOCH),
            }),
            ..ImageBuildStatus::default()
        };
        assert_eq!(*recorded(&told), before);
    }

    #[test]
    fn a_status_is_gone_back_to_as_it_was() {
        let status = ImageBuildStatus {
            digest: Some("sha256:aa".into()),
            build: Some(3),
            platforms: vec![PlatformStatus {
                platform: "linux/amd64".into(),
                digest: "sha256:bb".into(),
                size: 1,
                solve: None,
                layers: vec![],
                contents: None,
            }],
            ..ImageBuildStatus::default()
        };
        assert_eq!(restore(&keep(&status)), Some(status));
        assert_eq!(restore("garbage"), None);
        assert_eq!(restore(""), None);
    }
}
