//! What really happens: the image as a Pod.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use whittle_image::Rule;

use super::rows::{Claim, Row, WORDS};
use crate::field::Field;

/// What became of a Pod.
#[derive(Clone, Debug)]
pub struct Reality {
    /// It ran, printed its words and ended well.
    pub ran: bool,
    /// The runtime's and the program's own words.
    pub words: String,
}

/// What becomes of a row's image; where that depends on the Pod, of both.
pub async fn run(field: &Field, row: &Row, image: &str) -> Reality {
    let non_root = matches!(row.claim.rule(), Some(Rule::NonRoot | Rule::NumericUser));
    let plain = one(field, row.name, image, json!({"runAsNonRoot": non_root}));
    if !matches!(row.claim, Claim::Depends(_)) {
        return plain.await;
    }
    let name = format!("{}-restricted", row.name);
    let restricted = json!({"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false});
    let (plain, restricted) = tokio::join!(plain, one(field, &name, image, restricted));
    Reality {
        ran: plain.ran && !restricted.ran,
        words: format!(
            "{}; without capabilities: {}",
            plain.words, restricted.words
        ),
    }
}

/// Runs an image until that has ended, or was refused for good.
async fn one(field: &Field, name: &str, image: &str, security: Value) -> Reality {
    let pod = json!({"metadata": {"name": name}, "spec": {
        "restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "main", "image": image, "securityContext": security}]}});
    let pod = serde_json::from_value(pod).unwrap();
    let pods = field.api::<Pod>();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let reality = field
        .until(&format!("Pod {} has ended", name), async || {
            let status = pods.get(name).await.unwrap().status?;
            let state = status.container_statuses?.first()?.state.clone()?;
            match (state.terminated, state.waiting) {
                (Some(end), _) => Some(ended(&end, &field.log(name).await)),
                (None, Some(waiting)) => {
                    let reason = waiting.reason?;
                    let message = waiting.message.unwrap_or_default();
                    // What a second try would not change.
                    let refused = matches!(
                        reason.as_str(),
                        "CreateContainerError" | "CreateContainerConfigError" | "RunContainerError"
                    ) || reason == "ErrImagePull" && message.contains("platform");
                    refused.then(|| Reality {
                        ran: false,
                        words: format!("{reason}: {}", gist(&message)),
                    })
                }
                (None, None) => None,
            }
        })
        .await;
    // The kubelet and the container runtime go through all Pods each second, those that have ended as well.
    let now = DeleteParams::default().grace_period(0);
    pods.delete(name, &now).await.unwrap();
    reality
}

fn ended(end: &ContainerStateTerminated, log: &str) -> Reality {
    let reason = end.reason.as_deref().unwrap_or_default();
    if reason == "StartError" {
        let words = format!(
            "{reason}: {}",
            gist(end.message.as_deref().unwrap_or_default())
        );
        return Reality { ran: false, words };
    }
    let ran = end.exit_code == 0 && log.contains(WORDS);
    let words = if ran {
        WORDS.to_owned()
    } else {
        format!("exit code {}: {}", end.exit_code, gist(log))
            .trim_end_matches(": ")
            .to_owned()
    };
    Reality { ran, words }
}

/// The end of a chain of errors, as one line without what differs from run to run.
fn gist(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let from = [
        "error during container init: ",
        "unable to start container process: ",
        "failed to generate spec: ",
    ]
    .into_iter()
    .find_map(|mark| Some(text.find(mark)? + mark.len()));
    let text = &text[from.unwrap_or_default()..];
    let to = [" (pod: ", ": current time "]
        .into_iter()
        .find_map(|mark| text.find(mark));
    text[..to.unwrap_or(text.len())].to_owned()
}
