//! What the builder's cache holds, asked once the build has run.
//!
//! While a daemon measures a cache mount that no step uses, it holds it: a step that begins just then finds it locked, and
//! gets a new and empty one in its place, which the steps after it may go on with. So it is asked only while no other
//! build runs there, and right after the solve, before the result is told and the next build can begin.

use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::files::Prepared;
use super::redact::Redactor;
use crate::buildctl as commands;
use crate::request::{BuildRequest, Tagging};
use crate::usage::Usage;
use whittle_api::CacheStatus;

/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(10);
/// How much longer the runner may stay for it after a failure: a further attempt waits for its end.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// A look that goes on beside what follows the build.
pub(super) struct Look {
    /// None once it has ended.
    task: Option<JoinHandle<Option<Usage>>>,
    seen: Option<Usage>,
}

impl Look {
    /// Begins to look, where anybody wants to know.
    pub(super) fn begin(request: &BuildRequest, prepared: &Prepared) -> Option<Self> {
        request.looks.then(|| {
            let (histories, usage) = (commands::histories(request), commands::disk_usage(request));
            let buildctl = prepared.buildctl.clone();
            let look = async move {
                let mut others = false;
                let answered = buildctl.answer(&histories, |line| {
                    others |= line == commands::RUNS;
                });
                if !answered.await || others {
                    return None;
                }
                let mut found = Usage::default();
                let all = buildctl.answer(&usage, |line| found.line(line)).await;
                all.then_some(found)
            };
            let look = async move { tokio::time::timeout(WITHIN, look).await.ok().flatten() };
            Self {
                task: Some(tokio::spawn(look)),
                seen: None,
            }
        })
    }

    /// What was seen, where that is known within this time.
    pub(super) async fn within(&mut self, patience: Duration) -> Option<&Usage> {
        if let Some(task) = &mut self.task
            && let Ok(ended) = tokio::time::timeout(patience, task).await
        {
            self.task = None;
            self.seen = ended.ok().flatten();
        }
        self.seen.as_ref()
    }

    /// What is told of it once the result was. Nothing waits for it that anybody waits for: tags do for the end of a
    /// runner whose image is to be checked.
    pub(super) async fn tell(
        mut self,
        request: &BuildRequest,
        failed: bool,
        redactor: &Redactor,
    ) -> Option<CacheStatus> {
        let patience = match (failed, &request.tagging) {
            (true, _) => AFTER_FAILURE,
            (false, Tagging::Now) => WITHIN,
            (false, _) => Duration::ZERO,
        };
        let usage = self.within(patience).await?;
        usage.status(Timestamp::now(), &|text| redactor.line(text))
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
