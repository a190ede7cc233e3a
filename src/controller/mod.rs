//! Reconcile loops: the only place where what is decided and what is done meet.

mod builder;
mod image_build;
mod run;
mod triggers;

use std::sync::Arc;

use kube::runtime::events::{Recorder, Reporter};

use crate::cluster::Cluster;
use crate::cluster::pki::Authority;
use crate::plan::settings::Settings;
use crate::serve::{Board, Metrics};

pub use builder::run as run_builders;
pub use image_build::run as run_image_builds;
pub use run::{Options, run};

/// What every reconcile needs.
pub struct Context {
    /// The cluster.
    pub cluster: Cluster,
    /// What the installation says.
    pub settings: Settings,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// Early reports.
    pub board: Board,
    /// Counters.
    pub metrics: Metrics,
    recorder: Recorder,
}

impl Context {
    /// All in one.
    pub fn new(
        cluster: Cluster,
        settings: Settings,
        authority: Arc<Authority>,
        board: Board,
        metrics: Metrics,
    ) -> Self {
        let reporter = Reporter {
            controller: "whittle".into(),
            instance: std::env::var("POD_NAME").ok(),
        };
        let recorder = Recorder::new(cluster.client(), reporter);
        Self {
            cluster,
            settings,
            authority,
            board,
            metrics,
            recorder,
        }
    }
}

/// Why a reconcile ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed.
    #[error(transparent)]
    Cluster(#[from] crate::cluster::Error),
    /// The API server did not answer in time.
    #[error("the API server did not answer within {0} s")]
    Slow(u64),
}

/// How long to wait after an error: a second, doubled for each in a row, at most a minute, is what
/// the queue would do by count; without one, a fixed short wait keeps a mended cluster quick.
const AFTER_ERROR: std::time::Duration = std::time::Duration::from_secs(5);
