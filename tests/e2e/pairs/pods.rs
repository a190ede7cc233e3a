//! What really happens: the probe in a Pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

use super::rows::{Hook, Reality, Row};
use super::until;
use super::view::View;
use crate::field::Field;

/// How long one Pod may take, beside others.
const PATIENCE: Duration = Duration::from_secs(600);

/// What becomes of a pair's probe, with the kubelet's words; none where nothing can be seen.
pub async fn run(
    field: &Field,
    view: &View,
    row: &Row,
    number: usize,
    mut spec: Value,
) -> (Option<Reality>, String) {
    let name = format!("pair-{number}");
    spec["automountServiceAccountToken"] = json!(false);
    let pod = json!({"metadata": {"name": name}, "spec": spec});
    let pods = field.api::<Pod>();
    let pod = serde_json::from_value(pod).unwrap();
    if let Err(error) = pods.create(&PostParams::default(), &pod).await {
        return (None, error.to_string());
    }
    let watched = Watched {
        view,
        row,
        name: &name,
        pods: pods.clone(),
    };
    let what = format!("what becomes of {name}");
    let seen = match row.hook {
        Hook::PreStop => watched.stopped().await,
        _ => until(&what, PATIENCE, async || watched.look()).await,
    };
    let now = DeleteParams::default().grace_period(0);
    let _ = pods.delete(&name, &now).await;
    match seen {
        Ok((reality, words)) => (Some(reality), words),
        Err(what) => {
            let events = watched.events();
            let events: Vec<String> = events
                .into_iter()
                .map(|(event, count)| format!("{event} ({count})"))
                .collect();
            (None, format!("{what}: {}", events.join("; ")))
        }
    }
}

struct Watched<'w> {
    view: &'w View,
    row: &'w Row,
    name: &'w str,
    pods: Api<Pod>,
}

impl Watched<'_> {
    fn look(&self) -> Option<(Reality, String)> {
        let status = self.container()?;
        let passes = Some((Reality::Passes, String::new()));
        if self.row.hook == Hook::PostStart {
            return match self.event("FailedPostStartHook") {
                Some(words) => Some((Reality::Fails, words)),
                None if status.ready && status.restart_count == 0 => passes,
                None => None,
            };
        }
        // A program may take a moment until it listens.
        let enough = if self.row.handler.get("exec").is_some() {
            4
        } else {
            30
        };
        let (errors, error) = self.unhealthy("probe errored");
        let (failures, failure) = self.unhealthy("probe failed");
        match self.row.hook {
            Hook::Startup if status.started == Some(true) => passes,
            Hook::Readiness if status.ready => passes,
            // Each failure ends the container: errors do not.
            Hook::Liveness if status.restart_count > 0 && failures > 0 => {
                Some((Reality::Fails, failure))
            }
            Hook::Liveness if self.view.successes(self.name) >= 2 => passes,
            // The kubelet tries three times at once: these are more.
            _ if errors > 3 => Some((Reality::Errors, error)),
            Hook::Startup | Hook::Readiness if failures >= enough => {
                Some((Reality::Fails, failure))
            }
            _ => None,
        }
    }

    /// A hook that comes with the end of a Pod.
    async fn stopped(&self) -> Result<(Reality, String), String> {
        let ready = async || self.container().filter(|status| status.ready);
        until("it runs", PATIENCE, ready).await?;
        let stop = DeleteParams::default();
        self.pods.delete(self.name, &stop).await.unwrap();
        let gone = async || self.view.pod(self.name).is_none().then_some(());
        until("it is gone", PATIENCE, gone).await?;
        let end = jiff::Timestamp::now();
        // The kubelet writes its Events one after the other, and late: an Event of what came later says that
        // there are no more of this Pod.
        let last = async || match self.event("FailedPreStopHook") {
            Some(words) => Some(Some(words)),
            None => self.kubelet_told_of_later(end).then_some(None),
        };
        match until("a later Event", PATIENCE, last).await {
            Ok(Some(words)) => Ok((Reality::Fails, words)),
            Ok(None) | Err(_) => Ok((Reality::Passes, String::new())),
        }
    }

    fn kubelet_told_of_later(&self, end: jiff::Timestamp) -> bool {
        // Seconds have no parts there.
        let later = end + Duration::from_secs(1);
        let events = self.view.events(|event| {
            let source = event.source.as_ref();
            let kubelet = source.and_then(|source| source.component.as_deref()) == Some("kubelet");
            let at = event.first_timestamp.as_ref();
            kubelet && at.is_some_and(|at| at.0 > later)
        });
        !events.is_empty()
    }

    fn container(&self) -> Option<ContainerStatus> {
        let status = self.view.pod(self.name)?.status.clone()?;
        let all = [status.container_statuses, status.init_container_statuses];
        let mut all = all.into_iter().flatten().flatten();
        all.find(|status| status.name == "main")
    }

    /// Events, and how often each came.
    fn events(&self) -> Vec<(String, i32)> {
        let of = |event: &Event| event.involved_object.name.as_deref() == Some(self.name);
        let events = self.view.events(of);
        events
            .iter()
            .map(|event| {
                let reason = event.reason.as_deref().unwrap_or_default();
                let message = event.message.as_deref().unwrap_or_default();
                (format!("{reason}: {message}"), event.count.unwrap_or(1))
            })
            .collect()
    }

    fn event(&self, reason: &str) -> Option<String> {
        let events = self.events();
        let (text, _) = events
            .into_iter()
            .find(|(text, _)| text.starts_with(reason))?;
        Some(gist(&text))
    }

    /// How often a result came, and its words.
    fn unhealthy(&self, result: &str) -> (i32, String) {
        let mut events = self.events();
        events.retain(|(text, _)| text.starts_with("Unhealthy") && text.contains(result));
        let count = events.iter().map(|(_, count)| count).sum();
        let words = events.first().map(|(text, _)| gist(text));
        (count, words.unwrap_or_default())
    }
}

/// The end of a chain of errors, as one line without what differs from run to run.
fn gist(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let from = [
        "unable to start container process: ",
        "probe errored and resulted in unknown state: ",
        "probe failed: ",
        "Unhealthy: ",
    ]
    .into_iter()
    .find_map(|mark| Some(text.find(mark)? + mark.len()));
    text[from.unwrap_or_default()..].trim().to_owned()
}
