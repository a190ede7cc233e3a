//! The scene in which commits are pushed. The test is watcher and git server: it says what a look shows until the controller has
//! taken it in, as the watcher does.
//!
//! One commit is seen while the first build runs. Its runner reads the one that was pushed after that: the commit that was seen must
//! not be built again. A third one comes after it.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};
use whittle_api::{ImageBuildStatus, TriggerReason};
use whittle_build::report::{Built, Report};
use whittle_controller::names;
use whittle_watch::wire::{Outcome, Seen, TELL_PATH, Told};

use crate::callback::client;
use crate::kubelet::Kubelet;
use crate::stage::{Stage, success};

/// The commit that is seen first, the one that the first build reads, and the last one.
const SEEN: char = 'a';
const READ: char = 'b';
const LAST: char = 'c';

fn revision(digit: char) -> String {
    format!("main@sha1:{}", digit.to_string().repeat(40))
}

pub(super) fn spec() -> Value {
    let git = json!({"url": "https://git.example.com/team/hello.git", "ref": {"branch": "main"}});
    json!({"source": {"inline": null, "git": git}, "triggers": {"poll": {"interval": "1h"}}})
}

/// How far it is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    FirstRuns,
    FirstEnds,
    LastIsSeen,
    LastIsBuilt,
}

/// What is pushed, and seen.
#[derive(Default)]
pub(super) struct Pushes(At);

impl Pushes {
    /// One step further, where that can be.
    pub(super) async fn turn(&mut self, stage: &Stage, kubelet: &mut Kubelet) {
        let read = match self.0 {
            At::FirstRuns | At::FirstEnds => READ,
            At::LastIsSeen | At::LastIsBuilt => LAST,
        };
        kubelet.turn_with(stage, |_| of(read)).await;
        let status = stage.get("hello").await.status.unwrap_or_default();
        match self.0 {
            At::FirstRuns if kubelet.first_runs => {
                if tell(stage, SEEN, false).await {
                    kubelet.holds_the_first = false;
                    self.0 = At::FirstEnds;
                }
            }
            At::FirstEnds => {
                let pending = status.pending.as_ref();
                if pending.is_some_and(|pending| pending.doubt.is_some()) {
                    tell(stage, READ, true).await;
                }
                let ended = status.current.is_none() && status.pending.is_none();
                if ended && status.revision == Some(revision(READ)) {
                    self.0 = At::LastIsSeen;
                }
            }
            At::LastIsSeen => {
                if tell(stage, LAST, false).await {
                    self.0 = At::LastIsBuilt;
                }
            }
            At::FirstRuns | At::LastIsBuilt => {}
        }
    }
}

/// The runner's report of a build that has read this commit.
fn of(commit: char) -> Report {
    let Report::Succeeded(built) = success("sha256:aa") else {
        unreachable!("it is one");
    };
    Report::Succeeded(Built {
        revision: Some(revision(commit)),
        ..built
    })
}

/// Tells the controller that the branch points to this commit; true once it has taken that in.
async fn tell(stage: &Stage, commit: char, wanted: bool) -> bool {
    let name = names::watcher("default");
    let secret = stage.api::<Secret>().get_opt(&name).await.unwrap();
    let list = stage.api::<ConfigMap>().get_opt(&name).await.unwrap();
    let list = list.and_then(|list| list.data?.into_values().next());
    // The controller makes both once it knows what is watched.
    let (Some(data), Some(list)) = (secret.and_then(|secret| secret.data), list) else {
        return false;
    };
    let list: Value = serde_json::from_str(&list).unwrap();
    let Some(id) = list["sources"][0]["id"].as_str() else {
        return false;
    };
    let seen = Seen {
        id: id.to_owned(),
        wanted,
        age_seconds: 0,
        begun_millis: None,
        outcome: Outcome::Found {
            revision: revision(commit),
        },
        tree: None,
    };
    let token = String::from_utf8(data["token"].0.clone()).unwrap();
    let url = format!("https://localhost:{}{TELL_PATH}", stage.callback_port);
    let told = Told { seen: vec![seen] };
    let client = client(stage).await;
    let answer = client.post(url).bearer_auth(&token).json(&told).send();
    // One that is to be killed at what follows from this does not answer.
    let answer = tokio::time::timeout(std::time::Duration::from_secs(2), answer).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status() == 204))
}

/// Both commits that were built are in the history, newest first, each for what it was built for.
pub(super) fn are_built_once(status: &ImageBuildStatus) -> bool {
    let history = status.history.iter();
    let built: Vec<_> = history
        .map(|it| (it.revision.clone(), it.trigger))
        .collect();
    let expected = [
        (Some(revision(LAST)), Some(TriggerReason::Commit)),
        (Some(revision(READ)), Some(TriggerReason::Spec)),
    ];
    let begun = status.trigger.as_ref().map(|begun| &begun.detail);
    built == expected && begun == Some(&revision(LAST)) && status.pending.is_none()
}
