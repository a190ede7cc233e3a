use super::*;

const AFTER: Duration = Duration::from_secs(180);

fn builder(name: &str) -> Name {
    ("team".into(), name.into())
}

#[tokio::test(start_paused = true)]
async fn names_of_builders_that_somebody_makes_up_leave_nothing() {
    let sources = Sources::default();
    for number in 0..1_000 {
        let made_up = builder(&format!("b{number}"));
        sources.fails(&made_up, "not found".into());
        assert_eq!(sources.watchers(), std::slice::from_ref(&made_up));
        // The ImageBuild names the next one: what is told of this one still changes nothing.
        sources.unwants(&made_up);
        sources.speaks(&made_up);
        assert_eq!(sources.turn(&made_up, AFTER), (Turn::Known, None));
        sources.unwants(&made_up);
    }
    assert!(sources.watchers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_wanted_no_more_is_known_until_its_request_has_ended() {
    let (sources, default) = (Sources::default(), builder("default"));
    sources.wants(&default, "deployment");
    let held = sources.holds(&default);
    sources.unwants(&default);
    assert_eq!(sources.watchers(), std::slice::from_ref(&default));
    drop(held);
    assert!(sources.watchers().is_empty());
    // Before its list was written: one that is wanted stays known.
    let held = sources.holds(&default);
    sources.wants(&default, "deployment");
    drop(held);
    assert_eq!(sources.watchers(), [default]);
}
