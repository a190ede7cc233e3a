//! End to end, on the local cluster with Whittle installed: `make test-e2e`.
//!
//! Every test has a namespace of its own, and with it a builder of its own.

mod advice;
mod caches;
mod contents;
mod contract;
mod debug;
mod failures;
mod faults;
mod field;
mod gate;
mod guard;
mod leaks;
mod mistakes;
mod pairs;
mod probes;
mod registry;
mod safety;
mod samples;
mod sources;
mod ssh;
mod truth;
