//! Tells receivers outside of the cluster: of each end of a build by a CloudEvent, and how it came to that by a trace.

mod event;
mod outbox;
mod sink;
mod trace;

pub use sink::{Receiver, Sink};

use std::collections::BTreeMap;
use std::sync::Arc;

use self::outbox::Outbox;
use crate::cluster::credentials::Attempt;
use crate::imagebuild::Ended;
use crate::serve::Metrics;
use crate::settings::Settings;
use whittle_api::ImageBuild;
use whittle_build::course::Course;

/// A receiver, and what waits for it.
struct Told {
    outbox: Outbox,
    sink: Sink,
}

/// Tells whoever the installation names; nobody by default.
#[derive(Clone, Default)]
pub struct Notifications {
    events: Option<Arc<Told>>,
    traces: Option<Arc<Told>>,
    /// What events say they come from.
    source: Arc<str>,
    /// What traces say of the installation.
    attributes: Arc<BTreeMap<String, String>>,
}

impl Notifications {
    /// For the receivers of the settings.
    ///
    /// # Errors
    /// Where one cannot be: a sentence that names the setting.
    pub fn new(settings: &Settings, metrics: &Metrics) -> Result<Self, String> {
        let told = |receiver, sink: &Option<_>| {
            let sink = sink.as_ref().map(|sink| Sink::new(receiver, sink));
            let told = sink.transpose()?.map(|sink| Told {
                outbox: Outbox::new(receiver, metrics.clone()),
                sink,
            });
            Ok::<_, String>(told.map(Arc::new))
        };
        Ok(Self {
            events: told(Receiver::Events, &settings.notifications.sink)?,
            traces: told(Receiver::Traces, &settings.traces.otlp)?,
            source: settings.source().into(),
            attributes: Arc::new(settings.traces.attributes.clone()),
        })
    }

    /// Has the end of a build told, some time. The spec of the build is that of its last attempt.
    pub fn tell(&self, build: &ImageBuild, ended: &Ended) {
        if let Some(told) = &self.events {
            told.outbox.push(event::of(build, ended, &self.source));
        }
        if let Some(told) = &self.traces
            && let Some(trace) = trace::of_build(build, ended, &self.attributes)
        {
            told.outbox.push(trace);
        }
    }

    /// Has told what an attempt has come through.
    pub fn course(&self, attempt: &Attempt, name: &str, course: Course) {
        if let Some(told) = &self.traces {
            let trace = trace::of_attempt(attempt, name, course, &self.attributes);
            told.outbox.push(trace);
        }
    }

    /// True where somebody collects traces.
    pub fn traces(&self) -> bool {
        self.traces.is_some()
    }

    /// Delivers what comes, without end.
    pub async fn deliver(&self) {
        let deliver = async |told: &Option<Arc<Told>>| match told {
            Some(told) => told.outbox.deliver(&told.sink).await,
            None => std::future::pending().await,
        };
        futures::join!(deliver(&self.events), deliver(&self.traces));
    }

    /// Waits a moment for what is left to be delivered.
    pub async fn last(&self) {
        let last = async |told: &Option<Arc<Told>>| {
            if let Some(told) = told {
                told.outbox.last().await;
            }
        };
        futures::join!(last(&self.events), last(&self.traces));
    }
}
