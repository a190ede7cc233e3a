use super::*;
use crate::contract::Breach;
use crate::fixtures;
use crate::minimized::RejectedBefore;
use crate::runner::finish::Stored;
use whittle_api::{ContentsStatus, HealthCheck, Minimize, Rejection};
use whittle_image::ImageConfig;
use whittle_registry::PlatformManifest;

fn asks(mode: MinimizeMode, on_failure: OnFailure) -> BuildRequest {
    let mut request = fixtures::request();
    request.inputs.minimize = Some(Minimize {
        mode,
        keep: vec![],
        drop: vec![],
        trace: false,
        exercise: vec![],
        on_failure,
    });
    request.inputs.health_check =
        serde_json::from_value::<HealthCheck>(serde_json::json!({"tcpSocket": {"port": 80}})).ok();
    request
}

fn breach(rule: &str, enforced: bool) -> Breach {
    Breach {
        rule: rule.into(),
        platforms: vec![],
        enforced,
        message: "so it is".into(),
    }
}

fn judged(digest: &str, size: i64, breaches: Vec<Breach>) -> Judged {
    let digest = digest.to_owned();
    let status = PlatformStatus {
        platform: "linux/amd64".into(),
        digest: digest.clone(),
        size,
        solve: None,
        layers: vec![],
        contents: Some(ContentsStatus {
            report: Some(format!("report of {digest}")),
            ..ContentsStatus::default()
        }),
    };
    let manifest = PlatformManifest {
        digest: digest.clone(),
        bytes: vec![],
        size,
        config: String::new(),
        layers: vec![],
    };
    Judged {
        pushed: Pushed {
            digest,
            platform: None,
        },
        checked: Checked {
            bytes: vec![],
            media_type: String::new(),
            platforms: vec![Stored {
                manifest,
                config: ImageConfig::default(),
                status,
                could: None,
            }],
        },
        held: Held {
            breaches,
            unhealthy: vec![],
        },
    }
}

#[test]
fn a_smaller_image_that_was_rejected_is_not_made_again() {
    let mut request = asks(MinimizeMode::Apply, OnFailure::UseFull);
    assert!(known(&request, "sha256:f0").is_none());
    request.rejected = Some(RejectedBefore {
        full: "sha256:f0".into(),
        reason: Rejection::NotReady,
        message: "timed out".into(),
    });
    assert!(known(&request, "sha256:f1").is_none());
    let said = told(known(&request, "sha256:f0").unwrap())
        .minimized
        .unwrap();
    assert_eq!(said.outcome, MinimizeOutcome::FullUsed);
    assert_eq!(said.rejected.unwrap().reason, Rejection::NotReady);
    assert!(said.full.is_none());
    assert!(said.message.ends_with("was rejected before: timed out"));
    // What is only suggested needs no proof.
    request.inputs.minimize = asks(MinimizeMode::Suggest, OnFailure::UseFull)
        .inputs
        .minimize;
    assert!(known(&request, "sha256:f0").is_none());
}

#[test]
fn nothing_is_applied_that_nothing_can_prove() {
    let mut request = asks(MinimizeMode::Apply, OnFailure::UseFull);
    request.inputs.health_check = None;
    let said = told(known(&request, "sha256:f0").unwrap())
        .minimized
        .unwrap();
    assert_eq!(said.outcome, MinimizeOutcome::NotPossible);
    assert!(said.message.contains("requires spec.healthCheck"));
}

#[test]
fn what_could_go_is_a_hint_and_whoever_asks_for_it_has_it_in_the_status_too() {
    let found = Found {
        size: Some(1000),
        left: vec![LeftOut {
            path: "/usr".into(),
            size: 9000,
        }],
        message: "90 % is never reached".into(),
    };
    let asked = told(Outcome::Suggested(found.clone()));
    let said = asked.minimized.unwrap();
    assert_eq!(
        (said.outcome, said.size, said.left),
        (MinimizeOutcome::Suggested, Some(1000), found.left.clone())
    );
    assert_eq!(asked.hint.as_deref(), Some("90 % is never reached"));
    let unasked = told(Outcome::Hint("90 % is never reached".into()));
    assert!(unasked.minimized.is_none());
    assert_eq!(hint(&unasked.hint.unwrap()).kind, HintKind::SmallerImage);
    let little = told(Outcome::TooLittle(found));
    assert_eq!(
        little.minimized.unwrap().outcome,
        MinimizeOutcome::TooLittle
    );
    assert!(little.hint.is_none());
    assert!(told(Outcome::Nothing).minimized.is_none());
}

#[test]
fn a_smaller_image_that_breaks_what_the_full_one_keeps_is_not_used() {
    let uses_full = asks(MinimizeMode::Apply, OnFailure::UseFull);
    let fails = asks(MinimizeMode::Apply, OnFailure::Fail);
    let breaks = |enforced: bool| judged("a", 1, vec![breach("TimeZones", enforced)]);
    let keeps = judged("b", 1, vec![breach("NoShell", false)]);
    let why = breaks_more(&uses_full, &breaks(true), &keeps).unwrap();
    assert!(why.contains("TimeZones: so it is"), "{why}");
    for (request, small, full) in [
        (&uses_full, breaks(false), &keeps),
        (&fails, breaks(true), &keeps),
        (&uses_full, breaks(true), &breaks(true)),
    ] {
        assert_eq!(breaks_more(request, &small, full), None);
    }
}

#[test]
fn the_report_on_a_smaller_image_has_what_it_takes_to_go_back() {
    let growth = vec![breach(contract::GROWTH, true), breach("NoShell", true)];
    let said = made(
        &judged("small", 1000, vec![]),
        judged("full", 9000, growth),
        Found::default(),
    );
    assert_eq!(said.outcome, MinimizeOutcome::Applied);
    assert_eq!(said.digest.as_deref(), Some("small"));
    assert_eq!(said.size, Some(1000));
    let full = said.full.unwrap();
    assert_eq!((full.digest.as_str(), full.size), ("full", 9000));
    assert_eq!(full.breaches, [breach("NoShell", true)]);
    assert_eq!(
        full.platforms,
        [FullPlatform {
            platform: "linux/amd64".into(),
            digest: "full".into(),
            size: 9000,
            report: Some("report of full".into()),
        }]
    );
}
