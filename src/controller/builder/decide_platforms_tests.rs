use serde_json::json;

use super::*;
use crate::platforms as of_platforms;
use whittle_api::PlatformDaemonStatus;

/// One that is up and has a daemon for linux/arm64, as far as its spec goes.
fn with_arm() -> Observed {
    let mut observed = well();
    let arm = json!([{"platform": "linux/arm64"}]);
    observed.builder.spec.platforms = serde_json::from_value(arm).unwrap();
    let (platform, wanted) = of_platforms::wanted(&observed.builder).remove(0);
    observed.platforms = vec![Seen {
        platform,
        wanted,
        stands: None,
    }];
    observed.applied = Some(up(applied(&observed)));
    observed
}

fn said_of(observed: &Observed) -> PlatformDaemonStatus {
    said(observed).status.platforms.unwrap().remove(0)
}

/// The daemon of its platform, as somebody looks at it.
fn of_arm() -> Observed {
    let parent = with_arm();
    let mut daemon = fresh();
    daemon.builder = parent.platforms[0].wanted.clone();
    daemon.builder.metadata.uid = Some("d".into());
    daemon.builder.metadata.generation = Some(1);
    daemon.of = Some(Some(parent.builder));
    daemon
}

#[test]
fn the_daemon_of_a_platform_is_written_after_the_builders_own() {
    let mut observed = with_arm();
    observed.applied = None;
    assert!(matches!(
        decide(&observed, &fixtures::settings()),
        Step::Apply(_)
    ));
    let observed = with_arm();
    let Step::Platform(wanted) = decide(&observed, &fixtures::settings()) else {
        panic!()
    };
    assert_eq!(wanted.wanted.name_any(), "default-linux-arm64");
}

#[test]
fn what_refuses_it_is_said_and_the_builder_goes_on() {
    let mut observed = with_arm();
    let name = "default-linux-arm64".to_owned();
    observed
        .told
        .insert(name.clone(), Some("exceeded quota".into()));
    let said = said_of(&observed);
    assert_eq!(
        (said.ready, said.message.as_deref()),
        (false, Some("exceeded quota"))
    );
    observed.told.insert(name, None);
    let said = said_of(&observed);
    assert_eq!(said.message.as_deref(), Some("it is being created"));
    assert!(super::said(&observed).status.state == Some(Reason::Ready));
}

#[test]
fn one_that_was_refused_is_tried_again_within_a_minute_and_said_to_be_made_once_it_is() {
    let mut observed = with_arm();
    let name = "default-linux-arm64".to_owned();
    observed
        .told
        .insert(name.clone(), Some("exceeded quota".into()));
    let say = super::said(&observed);
    assert!(say.look_again <= LULL, "{:?}", say.look_again);
    observed.builder.status = Some(say.status);
    observed.told.insert(name, None);
    assert_eq!(
        said_of(&observed).message.as_deref(),
        Some("it is being created")
    );
}

#[test]
fn one_that_never_came_up_sleeps_once_nothing_was_built_for_that_long() {
    let mut daemon = of_arm();
    daemon.set = Some(applied(&well()));
    daemon.builder.spec.idle_timeout = "10m".into();
    assert!(asks_for_use(&daemon));
    daemon.builder.metadata.creation_timestamp = Some(Time(ago(600)));
    daemon.used = Some(Use {
        wanted: 0,
        last: Some(ago(60)),
    });
    assert_eq!(daemon.rest(), Rest::Asleep);
    daemon.used = Some(Use {
        wanted: 1,
        last: Some(ago(60)),
    });
    assert_ne!(daemon.rest(), Rest::Asleep);
    daemon.of = None;
    assert!(!asks_for_use(&daemon));
}

#[test]
fn one_that_is_up_is_said_to_be() {
    let mut observed = with_arm();
    let mut stands = observed.platforms[0].wanted.clone();
    stands.status.clone_from(&observed.builder.status);
    stands.metadata.generation = Some(1);
    observed.platforms[0].stands = Some(stands);
    let said = said_of(&observed);
    assert_eq!((said.ready, said.message), (true, None));
    assert_eq!(said.platform, "linux/arm64");
}

#[test]
fn what_was_a_platforms_goes_and_a_builder_without_has_none_in_its_status() {
    let mut observed = with_arm();
    observed.left = observed.platforms.drain(..).map(|it| it.wanted).collect();
    let Step::Leave(left) = decide(&observed, &fixtures::settings()) else {
        panic!()
    };
    observed.told.insert(left.name_any(), None);
    assert_eq!(said(&observed).status.platforms, None);
}

#[test]
fn the_daemon_of_a_platform_has_the_certificate_and_the_runners_of_the_builder_that_it_is_made_after()
 {
    let settings = fixtures::settings();
    let Step::Apply(wanted) = decide(&of_arm(), &settings) else {
        panic!()
    };
    insta::assert_yaml_snapshot!("platform-daemon", wanted.stateful_set);
    insta::assert_yaml_snapshot!("platform-policy", wanted.network_policy);
}

#[test]
fn one_that_drains_waits_for_no_build_that_began_later() {
    let mut daemon = well().builder;
    let building = |minutes: i64| {
        let mut build = fixtures::inline();
        let current = json!({"attempt": 1, "job": "a", "generation": 1, "started": true, "since": ago(minutes).to_string()});
        build.status = serde_json::from_value(json!({"current": current})).unwrap();
        build
    };
    let builds = [building(9), building(1), fixtures::inline()];
    // Until it is said, builds come that nobody has seen begin.
    assert_eq!(platforms::begun_before(&daemon, builds.iter()), None);
    let status = daemon.status.get_or_insert_default();
    status.conditions.clear();
    let mut drains = daemon.clone();
    state::say_draining(drains.status.as_mut().unwrap(), &daemon, 2, ago(5));
    assert_eq!(platforms::begun_before(&drains, builds.iter()), Some(1));
}

#[test]
fn it_waits_for_certificates_and_makes_none() {
    let mut daemon = of_arm();
    if let Some(Some(of)) = &mut daemon.of {
        of.status = None;
    }
    let say = said(&daemon);
    assert_eq!(say.status.state, Some(Reason::Starting));
    let ready = find(&say.status.conditions, READY).unwrap();
    assert_eq!(
        ready.message,
        "waiting for the certificates of Builder default"
    );
}

#[test]
fn it_goes_once_its_platform_is_named_no_more() {
    let mut daemon = of_arm();
    if let Some(Some(of)) = &mut daemon.of {
        of.spec.platforms.clear();
    }
    assert!(matches!(
        decide(&daemon, &fixtures::settings()),
        Step::Remove
    ));
    daemon.of = Some(None);
    assert!(matches!(
        decide(&daemon, &fixtures::settings()),
        Step::Remove
    ));
}
