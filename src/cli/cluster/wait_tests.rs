use serde_json::json;

use super::super::fixtures::{build, building, failed};
use super::*;

#[test]
fn durations_are_those_of_specs_and_plain_seconds() {
    assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
    assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
    for wrong in ["", "m", "10x", "-5s", "1m5"] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_waited_for_is_a_condition_as_kubectl_names_it() {
    let condition = |name: &str, to| Ok(Goal::Condition(name.into(), to));
    assert_eq!(goal("Ready"), condition("Ready", "True"));
    assert_eq!(goal("condition=Ready=false"), condition("Ready", "False"));
    assert_eq!(goal("deleted"), Ok(Goal::Deleted));
    assert_eq!(goal("ended"), Ok(Goal::Ended));
    assert!(goal("Ready=Maybe").is_err());
    assert!(goal("").is_err());
}

#[test]
fn a_failure_ends_the_wait_and_an_older_spec_does_not() {
    let ready = goal("Ready").unwrap();
    assert_eq!(judge(&build(json!({})), &ready), Stands::Reached);
    assert_eq!(judge(&building(), &ready), Stands::Open);
    assert_eq!(judge(&failed(), &ready), Stands::Failed);
    assert_eq!(
        judge(&build(json!({"metadata": {"generation": 4}})), &ready),
        Stands::Open
    );
    assert_eq!(judge(&build(json!({"status": null})), &ready), Stands::Open);
    assert_eq!(judge(&failed(), &Goal::Ended), Stands::Reached);
    assert_eq!(judge(&building(), &Goal::Ended), Stands::Open);
    assert_eq!(
        judge(&failed(), &goal("Ready=False").unwrap()),
        Stands::Reached
    );
}

#[test]
fn of_several_failures_that_of_a_build_counts() {
    let failures = [
        Ok(()),
        Err(Failed::Time("t".into())),
        Err(Failed::Build("b".into())),
    ];
    assert_eq!(worst(failures.into()), Err(Failed::Build("b".into())));
    assert_eq!(worst(vec![Ok(())]), Ok(()));
}
