//! The runner of a build, what stands beside the daemon in the builder's Pod, and the wire between them and the controller:
//! [`request`], [`report`], [`record`].

// A failure is returned once a build: its size in bytes is no matter.
#![allow(clippy::result_large_err)]

mod annotations;
mod bounds;
pub mod buildctl;
mod cache_hints;
pub mod contract;
pub mod course;
pub mod daemon;
pub mod failure;
#[cfg(test)]
mod fixtures;
pub mod health;
pub mod inputs;
pub mod minimized;
pub mod near;
pub mod place;
pub mod rawjson;
pub mod record;
pub mod report;
pub mod request;
pub mod request_rules;
pub mod runner;
pub mod seal;
pub mod standby;
pub mod trial;
pub mod usage;
pub mod used_images;
pub mod variables;
