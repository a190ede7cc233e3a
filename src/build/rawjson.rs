//! Reads what `buildctl --progress=rawjson` prints, line by line.
//!
//! Each line is a `SolveStatus` of BuildKit as JSON
//! (<https://github.com/moby/buildkit/blob/v0.33.1/client/graph.go>): vertexes (the steps of the
//! graph), statuses, logs (base64) and warnings. buildctl prints them to its standard error, where
//! its own error text follows as plain lines; those are kept as text.
//!
//! Memory is bounded: of each step the last [`LOG_LINES`] lines of its output are kept, of plain
//! text the first and last lines, [`TEXT_BYTES`] in all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;

use super::course::{Interval, Part};
use super::report::Progress;
use whittle_api::{Base, Steps, bounded};

/// How many lines of a step's output are kept.
pub const LOG_LINES: usize = 20;
/// How many bytes of one line of output are kept.
pub const LINE_BYTES: usize = 1000;
/// How many bytes of a line that has no end yet are kept.
const OPEN_BYTES: usize = 64 * 1024;
/// How many bytes of plain text are kept.
pub const TEXT_BYTES: usize = 32 * 1024;
/// How many bytes of the output of the git source are kept whole.
const GIT_BYTES: usize = 8 * 1024;
/// How many warnings are kept.
const WARNINGS: usize = 50;

#[derive(Deserialize, Default)]
#[serde(default)]
struct SolveStatus {
    vertexes: Option<Vec<RawVertex>>,
    statuses: Option<Vec<RawStatus>>,
    logs: Option<Vec<RawLog>>,
    warnings: Option<Vec<RawWarning>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawVertex {
    digest: String,
    name: String,
    started: Option<Timestamp>,
    completed: Option<Timestamp>,
    cached: bool,
    error: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStatus {
    id: String,
    vertex: String,
    completed: Option<Timestamp>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawLog {
    vertex: String,
    data: String,
    timestamp: Option<Timestamp>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawWarning {
    short: String,
    url: String,
    range: Option<Vec<RawRange>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawRange {
    start: RawPosition,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawPosition {
    line: i32,
}

/// A warning of BuildKit's own build checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// For example `UndefinedVar: Usage of undefined variable '$FOO' (line 5)`.
    pub text: String,
    /// The line of the Dockerfile, from 1.
    pub line: Option<i32>,
    /// The check's own page.
    pub url: Option<String>,
}

/// What a line told, for whoever prints the progress. Steps are numbered from 1 in the order in
/// which they were first heard to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A step runs.
    Started {
        /// Its number.
        step: usize,
        /// Its name.
        name: String,
    },
    /// A step printed a line.
    Output {
        /// Its number.
        step: usize,
        /// Seconds since it started.
        seconds: f64,
        /// The line, without its end.
        line: String,
    },
    /// A step ended well.
    Done {
        /// Its number.
        step: usize,
        /// Seconds that it took.
        seconds: f64,
        /// True where the cache answered.
        cached: bool,
    },
    /// A step failed.
    Failed {
        /// Its number.
        step: usize,
        /// BuildKit's words.
        error: String,
    },
    /// A warning about the Dockerfile.
    Warning(String),
    /// A line that is no JSON.
    Text(String),
}

/// One vertex of the graph.
#[derive(Clone, Debug, Default)]
struct Vertex {
    name: String,
    number: usize,
    started: Option<Timestamp>,
    completed: Option<Timestamp>,
    running: bool,
    done: bool,
    cached: bool,
    /// True where layers came from a registry.
    pulled: bool,
    error: Option<String>,
    /// Output after the last line end.
    open: String,
    log: VecDeque<String>,
    /// All output, where the vertex is the git source.
    git: String,
}

impl Vertex {
    /// True where the cache answered. BuildKit does not say so of a `FROM` of which it looked up the
    /// digest but pulled nothing.
    fn is_cached(&self) -> bool {
        let from = || instruction(&self.name).is_some_and(|text| text.starts_with("FROM "));
        self.cached || (self.done && self.error.is_none() && !self.pulled && from())
    }
}

/// What became of a Dockerfile instruction.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    done: bool,
    cached: bool,
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedStep {
    /// Its name, for example `[build 4/5] RUN go build`.
    pub name: String,
    /// BuildKit's words.
    pub error: String,
    /// The last lines of its output, at most [`LOG_LINES`].
    pub log: Vec<String>,
}

/// In the name of the look-up of an image: `[internal]`, or `[linux/amd64 internal]` where there are several platforms.
const LOADING: &str = "internal] load metadata for ";
/// Base images that are told, at most: a termination message has to hold them.
const BASES: usize = 16;

/// What is known of a build from the lines read so far.
#[derive(Clone, Debug, Default)]
pub struct State {
    vertices: BTreeMap<String, Vertex>,
    /// Names of steps that an earlier run of the same build has really run.
    ran_before: BTreeSet<String>,
    numbers: usize,
    text: String,
    warnings: Vec<Warning>,
    failed: Option<String>,
    last_running: Option<String>,
    pushing: bool,
}

impl State {
    /// Reads one line, without its end. Never fails: what is no `SolveStatus` is text. `clean` takes secrets out of each whole line of output before it is cut to
    /// [`LINE_BYTES`], so that no half of one is left at the cut.
    pub fn line(&mut self, line: &str, clean: &dyn Fn(&str) -> String) -> Vec<Event> {
        if line.trim().is_empty() && self.text.is_empty() {
            return vec![];
        }
        let status = line
            .starts_with('{')
            .then(|| serde_json::from_str::<SolveStatus>(line).ok())
            .flatten()
            .filter(SolveStatus::says_something);
        let Some(status) = status else {
            let line = clean(line);
            self.keep_text(&line);
            return vec![Event::Text(line)];
        };
        let mut events = vec![];
        // Logs first: a line may carry the last output and the end of its step.
        let (early, late): (Vec<_>, Vec<_>) = status
            .vertexes
            .unwrap_or_default()
            .into_iter()
            .partition(|vertex| vertex.completed.is_none());
        for vertex in early {
            self.vertex(vertex, clean, &mut events);
        }
        for status in status.statuses.unwrap_or_default() {
            if status.id.starts_with("pushing ") {
                self.pushing = status.completed.is_none();
            }
            if let Some(vertex) = self.vertices.get_mut(&status.vertex) {
                vertex.pulled |= ["sha256:", "extracting "]
                    .iter()
                    .any(|start| status.id.starts_with(start));
            }
        }
        for log in status.logs.unwrap_or_default() {
            self.log(log, clean, &mut events);
        }
        for vertex in late {
            self.vertex(vertex, clean, &mut events);
        }
        for warning in status.warnings.unwrap_or_default() {
            let Some(short) = decode(&warning.short) else {
                continue;
            };
            let warning = Warning {
                text: clean(&short),
                line: warning
                    .range
                    .and_then(|ranges| ranges.first().map(|range| range.start.line))
                    .filter(|line| *line > 0),
                url: Some(warning.url).filter(|url| !url.is_empty()),
            };
            if self.warnings.len() < WARNINGS && !self.warnings.contains(&warning) {
                events.push(Event::Warning(warning.text.clone()));
                self.warnings.push(warning);
            }
        }
        events
    }

    /// That of builds which ran on several daemons at the same time, and make one image: steps of the same name are one.
    pub fn joined(parts: Vec<Self>) -> Self {
        let mut all = Self::default();
        for (at, part) in parts.into_iter().enumerate() {
            let key = |digest: String| format!("{at}/{digest}");
            for (digest, mut vertex) in part.vertices {
                if vertex.number > 0 {
                    vertex.number += all.numbers;
                }
                all.vertices.insert(key(digest), vertex);
            }
            all.numbers += part.numbers;
            all.ran_before.extend(part.ran_before);
            all.text.push_str(&part.text);
            for warning in part.warnings {
                if all.warnings.len() < WARNINGS && !all.warnings.contains(&warning) {
                    all.warnings.push(warning);
                }
            }
            all.failed = all.failed.take().or(part.failed.map(key));
            all.last_running = part.last_running.map(key).or(all.last_running.take());
            all.pushing |= part.pushing;
        }
        all
    }

    /// Makes ready for another run of buildctl for the same build: what ran before counts as run,
    /// though the cache will answer now.
    pub fn next_run(&mut self) {
        let ran: Vec<String> = self
            .by_name()
            .filter(|(_, step)| step.done && !step.cached)
            .map(|(name, _)| name.to_owned())
            .collect();
        self.ran_before.extend(ran);
        *self = Self {
            ran_before: std::mem::take(&mut self.ran_before),
            numbers: self.numbers,
            warnings: std::mem::take(&mut self.warnings),
            ..Self::default()
        };
    }

    /// How far the build is: only Dockerfile instructions count.
    pub fn progress(&self) -> Progress {
        let running = self
            .vertices
            .values()
            .filter(|v| v.running && instruction(&v.name).is_some())
            .max_by_key(|v| v.number)
            .or_else(|| self.vertices.get(self.last_running.as_ref()?));
        Progress {
            done: count(self.by_name().filter(|(_, step)| step.done)),
            total: count(self.by_name()),
            step: running.map_or_else(String::new, |v| bounded(v.name.clone(), 200)),
        }
    }

    /// Steps in all, and those that the cache answered.
    pub fn steps(&self) -> Steps {
        Steps {
            total: count(self.by_name()),
            cached: count(
                self.by_name()
                    .filter(|(name, step)| step.cached && !self.ran_before.contains(*name)),
            ),
        }
    }

    /// The instructions that have really run, by name, and when they began by the builder's clock.
    pub fn ran(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        let ran = self.vertices.values().filter(|vertex| {
            let good = vertex.done && vertex.error.is_none() && !vertex.is_cached();
            good && instruction(&vertex.name).is_some()
        });
        ran.filter_map(|vertex| Some((vertex.name.as_str(), vertex.started?)))
    }

    /// All that has run and ended, whatever it was, by the builder's clock.
    pub fn course(&self) -> impl Iterator<Item = Part> {
        let ended = self.vertices.values().filter_map(|vertex| {
            let time = Interval {
                from: vertex.started?.as_millisecond(),
                to: vertex.completed?.as_millisecond(),
            };
            Some(Part {
                name: vertex.name.clone(),
                time,
                cached: vertex.is_cached(),
                failed: vertex.error.is_some(),
            })
        });
        ended.filter(|part| !part.name.is_empty())
    }

    /// All images that stages start from, or that are copied from: as they are named, and the digests that were used.
    pub fn images(&self) -> Vec<(String, String)> {
        let named = self.vertices.values().filter_map(|vertex| {
            let (image, digest) = vertex.name.split_once("FROM ")?.1.split_once('@')?;
            let good = image.len() <= 512 && whittle_api::is_digest(digest);
            good.then(|| (image.to_owned(), digest.to_owned()))
        });
        let found: BTreeSet<(String, String)> = named.collect();
        found.into_iter().collect()
    }

    /// The images that stages start from, and those that are copied from, with what their tags pointed to: in the order in
    /// which the builder came to them, at most 16. One that is named by its digest alone never moves, and is left out.
    pub fn bases(&self) -> Vec<Base> {
        let mut by_number: Vec<&Vertex> = self.vertices.values().collect();
        by_number.sort_by_key(|vertex| vertex.number);
        let mut bases: Vec<Base> = vec![];
        // As they were written: one with a digest beside its tag is not what the tag points to.
        let looked_up: BTreeSet<&str> = by_number
            .iter()
            .filter_map(|vertex| Some(vertex.name.split_once(LOADING)?.1))
            .collect();
        for base in by_number.iter().filter_map(|vertex| base(&vertex.name)) {
            if !looked_up.contains(base.image.as_str()) {
                continue;
            }
            if bases.len() < BASES && bases.iter().all(|known| known.image != base.image) {
                bases.push(base);
            }
        }
        bases
    }

    /// What went wrong with layers that travel by a registry: the step's name, and BuildKit's words.
    pub fn cache_errors(&self) -> impl Iterator<Item = (&str, &str)> {
        let of_cache = self
            .vertices
            .values()
            .filter(|it| is_of_registry_cache(&it.name));
        of_cache.filter_map(|it| Some((it.name.as_str(), it.error.as_deref()?)))
    }

    /// The first step that failed for a reason of its own (not because another one did).
    pub fn failed(&self) -> Option<FailedStep> {
        let vertex = self.vertices.get(self.failed.as_ref()?)?;
        let mut log: Vec<String> = vertex.log.iter().cloned().collect();
        if !vertex.open.is_empty() {
            log.push(vertex.open.clone());
        }
        let skip = log.len().saturating_sub(LOG_LINES);
        Some(FailedStep {
            name: vertex.name.clone(),
            error: vertex.error.clone().unwrap_or_default(),
            log: log.split_off(skip),
        })
    }

    /// True while an image is being pushed.
    pub fn is_pushing(&self) -> bool {
        self.pushing
    }

    /// The plain lines so far, with line ends.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Warnings about the Dockerfile, each once.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What git printed while BuildKit resolved the build's git source; empty where it printed nothing.
    pub fn git_output(&self) -> String {
        self.vertices
            .values()
            .filter(|v| is_git_source(&v.name))
            .map(|v| v.git.as_str())
            .collect()
    }

    /// The Dockerfile's instructions by name. Where other builds do the same at the same time, BuildKit
    /// tells of their vertices as well: another digest, but the same name.
    fn by_name(&self) -> impl Iterator<Item = (&str, Step)> {
        let mut steps: BTreeMap<&str, Step> = BTreeMap::new();
        for vertex in self.vertices.values() {
            if instruction(&vertex.name).is_none() {
                continue;
            }
            let done = vertex.done && vertex.error.is_none();
            let known = steps.entry(&vertex.name).or_default();
            if done {
                known.cached = vertex.is_cached() && (known.cached || !known.done);
                known.done = true;
            }
        }
        steps.into_iter()
    }

    fn vertex(&mut self, raw: RawVertex, clean: &dyn Fn(&str) -> String, events: &mut Vec<Event>) {
        let vertex = self.vertices.entry(raw.digest.clone()).or_default();
        if !raw.name.is_empty() {
            vertex.name = one_line(&raw.name);
        }
        if raw.started.is_some() {
            vertex.started = raw.started;
            if vertex.number == 0 {
                self.numbers += 1;
                vertex.number = self.numbers;
                events.push(Event::Started {
                    step: vertex.number,
                    name: vertex.name.clone(),
                });
            }
        }
        vertex.running = raw.started.is_some() && raw.completed.is_none();
        if vertex.running {
            self.last_running = Some(raw.digest.clone());
        }
        let Some(completed) = raw.completed else {
            return;
        };
        vertex.completed = Some(completed);
        if !vertex.open.is_empty() {
            let line = std::mem::take(&mut vertex.open);
            events.push(output(vertex, Some(completed), &clean(shown(&line))));
        }
        let told = vertex.done && !raw.cached;
        vertex.done = true;
        vertex.cached |= raw.cached;
        if raw.error.is_empty() {
            if told {
                return;
            }
            events.push(Event::Done {
                step: vertex.number,
                seconds: seconds(vertex.started, Some(completed)),
                cached: raw.cached,
            });
            return;
        }
        let canceled = is_canceled(&raw.error);
        vertex.error = Some(ends(&clean(&raw.error), 4 * LINE_BYTES));
        // A build goes on without what a registry does not have, or does not take.
        if !canceled && self.failed.is_none() && !is_of_registry_cache(&vertex.name) {
            self.failed = Some(raw.digest);
        }
        events.push(Event::Failed {
            step: vertex.number,
            error: raw.error,
        });
    }

    fn log(&mut self, raw: RawLog, clean: &dyn Fn(&str) -> String, events: &mut Vec<Event>) {
        let Some(data) = decode(&raw.data) else {
            return;
        };
        let vertex = self.vertices.entry(raw.vertex).or_default();
        // Where its name is not known yet, it may be the one.
        let of_git = vertex.name.is_empty() || is_git_source(&vertex.name);
        if of_git && vertex.git.len() + data.len() <= GIT_BYTES {
            vertex.git.push_str(&data);
        }
        let mut rest = data.as_str();
        while let Some((line, after)) = rest.split_once('\n') {
            rest = after;
            let line = std::mem::take(&mut vertex.open) + line;
            events.push(output(vertex, raw.timestamp, &clean(shown(&line))));
        }
        // What a terminal would no longer show need not be kept, nor the end of an endless line.
        let overwritten = rest.trim_end_matches('\r').rfind('\r');
        if let Some(at) = overwritten {
            vertex.open.clear();
            rest = &rest[at + 1..];
        }
        if vertex.open.len() + rest.len() <= OPEN_BYTES {
            vertex.open.push_str(rest);
        }
    }

    /// Keeps a line of text. Of what is too much the middle goes: where the trouble lies stands in the first lines, and
    /// what it is in the last.
    fn keep_text(&mut self, line: &str) {
        self.text.push_str(&ends(line, TEXT_BYTES / 4));
        self.text.push('\n');
        while self.text.len() > TEXT_BYTES {
            let head = self.text.floor_char_boundary(TEXT_BYTES / 4);
            let after = |from: usize| self.text[from..].find('\n').map(|at| from + at + 1);
            let from = after(head).unwrap_or(0);
            let to = after(from).unwrap_or(self.text.len());
            self.text.drain(from..to);
        }
    }
}

impl SolveStatus {
    fn says_something(&self) -> bool {
        self.vertexes.is_some()
            || self.statuses.is_some()
            || self.logs.is_some()
            || self.warnings.is_some()
    }
}

/// The base image of a vertex such as `[build 1/5] FROM docker.io/library/golang:1@sha256:…`.
fn base(name: &str) -> Option<Base> {
    let (before, after) = name.split_once("FROM ")?;
    let stage = match before.trim() {
        "" => None,
        before => Some(before.strip_prefix('[')?.strip_suffix(']')?),
    };
    let (image, digest) = after.split_once('@')?;
    let tagged = image
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains(':'));
    let good = tagged && image.len() <= 512 && whittle_api::is_digest(digest);
    // `linux/amd64 build 1/5`: the platform where there are several, the stage, the count.
    let words: Vec<&str> = stage.unwrap_or_default().split(' ').collect();
    let stage = match words.as_slice() {
        [.., stage, _] if !stage.contains('/') => Some((*stage).to_owned()),
        _ => None,
    };
    good.then(|| Base {
        image: image.to_owned(),
        digest: digest.to_owned(),
        stage,
        seen: None,
    })
}

/// The Dockerfile instruction that a vertex stands for: what follows `[build 4/5] `.
///
/// A name's brackets end with `n/m` for instructions alone: `[2/2]`, `[build 3/3]`,
/// `[linux/arm64 stage-1 1/1]`; not so `[internal]`, `[auth]` or `exporting to image`.
pub fn instruction(name: &str) -> Option<&str> {
    let (head, rest) = name.strip_prefix('[')?.split_once(']')?;
    let (at, of) = head.rsplit(' ').next()?.split_once('/')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (number(at) && number(of)).then(|| rest.trim_start())
}

/// Begins the name of the step that imports layers.
pub const IMPORTING: &str = "importing cache manifest from ";
/// The name of the step that exports them.
pub const EXPORTING: &str = "exporting cache to registry";

fn is_of_registry_cache(name: &str) -> bool {
    name.starts_with(IMPORTING) || name == EXPORTING
}

fn is_git_source(name: &str) -> bool {
    name.starts_with("[internal] load git source ")
}

/// True for the error of a step that ended only because another one failed.
fn is_canceled(error: &str) -> bool {
    error.ends_with("context canceled")
}

/// A text without its middle, where it is longer than `most` bytes: an error begins with the command, and ends with what
/// became of it.
fn ends(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(most / 2);
    let tail = text.ceil_char_boundary(text.len() - (most / 2).saturating_sub('…'.len_utf8()));
    format!("{}…{}", &text[..head], &text[tail..])
}

/// What a terminal would show of a line: the text after the last carriage return.
fn shown(line: &str) -> &str {
    let line = line.trim_end_matches('\r');
    line.rsplit('\r').next().unwrap_or(line)
}

fn output(vertex: &mut Vertex, at: Option<Timestamp>, line: &str) -> Event {
    let line = bounded(line.to_owned(), LINE_BYTES);
    if vertex.log.len() == LOG_LINES {
        vertex.log.pop_front();
    }
    vertex.log.push_back(line.clone());
    Event::Output {
        step: vertex.number,
        seconds: seconds(vertex.started, at),
        line,
    }
}

fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> f64 {
    match (from, to) {
        (Some(from), Some(to)) => to.duration_since(from).as_secs_f64().max(0.0),
        _ => 0.0,
    }
}

fn one_line(name: &str) -> String {
    match name.split_once('\n') {
        Some((first, _)) => format!("{} …", bounded(first.to_owned(), LINE_BYTES)),
        None => bounded(name.to_owned(), LINE_BYTES),
    }
}

fn decode(base64: &str) -> Option<String> {
    let bytes = STANDARD.decode(base64).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn count(items: impl Iterator) -> i32 {
    i32::try_from(items.count()).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "rawjson_tests.rs"]
mod tests;
