//! Which files a program asks for while it runs: what `whittle trace -- PROGRAM` does, as the first process of a container.
//!
//! The program and all that it starts are followed by ptrace, which every user may do to own children: neither root nor a
//! capability is needed, and Pod Security `restricted` with the seccomp profile `RuntimeDefault` allows it. A filter of
//! seccomp stops processes only where a call takes a path; where it cannot be installed, they stop at each call. It also
//! denies io_uring, whose opened files nobody sees.
//!
//! Signals are forwarded to the program, but for SIGUSR1, at which the document is written. Orphans are waited for. When the
//! program ends, this ends with its exit code, or 128 and the number of the signal that ended it; what it leaves running is
//! killed, as in every container. 125: it could not be traced; 126: not executable; 127: not found.
//!
//! What is otherwise for a program that is traced: it is not process 1, so a signal that it does not handle ends it; it gains
//! no privileges by an exec (Pod Security `restricted` has that, too); and it cannot trace others itself, as debuggers do.
//!
//! # The document
//!
//! ```json
//! {"version": 1, "cut": false, "unread": [],
//!  "entries": [{"path": "/app/plugins/a.so", "how": ["lookedUp", "opened"], "found": true}]}
//! ```
//!
//! `entries` is sorted by path, and has each once. `path` is absolute and as the process named it: links are not followed, `..`
//! behind a name is kept, what is not UTF-8 is replaced. Nothing below `/proc`, `/sys` and `/dev` is in it. `how` has the ways
//! in which it was asked for: `executed` (also as interpreter of a script or as loader, by its path without links),
//! `lookedUp`, `opened`, `readLink`; of directories in which something was made, renamed or deleted, the path of that.
//! `found`: there was something, be it also another thing than was asked for (a file that may not be opened, a file where a
//! link was looked for). `cut`: there were more paths than the limit, or than 16 MiB. `unread`: programs that ran and whose
//! calls are not seen, or not all: 32-bit ones, and those that do not let others look into
//! them, as where their file is not readable (by their short name).

mod asks;
mod calls;
mod follow;
mod notes;
mod paths;
mod sys;
#[cfg(test)]
mod tests;

use std::ffi::{CString, NulError, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use asks::Asks;
pub use asks::{ANSWER, ASK, Answer, Ask};
use follow::Follower;
use notes::Notes;
pub use notes::{Document, Entry, How};

/// Paths that are noted, at most, where nothing else is asked for.
pub const LIMIT: usize = 200_000;
/// The exit code where nothing could be traced.
pub const FAILED: u8 = 125;

/// What is traced, and where to.
pub struct Options {
    /// The program, by path or looked for in PATH, and its arguments.
    pub command: Vec<OsString>,
    /// The file of the document; standard error where there is none.
    pub output: Option<PathBuf>,
    /// Paths that are noted, at most.
    pub limit: usize,
    /// Whether to stop at calls that take a path alone, where the kernel lets us.
    pub filter: bool,
    /// A folder in which others ask for more: [`Ask`].
    pub asks: Option<PathBuf>,
}

/// Why nothing was traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("no program is given: write it after --")]
    NoProgram,
    #[error(
        "cannot trace {program}: {error}: the node's seccomp profile or kernel.yama.ptrace_scope (2 or 3) denies ptrace, \
         most often; Linux 5.3 or newer is needed; run it without trace, or with the seccomp profile RuntimeDefault"
    )]
    Denied { program: String, error: io::Error },
    #[error("tracing failed: {0}")]
    Kernel(#[from] io::Error),
}

/// Runs the program until it ends, and gives its exit code. Only for a process with a single thread: all signals are taken,
/// and all children waited for.
pub fn run(options: &Options) -> Result<u8, TraceError> {
    let program = options.command.first().ok_or(TraceError::NoProgram)?;
    let name = program.to_string_lossy();
    let (mut signals, mask) = sys::take_signals()?;
    let start = |command: &[OsString]| sys::start(&prepared(command, options.filter, mask)?);
    let prepare = prepared(&options.command, options.filter, mask)?;
    let (first, filtered) = sys::start(&prepare).map_err(|error| TraceError::Denied {
        program: name.clone().into_owned(),
        error,
    })?;
    let mut follower = Follower::new(Notes::new(options.limit), first, filtered);
    let mut asks = options.asks.as_deref().map(Asks::new);
    if asks.is_some() {
        sys::wake_every(asks::EVERY)?;
    }
    let write = |notes: &Notes| {
        if let Err(error) = notes.write(options.output.as_deref()) {
            let path = options.output.as_deref().unwrap_or(Path::new("stderr"));
            eprintln!("whittle: {} cannot be written: {error}", path.display());
        }
    };
    let code = 'all: loop {
        for (pid, code) in follower.catch_up()? {
            if pid == first {
                break 'all code;
            }
            if let Some(asks) = &mut asks {
                asks.ended(pid, code);
            }
        }
        // Each change from here on is told by SIGCHLD.
        let mut wait = true;
        while let Some(signal) = signals.next(wait)? {
            wait = false;
            match signal {
                // The second is from a write of our own, to a standard error that nobody reads.
                (libc::SIGCHLD | libc::SIGPIPE, _) => {}
                (libc::SIGUSR1, _) => write(&follower.notes),
                (libc::SIGALRM, libc::SI_KERNEL) => match asks.as_mut().and_then(Asks::next) {
                    Some(Ask::Write) => {
                        write(&follower.notes);
                        asks.iter().for_each(|asks| asks.answer(0));
                    }
                    Some(Ask::Run { command }) => {
                        let command: Vec<OsString> = command.into_iter().map(Into::into).collect();
                        match (start(&command), &mut asks) {
                            (Ok((pid, filtered)), Some(asks)) => {
                                follower.add(pid, filtered);
                                asks.runs(pid);
                            }
                            (_, asks) => asks.iter().for_each(|asks| asks.answer(FAILED)),
                        }
                    }
                    None => {}
                },
                // From the terminal, which has sent it to the program, too.
                (_, libc::SI_KERNEL) => {}
                (signal, _) => sys::kill(first, signal),
            }
        }
    };
    match code {
        127 if !follower.started => {
            eprintln!("whittle: {name} not found: give its path, or set PATH")
        }
        126 if !follower.started => eprintln!(
            "whittle: {name} cannot be executed: permission denied, or not a program for this machine"
        ),
        _ => {}
    }
    write(&follower.notes);
    Ok(code)
}

/// A command as it is started.
fn prepared(command: &[OsString], filter: bool, mask: sys::Mask) -> io::Result<sys::Start> {
    let program = command.first().ok_or(io::ErrorKind::InvalidInput)?;
    let path = std::env::var_os("PATH");
    let arguments = command.iter().map(|word| c_text(word));
    Ok(sys::Start {
        programs: candidates(program, path.as_deref())?,
        arguments: arguments.collect::<Result<_, _>>()?,
        filter: match filter {
            true => calls::filter(),
            false => Vec::new(),
        },
        mask,
    })
}

/// Where a program may be: as it is named, or by its name in each directory of PATH.
fn candidates(program: &OsStr, path: Option<&OsStr>) -> Result<Vec<CString>, NulError> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_text(program)?]);
    }
    let path = path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
    std::env::split_paths(path)
        .map(|folder| c_text(folder.join(program).as_os_str()))
        .collect()
}

fn c_text(text: &OsStr) -> Result<CString, NulError> {
    CString::new(text.as_bytes())
}
