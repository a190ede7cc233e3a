//! What a person needs to know of an ImageBuild at 2 a.m.: pure, from the object alone.

use std::fmt::Write;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use whittle_api::{
    ADVICE, BuiltBy, Failure, ImageBuild, ImageBuildStatus, Phases, PlatformSolve, READY, Source,
    TRIGGERS, find, is_true,
};
use whittle_image::display_size;

use super::screen::{BAD, FAINT, GOOD, STRONG, WAITS, ago, since, span, styled, tame};

/// How an ImageBuild is, in one word and for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its tags point to an image of its spec.
    Ready,
    /// A build runs.
    Building,
    /// A build is due and waits.
    Waiting,
    /// The last build failed, and nothing goes on by itself.
    Failed,
    /// No build may start.
    Suspended,
    /// The controller has not seen it.
    New,
}

impl State {
    /// The state of an ImageBuild.
    pub(crate) fn of(build: &ImageBuild) -> Self {
        let Some(status) = build.status.as_ref().filter(|it| !it.conditions.is_empty()) else {
            return Self::New;
        };
        if status.current.is_some() {
            return match status.waiting() {
                Some(_) if build.spec.suspend => Self::Suspended,
                Some(_) => Self::Waiting,
                None => Self::Building,
            };
        }
        if is_behind(build, status) {
            return match build.spec.suspend {
                true => Self::Suspended,
                false => Self::Waiting,
            };
        }
        match (&status.failure, is_true(&status.conditions, READY)) {
            (_, true) => Self::Ready,
            (Some(_), _) => Self::Failed,
            (None, _) if build.spec.suspend => Self::Suspended,
            (None, _) => Self::Waiting,
        }
    }

    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Building => "Building",
            Self::Waiting => "Waiting",
            Self::Failed => "Failed",
            Self::Suspended => "Suspended",
            Self::New => "New",
        }
    }

    pub(super) fn style(self) -> anstyle::Style {
        match self {
            Self::Ready => GOOD,
            Self::Failed => BAD,
            Self::Building => STRONG,
            Self::Waiting | Self::Suspended | Self::New => WAITS,
        }
    }
}

/// True where the controller has yet to see the spec as it is now.
pub(super) fn is_behind(build: &ImageBuild, status: &ImageBuildStatus) -> bool {
    let seen = status.observed_generation.unwrap_or(-1);
    build.metadata.generation.is_some_and(|now| seen < now)
}

/// All that is to be said of it, with styles.
pub(crate) fn text(build: &ImageBuild, now: Timestamp) -> String {
    let mut out = String::new();
    let state = State::of(build);
    let name = build.name_any();
    let blank = ImageBuildStatus::default();
    let status = build.status.as_ref().unwrap_or(&blank);
    let head = styled(state.style(), state.word());
    let _ = writeln!(
        out,
        "{}  {head}{}",
        styled(STRONG, &name),
        headline(build, status, state, now)
    );
    let mut told = Told { out: &mut out };
    told.under_way(build, status, now);
    if status.current.is_none()
        && let Some(failure) = &status.failure
    {
        told.failure(build, failure);
    }
    told.image(status, now);
    told.conditions(status);
    told.advice(status);
    told.next(build, status, state);
    out
}

/// What goes on in the line of the name.
fn headline(build: &ImageBuild, status: &ImageBuildStatus, state: State, now: Timestamp) -> String {
    let ended = status.completed_at.as_ref().map(|at| ago(at.0, now));
    let ready = find(&status.conditions, READY);
    let reason = ready.map(|it| tame(&it.reason)).unwrap_or_default();
    match state {
        State::New => ": the controller has not seen it yet".into(),
        State::Ready => {
            let back = status.history.first().and_then(|it| it.rolled_back_to);
            let how = match back {
                Some(to) => format!("rolled back to build {to}"),
                None => "built".into(),
            };
            ended
                .map(|ago| format!(", {how} {ago}"))
                .unwrap_or_default()
        }
        State::Failed => format!(
            ": {}",
            [Some(reason), ended]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", ")
        ),
        State::Waiting if status.current.is_none() && is_behind(build, status) => {
            ": the spec has changed, and the controller has not seen that yet".into()
        }
        State::Waiting => format!(": {reason}"),
        State::Building => {
            let since = status.since().map(|at| span(since(at.0, now)));
            since.map(|it| format!(" for {it}")).unwrap_or_default()
        }
        State::Suspended => ": no build starts until it is resumed".into(),
    }
}

struct Told<'a> {
    out: &'a mut String,
}

impl Told<'_> {
    fn line(&mut self, name: &str, text: &str) {
        let text = tame(text);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let name = styled(FAINT, &format!("{name:<10}"));
        let _ = writeln!(self.out, "  {name}  {first}");
        for line in lines {
            let _ = writeln!(self.out, "  {:<10}  {line}", "");
        }
    }

    /// A build that runs, or waits.
    fn under_way(&mut self, build: &ImageBuild, status: &ImageBuildStatus, now: Timestamp) {
        let Some(current) = &status.current else {
            if let Some(pending) = &status.pending {
                let since = ago(pending.since.0, now);
                self.line(
                    "due",
                    &format!("{:?}: {} ({since})", pending.reason, pending.detail),
                );
            }
            return;
        };
        let attempts = build.spec.retries.saturating_add(1);
        let mut what = format!("build {}", status.build.unwrap_or(1));
        if attempts > 1 && current.attempt > 1 {
            let _ = write!(what, ", attempt {} of {attempts}", current.attempt);
        }
        if let Some(trigger) = &status.trigger {
            let _ = write!(what, ", started by {:?}", trigger.reason);
            if !trigger.detail.is_empty() {
                let _ = write!(what, ": {}", trigger.detail);
            }
        }
        if let Some(replica) = current.replica {
            let builder = &build.spec.builder_ref.name;
            let _ = write!(what, ", on replica {replica} of Builder {builder}");
        }
        self.line("build", &what);
        if let Some(usual) = status.usual() {
            self.line(
                "usually",
                &format!("{} (median of the last builds)", span(usual)),
            );
        }
        let ready = find(&status.conditions, READY);
        match status.waiting() {
            Some(waiting) => {
                let message = ready.map(|it| it.message.clone()).unwrap_or_default();
                self.line("waits for", &message);
                if let Some(starts) = waiting.starts.filter(|at| at.0 > now) {
                    self.line(
                        "starts",
                        &format!("in about {}", span(since(now, starts.0))),
                    );
                }
            }
            None => {
                let message = current.message.clone();
                let message = message.or_else(|| ready.map(|it| it.message.clone()));
                self.line("now", &message.unwrap_or_default());
            }
        }
        if let Some(last) = &current.last_failure {
            self.line("before", last);
        }
        if let Some(at) = &current.retry_at
            && at.0 > now
        {
            self.line("again", &format!("in {}", span(since(now, at.0))));
        }
    }

    fn failure(&mut self, build: &ImageBuild, failure: &Failure) {
        self.line("failed", &failure.message);
        let path = &build.spec.dockerfile;
        match (failure.dockerfile_line, dockerfile(build)) {
            (Some(line), Some(text)) => {
                self.line("at", &format!("{path}:{line}"));
                self.around(text, line);
            }
            (Some(line), None) => {
                self.line("at", &format!("{path}:{line}"));
                if let Some(step) = &failure.step {
                    self.marked(line, step);
                }
            }
            (None, _) => {
                if let Some(step) = &failure.step {
                    self.line("step", step);
                }
            }
        }
        if let Some(log) = failure.log.as_deref().filter(|log| !log.is_empty()) {
            self.line("log", log);
        }
        if let Some(hint) = &failure.hint {
            self.line("fix", hint);
        }
        if let Some(image) = &failure.image {
            self.line("rejected", &format!("{image} (no tag points to it)"));
        }
    }

    /// The lines of the Dockerfile around one of them.
    fn around(&mut self, text: &str, line: i32) {
        let at = usize::try_from(line).unwrap_or(0);
        let first = at.saturating_sub(3).max(1);
        let lines = text
            .lines()
            .enumerate()
            .map(|(index, text)| (index + 1, text));
        for (number, text) in lines.filter(|(number, _)| (first..=at + 2).contains(number)) {
            let text = tame(text);
            let row = format!("{number:>4} | {text}");
            let row = match number == at {
                true => styled(BAD, &format!("> {row}")),
                false => format!("  {row}"),
            };
            let _ = writeln!(self.out, "  {:<10}  {row}", "");
        }
    }

    fn marked(&mut self, line: i32, step: &str) {
        let step = tame(step);
        let row = styled(BAD, &format!("> {line:>4} | {step}"));
        let _ = writeln!(self.out, "  {:<10}  {row}", "");
    }

    /// What the tags point to, which an older build may have made.
    fn image(&mut self, status: &ImageBuildStatus, now: Timestamp) {
        let Some(image) = &status.image else { return };
        self.line("image", image);
        let made = status
            .history
            .iter()
            .find(|it| it.digest == status.digest && it.digest.is_some());
        let kept = status.failure.is_some() || status.current.is_some();
        if let Some(made) = made.filter(|_| kept) {
            let when = made
                .completed_at
                .as_ref()
                .map(|at| format!(", {}", ago(at.0, now)));
            self.line(
                "",
                &format!(
                    "of build {}{}: still what its tags point to",
                    made.build,
                    when.unwrap_or_default()
                ),
            );
        }
        if let Some(tags) = status.tags.as_ref().filter(|tags| !tags.is_empty()) {
            self.line("tags", &tags.join(", "));
        }
        if let Some(revision) = &status.revision {
            self.line("from", revision);
        }
        if !kept {
            self.line("took", &took(status));
            if let Some(phases) = status.phase_milliseconds.as_ref().and_then(spent) {
                self.line("of that", &phases);
            }
        }
        let before = before(status);
        let width = status
            .platforms
            .iter()
            .map(|it| it.platform.len())
            .max()
            .unwrap_or(0);
        let single = status.platforms.len() == 1;
        for platform in &status.platforms {
            let mut row = format!(
                "{:<width$}  {}",
                platform.platform,
                display_size(platform.size)
            );
            if single && let Some(before) = before {
                row.push_str(&growth(platform.size, before));
            }
            if let Some(contents) = &platform.contents {
                let base = contents
                    .os
                    .clone()
                    .unwrap_or_else(|| format!("{:?}", contents.base).to_lowercase());
                let _ = write!(row, "  on {base}");
                if contents.root {
                    row.push_str(", as root");
                }
            }
            if let Some(solve) = &platform.solve {
                let _ = write!(row, "  {}", built(solve));
            }
            self.line("platform", &row);
        }
        if !single && let (Some(size), Some(before)) = (status.size, before) {
            self.line(
                "largest",
                &format!("{}{}", display_size(size), growth(size, before)),
            );
        }
        if let Some(debug) = &status.debug {
            self.line(
                "debug",
                &format!("{} ({})", debug.image, display_size(debug.size)),
            );
        }
    }

    /// Contract, checks and triggers, where there is something to say.
    fn conditions(&mut self, status: &ImageBuildStatus) {
        for condition in &status.conditions {
            let name = match condition.type_.as_str() {
                whittle_api::CONTRACT => "contract",
                whittle_api::PROBED => "check",
                whittle_api::MINIMIZED => "minimized",
                whittle_api::PROBES_COMPATIBLE => "probes",
                whittle_api::PROBE_PROFILE => "profile",
                TRIGGERS => "triggers",
                _ => continue,
            };
            let mark = match condition.status.as_str() {
                "True" => styled(GOOD, "✓"),
                "False" => styled(BAD, "✗"),
                _ => styled(WAITS, "?"),
            };
            let text = tame(&condition.message);
            let mut lines = text.lines();
            let name = styled(FAINT, &format!("{name:<10}"));
            let _ = writeln!(
                self.out,
                "  {name}  {mark} {}",
                lines.next().unwrap_or_default()
            );
            for line in lines {
                let _ = writeln!(self.out, "  {:<10}    {line}", "");
            }
        }
    }

    fn advice(&mut self, status: &ImageBuildStatus) {
        let advice = find(&status.conditions, ADVICE).filter(|it| it.status == "True");
        if let Some(advice) = advice {
            self.line("advice", &advice.message);
        }
    }

    /// What to type next.
    fn next(&mut self, build: &ImageBuild, status: &ImageBuildStatus, state: State) {
        let name = build.name_any();
        let next = match state {
            State::Ready => return,
            State::Building => format!("whittle logs {name} -f"),
            State::Waiting if status.current.is_some() => {
                format!("whittle wait {name}; whittle cancel {name}")
            }
            State::Waiting => format!("whittle wait {name}"),
            State::Suspended => format!("whittle resume {name}"),
            State::New => "whittle doctor".to_owned(),
            State::Failed => format!(
                "whittle logs {name}; after a fix outside the spec: whittle rebuild {name} --follow"
            ),
        };
        self.line("next", &next);
    }
}

/// The Dockerfile, where the object itself has it.
fn dockerfile(build: &ImageBuild) -> Option<&str> {
    let Source { inline, .. } = &build.spec.source;
    inline
        .as_ref()?
        .files
        .get(&build.spec.dockerfile)
        .map(String::as_str)
}

/// How long the last build took, and which it was.
fn took(status: &ImageBuildStatus) -> String {
    let mut text = span(status.duration_seconds.unwrap_or(0));
    if let Some(queued) = status.queued_seconds.filter(|it| *it > 0) {
        let _ = write!(text, " after {} in the queue", span(queued));
    }
    if let Some(steps) = &status.steps {
        let _ = write!(
            text,
            ", {} of {} steps from the cache",
            steps.cached, steps.total
        );
    }
    if let Some(number) = status.build {
        let _ = write!(text, ", build {number}");
    }
    if let Some(trigger) = &status.trigger {
        let _ = write!(text, ", started by {:?}", trigger.reason);
    }
    text
}

/// On which daemon a platform was built, and how long that took.
fn built(solve: &PlatformSolve) -> String {
    let how = match solve.builder {
        BuiltBy::Native => "built natively",
        BuiltBy::Cross => "built without its own daemon",
        BuiltBy::Ordinary => "built on the ordinary daemon",
    };
    format!("{how} in {}", span(solve.milliseconds / 1000))
}

/// Where the time went, the longest first; none where nothing took a second.
fn spent(phases: &Phases) -> Option<String> {
    let mut all: Vec<_> = (phases.named().into_iter())
        .filter_map(|(name, time)| Some((name, time? / 1000)))
        .filter(|(_, seconds)| *seconds > 0)
        .collect();
    all.sort_by_key(|(_, seconds)| std::cmp::Reverse(*seconds));
    let named = |(name, seconds): (&str, i64)| {
        let name = match name {
            "start" => "start of the Pod",
            "readBack" => "read back",
            other => other,
        };
        format!("{name} {}", span(seconds))
    };
    let all: Vec<String> = all.into_iter().map(named).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Bytes of the image before this one.
fn before(status: &ImageBuildStatus) -> Option<i64> {
    let mut made = status.history.iter().filter(|it| it.digest.is_some());
    let last = made.next()?;
    let other = made.find(|it| it.digest != last.digest)?;
    other.size
}

fn growth(size: i64, before: i64) -> String {
    match size - before {
        0 => " (as before)".into(),
        more if more > 0 => format!(" (+{})", display_size(more)),
        less => format!(" (-{})", display_size(-less)),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
