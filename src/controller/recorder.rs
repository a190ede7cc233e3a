//! Writes Events: a courtesy, as the status holds what counts.
//!
//! kube's own recorder is not used: it gives Events no annotations, and takes two that differ in their message alone for one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Error};
use whittle_api::{Reason, bounded};

/// Who says so: the chart's policy takes no other name.
const CONTROLLER: &str = "whittle";
/// What is said again within this time is one Event, with a count.
const AGAIN: SignedDuration = SignedDuration::from_mins(6);
/// Events that are remembered for that.
const REMEMBERED: usize = 1024;
/// Characters of an object's name that its Events' names begin with: behind them stands the time.
const NAME: usize = 200;

/// What an Event says.
pub struct Word<'a> {
    /// Of which object.
    pub about: &'a ObjectReference,
    /// Warning, or Normal.
    pub warning: bool,
    /// Why.
    pub reason: Reason,
    /// A sentence for people.
    pub note: &'a str,
    /// What was done.
    pub action: &'static str,
    /// For programs that read Events.
    pub annotations: BTreeMap<String, String>,
}

/// Writes them.
pub struct Recorder {
    client: Client,
    instance: String,
    written: Mutex<HashMap<(ObjectKey, Reason, String), Written>>,
}

type ObjectKey = (Option<String>, Option<String>, Option<String>);

/// One that was written.
struct Written {
    name: String,
    count: i32,
    last: Timestamp,
}

impl Recorder {
    /// Of the Pod of this name.
    pub fn new(client: Client, pod: Option<String>) -> Self {
        Self {
            client,
            instance: pod.unwrap_or_else(|| CONTROLLER.to_owned()),
            written: Mutex::default(),
        }
    }

    /// Writes one, or counts one more of it.
    ///
    /// # Errors
    /// As of the API server.
    pub async fn write(&self, word: Word<'_>) -> Result<(), Error> {
        let now = Timestamp::now();
        let namespace = word.about.namespace.as_deref().unwrap_or("default");
        let events = Api::<Event>::namespaced(self.client.clone(), namespace);
        let note = bounded(word.note.to_owned(), 1024);
        let about = word.about;
        let key = (
            (about.uid.clone(), about.kind.clone(), about.name.clone()),
            word.reason,
            // Two builds that end in the same words are two.
            format!("{note}\n{:?}", word.annotations),
        );
        if let Some((name, count)) = self.again(&key, now) {
            let more = Event {
                series: Some(EventSeries {
                    count,
                    last_observed_time: MicroTime(now),
                }),
                ..Event::default()
            };
            let (params, patch) = (PatchParams::default(), Patch::Merge(more));
            match events.patch(&name, &params, &patch).await {
                // Somebody has deleted it.
                Err(Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let event = event(word, note, &self.instance, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        events.create(&PostParams::default(), &event).await?;
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() < REMEMBERED {
            let one = Written {
                name,
                count: 1,
                last: now,
            };
            written.insert(key, one);
        }
        Ok(())
    }

    /// The name of the Event that says this already, and how often it does from now on.
    fn again(&self, key: &(ObjectKey, Reason, String), now: Timestamp) -> Option<(String, i32)> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.retain(|_, one| now.duration_since(one.last) < AGAIN);
        let one = written.get_mut(key)?;
        (one.count, one.last) = (one.count + 1, now);
        Some((one.name.clone(), one.count))
    }
}

fn event(word: Word<'_>, note: String, instance: &str, now: Timestamp) -> Event {
    let about = word.about;
    let name: String = about
        .name
        .iter()
        .flat_map(|name| name.chars())
        .take(NAME)
        .collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!(
                "{}.{:x}",
                name.trim_end_matches(['-', '.']),
                now.as_nanosecond()
            )),
            namespace: about.namespace.clone(),
            annotations: (!word.annotations.is_empty()).then_some(word.annotations),
            ..ObjectMeta::default()
        },
        type_: Some(if word.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(word.reason.as_str().to_owned()),
        note: Some(note),
        action: Some(word.action.to_owned()),
        regarding: Some(about.clone()),
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::scripted::Server;
    use serde_json::{Value, json};

    const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/team/events";

    fn taken() -> Value {
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a", "namespace": "team"}, "eventTime": null})
    }

    async fn say(recorder: &Recorder, note: &str) {
        let about = ObjectReference {
            kind: Some("ImageBuild".into()),
            namespace: Some("team".into()),
            name: Some("hello".into()),
            uid: Some("u".into()),
            ..ObjectReference::default()
        };
        let word = Word {
            about: &about,
            warning: false,
            reason: Reason::Succeeded,
            note,
            action: "Build",
            annotations: BTreeMap::from([("whittle.dev/build".to_owned(), "2".to_owned())]),
        };
        recorder.write(word).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_said_again_is_counted_and_what_differs_is_an_event_of_its_own() {
        let (client, server) = Server::new();
        let recorder = Recorder::new(client, Some("whittle-0".into()));
        let create = format!("POST {EVENTS}");
        server.on(&create, taken());
        say(&recorder, "built a").await;
        let first = server.asked().remove(0).body;
        assert_eq!(
            first["metadata"]["annotations"],
            json!({"whittle.dev/build": "2"})
        );
        assert_eq!(first["reportingController"], "whittle");
        assert_eq!(first["reportingInstance"], "whittle-0");
        let name = first["metadata"]["name"].as_str().unwrap();

        let count = format!("PATCH {EVENTS}/{name}");
        server.on(&count, taken()).on(&create, taken());
        say(&recorder, "built a").await;
        say(&recorder, "built b").await;
        let asked = server.asked();
        assert_eq!(asked[0].body["series"]["count"], 2);
        assert_eq!(asked[1].body["note"], "built b");

        // One that has gone meanwhile.
        server
            .refuse(&count, 404, "NotFound", "gone")
            .on(&create, taken());
        say(&recorder, "built a").await;
        assert_eq!(server.asked()[1].body["note"], "built a");
    }
}
