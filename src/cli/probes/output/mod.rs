//! Pure: verdicts → text for people and for tools.

mod json;
mod junit;
mod sarif;
mod table;

use super::manifests::{Judged, Spot};

/// How verdicts are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// All that is known.
    Json,
    /// SARIF 2.1.0, which code hosts show beside the lines
    /// (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>).
    Sarif,
    /// JUnit XML, which CI systems show as tests.
    Junit,
}

impl Format {
    /// Writes verdicts; `strict`: Unknown counts as a failure.
    pub(super) fn write(self, judged: &Judged, strict: bool) -> String {
        match self {
            Self::Table => table::write(judged),
            Self::Json => json::write(judged),
            Self::Sarif => sarif::write(judged, strict),
            Self::Junit => junit::write(judged, strict),
        }
    }
}

/// `Deployment shop/web`
fn object(spot: &Spot) -> String {
    match &spot.namespace {
        Some(namespace) => format!("{} {namespace}/{}", spot.kind, spot.name),
        None => format!("{} {}", spot.kind, spot.name),
    }
}
