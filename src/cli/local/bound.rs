//! Programs that end with this one, however that ends: what a build has started does not outlive it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::Error;

/// The words that start `program` so; its arguments follow.
pub fn bound(program: &Path) -> Result<Vec<OsString>, Error> {
    let own = std::env::current_exe();
    let own =
        own.map_err(|error| Error::new(format!("the path of this program is unknown: {error}")))?;
    let parent = std::process::id().to_string();
    Ok(vec![
        own.into(),
        "bound-to".into(),
        parent.into(),
        "--".into(),
        program.into(),
    ])
}

/// A program that ends with the process that has started it.
#[derive(clap::Args, Debug)]
pub struct Bound {
    /// That process.
    parent: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<std::ffi::OsString>,
}

impl Bound {
    /// Becomes the program; returns only where that fails.
    pub fn run(&self) -> ExitCode {
        let bound = set_parent_process_death_signal(Some(Signal::TERM));
        let is_parent = |pid: Pid| pid.as_raw_nonzero().get() == self.parent;
        // It may have ended before it was to be told of.
        if bound.is_err() || !getppid().is_some_and(is_parent) {
            return ExitCode::from(125);
        }
        let (program, args) = self.command.split_first().expect("clap requires one");
        let error = Command::new(program).args(args).exec();
        eprintln!("whittle: {}: {error}", Path::new(program).display());
        ExitCode::from(126)
    }
}
