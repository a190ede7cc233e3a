//! What a reconcile needs, over an API server whose answers a test writes down.

use std::sync::Arc;

use kube::runtime::watcher;

use super::Context;
use crate::cluster::pki::Authority;
use crate::cluster::scripted::Server;
use crate::fixtures;
use crate::serve::{EarlyReports, Metrics};
use crate::watches::Watches;
use whittle_api::ImageBuild;

/// That, and the server. These ImageBuilds are known from a watch.
pub fn context(builds: &[ImageBuild]) -> (Context, Server) {
    let (cluster, server) = Server::cluster();
    let authority = Arc::new(Authority::make().unwrap());
    let (early_reports, metrics) = (EarlyReports::default(), Metrics::default());
    let mut watches = Watches::default();
    let context = Context::new(
        cluster,
        fixtures::settings(),
        authority,
        early_reports,
        metrics,
        watches.known(),
    );
    let events = builds.iter().cloned().map(watcher::Event::InitApply);
    let events = [watcher::Event::Init].into_iter().chain(events);
    for event in events.chain([watcher::Event::InitDone]) {
        watches
            .builds
            .take(event, |change| context.queues.build(change));
    }
    context.egress.is(Default::default());
    for kind in context.listed.missing() {
        context.listed.is(kind);
    }
    (context, server)
}
