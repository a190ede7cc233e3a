//! What Whittle says of an image.

use std::time::{SystemTime, UNIX_EPOCH};

use whittle_api::{ImageBuildStatus, find};
use whittle_image::{Contents, Fault, Outcome, Repository, Rule, Runs, check};
use whittle_registry::{Access, Client, Patience, Settings};

use super::rows::Row;
use crate::field::variable;

/// What the contract comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// None where it cannot be told.
    pub good: Option<bool>,
    /// Cause and fix, or why it cannot be told.
    pub words: String,
}

/// The image of a build that has ended, and what the status says of it.
pub fn of_status(row: &Row, status: &ImageBuildStatus) -> (String, Verdict) {
    if let Some(failure) = &status.failure {
        let image = failure.image.clone();
        let image = image.unwrap_or_else(|| panic!("{}: {failure:#?}", row.name));
        let verdict = Verdict {
            good: Some(false),
            words: after_rule(&failure.message).to_owned(),
        };
        return (image, verdict);
    }
    let contract = find(&status.conditions, "Contract").unwrap();
    let starts = status.platforms[0].contents.as_ref().unwrap().starts;
    let verdict = match after_rule(&contract.message).strip_prefix("unknown: ") {
        Some(why) => Verdict {
            good: None,
            words: why.to_owned(),
        },
        None => Verdict {
            good: Some(true),
            words: String::new(),
        },
    };
    // What does not start is no success; what may not start is one, with a warning.
    assert_eq!(
        starts == Runs::Yes,
        verdict.good == Some(true),
        "{}: {status:#?}",
        row.name
    );
    (status.image.clone().unwrap(), verdict)
}

/// What stands behind `RunnableEntrypoint: `, without how many other rules are broken.
fn after_rule(text: &str) -> &str {
    let text = text.split_once(": ").map_or(text, |(_, rest)| rest);
    match text.rsplit_once(" (and ") {
        Some((before, others)) if others.contains(" more: ") => before,
        _ => text,
    }
}

/// What the row's rules come to, where the image holds this.
pub fn judge(row: &Row, contents: &Contents) -> Verdict {
    let asked = row.platforms();
    let asked = asked.as_ref().map(|platforms| platforms[0]);
    let rules = match row.claim.rule() {
        Some(rule) => vec![rule],
        None => Rule::DEFAULT.to_vec(),
    };
    for rule in rules {
        let (good, words) = match check(rule, contents, asked) {
            Outcome::Kept => continue,
            Outcome::Broken(words) => (Some(false), words),
            Outcome::Unknown(words) => (None, words),
        };
        return Verdict { good, words };
    }
    Verdict {
        good: Some(true),
        words: String::new(),
    }
}

/// Why what an image starts does not start.
pub fn fault(contents: &Contents) -> Option<Fault> {
    contents.start.decisive().fault
}

/// What an image of the local registry holds (`host/repository@digest`), read as the runner reads it.
pub async fn contents(image: &str) -> Contents {
    let (repository, digest) = image.split_once('@').unwrap();
    let (_, path) = repository.split_once('/').unwrap();
    let repository = Repository::parse(&format!("{}/{path}", variable("REGISTRY_HOST")));
    let settings = Settings {
        access: Access::Pull,
        plain_http: true,
        ca: None,
        credentials: None,
        patience: Patience::USUAL,
    };
    let client = Client::new(repository, settings).unwrap();
    // An index here would be a mistake of the test: images are of one platform.
    let manifest = client.platform_manifest(digest).await.unwrap();
    let config = client.image_config(&manifest.config).await.unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let contents = client.contents(&manifest.layers, &config, now.as_secs() as i64);
    contents.await.unwrap()
}
