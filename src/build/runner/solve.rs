//! Runs of buildctl, again where that may help.

use std::time::Duration;

use tokio::time::Instant;

use super::callback::Callback;
use super::files::Prepared;
use super::hang;
use super::parts::Shares;
use super::print::Printer;
use super::pushing::Pushing;
use super::redact::Redactor;
use crate::buildctl;
use crate::buildctl::Goal;
use crate::failure::{Again, Facts, hangs, plain, verdict};
use crate::rawjson::{Event, State};
use crate::request::BuildRequest;
use whittle_api::{Failure, FailureReason};
use whittle_registry::Patience;

/// How long pruning the builder's cache may take.
const PRUNING: Duration = Duration::from_secs(100);

/// How long after a build the daemon still holds what it wrote: it gathers its trace for three seconds.
const NOTED: Duration = Duration::from_secs(5);

/// How long to run buildctl again where a registry or git server is away; BuildKit has tried a few times
/// itself by then.
const PATIENCE: Patience = Patience {
    first: Duration::from_secs(1),
    ..Patience::USUAL
};

/// What stands in the log before each run: every one numbers its steps from 1.
fn heading(goal: &Goal) -> &'static str {
    match goal {
        Goal::Files { .. } => "── the source",
        Goal::Image { .. } => "── the image",
        Goal::Derived { .. } => "── the image with a base for debugging",
        Goal::Check { .. } => "── the health check",
    }
}

/// What all runs of one attempt share.
pub(super) struct Solver<'a> {
    pub request: &'a BuildRequest,
    pub callback: &'a Callback,
    pub redactor: &'a Redactor,
    pub pushing: &'a Pushing,
    /// Which part of the image this is, where several daemons make one at the same time.
    pub share: Option<Share<'a>>,
}

/// One of several parts of an image.
#[derive(Clone, Copy)]
pub(super) struct Share<'a> {
    /// Its number.
    pub at: usize,
    /// Its platforms, for people: what stands before its lines.
    pub label: &'a str,
    /// How far all are.
    pub all: &'a Shares,
}

impl Solver<'_> {
    /// Runs buildctl until it has made `goal`, or until trying again makes no sense. `state` hears all
    /// that it prints.
    pub(super) async fn solve(
        &self,
        prepared: &Prepared,
        goal: &Goal<'_>,
        facts: &Facts,
        state: &mut State,
    ) -> Result<(), Failure> {
        let args = buildctl::build(self.request, &prepared.files, goal);
        let label = self.share.map(|share| share.label);
        let mut printer = Printer::new(self.redactor, &self.request.place, label);
        self.say(heading(goal));
        // A survey has steps of its own, which are not the build's.
        let is_build = !matches!(goal, Goal::Files { .. } | Goal::Check { .. });
        let mut first_failure: Option<Instant> = None;
        let mut tried = 0;
        let mut pruned = false;
        loop {
            tried += 1;
            let heard = hang::Heard::new();
            let run = prepared.buildctl.run(&args, |line| {
                heard.again();
                printer.raw(line);
                let mut moved = false;
                for event in state.line(line, &|text| self.redactor.line(text)) {
                    moved |= !matches!(event, Event::Output { .. } | Event::Text(_));
                    printer.event(&event);
                }
                let part = self.share.map_or(0, |share| share.at);
                self.pushing.set(part, state.is_pushing());
                if moved && is_build {
                    let own = self.redactor.progress(state.progress());
                    let all = match self.share {
                        Some(share) => share.all.progress(share.at, own),
                        None => own,
                    };
                    self.callback.progress(all);
                }
            });
            let question = buildctl::ask(self.request);
            let ask = || prepared.buildctl.finish(&question, hang::ANSWER);
            let exit = tokio::select! {
                exit = run => exit.map_err(|error| plain(FailureReason::BuildFailed, error))?,
                silent = heard.no_more(ask) => return Err(hangs(silent)),
            };
            printer.end();
            if exit == Some(0) {
                return Ok(());
            }
            let mut found = verdict(state, exit, self.request, facts);
            if !matches!(goal, Goal::Image { .. }) {
                // A line of a Dockerfile of our own is none that anybody could mend.
                found.failure.dockerfile_line = None;
                found.failure.step = None;
            }
            match found.again {
                Again::No => return Err(found.failure),
                Again::Pruned if pruned => return Err(found.failure),
                Again::Pruned => {
                    // What the failed run wrote can be pruned once the daemon has noted how it ended.
                    tokio::time::sleep(NOTED).await;
                    pruned = true;
                    let said = "the builder's cache volume is full: pruning, then retrying once";
                    self.say(said);
                    let prune = buildctl::prune(self.request);
                    let _ = prepared.buildctl.finish(&prune, PRUNING).await;
                }
                Again::Later => {
                    let begun = *first_failure.get_or_insert_with(Instant::now);
                    let Some(pause) = PATIENCE.pause(tried, begun.elapsed(), None) else {
                        return Err(found.failure);
                    };
                    self.say(&format!(
                        "{}; retrying in {:.1} s",
                        self.redactor.line(&found.failure.message),
                        pause.as_secs_f64()
                    ));
                    tokio::time::sleep(pause).await;
                }
            }
            state.next_run();
        }
    }

    /// Says a line, as one of its part.
    fn say(&self, text: &str) {
        match self.share {
            Some(share) => self.request.place.say(&format!("{} {text}", share.label)),
            None => self.request.place.say(text),
        }
    }
}
