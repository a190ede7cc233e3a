//! What is known of all watchers.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::lists::Send;
use super::room::LeftOut;
use super::sources::Sources;
use super::voice::{Cause, Say, Turn, Voice};
use crate::queues::{Name, names_of};

/// A request of a watcher that is held, until it is dropped.
pub struct Held(Sources, Name);

impl Drop for Held {
    fn drop(&mut self) {
        let Self(sources, builder) = self;
        let after = sources.silent_after();
        sources.known(builder, |voice, now| voice.waited(after, now));
    }
}

/// An ImageBuild whose condition is to say something else.
#[derive(Clone, Debug, PartialEq)]
pub struct Untold {
    /// The name of its Builder.
    pub builder: String,
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
        self.known(builder, |voice, now| voice.speaks(self.silent_after(), now));
    }

    /// It tells what it has seen of something that it is to look at.
    pub fn tells(&self, builder: &Name) {
        self.known(builder, |voice, now| voice.tells(self.silent_after(), now));
    }

    /// It says something, and waits until what this gives back is dropped.
    pub fn holds(&self, builder: &Name) -> Held {
        self.voice(builder, |voice, now| voice.waits(self.silent_after(), now));
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
    pub fn fails(&self, builder: &Name, why: Cause) {
        self.voice(builder, |voice, now| voice.fails(why, now));
    }

    /// It is about to be written, and this is what its list leaves out.
    pub fn leaves_out(&self, builder: &Name, all: BTreeMap<String, LeftOut>) {
        self.voice(builder, |voice, now| voice.leaves_out(all, now));
    }

    /// It is about to be written, and this is its list. `uid`: of its Builder.
    pub fn lists(&self, builder: &Name, uid: &str, list: &str) {
        self.voice(builder, |voice, now| voice.lists(uid, list, now));
        self.wakes();
    }

    /// Whether it is to be sent its list, which has the one with this digest. `uid`: of the Builder that its credential is for.
    pub fn send(&self, builder: &Name, uid: &str, has: &str) -> Send {
        let send = self.known(builder, |voice, now| voice.send(uid, has, now));
        send.unwrap_or(Send::No)
    }

    /// All whose watchers are known.
    pub fn watchers(&self) -> Vec<Name> {
        self.lock().voices.keys().cloned().collect()
    }

    /// What is to be done about one, and why it could not be written.
    pub fn turn(&self, builder: &Name) -> (Turn, Option<Cause>) {
        let turn = self.known(builder, |voice, now| {
            let trouble = voice.trouble().cloned();
            (voice.turn(self.silent_after(), now), trouble)
        });
        turn.unwrap_or((Turn::Known, None))
    }

    /// It was looked why it is silent, while this kept it from being written.
    pub fn found(&self, builder: &Name, cause: &Cause, trouble: Option<&Cause>, message: String) {
        let cause = (cause, trouble.map(|trouble| trouble.kind));
        self.known(builder, |voice, now| {
            voice.found(cause, message, self.silent_after(), now)
        });
    }

    /// ImageBuilds of this namespace whose conditions are to say something else of their watchers, so many at most of each
    /// Builder. All at once: a namespace may name as many Builders as it has ImageBuilds.
    pub fn untold(&self, namespace: &str, most: usize) -> Vec<Untold> {
        let state = self.lock();
        let mut voices = BTreeMap::new();
        for ((_, builder), voice) in state.voices.range(names_of(namespace)) {
            voices.insert(builder.as_str(), (voice, most));
        }
        let mut untold = vec![];
        for (name, entry) in state.known.range(names_of(namespace)) {
            let Some((voice, left)) = voices.get_mut(entry.builder.as_str()) else {
                continue;
            };
            if *left == 0 || entry.watched.is_empty() {
                continue;
            }
            let Some(say) = voice.says(&entry.uid, &entry.builder, &entry.said) else {
                continue;
            };
            *left -= 1;
            untold.push(Untold {
                builder: entry.builder.clone(),
                name: name.clone(),
                uid: entry.uid.clone(),
                say,
            });
        }
        untold
    }

    /// True where that is to be said still.
    pub fn is_untold(&self, untold: &Untold) -> bool {
        let state = self.lock();
        let builder = (untold.name.0.clone(), untold.builder.clone());
        let (Some(voice), Some(entry)) =
            (state.voices.get(&builder), state.known.get(&untold.name))
        else {
            return false;
        };
        let say = voice.says(&untold.uid, &untold.builder, &entry.said);
        let same = entry.uid == untold.uid && entry.builder == untold.builder;
        same && say.as_ref() == Some(&untold.say)
    }
}

#[cfg(test)]
#[path = "voices_tests.rs"]
mod tests;
