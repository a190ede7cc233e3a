use super::*;
use crate::inspect::fixtures::{LayoutFolder, program};
use crate::inspect::location::Location;
use crate::inspect::platform::Platforms;
use crate::inspect::remote::Connection;
use crate::inspect::source::Source;
use whittle_image::fixtures::Tar;

/// An image of one layer, and what it holds.
async fn read(layer: Vec<u8>) -> (Found, Contents) {
    let layout = LayoutFolder::of("linux/amd64", &[layer]);
    let location = Location::parse(&layout.name(), |_| true).unwrap();
    let mut source = Source::open(location, &Connection::default()).unwrap();
    let mut target = source.find(&Platforms::Default).await.unwrap();
    let found = target.images.remove(0);
    let contents = source.contents(&found, 0).await.unwrap();
    (found, contents)
}

fn empty() -> Vec<u8> {
    Tar::new().file("other", 0o644, b"x").bytes()
}

fn terms(budget: Budget) -> Terms {
    Terms {
        budget,
        platform: None,
    }
}

fn enforce(rule: Rule) -> Terms {
    terms(Budget {
        enforce: vec![rule],
        ..Budget::default()
    })
}

#[tokio::test]
async fn without_rules_an_image_that_cannot_start_is_said_and_is_no_failure() {
    let (found, contents) = read(empty()).await;
    let verdict = terms(Budget::default()).judge(&found, &contents, None);
    assert!(!verdict.failed);
    assert_eq!(verdict.findings[0].rule, "RunnableEntrypoint");
    assert!(matches!(verdict.lines[0].outcome, Outcome::Broken(_)));
    // A warning is no contract.
    let warned = terms(Budget {
        warn: vec![Rule::CACertificates],
        ..Budget::default()
    });
    assert!(!warned.judge(&found, &contents, None).failed);
}

#[tokio::test]
async fn once_there_is_a_contract_what_fails_a_build_fails_the_command() {
    let (found, contents) = read(empty()).await;
    assert!(enforce(Rule::NonRoot).judge(&found, &contents, None).failed);
    let mut excused = enforce(Rule::NonRoot);
    excused.budget.warn = vec![Rule::RunnableEntrypoint];
    let verdict = excused.judge(&found, &contents, None);
    assert!(!verdict.failed, "{:?}", verdict.findings);
    let (found, contents) = read(program()).await;
    assert!(!enforce(Rule::NonRoot).judge(&found, &contents, None).failed);
    let verdict = enforce(Rule::TimeZones).judge(&found, &contents, None);
    assert!(verdict.failed);
    assert!(verdict.others.kept.contains(&"NoShell"));
    assert!(verdict.others.broken.contains(&"CACertificates"));
    assert!(!verdict.others.broken.contains(&"TimeZones"));
}

#[tokio::test]
async fn another_platform_than_was_asked_for_fails_the_command() {
    let (mut found, contents) = read(program()).await;
    found.stated = None;
    let mut terms = terms(Budget::default());
    terms.platform = Some("linux/arm64".into());
    let verdict = terms.judge(&found, &contents, None);
    assert!(verdict.failed);
    assert_eq!(verdict.findings[0].rule, "PlatformMatches");
    terms.platform = Some("linux/amd64".into());
    assert!(!terms.judge(&found, &contents, None).failed);
}

#[tokio::test]
async fn sizes_of_uncompressed_layers_are_doubted() {
    let (mut found, contents) = read(program()).await;
    let small = terms(Budget {
        max_size: Some(10),
        ..Budget::default()
    });
    let verdict = small.judge(&found, &contents, None);
    assert!(verdict.failed && verdict.findings[0].certain);
    found.uncompressed = true;
    let verdict = small.judge(&found, &contents, None);
    assert!(verdict.failed && !verdict.findings[0].certain);
    assert!(verdict.findings[0].message.ends_with("inspect it there"));
    let (old, _) = read(program()).await;
    let growth = terms(Budget {
        max_growth_percent: Some(1000),
        ..Budget::default()
    });
    let previous = Previous {
        found: &old,
        contents: None,
    };
    let verdict = growth.judge(&found, &contents, Some(previous));
    assert!(verdict.failed && !verdict.findings[0].certain);
    found.uncompressed = false;
    assert!(!growth.judge(&found, &contents, Some(previous)).failed);
}
