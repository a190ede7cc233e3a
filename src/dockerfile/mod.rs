//! Pure: Dockerfiles. Knows nothing of Kubernetes, builds or probes.

mod reader;

pub use reader::{Directive, Dockerfile, HereDoc, Instruction, Text, pairs, parse, read};
