//! Since when a watcher has said nothing, and of what that is told. Pure: it is told the time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::room::LeftOut;

/// While a watcher stays silent it is looked at again why, after so many times what makes a silence.
const AGAIN: u32 = 4;
/// A Deployment that changes ever again puts its watcher's silence off for so many times as long at most.
const PUT_OFF: u32 = 3;
/// Of one that falls silent ever again, each time twice as long makes a silence, up to so many times; forgotten after so many
/// times what makes the first.
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
    /// Requests of it that are held.
    held: usize,
    /// Why it could not be written.
    trouble: Option<String>,
    /// It is silent.
    silence: Option<Silence>,
    /// How often it was of late, and when that ended last.
    silences: u32,
    healed: Option<Instant>,
    /// What its list leaves out, by the UID of the ImageBuild; none before that has been decided.
    left_out: Option<BTreeMap<String, LeftOut>>,
}

/// What is said of a watcher that is silent.
#[derive(Clone, Debug, PartialEq)]
struct Silence {
    kind: &'static str,
    message: String,
    looked: Instant,
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
    /// It is silent: look why. True where it has just become so.
    Look(bool),
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
            held: 0,
            trouble: None,
            silence: None,
            silences: 0,
            healed: None,
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
        let (word, held) = (self.word, self.held);
        *self = Self {
            word,
            held,
            ..Self::new()
        };
    }

    /// It could not be written.
    pub fn fails(&mut self, why: String, now: Instant) {
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

    /// It says something.
    pub fn speaks(&mut self, now: Instant) {
        self.word = Some(now);
        if self.silence.take().is_some() {
            self.silences = self.silences.saturating_add(1);
            self.healed = Some(now);
        }
    }

    /// It says something, and waits for the answer.
    pub fn waits(&mut self, now: Instant) {
        self.speaks(now);
        self.held += 1;
    }

    /// That has its answer, or its connection has ended.
    pub fn waited(&mut self, now: Instant) {
        self.speaks(now);
        self.held = self.held.saturating_sub(1);
    }

    /// Why it could not be written.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// What is to be done. `after`: what makes a silence.
    pub fn turn(&self, after: Duration, now: Instant) -> Turn {
        let Some(wanted) = self.wanted.filter(|_| self.held == 0) else {
            return Turn::Known;
        };
        if let Some(silence) = &self.silence {
            let again = now >= silence.looked + after * AGAIN;
            return if again {
                Turn::Look(false)
            } else {
                Turn::Known
            };
        }
        let after = after * (1 << self.of_late(after, now).min(DOUBLED));
        let quiet = self.word.map_or(wanted, |word| word.max(wanted));
        let changed = self.changed.as_ref().map_or(quiet, |(_, at)| *at);
        let due = (quiet.max(changed) + after).min(quiet + after * PUT_OFF);
        if now >= due {
            Turn::Look(true)
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

    /// It was looked why it is silent; it may have spoken meanwhile.
    pub fn found(&mut self, cause: &Cause, message: String, after: Duration, now: Instant) {
        if self.turn(after, now) == Turn::Known {
            return;
        }
        self.silences = self.of_late(after, now);
        match &mut self.silence {
            // The same cause: its words change with each crash.
            Some(silence) if silence.kind == cause.kind => silence.looked = now,
            silence => {
                *silence = Some(Silence {
                    kind: cause.kind,
                    message,
                    looked: now,
                });
            }
        }
    }

    /// What is to be written of it for an ImageBuild of this UID, whose condition says this; none where it may stay. Of a
    /// watcher that has not spoken to this process it is not known that it does.
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
            (None, Said::Of(Say::Silent(_))) => self.word.is_some().then_some(None),
            (None, Said::Of(Say::LeftOut(_))) => self.left_out.is_some().then_some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watcher::room::Bound;

    const MINUTE: Duration = Duration::from_secs(60);
    const AFTER: Duration = Duration::from_secs(180);

    fn because(kind: &'static str) -> Cause {
        Cause {
            kind,
            words: String::new(),
        }
    }

    fn silent(message: &str) -> Say {
        Say::Silent(message.into())
    }

    /// One that has been wanted since then.
    fn wanted() -> (Voice, Instant) {
        let (mut voice, begin) = (Voice::new(), Instant::now());
        voice.want(Some("deployment"), begin);
        (voice, begin)
    }

    #[test]
    fn one_that_never_speaks_is_silent_after_a_while_and_one_that_nobody_wants_never() {
        let (mut voice, begin) = wanted();
        assert_eq!(voice.turn(AFTER, begin + AFTER - MINUTE), Turn::Known);
        assert_eq!(voice.turn(AFTER, begin + AFTER), Turn::Look(true));
        voice.unwant();
        assert_eq!(voice.turn(AFTER, begin + AFTER * 100), Turn::Known);
    }

    #[test]
    fn each_word_counts_and_so_does_a_request_that_is_held() {
        let (mut voice, begin) = wanted();
        voice.speaks(begin + 2 * MINUTE);
        assert_eq!(voice.turn(AFTER, begin + 4 * MINUTE), Turn::Known);
        assert_eq!(voice.turn(AFTER, begin + 5 * MINUTE), Turn::Look(true));
        voice.waits(begin + 5 * MINUTE);
        assert_eq!(voice.turn(AFTER, begin + 50 * MINUTE), Turn::Known);
        voice.waited(begin + 50 * MINUTE);
        assert_eq!(voice.turn(AFTER, begin + 52 * MINUTE), Turn::Known);
        assert_eq!(voice.turn(AFTER, begin + 53 * MINUTE), Turn::Look(true));
    }

    #[test]
    fn another_deployment_has_time_to_come_up_and_one_that_changes_ever_again_has_an_end() {
        let (mut voice, begin) = wanted();
        voice.want(Some("deployment"), begin + 2 * MINUTE);
        assert_eq!(voice.turn(AFTER, begin + AFTER), Turn::Look(true));
        for (minute, name) in [(2, "a"), (4, "b"), (6, "c"), (8, "d")] {
            let now = begin + minute * MINUTE;
            assert_eq!(voice.turn(AFTER, now), Turn::Known, "{minute}");
            voice.want(Some(name), now);
        }
        assert_eq!(voice.turn(AFTER, begin + 9 * MINUTE), Turn::Look(true));
    }

    #[test]
    fn a_silence_is_said_once_to_each_and_again_where_its_cause_is_another_one() {
        let (mut voice, begin) = wanted();
        let now = begin + AFTER;
        assert_eq!(voice.says("u", "b", &Said::Nothing), None);
        voice.found(&because("Crash"), "1 restart".into(), AFTER, now);
        let first = Some(Some(silent("1 restart")));
        assert_eq!(voice.says("u", "b", &Said::Nothing), first);
        let said = Said::Of(silent("1 restart"));
        assert_eq!(voice.says("u", "b", &said), None);
        // What is worse than that stays said.
        assert_eq!(voice.says("u", "b", &Said::Before), None);
        // Not looked at in between.
        assert_eq!(voice.turn(AFTER, now + AFTER), Turn::Known);
        let later = now + AFTER * AGAIN;
        assert_eq!(voice.turn(AFTER, later), Turn::Look(false));
        voice.found(&because("Crash"), "2 restarts".into(), AFTER, later);
        assert_eq!(voice.says("u", "b", &said), None);
        assert_eq!(voice.turn(AFTER, later), Turn::Known);
        let later = later + AFTER * AGAIN;
        voice.found(&because("Pull"), "no image".into(), AFTER, later);
        assert_eq!(voice.says("u", "b", &said), Some(Some(silent("no image"))));
    }

    #[test]
    fn it_heals_by_the_next_word_and_not_by_a_controller_that_knows_nothing_yet() {
        let said = Said::Of(silent("of the controller before"));
        let (mut voice, begin) = wanted();
        assert_eq!(voice.says("u", "b", &said), None);
        voice.speaks(begin + MINUTE);
        assert_eq!(voice.says("u", "b", &said), Some(None));
        assert_eq!(voice.says("u", "b", &Said::Nothing), None);
        // A word that comes while it is looked why: it is not silent.
        voice.speaks(begin + 9 * MINUTE);
        voice.found(&because("Crash"), "late".into(), AFTER, begin + 9 * MINUTE);
        assert_eq!(voice.says("u", "b", &Said::Nothing), None);
    }

    #[test]
    fn one_that_falls_silent_ever_again_is_said_ever_less_often() {
        let (mut voice, begin) = wanted();
        let mut now = begin;
        let mut pauses = vec![];
        for _ in 0..6 {
            let spoke = now;
            while voice.turn(AFTER, now) == Turn::Known {
                now += MINUTE;
            }
            pauses.push((now - spoke).as_secs() / AFTER.as_secs());
            voice.found(&because("Crash"), "x".into(), AFTER, now);
            now += MINUTE;
            voice.speaks(now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 16]);
        // A day later it is as if it had never been.
        now += MINUTE * 60 * 24;
        voice.speaks(now);
        assert_eq!(voice.turn(AFTER, now + AFTER), Turn::Look(true));
    }

    #[test]
    fn what_is_left_out_is_said_of_that_one_alone_and_taken_back_once_it_has_room() {
        let (mut voice, begin) = wanted();
        let old = Said::Of(Say::LeftOut("old".into()));
        assert_eq!(voice.says("u", "b", &old), None);
        let out = LeftOut {
            bound: Bound::Secrets,
            what: vec!["image h/a:1".into()],
        };
        voice.leaves_out([("u".to_owned(), out.clone())].into(), begin);
        let say = Say::LeftOut(out.message("b"));
        assert_eq!(
            voice.says("u", "b", &Said::Nothing),
            Some(Some(say.clone()))
        );
        assert_eq!(voice.says("u", "b", &Said::Of(say)), None);
        assert_eq!(voice.says("other", "b", &Said::Nothing), None);
        assert_eq!(voice.says("other", "b", &old), Some(None));
    }

    #[test]
    fn why_it_could_not_be_written_holds_until_it_is() {
        let (mut voice, begin) = wanted();
        voice.fails("denied".into(), begin);
        assert_eq!(voice.trouble(), Some("denied"));
        voice.want(Some("deployment"), begin);
        assert_eq!(voice.trouble(), None);
    }
}
