//! Pure: what was observed in, the next step out. No client, clock or environment.

pub mod advice;
pub mod answer;
mod bounds;
pub mod brief;
pub mod buildctl;
pub mod builder;
pub mod builder_state;
pub mod buildkitd;
pub mod contract;
pub mod decide;
pub mod failure;
pub mod gate;
pub mod installation;
pub mod job;
pub mod names;
pub mod near;
pub mod outcome;
pub mod pods;
pub mod quantity;
pub mod rawjson;
pub mod record;
pub mod refusal;
pub mod report;
pub mod request;
pub mod request_rules;
pub mod settings;
pub mod status;

#[cfg(test)]
pub mod fixtures;
pub mod used_images;
