//! What a shell's text means: its language, which shell reads it, and what it starts.

mod lexer;
mod names;
mod start;
pub mod syntax;
mod tolerant;

pub(super) use names::{Marks, may_be_shell};
pub use names::{Shell, ShellFile, builtins, is_applet, is_builtin, is_shell};
pub use start::command;
pub use tolerant::{Command, Outline, base_name, is_script_flag, outline};
