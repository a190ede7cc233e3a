//! An early report is believed until the runner's Pod has ended; what the Pod ended with is the record.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::report::Report;
use crate::api::{FailureReason, ImageBuildStatus, bounded};
use crate::image::digest_of;
use crate::packed::{deflate, inflate};

/// Bytes of a status that is kept, packed. Where one has more, the programs of its images are left out.
const KEPT: usize = 256 * 1024;
/// The most that one may expand to.
const EXPANDED: u64 = 4 * 1024 * 1024;

/// What a report says that does not depend on how long it may be: texts, hints, layers and what images hold are
/// cut to fit into a termination message.
#[derive(Serialize)]
enum Essence<'a> {
    Succeeded {
        digest: &'a str,
        platforms: Vec<(&'a str, &'a str, i64)>,
        debug: Option<&'a str>,
        revision: Option<String>,
    },
    Failed {
        reason: FailureReason,
        image: Option<&'a str>,
    },
}

/// Digest of what two reports of one attempt must agree on.
pub fn essence(report: &Report) -> String {
    let essence = match report {
        Report::Succeeded(built) => Essence::Succeeded {
            digest: &built.digest,
            platforms: built
                .platforms
                .iter()
                .map(|p| (p.platform.as_str(), p.digest.as_str(), p.size))
                .collect(),
            debug: built.debug.as_ref().map(|debug| debug.digest.as_str()),
            // As long as a termination message leaves it.
            revision: built.revision.clone().map(|text| bounded(text, 256)),
        },
        Report::Failed(failed) => Essence::Failed {
            reason: failed.failure.reason,
            image: failed.failure.image.as_deref(),
        },
    };
    digest_of(&serde_json::to_vec(&essence).expect("plain data is always JSON"))
}

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
