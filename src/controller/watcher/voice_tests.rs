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
    assert_eq!(voice.turn(AFTER, begin + AFTER), Turn::Look(Why::New));
    voice.unwant();
    assert_eq!(voice.turn(AFTER, begin + AFTER * 100), Turn::Known);
}

#[test]
fn each_word_counts_and_so_does_a_request_that_is_held() {
    let (mut voice, begin) = wanted();
    voice.speaks(AFTER, begin + 2 * MINUTE);
    assert_eq!(voice.turn(AFTER, begin + 4 * MINUTE), Turn::Known);
    assert_eq!(voice.turn(AFTER, begin + 5 * MINUTE), Turn::Look(Why::New));
    voice.waits(AFTER, begin + 5 * MINUTE);
    assert_eq!(voice.turn(AFTER, begin + 50 * MINUTE), Turn::Known);
    voice.waited(AFTER, begin + 50 * MINUTE);
    assert_eq!(voice.turn(AFTER, begin + 52 * MINUTE), Turn::Known);
    assert_eq!(voice.turn(AFTER, begin + 53 * MINUTE), Turn::Look(Why::New));
}

#[test]
fn another_deployment_has_time_to_come_up_and_one_that_changes_ever_again_has_an_end() {
    let (mut voice, begin) = wanted();
    voice.want(Some("deployment"), begin + 2 * MINUTE);
    assert_eq!(voice.turn(AFTER, begin + AFTER), Turn::Look(Why::New));
    for (minute, name) in [(2, "a"), (4, "b"), (6, "c"), (8, "d")] {
        let now = begin + minute * MINUTE;
        assert_eq!(voice.turn(AFTER, now), Turn::Known, "{minute}");
        voice.want(Some(name), now);
    }
    assert_eq!(voice.turn(AFTER, begin + 9 * MINUTE), Turn::Look(Why::New));
}

#[test]
fn a_silence_is_said_once_to_each_and_again_where_its_cause_is_another_one() {
    let (mut voice, begin) = wanted();
    let now = begin + AFTER;
    assert_eq!(voice.says("u", "b", &Said::Nothing), None);
    voice.found((&because("Crash"), None), "1 restart".into(), AFTER, now);
    let first = Some(Some(silent("1 restart")));
    assert_eq!(voice.says("u", "b", &Said::Nothing), first);
    let said = Said::Of(silent("1 restart"));
    assert_eq!(voice.says("u", "b", &said), None);
    // What is worse than that stays said.
    assert_eq!(voice.says("u", "b", &Said::Before), None);
    // Not looked at in between.
    assert_eq!(voice.turn(AFTER, now + AFTER), Turn::Known);
    let later = now + AFTER * AGAIN;
    assert_eq!(voice.turn(AFTER, later), Turn::Look(Why::Again));
    voice.found((&because("Crash"), None), "2 restarts".into(), AFTER, later);
    assert_eq!(voice.says("u", "b", &said), None);
    assert_eq!(voice.turn(AFTER, later), Turn::Known);
    let later = later + AFTER * AGAIN;
    voice.found((&because("Pull"), None), "no image".into(), AFTER, later);
    assert_eq!(voice.says("u", "b", &said), Some(Some(silent("no image"))));
}

#[test]
fn it_heals_by_what_it_tells_and_not_by_a_controller_that_knows_nothing_yet() {
    let said = Said::Of(silent("of the controller before"));
    let (mut voice, begin) = wanted();
    assert_eq!(voice.says("u", "b", &said), None);
    voice.tells(AFTER, begin + MINUTE);
    assert_eq!(voice.says("u", "b", &said), Some(None));
    assert_eq!(voice.says("u", "b", &Said::Nothing), None);
    // A word that comes while it is looked why: it is not silent.
    voice.speaks(AFTER, begin + 9 * MINUTE);
    let now = begin + 9 * MINUTE;
    voice.found((&because("Crash"), None), "late".into(), AFTER, now);
    assert_eq!(voice.says("u", "b", &Said::Nothing), None);
}

#[test]
fn one_that_speaks_once_and_dies_every_five_minutes_stays_silent_whoever_leads() {
    let said = Said::Of(silent("x"));
    let (mut voice, begin) = wanted();
    let (mut now, mut found) = (begin, vec![]);
    for second in 0..3600 {
        now = begin + Duration::from_secs(second);
        match second % 300 {
            // It asks what is to be looked at, and its connection ends some seconds later.
            1 => voice.waits(AFTER, now),
            9 => voice.waited(AFTER, now),
            _ => {}
        }
        if let Turn::Look(why) = voice.turn(AFTER, now) {
            voice.found((&because("Crash"), None), "x".into(), AFTER, now);
            found.push((second, why));
        }
        if found.is_empty() {
            // The next controller has not heard more of it than one word each time.
            assert_eq!(voice.says("u", "b", &said), None, "{second}");
        } else {
            let first = Some(Some(silent("x")));
            assert_eq!(voice.says("u", "b", &Said::Nothing), first, "{second}");
        }
    }
    // Each look falls into a time in which it says nothing.
    let all = [189, 1089, 1989, 2889].map(|second| (second, second == 189));
    let found: Vec<_> = found
        .iter()
        .map(|(at, why)| (*at, *why == Why::New))
        .collect();
    assert_eq!(found, all);
    // It stays up: as long as what makes a silence, and it tells nothing, as nothing is new.
    now += MINUTE;
    let up = now;
    while now < up + AFTER {
        assert_eq!(voice.says("u", "b", &said), None);
        voice.waits(AFTER, now);
        now += Duration::from_secs(26);
        voice.waited(AFTER, now);
        let _ = voice.turn(AFTER, now);
    }
    assert_eq!(voice.says("u", "b", &said), Some(None));
    assert_eq!(voice.turn(AFTER, now + MINUTE), Turn::Known);
}

#[test]
fn what_it_said_before_a_silence_does_not_end_it() {
    let (mut voice, begin) = wanted();
    for minute in 0..30 {
        voice.speaks(AFTER, begin + minute * MINUTE);
    }
    let now = begin + 29 * MINUTE + AFTER;
    assert_eq!(voice.turn(AFTER, now), Turn::Look(Why::New));
    voice.found((&because("Crash"), None), "x".into(), AFTER, now);
    for more in [MINUTE, 2 * MINUTE] {
        voice.speaks(AFTER, now + more);
        assert_eq!(voice.turn(AFTER, now + more), Turn::Known);
        assert_eq!(voice.says("u", "b", &Said::Of(silent("x"))), None);
    }
    voice.speaks(AFTER, now + 4 * MINUTE);
    assert_eq!(voice.turn(AFTER, now + 4 * MINUTE), Turn::Known);
    assert_eq!(voice.says("u", "b", &Said::Of(silent("x"))), Some(None));
}

#[test]
fn it_is_looked_at_again_at_once_where_what_keeps_it_from_being_written_is_another_kind() {
    let (mut voice, begin) = wanted();
    let now = begin + AFTER;
    let missing = because("NoBuilder");
    voice.found((&missing, None), "missing".into(), AFTER, now);
    voice.fails(missing.clone(), now);
    assert_eq!(voice.turn(AFTER, now), Turn::Look(Why::Trouble));
    let trouble = Some(missing.kind);
    voice.found((&missing, trouble), "missing".into(), AFTER, now);
    // Other words of the same kind are no reason: they may differ each time.
    let other = Cause {
        words: "in other words".into(),
        ..missing
    };
    voice.fails(other, now + MINUTE);
    assert_eq!(voice.turn(AFTER, now + MINUTE), Turn::Known);
    // It is written again: what keeps it silent now is something else.
    voice.want(Some("deployment"), now + MINUTE);
    assert_eq!(voice.turn(AFTER, now + MINUTE), Turn::Look(Why::Trouble));
    let pod = because("NoPod");
    voice.found((&pod, None), "no Pod".into(), AFTER, now + MINUTE);
    let said = Said::Of(silent("missing"));
    assert_eq!(voice.says("u", "b", &said), Some(Some(silent("no Pod"))));
    assert_eq!(voice.turn(AFTER, now + 2 * MINUTE), Turn::Known);
    // One that has just spoken is about to heal.
    voice.speaks(AFTER, now + 2 * MINUTE);
    voice.fails(because("Forbidden"), now + 2 * MINUTE);
    assert_eq!(voice.turn(AFTER, now + 3 * MINUTE), Turn::Known);
}

#[test]
fn one_that_tells_something_and_falls_silent_ever_again_is_said_ever_less_often() {
    let (mut voice, begin) = wanted();
    let mut now = begin;
    let mut pauses = vec![];
    for _ in 0..6 {
        let spoke = now;
        while voice.turn(AFTER, now) == Turn::Known {
            now += MINUTE;
        }
        pauses.push((now - spoke).as_secs() / AFTER.as_secs());
        voice.found((&because("Crash"), None), "x".into(), AFTER, now);
        now += MINUTE;
        voice.tells(AFTER, now);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 16]);
    // A day later it is as if it had never been.
    now += MINUTE * 60 * 24;
    voice.speaks(AFTER, now);
    assert_eq!(voice.turn(AFTER, now + AFTER), Turn::Look(Why::New));
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
    voice.fails(because("Forbidden"), begin);
    assert_eq!(voice.trouble(), Some(&because("Forbidden")));
    voice.want(Some("deployment"), begin);
    assert_eq!(voice.trouble(), None);
}
