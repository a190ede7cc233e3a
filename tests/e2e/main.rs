//! End to end, on the local cluster with Whittle installed: `make test-e2e`.
//!
//! Every test has a namespace of its own, and with it a builder of its own. They begin in the order of their
//! names: `all_samples`, much of which is one thing after the other, early.

mod advice;
mod all_samples;
mod caches;
mod contents;
mod contexts;
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
mod quirks;
mod refusals;
mod registry;
mod repositories;
mod safety;
mod sources;
mod ssh;
mod steps_words;
mod tell;
mod tenants;
mod truth;
