//! What is full: the builder's volume, or the runner's scratch folder.

use super::registry::before_answer;
use super::step::NO_EXIT_CODE;
use super::{Again, Case, Finding};
use crate::report;
use whittle_api::FailureReason;

/// A line beneath the output of a step during which the builder's volume was full. It is the runtime of Whittle's that
/// says so, and it ends by a signal then: without that a step may print what it likes.
pub const STEP_FULL: &str = "whittle: the builder's cache volume was full while this step ran";

/// The kernel's words for a file system without room, `ENOSPC` and `EDQUOT`.
const FULL: [&str; 2] = ["no space left on device", "disk quota exceeded"];

impl Case<'_> {
    /// The words of a line that says that something is full, unless it is another machine that says so.
    fn full(&self) -> Option<&str> {
        // The answer of a registry or a server is about its own disk.
        before_answer(self.daemon()).lines().find(|line| {
            let lower = line.to_lowercase();
            // A git server's.
            FULL.iter().any(|words| lower.contains(words)) && !lower.starts_with("remote: ")
        })
    }

    /// buildctl writes into the runner's scratch folder, the daemon never.
    pub(super) fn scratch_full(&self) -> Option<Finding> {
        let said = self.full()?;
        let own = format!(" {}/", self.request.place.scratch.display());
        // The daemon's Pod has a folder of that name, too, and BuildKit keeps secrets there.
        let is_own = self.ended.is_none() && said.contains(&own) && !said.contains("/buildkit-");
        is_own.then(|| {
            (
                FailureReason::SourceTooLarge,
                report::scratch_full(said),
                Again::No,
            )
        })
    }

    pub(super) fn cache_full(&self) -> Option<Finding> {
        (self.full().is_some() || self.measured_full()).then(|| {
            (
                FailureReason::CacheFull,
                "the builder's cache volume is full, also after pruning: give the Builder a larger \
                 cache.size, or build less at once"
                    .into(),
                Again::Pruned,
            )
        })
    }

    /// True where the volume was full while the step ran, by what was measured beside it.
    fn measured_full(&self) -> bool {
        let log = self.failed.as_ref().map_or(&[][..], |step| &step.log);
        self.ended == Some(NO_EXIT_CODE) && log.iter().any(|line| line == STEP_FULL)
    }
}
