//! What is known of all watchers.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::room::LeftOut;
use super::sources::Sources;
use super::voice::{Cause, Say, Turn, Voice};
use crate::queues::Name;

/// A request of a watcher that is held, until it is dropped.
pub struct Held(Sources, Name);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.known(&self.1, Voice::waited);
    }
}

/// An ImageBuild whose condition is to say something else.
#[derive(Clone, Debug, PartialEq)]
pub struct Untold {
    /// Its namespace and name.
    pub name: Name,
    /// Its UID.
    pub uid: String,
    /// What of the watcher; none: that it can be heard again.
    pub say: Option<Say>,
}

impl Sources {
    /// Changes what is known of this Builder's watcher.
    fn voice<T>(&self, builder: &Name, change: impl FnOnce(&mut Voice, Instant) -> T) -> T {
        let mut state = self.lock();
        let voice = state.voices.entry(builder.clone());
        change(voice.or_insert_with(Voice::new), Instant::now())
    }

    /// The same where something is known of it. Names of Builders are whatever ImageBuilds say: of one that nobody wants any
    /// more nothing is kept.
    fn known<T>(&self, builder: &Name, change: impl FnOnce(&mut Voice, Instant) -> T) -> Option<T> {
        let mut state = self.lock();
        let voice = state.voices.get_mut(builder)?;
        let result = change(voice, Instant::now());
        if voice.is_over() {
            state.voices.remove(builder);
        }
        Some(result)
    }

    /// This Builder's watcher says something.
    pub fn speaks(&self, builder: &Name) {
        self.known(builder, Voice::speaks);
    }

    /// It says something, and waits until what this gives back is dropped.
    pub fn holds(&self, builder: &Name) -> Held {
        self.voice(builder, Voice::waits);
        Held(self.clone(), builder.clone())
    }

    /// It was written, with this Deployment.
    pub fn wants(&self, builder: &Name, deployment: &str) {
        self.voice(builder, |voice, now| voice.want(Some(deployment), now));
    }

    /// It is to be there no more, or is not ours.
    pub fn unwants(&self, builder: &Name) {
        self.known(builder, |voice, _| voice.unwant());
    }

    /// It cannot be written.
    pub fn fails(&self, builder: &Name, why: String) {
        self.voice(builder, |voice, now| voice.fails(why, now));
    }

    /// It is about to be written, and this is what its list leaves out.
    pub fn leaves_out(&self, builder: &Name, all: BTreeMap<String, LeftOut>) {
        self.voice(builder, |voice, now| voice.leaves_out(all, now));
    }

    /// All whose watchers are known.
    pub fn watchers(&self) -> Vec<Name> {
        self.lock().voices.keys().cloned().collect()
    }

    /// What is to be done about one, and why it could not be written.
    pub fn turn(&self, builder: &Name, after: Duration) -> (Turn, Option<String>) {
        let turn = self.known(builder, |voice, now| {
            let trouble = voice.trouble().map(str::to_owned);
            (voice.turn(after, now), trouble)
        });
        turn.unwrap_or((Turn::Known, None))
    }

    /// It was looked why it is silent.
    pub fn found(&self, builder: &Name, cause: &Cause, message: String, after: Duration) {
        self.known(builder, |voice, now| {
            voice.found(cause, message, after, now)
        });
    }

    /// ImageBuilds of this Builder whose conditions are to say something else of its watcher, so many at most.
    pub fn untold(&self, builder: &Name, most: usize) -> Vec<Untold> {
        let state = self.lock();
        let Some(voice) = state.voices.get(builder) else {
            return vec![];
        };
        let watched = state
            .entries(builder)
            .filter(|(_, entry)| !entry.watched.is_empty());
        let untold = watched.filter_map(|(name, entry)| {
            let say = voice.says(&entry.uid, &builder.1, &entry.said)?;
            Some(Untold {
                name: name.clone(),
                uid: entry.uid.clone(),
                say,
            })
        });
        untold.take(most).collect()
    }

    /// True where that is to be said still.
    pub fn is_untold(&self, builder: &Name, untold: &Untold) -> bool {
        let state = self.lock();
        let (Some(voice), Some(entry)) = (state.voices.get(builder), state.known.get(&untold.name))
        else {
            return false;
        };
        let say = voice.says(&untold.uid, &builder.1, &entry.said);
        entry.uid == untold.uid && say.as_ref() == Some(&untold.say)
    }
}

#[cfg(test)]
#[path = "voices_tests.rs"]
mod tests;
