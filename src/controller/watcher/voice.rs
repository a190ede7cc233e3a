//! Since when a watcher has said nothing, and of what that is told. Pure: it is told the time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::lists::{Listed, Send};
use super::room::LeftOut;

/// While a watcher stays silent it is looked at again why, after so many times what makes a silence.
const AGAIN: u32 = 4;
/// A Deployment that changes ever again puts its watcher's silence off for so many times as long at most.
const PUT_OFF: u32 = 3;
/// Of one that tells something and falls silent ever again, each time twice as long makes a silence, up to so many times;
/// forgotten after so many times what makes the first.
const DOUBLED: u32 = 4;
const FORGOTTEN: u32 = 20;

/// What is known of one Builder's watcher.
#[derive(Debug)]
pub struct Voice {
    /// It is to be there: since when.
    wanted: Option<Instant>,
    /// When its Deployment last became another one, and which.
    changed: Option<(String, Instant)>,
    /// When it last said something.
    word: Option<Instant>,
    /// Since when it has said something without a silence in between.
    since: Option<Instant>,
    /// It works, as far as this process has heard since it was last silent: it told something, or its words went on for as long
    /// as what makes a silence. One word does not say that: a program that keeps crashing has one each time.
    well: bool,
    /// Requests of it that are held.
    held: usize,
    /// Why it could not be written.
    trouble: Option<Cause>,
    /// It is silent.
    silence: Option<Silence>,
    /// How often it was of late, and when that ended last.
    silences: u32,
    healed: Option<Instant>,
    /// What it is to look at.
    list: Option<Listed>,
    /// What its list leaves out, by the UID of the ImageBuild; none before that has been decided.
    left_out: Option<BTreeMap<String, LeftOut>>,
}

/// What is said of a watcher that is silent.
#[derive(Clone, Debug, PartialEq)]
struct Silence {
    kind: &'static str,
    message: String,
    looked: Instant,
    /// The kind of what kept it from being written when that was looked at.
    trouble: Option<&'static str>,
}

/// Why a watcher is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// One word: of another one, another message is written.
    pub kind: &'static str,
    /// Cause and next step.
    pub words: String,
}

/// What is to be done about a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing but what is known.
    Known,
    /// It is silent: look why.
    Look(Why),
}

/// Why it is to be looked why one is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It has just become so.
    New,
    /// It has been a while.
    Again,
    /// What keeps it from being written is something else, or nothing any more.
    Trouble,
}

/// What an ImageBuild's condition is to say of its watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// That it is silent.
    Silent(String),
    /// That there is no room for it.
    LeftOut(String),
}

/// What the condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Of the watcher.
    Of(Say),
    /// What comes before that.
    Before,
    /// Neither.
    Nothing,
}

impl Voice {
    pub fn new() -> Self {
        Self {
            wanted: None,
            changed: None,
            word: None,
            since: None,
            well: false,
            held: 0,
            trouble: None,
            silence: None,
            silences: 0,
            healed: None,
            list: None,
            left_out: None,
        }
    }

    /// It is to be there. `deployment`: what stands for its Deployment, where that was written.
    pub fn want(&mut self, deployment: Option<&str>, now: Instant) {
        self.wanted.get_or_insert(now);
        if let Some(deployment) = deployment {
            self.trouble = None;
            let known = self.changed.as_ref();
            if known.is_none_or(|(known, _)| known != deployment) {
                self.changed = Some((deployment.to_owned(), now));
            }
        }
    }

    /// It is to be there no more, or somebody else's.
    pub fn unwant(&mut self) {
        let (word, since, held) = (self.word, self.since, self.held);
        *self = Self {
            word,
            since,
            held,
            ..Self::new()
        };
    }

    /// It could not be written.
    pub fn fails(&mut self, why: Cause, now: Instant) {
        self.want(None, now);
        self.trouble = Some(why);
    }

    /// True where nobody wants it and it waits for nothing: nothing is to be known of it.
    pub fn is_over(&self) -> bool {
        self.wanted.is_none() && self.held == 0
    }

    /// It is to be there, and this is what its list leaves out.
    pub fn leaves_out(&mut self, all: BTreeMap<String, LeftOut>, now: Instant) {
        self.want(None, now);
        self.left_out = Some(all);
    }

    /// It is to be there, and is to look at this. `uid`: of its Builder.
    pub fn lists(&mut self, uid: &str, list: &str, now: Instant) {
        self.want(None, now);
        self.list = Some(Listed::new(uid, list, self.list.take()));
    }

    /// Whether a watcher is to be sent its list, which has the one with this digest.
    pub fn send(&mut self, uid: &str, has: &str, now: Instant) -> Send {
        let list = self.list.as_mut();
        list.map_or(Send::No, |list| list.send(uid, has, now))
    }

    /// It says something. `after`: what makes a silence.
    pub fn speaks(&mut self, after: Duration, now: Instant) {
        let pause = |word: Instant| self.held == 0 && now >= word + after;
        if self.word.is_none_or(pause) {
            self.since = Some(now);
        }
        self.word = Some(now);
    }

    /// It tells what it has seen of something that it is to look at.
    pub fn tells(&mut self, after: Duration, now: Instant) {
        self.speaks(after, now);
        self.heals(now);
    }

    fn heals(&mut self, now: Instant) {
        self.well = true;
        if self.silence.take().is_some() {
            self.silences = self.silences.saturating_add(1);
            self.healed = Some(now);
        }
    }

    /// It says something, and waits for the answer.
    pub fn waits(&mut self, after: Duration, now: Instant) {
        self.speaks(after, now);
        self.held += 1;
    }

    /// That has its answer, or its connection has ended.
    pub fn waited(&mut self, after: Duration, now: Instant) {
        self.speaks(after, now);
        self.held = self.held.saturating_sub(1);
    }

    /// Why it could not be written.
    pub fn trouble(&self) -> Option<&Cause> {
        self.trouble.as_ref()
    }

    /// What is to be done. `after`: what makes a silence.
    pub fn turn(&mut self, after: Duration, now: Instant) -> Turn {
        let last = if self.held > 0 { Some(now) } else { self.word };
        if let (Some(since), Some(last)) = (self.since, last)
            && last >= since + after
        {
            self.heals(now);
        }
        let Some(wanted) = self.wanted.filter(|_| self.held == 0) else {
            return Turn::Known;
        };
        if let Some(silence) = &self.silence {
            // One that says something now and then is looked at while it does not.
            let quiet = self.word.is_none_or(|word| now >= word + after);
            let trouble = self.trouble.as_ref().map(|trouble| trouble.kind);
            return match quiet {
                true if trouble != silence.trouble => Turn::Look(Why::Trouble),
                true if now >= silence.looked + after * AGAIN => Turn::Look(Why::Again),
                _ => Turn::Known,
            };
        }
        let after = after * (1 << self.of_late(after, now).min(DOUBLED));
        let quiet = self.word.map_or(wanted, |word| word.max(wanted));
        let changed = self.changed.as_ref().map_or(quiet, |(_, at)| *at);
        let due = (quiet.max(changed) + after).min(quiet + after * PUT_OFF);
        if now >= due {
            Turn::Look(Why::New)
        } else {
            Turn::Known
        }
    }

    /// How often it was silent of late.
    fn of_late(&self, after: Duration, now: Instant) -> u32 {
        let recent = |at: Instant| now.saturating_duration_since(at) < after * FORGOTTEN;
        if self.healed.is_some_and(recent) {
            self.silences
        } else {
            0
        }
    }

    /// It was looked why it is silent, while this kept it from being written; it may have spoken meanwhile.
    pub fn found(
        &mut self,
        (cause, trouble): (&Cause, Option<&'static str>),
        message: String,
        after: Duration,
        now: Instant,
    ) {
        if self.turn(after, now) == Turn::Known {
            return;
        }
        self.silences = self.of_late(after, now);
        // What it said before does not say that it works.
        (self.since, self.well) = (None, false);
        match &mut self.silence {
            // The same cause: its words change with each crash.
            Some(silence) if silence.kind == cause.kind => {
                (silence.looked, silence.trouble) = (now, trouble);
            }
            silence => {
                *silence = Some(Silence {
                    kind: cause.kind,
                    message,
                    looked: now,
                    trouble,
                });
            }
        }
    }

    /// What is to be written of it for an ImageBuild of this UID, whose condition says this; none where it may stay. Of a
    /// watcher that this process has not heard to work nothing is taken back.
    pub fn says(&self, uid: &str, builder: &str, said: &Said) -> Option<Option<Say>> {
        self.wanted?;
        let out = self.left_out.as_ref().and_then(|all| all.get(uid));
        let out = out.map(|out| Say::LeftOut(out.message(builder)));
        let silent = self.silence.as_ref();
        let silent = silent.map(|silence| Say::Silent(silence.message.clone()));
        match (out.or(silent), said) {
            (_, Said::Before) | (None, Said::Nothing) => None,
            (Some(say), Said::Of(said)) if say == *said => None,
            (Some(say), _) => Some(Some(say)),
            (None, Said::Of(Say::Silent(_))) => self.well.then_some(None),
            (None, Said::Of(Say::LeftOut(_))) => self.left_out.is_some().then_some(None),
        }
    }
}

#[cfg(test)]
#[path = "voice_tests.rs"]
mod tests;
