//! `whittle probes`: judges manifests.

mod edit;
mod yaml;
