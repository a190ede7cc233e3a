//! Reads Dockerfiles and the shell in them, and gives hints on them. Pure: no files, no network, no Kubernetes.

pub mod advice;
mod reader;

pub use reader::{Directive, Dockerfile, HereDoc, Instruction, Text, pairs, parse, read};
