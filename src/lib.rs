//! Whittle: a Kubernetes operator that turns an ImageBuild into the smallest image that still runs.
//!
//! The rooms, arrows pointing one way:
//! `api <- image, probe <- plan <- cluster, registry <- controller, runner, serve <- main`.

pub mod api;
pub mod cluster;
pub mod controller;
pub mod image;
pub mod plan;
pub mod probe;
pub mod probes_cli;
pub mod registry;
pub mod runner;
pub mod serve;
