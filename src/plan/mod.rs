//! Pure: what was observed in, the next step out. No client, clock or environment.

pub mod report;
pub mod request;
