//! End to end, on the local cluster with Whittle installed: `make test-e2e`.
//!
//! Every test has a namespace of its own, and with it a builder of its own, and under cargo-nextest a process. How many
//! run at a time, and which begin first, stands in .config/nextest.toml.

mod advice;
mod all_samples;
mod anew;
mod cache_view;
mod caches;
mod ci;
mod cli;
mod cli_build;
mod contents;
mod contexts;
mod contract;
mod controllers;
mod debug;
mod egress;
mod failures;
mod faults;
mod field;
mod flux;
mod flux_real;
mod gate;
mod gitops;
mod guard;
mod helm_test;
mod isolation;
mod kueue_real;
mod leaks;
mod local;
mod long;
mod minimal;
mod minimize;
mod mistakes;
mod monorepo;
mod pairs;
mod probes;
mod proxy;
mod quirks;
mod refusals;
mod replicas;
mod registry;
mod repositories;
mod rollback;
mod safety;
mod seccomp;
mod sharing;
mod silent;
mod sources;
mod ssh;
mod steps_words;
mod tags;
mod tell;
mod tenants;
mod triggers;
mod truth;
