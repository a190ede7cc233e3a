//! What a runner reports of `spec.minimize`: what became of it, and what is needed to go back to the full image.

use serde::{Deserialize, Serialize};

use super::bounds::{NAME, PLATFORMS, SENTENCE, line};
use super::contract::Breach;
use whittle_api::{LeftOut, MinimizeOutcome, Rejected, Rejection};

/// Largest things left out that are told.
pub const LEFT: usize = 3;
/// Bytes of a path that is told.
const PATH: usize = 256;

/// What became of `spec.minimize` in an image.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Minimized {
    /// The outcome so far: whether the smaller image answers its health check is seen later.
    pub outcome: MinimizeOutcome,
    /// A sentence for people.
    pub message: String,
    /// The largest things that were left out, or could be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<LeftOut>,
    /// Digest of the smaller image, where one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its bytes, of its largest platform; about what they would be where none was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// The image as it was built, where the report is about the smaller one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Full>,
    /// Why the smaller image is not used, where it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
    /// What it takes to run the full image for a trace: no smaller one is made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Box<ToTry>>,
    /// What each platform of a smaller image starts, where it is to be exercised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<PlatformToTry>,
    /// Exercises, by their numbers from 0, that the full image did not pass: the smaller one is not held to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_held: Vec<usize>,
}

/// An image that is to be run for a trace, and made smaller then by another runner.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ToTry {
    /// Name of the attempt's Job, for the names of what follows it.
    pub job: String,
    /// What each platform's image starts.
    pub platforms: Vec<PlatformToTry>,
}

/// One platform of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PlatformToTry {
    /// `os/architecture`, or `os/architecture/variant`.
    pub platform: String,
    /// `ENTRYPOINT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// `CMD`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// How many of its layers are those of its base; none where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_layers: Option<usize>,
}

/// Bytes of what all platforms start: with more, nothing is run for a trace.
pub const COMMANDS: usize = 8 * 1024;

impl ToTry {
    /// True where it is small enough for a report, and for the arguments of a container.
    pub fn fits(&self) -> bool {
        self.job.len() <= NAME && fits(&self.platforms)
    }
}

fn fits(platforms: &[PlatformToTry]) -> bool {
    let words = |it: &PlatformToTry| -> usize {
        let all = it.entrypoint.iter().chain(&it.cmd);
        all.map(|word| word.len() + 4).sum::<usize>() + it.platform.len()
    };
    platforms.len() <= PLATFORMS && platforms.iter().map(words).sum::<usize>() <= COMMANDS
}

/// The image as it was built.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Full {
    /// Digest of the index, or of the manifest where there is one platform.
    pub digest: String,
    /// Bytes of its largest platform.
    pub size: i64,
    /// Each platform's image; none where there was no room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<FullPlatform>,
    /// What of the contract it breaks, but for its growth: that is against smaller images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaches: Vec<Breach>,
}

/// One platform of it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FullPlatform {
    /// `os/architecture`, or `os/architecture/variant`.
    pub platform: String,
    /// Digest of the platform's manifest.
    pub digest: String,
    /// Bytes of config and layers.
    pub size: i64,
    /// Digest of the artifact that is the report on it: what others attach to the image is never taken for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

/// A smaller image that was rejected in a build before: that of the same full image is not tried again.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RejectedBefore {
    /// Digest of the full image.
    pub full: String,
    /// How it did not answer.
    pub reason: Rejection,
    /// What its Pod said.
    pub message: String,
}

impl Minimized {
    /// What a platform's image starts, where that was told.
    pub fn starts(&self, platform: &str) -> Option<&PlatformToTry> {
        self.starts.iter().find(|it| it.platform == platform)
    }

    /// Within bounds, without control characters.
    pub(super) fn bound(&mut self) {
        line(&mut self.message, SENTENCE);
        self.left.truncate(LEFT);
        self.left.iter_mut().for_each(|it| line(&mut it.path, PATH));
        self.digest.iter_mut().for_each(|it| line(it, NAME));
        if let Some(rejected) = &mut self.rejected {
            line(&mut rejected.message, SENTENCE);
            line(&mut rejected.input, NAME);
        }
        self.not_held.truncate(16);
        if !fits(&self.starts) {
            self.starts.clear();
        }
        // Words of a command are left as they are, or all of it is.
        self.trial = self.trial.take().filter(|it| it.fits());
        if let Some(full) = &mut self.full {
            line(&mut full.digest, NAME);
            full.platforms.truncate(PLATFORMS);
            for platform in &mut full.platforms {
                line(&mut platform.platform, 64);
                line(&mut platform.digest, NAME);
                platform.report.iter_mut().for_each(|it| line(it, NAME));
            }
            super::bounds::breaches(&mut full.breaches);
        }
    }

    /// Takes out what can be done without, step by step; false where nothing is left to take. What decides stays: the
    /// digests, and whether the full image breaks its contract.
    pub(super) fn shorten(&mut self) -> bool {
        if self.message.len() > 256 || !self.left.is_empty() {
            line(&mut self.message, 256);
            self.left.clear();
            return true;
        }
        if self.trial.take().is_some() || !std::mem::take(&mut self.starts).is_empty() {
            return true;
        }
        let Some(full) = &mut self.full else {
            return false;
        };
        if full.breaches.len() > 1 {
            full.breaches.truncate(1);
            return true;
        }
        if let Some(breach) = full.breaches.first_mut()
            && breach.message.len() > 256
        {
            line(&mut breach.message, 256);
            return true;
        }
        if full.platforms.iter().any(|it| it.report.is_some()) {
            full.platforms.iter_mut().for_each(|it| it.report = None);
            return true;
        }
        !std::mem::take(&mut full.platforms).is_empty()
    }
}

#[cfg(test)]
#[path = "minimized_tests.rs"]
mod tests;
