//! Texts of manifests: read with the place of each node, and edited so that all else stays as it was written.

pub mod edit;
pub mod yaml;
