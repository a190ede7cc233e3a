use super::*;
use crate::report::{Built, Report, TERMINATION_LIMIT, decode, encode};
use whittle_api::{MinimizeOutcome, PlatformStatus};
use whittle_image::digest_of;

fn digest(of: &str, number: usize) -> String {
    digest_of(format!("{of}{number}").as_bytes())
}

/// A report on a smaller image of so many platforms.
fn smaller(platforms: usize) -> Report {
    let name = |number: usize| format!("linux/arch{number}");
    let breach = |enforced: bool| Breach {
        rule: "NoShell".into(),
        platforms: vec![],
        enforced,
        message: digest("m", usize::from(enforced)).repeat(12),
    };
    Report::Succeeded(Built {
        digest: digest("small", 99),
        platforms: (0..platforms)
            .map(|number| PlatformStatus {
                platform: name(number),
                digest: digest("small", number),
                size: 1_000_000,
                solve: None,
                layers: vec![],
                contents: None,
            })
            .collect(),
        minimized: Some(Box::new(Minimized {
            outcome: MinimizeOutcome::Applied,
            message: digest("message", 0).repeat(10),
            left: (0..LEFT)
                .map(|number| LeftOut {
                    path: format!("/usr/{}", digest("left", number)),
                    size: 30_000_000,
                })
                .collect(),
            digest: Some(digest("small", 99)),
            size: Some(1_000_000),
            full: Some(Full {
                digest: digest("full", 99),
                size: 40_000_000,
                platforms: (0..platforms)
                    .map(|number| FullPlatform {
                        platform: name(number),
                        digest: digest("full", number),
                        size: 40_000_000,
                        report: Some(digest("report", number)),
                    })
                    .collect(),
                breaches: vec![breach(true), breach(false)],
            }),
            rejected: None,
            trial: None,
            starts: vec![],
            not_held: vec![],
        })),
        ..Built::default()
    })
}

fn minimized(report: Report) -> Minimized {
    match report {
        Report::Succeeded(built) => *built.minimized.unwrap(),
        Report::Failed(_) => panic!("failed"),
    }
}

#[test]
fn a_few_platforms_fit_whole_into_a_termination_message() {
    let report = smaller(4);
    assert_eq!(decode(&encode(&report)).unwrap(), report);
}

#[test]
fn where_there_is_no_room_what_decides_stays() {
    let message = encode(&smaller(16));
    assert!(message.len() <= TERMINATION_LIMIT);
    let Report::Succeeded(back) = decode(&message).unwrap() else {
        panic!()
    };
    assert_eq!(back.platforms.len(), 16);
    let back = back.minimized.unwrap();
    assert_eq!(back.outcome, MinimizeOutcome::Applied);
    let full = back.full.unwrap();
    assert_eq!(full.digest, digest("full", 99));
    assert!(full.breaches[0].enforced);
}

#[test]
fn it_gets_shorter_step_by_step_and_never_loses_whether_the_full_image_breaks_its_contract() {
    let mut all = minimized(smaller(3));
    let mut steps = 0;
    while all.shorten() {
        steps += 1;
        assert!(steps < 10);
    }
    let full = all.full.unwrap();
    assert!(steps > 3 && full.platforms.is_empty() && all.left.is_empty());
    assert!(full.breaches.len() == 1 && full.breaches[0].enforced);
    assert_eq!(all.digest, Some(digest("small", 99)));
}

#[test]
fn what_a_runner_says_of_it_is_bounded() {
    let Report::Succeeded(mut built) = smaller(40) else {
        panic!()
    };
    let huge = built.minimized.as_mut().unwrap();
    huge.message = "m\u{1b}".repeat(100_000);
    huge.left = vec![
        LeftOut {
            path: "/a\n".repeat(10_000),
            size: 1
        };
        1000
    ];
    let full = huge.full.as_mut().unwrap();
    full.digest = "d".repeat(100_000);
    full.breaches = vec![full.breaches[0].clone(); 1000];
    let bounded = Report::Succeeded(built).bounded();
    let text = serde_json::to_string(&bounded).unwrap();
    assert!(text.len() < 256 * 1024, "{}", text.len());
    assert!(!text.contains("\\u001b"));
    let kept = minimized(bounded.clone());
    assert_eq!(
        (kept.left.len(), kept.full.unwrap().platforms.len()),
        (3, 16)
    );
    assert_eq!(bounded.clone().bounded(), bounded);
}
