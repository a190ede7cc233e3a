//! Asks git servers and registries what is new, where Secrets may be read: in the namespace of those who build. It reads
//! a list, looks at what is due, and tells the controller what it has seen; it decides nothing else.

mod controller;
mod files;
mod folders;
mod look;
mod outbox;
mod schedule;
pub mod wire;

pub use files::Places;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use controller::Connection;
use folders::Folders;
use look::Servers;
use outbox::{Outbox, Sight};
use schedule::{Look, Looked, Schedule};
use whittle_image::digest_of;
use wire::{Asked, ID, List, Outcome, Told, Wanted};

/// How often it is looked whether what is mounted has changed.
const MOUNTED: Duration = Duration::from_secs(5);
/// The most sources that are watched: more do not fit into a ConfigMap.
const SOURCES: usize = 5000;
/// The first pause where the controller does not answer, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// What is logged of a list that is invalid.
const INVALID: &str = "the list of what is watched cannot be read; the one before holds";

/// Runs until it is asked to end. `folder`: what is mounted at [`wire::paths::ALL`] in the watcher's Pod.
///
/// # Errors
/// Where signals, or connections, are unavailable.
pub async fn run(folder: &Path) -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let on = |kind| signal(kind).map_err(|error| format!("signals are unavailable: {error}"));
    let (mut terminate, mut interrupt) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let mut watcher = Watcher::new(Places::below(folder))?;
    // One thread does it all.
    let local = tokio::task::LocalSet::new();
    tokio::select! {
        () = local.run_until(watcher.run()) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// What a task was for, and what came of it.
enum Done {
    Looked(Look, Looked),
    Tree(Sight, Option<String>),
    Told(Result<(), String>),
    Waited(Instant, Result<Wanted, String>),
}

/// One of the two talks with the controller.
#[derive(Default)]
struct Talk {
    running: bool,
    /// Not before this time.
    after: Duration,
    failures: u32,
    said: Option<String>,
}

/// All that is known, and what is under way.
pub struct Watcher {
    places: Places,
    begun: Instant,
    list: List,
    /// Of its text; none where there is none yet.
    list_digest: Option<String>,
    /// The mounted one that was read last.
    list_mark: u64,
    /// The controller sends lists: the mounted one is older.
    lists: bool,
    secrets: BTreeMap<String, u64>,
    schedule: Schedule,
    outbox: Outbox,
    folders: Folders,
    servers: Servers,
    connection: Connection,
    tasks: JoinSet<Done>,
    telling: Talk,
    waiting: Talk,
}

impl Watcher {
    /// Nothing is asked yet. A process-wide rustls provider must be installed.
    ///
    /// # Errors
    /// Where the system has no certificates to trust.
    pub fn new(places: Places) -> Result<Self, String> {
        Ok(Self {
            servers: Servers::new(&places.secrets, &places.registry_ca)
                .map_err(|error| error.to_string())?,
            begun: Instant::now(),
            list: List::default(),
            list_digest: None,
            list_mark: 0,
            lists: false,
            secrets: BTreeMap::new(),
            schedule: Schedule::new(RandomState::new().hash_one(std::process::id())),
            outbox: Outbox::default(),
            folders: Folders::default(),
            connection: Connection::default(),
            tasks: JoinSet::new(),
            telling: Talk::default(),
            waiting: Talk::default(),
            places,
        })
    }

    /// Never ends; within a `LocalSet`.
    pub async fn run(&mut self) {
        let mut mounted = tokio::time::interval(MOUNTED);
        mounted.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = self.now();
            self.start(now);
            let wake = self.wake(now);
            tokio::select! {
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => match done {
                    Ok(done) => self.done(done),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                _ = mounted.tick() => self.reload(),
                () = tokio::time::sleep_until(self.begun + wake.unwrap_or(LONGEST)), if wake.is_some() => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Begins what is due.
    fn start(&mut self, now: Duration) {
        let builders = &self.list.builders;
        let registries = |builder: &str| builders.get(builder).cloned().unwrap_or_default();
        for look in self.schedule.take(now) {
            let lacks = self.servers.lacks(&look.what, registries);
            let host = look::host(&look.what);
            if self.schedule.waits(&look, &host, lacks, now) {
                continue;
            }
            let asking = self.servers.prepare(&look.what, registries);
            self.tasks.spawn_local(async move {
                let looked = asking.look(&look.what).await;
                Done::Looked(look, looked)
            });
        }
        while let Some((what, sight, folder)) = self.folders.next() {
            let asking = self.servers.prepare(&what, |_| vec![]);
            self.tasks.spawn_local(async move {
                let tree = match &sight.seen.outcome {
                    Outcome::Found { revision } => asking.tree(revision, &folder).await,
                    Outcome::Failed { .. } => None,
                };
                Done::Tree(sight, tree)
            });
        }
        if self.list.callback.is_empty() {
            return;
        }
        if self.telling.is_due(now) && (!self.outbox.is_empty() || self.outbox.again() <= now) {
            let seen = self.outbox.batch(now);
            if !seen.is_empty() {
                self.talk(true, |controller, callback| async move {
                    let told = controller.tell(&callback, &Told { seen }).await;
                    Done::Told(told)
                });
            }
        }
        if self.waiting.is_due(now) {
            let asked = Asked {
                list: self.list_digest.clone(),
            };
            self.talk(false, |controller, callback| async move {
                let begun = Instant::now();
                Done::Waited(begun, controller.wait(&callback, &asked).await)
            });
        }
    }

    fn talk<F: Future<Output = Done> + 'static>(
        &mut self,
        telling: bool,
        with: impl FnOnce(controller::Controller, String) -> F,
    ) {
        let callback = self.list.callback.clone();
        match self.connection.get(&self.places) {
            Ok(controller) => {
                match telling {
                    true => self.telling.running = true,
                    false => self.waiting.running = true,
                }
                self.tasks.spawn_local(with(controller, callback));
            }
            Err(error) if telling => self.done(Done::Told(Err(error))),
            Err(error) => self.done(Done::Waited(Instant::now(), Err(error))),
        }
    }

    fn done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Looked(look, looked) => {
                if let Outcome::Failed { message, .. } = &looked.outcome {
                    tracing::debug!(%message, "a source cannot be seen");
                }
                let seen = self
                    .schedule
                    .done(&look, &look::host(&look.what), &looked, now);
                for seen in seen {
                    let (begun, ended) = (look.begun, now);
                    let sight = Sight { seen, begun, ended };
                    if let Some(sight) = self.folders.look(&look.what, sight) {
                        self.outbox.note(sight);
                    }
                }
            }
            Done::Tree(sight, tree) => {
                if let Some(sight) = self.folders.found(sight, tree) {
                    self.outbox.note(sight);
                }
            }
            Done::Told(result) => {
                self.outbox.told(result.is_ok());
                self.telling.ended(
                    result.map(|()| Duration::ZERO),
                    now,
                    "cannot tell the controller what is new",
                );
            }
            Done::Waited(begun, result) => {
                if let Ok(wanted) = &result {
                    self.answered(wanted, now);
                    self.schedule.want(&wanted.look, now);
                }
                // An answer that comes at once is no reason to ask at once.
                let pause = PAUSE.saturating_sub(begun.elapsed());
                let result =
                    result.map(|wanted| if wanted.look.is_empty() { pause } else { PAUSE });
                self.waiting.ended(
                    result,
                    now,
                    "cannot ask the controller what is to be looked at",
                );
            }
        }
    }

    /// When something is due that is not yet.
    fn wake(&self, now: Duration) -> Option<Duration> {
        let telling = match self.outbox.is_empty() {
            true => self.outbox.again().max(self.telling.after),
            false => self.telling.after,
        };
        let talks = [
            (&self.telling, telling),
            (&self.waiting, self.waiting.after),
        ];
        let talks = talks
            .into_iter()
            .filter(|(talk, _)| !talk.running && !self.list.callback.is_empty())
            .map(|(_, time)| time);
        talks.chain(self.schedule.wake(now)).min()
    }

    /// Takes the list that the controller sends, if it does.
    fn answered(&mut self, wanted: &Wanted, now: Duration) {
        if self.lists && !wanted.lists {
            // One of an earlier version leads by now: what is mounted counts again.
            self.list_mark = 0;
        }
        self.lists = wanted.lists;
        let Some(text) = &wanted.list else { return };
        // Also of one that is invalid: it would be sent each time.
        self.list_digest = Some(digest_of(text.as_bytes()));
        match serde_json::from_str(text) {
            Ok(list) => self.take(list, now),
            Err(error) => tracing::warn!(%error, "{INVALID}"),
        }
    }

    /// Reads what has changed of what is mounted.
    fn reload(&mut self) {
        let now = self.now();
        self.reload_list(now);
        for (name, known) in &mut self.secrets {
            let folder = files::within(&self.places.secrets, name);
            let mark = folder.map_or(0, |folder| files::mark(&folder));
            if mark != *known {
                *known = mark;
                self.schedule.changed(name, now);
            }
        }
    }

    /// Reads the mounted list, where that counts: until the controller sends one, and where it cannot be reached, as it may be
    /// somewhere else by now.
    fn reload_list(&mut self, now: Duration) {
        let mark = files::mark(&self.places.list);
        let away = self.waiting.failures > 0;
        if mark == self.list_mark || self.lists && !away {
            return;
        }
        // One that cannot be read is read again once it changes.
        self.list_mark = mark;
        match files::list(&self.places.list) {
            Ok(Some((list, _))) if self.lists && list.callback == self.list.callback => {}
            Ok(None) if self.lists => {}
            Ok(list) => {
                let (list, digest) = list.unzip();
                self.list_digest = digest;
                self.take(list.unwrap_or_default(), now);
            }
            Err(error) => tracing::warn!(%error, "{INVALID}"),
        }
    }

    fn take(&mut self, mut list: List, now: Duration) {
        let all = list.sources.len();
        list.sources
            .retain(|source| source.id.chars().count() <= ID);
        list.sources.truncate(SOURCES);
        let sources = std::mem::take(&mut list.sources);
        if sources.len() < all {
            tracing::warn!(
                all,
                "too many sources, or ids that are too long: the rest is not watched"
            );
        }
        let fresh = self.schedule.set(&sources, look::host, now);
        let ids = sources.iter().map(|source| source.id.as_str()).collect();
        self.outbox.keep(&ids, &fresh);
        self.folders.keep(&sources, &fresh);
        let mut before = std::mem::take(&mut self.secrets);
        for source in &sources {
            let (wire::What::Git { secret, .. } | wire::What::Image { secret, .. }) = &source.what;
            if let Some(name) = secret
                && !self.secrets.contains_key(name)
            {
                let folder = files::within(&self.places.secrets, name);
                let known = before.remove(name);
                let mark = known.unwrap_or_else(|| folder.map_or(0, |folder| files::mark(&folder)));
                self.secrets.insert(name.clone(), mark);
            }
        }
        tracing::info!(sources = sources.len(), "what is watched has changed");
        self.list = list;
    }
}

impl Talk {
    fn is_due(&self, now: Duration) -> bool {
        !self.running && self.after <= now
    }

    /// Notes how it ended: how long to pause, or why it failed.
    fn ended(&mut self, result: Result<Duration, String>, now: Duration, what: &str) {
        self.running = false;
        match result {
            Ok(pause) => {
                self.after = now + pause;
                self.failures = 0;
                self.said = None;
            }
            Err(error) => {
                let pause = PAUSE.saturating_mul(1 << self.failures.min(5)).min(LONGEST);
                self.after = now + pause;
                self.failures += 1;
                // Once for each cause: it may last.
                if self.said.as_ref() != Some(&error) {
                    tracing::warn!(%error, "{what}; retrying");
                    self.said = Some(error);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
