//! What a shell's text means: its language, which shell reads it, and what it starts.

mod names;
pub mod syntax;

pub(super) use names::{Marks, may_be_shell};
pub use names::{Shell, ShellFile, builtins, is_applet, is_builtin, is_shell};
