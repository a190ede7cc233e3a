//! Whittle: a Kubernetes operator that turns an ImageBuild into the smallest image that still runs.
//!
//! The rooms, arrows pointing one way:
//! `image <- api, dockerfile, probe <- plan <- cluster, registry <- controller, inspect, runner, daemon, serve <- main`.

// A failure is returned once a build: its size in bytes is no matter.
#![allow(clippy::result_large_err)]

pub mod api;
pub mod cluster;
pub mod controller;
pub mod daemon;
pub mod dockerfile;
pub mod image;
pub mod inspect;
mod packed;
pub mod plan;
pub mod probe;
pub mod probes_cli;
pub mod registry;
pub mod runner;
mod seal;
pub mod serve;
