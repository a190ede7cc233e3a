//! The smaller image: its layers, streamed from those of the full one, and its config and manifests. Nothing is held but the tree.
//!
//! Two layers come of it: one with what came from the base and from packages, which services of one base share, and one with the
//! application. The same image and the same wishes give the same bytes.

mod documents;
mod layer;
mod write;

#[cfg(test)]
mod tests;

pub use documents::{FROM_LABEL, LeftOut, Smaller, index};
pub use layer::{LayerWriter, Packed};
pub use write::{Layers, Writer, WriterError, write};
