//! Events: why something of ours does not come about, where its status does not say.

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;

use super::{Cluster, Error, during};
use crate::pods::{Of, Question};
use crate::refusal::{Told, words};

/// Events of one object that are read, at most.
const MOST: u32 = 100;

impl Cluster {
    /// Events of an object with one of these reasons, newest first; each message is cut.
    pub async fn events(&self, namespace: &str, question: &Question) -> Result<Vec<Told>, Error> {
        let Question { of, reasons } = question;
        let (mut fields, what) = match of {
            Of::Uid(uid) => (format!("involvedObject.uid={uid}"), uid.to_owned()),
            Of::Named(kind, name) => (
                format!("involvedObject.kind={kind},involvedObject.name={name}"),
                format!("{kind} {name}"),
            ),
        };
        if let &[reason] = reasons {
            fields.push_str(&format!(",reason={reason}"));
        }
        let events = Api::<Event>::namespaced(self.client.clone(), namespace)
            .list(&ListParams::default().fields(&fields).limit(MOST))
            .await
            .map_err(during(format!(
                "listing the events of {what} in {namespace}"
            )))?;
        let mut told: Vec<Told> = events.into_iter().filter_map(tell).collect();
        told.retain(|event| reasons.contains(&event.reason.as_str()));
        told.sort_by_key(|event| std::cmp::Reverse(event.at));
        Ok(told)
    }
}

fn tell(event: Event) -> Option<Told> {
    let at = last_seen(&event);
    Some(Told {
        kind: event.involved_object.kind.unwrap_or_default(),
        reason: event.reason?,
        words: words(&event.message?),
        at,
    })
}

/// Those of the scheduler and of newer controllers carry only the times of `events.k8s.io`.
fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref();
    let times = [
        event.last_timestamp.as_ref().map(|time| time.0),
        event.first_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        series.and_then(|series| series.last_observed_time.as_ref().map(|time| time.0)),
    ];
    times.into_iter().flatten().max()
}
