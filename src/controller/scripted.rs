//! What a reconcile needs, over an API server whose answers a test writes down.

use std::sync::Arc;

use kube::runtime::{reflector, watcher};

use super::Context;
use crate::cluster::pki::Authority;
use crate::cluster::scripted::Server;
use crate::fixtures;
use crate::serve::{Board, Metrics};
use whittle_api::ImageBuild;

/// That, and the server. These ImageBuilds are known from a watch.
pub fn context(builds: &[ImageBuild]) -> (Context, Server) {
    let (cluster, server) = Server::cluster();
    let authority = Arc::new(Authority::make().unwrap());
    let (board, metrics) = (Board::default(), Metrics::default());
    let context = Context::new(cluster, fixtures::settings(), authority, board, metrics);
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&watcher::Event::Init);
    for build in builds {
        writer.apply_watcher_event(&watcher::Event::InitApply(build.clone()));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    let _ = context.builds.set(store);
    (context, server)
}
