//! What others ask of the tracer while it runs, by files in a folder that they share with it: a user of another container cannot
//! send it signals, and a socket would have to be given to that user.
//!
//! A file [`ASK`] is one request, written whole (by a rename), and gone once it was read. A file [`ANSWER`] is what came of it. One at
//! a time.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libc::pid_t;
use serde::{Deserialize, Serialize};

/// Name of the file with an [`Ask`], JSON.
pub const ASK: &str = "ask.json";
/// Name of the file with an [`Answer`], JSON.
pub const ANSWER: &str = "answer.json";
/// How often the tracer looks.
pub const EVERY: Duration = Duration::from_millis(100);
/// Bytes of a request, at most.
const MOST: u64 = 256 << 10;

/// What is asked for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ask {
    /// The document, now.
    Write,
    /// A command, run beside the program and traced as it is.
    Run {
        /// The program, by path or looked for in PATH, and its arguments.
        command: Vec<String>,
    },
}

/// What came of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Exit code of the command, or 128 and the number of the signal that ended it; 0 once the document is written.
    pub code: u8,
}

/// The folder, and what runs for it.
pub struct Asks {
    folder: PathBuf,
    runs: Option<pid_t>,
}

impl Asks {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            runs: None,
        }
    }

    /// The next request, where there is one and nothing runs. What cannot be read is answered like a command that is not found.
    pub fn next(&mut self) -> Option<Ask> {
        if self.runs.is_some() {
            return None;
        }
        let path = self.folder.join(ASK);
        let mut text = Vec::new();
        let file = fs::File::open(&path).ok()?;
        let read = file.take(MOST).read_to_end(&mut text);
        fs::remove_file(&path).ok()?;
        let ask = read.ok().and_then(|_| serde_json::from_slice(&text).ok());
        if ask.is_none() {
            self.answer(127);
        }
        ask
    }

    pub fn runs(&mut self, pid: pid_t) {
        self.runs = Some(pid);
    }

    /// A process has ended.
    pub fn ended(&mut self, pid: pid_t, code: u8) {
        if self.runs == Some(pid) {
            self.runs = None;
            self.answer(code);
        }
    }

    pub fn answer(&self, code: u8) {
        let path = self.folder.join(ANSWER);
        let part = path.with_extension("part");
        let text = serde_json::to_vec(&Answer { code }).expect("plain data is always JSON");
        let written = fs::write(&part, text).and_then(|()| fs::rename(&part, &path));
        if let Err(error) = written {
            eprintln!("whittle: {} cannot be written: {error}", path.display());
        }
    }
}
