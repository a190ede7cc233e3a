//! Pure: a Pod template and what its images hold → whether its probes can work.

mod expand;
mod handler;
mod mounts;
mod paths;
mod place;
mod shell;
