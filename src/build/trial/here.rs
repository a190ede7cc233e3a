//! An image that is run without a cluster: as a step of the daemon that has built it (`whittle build --local --check`). This program
//! is the step's, starts the image's own as its child, asks its health check, and leaves what came of it in a folder that is taken
//! out of the step.
//!
//! The step has no network but its own loopback.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use whittle_api::{HealthCheck, RunAs, bounded};
use whittle_image::ImageConfig;

use super::{FOLDER, PROGRAM, filled, http};

/// The file beside this program that says what is asked.
pub const ASKED: &str = "/.whittle-trial/asked.json";
/// The folder of what came of it. Only root looks into it.
pub const OUTCOME: &str = "/.whittle-outcome";
/// The file in it.
pub const RAN: &str = "ran.json";
/// Why the program could not be started, in the same folder.
pub const FAULT: &str = "fault";
/// The commands of this module and of [`super::start`].
pub const COMMANDS: [&str; 2] = ["check-image", "check-start"];

/// Where it is asked: as the kubelet asks at the Pod's address, whoever listens at 127.0.0.1 alone does not answer.
const ADDRESS: &str = "127.0.0.2";
/// The user of an image whose own is root, as in the cluster.
const USER: &str = "65532";
/// How long an image has to stay up of which nothing else is asked.
const UP: Duration = Duration::from_secs(3);
/// How long one answer may take: the probe's timeout in the cluster.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the program may take to end: its grace in the cluster.
const GRACE: Duration = Duration::from_secs(1);
/// Bytes of its output that are kept from the beginning: what `run.stdout` is looked for in.
const FIRST: usize = 64 * 1024;
/// Bytes and lines that are kept of its end, as in a status.
const LAST: usize = 4096;
const LINES: usize = 20;
/// Bytes of it that go into the build's log.
const SHOWN: usize = 128 * 1024;
/// Bytes of a sentence.
const WORDS: usize = 500;
/// Bytes of an outcome that are read: output may be all escapes.
const READ: u64 = 1 << 20;

/// What is asked of an image.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Another one each time: what is the same could be answered from the cache.
    pub once: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `NAME=value` each; the last of a name counts.
    pub env: Vec<String>,
    /// As USER has it.
    pub user: String,
    /// True where it keeps the capabilities that containers have.
    pub as_root: bool,
    /// Where it starts; empty: `/`.
    pub directory: String,
    /// What it answers; none: it only has to start.
    pub check: Option<HealthCheck>,
}

impl Asked {
    /// What the health check of an image asks: started as the restricted Pod of the cluster starts it. `root`: its USER is.
    pub fn of(config: &ImageConfig, root: bool, check: Option<&HealthCheck>, once: String) -> Self {
        let as_root = root && check.is_some_and(|it| it.run_as == Some(RunAs::Image));
        let mut variables: Vec<whittle_api::Variable> = vec![];
        for variable in check.iter().flat_map(|check| &check.env) {
            // The kubelet puts those before into it.
            let value = filled(std::slice::from_ref(&variable.value), &variables).concat();
            variables.push(whittle_api::Variable {
                name: variable.name.clone(),
                value,
            });
        }
        let args = check.map_or(&[][..], |check| match &check.run {
            Some(run) => &run.args,
            None => &check.args,
        });
        let args = match args {
            [] => config.cmd.clone(),
            args => filled(args, &variables),
        };
        let given = variables.iter();
        let given = given.map(|it| format!("{}={}", it.name, it.value));
        let env = config.env.iter().cloned().chain(given).collect();
        let check = check.cloned().map(|mut check| {
            if let Some(exec) = &mut check.exec {
                exec.command = filled(&exec.command, &variables);
            }
            check
        });
        Self {
            once,
            command: config.entrypoint.iter().cloned().chain(args).collect(),
            env,
            user: match root && !as_root {
                true => USER.into(),
                false => config.user.clone(),
            },
            as_root,
            directory: config.working_dir.clone(),
            check,
        }
    }

    /// Reads what was asked.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read() -> io::Result<Self> {
        serde_json::from_slice(&fs::read(ASKED)?).map_err(io::Error::other)
    }

    /// Its environment, without what a runtime adds.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let all = self.env.iter().filter_map(|it| it.split_once('='));
        all.map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

/// What came of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Ran {
    /// True where it answered; of one that only has to start, where it was up for a while.
    pub ready: bool,
    /// The exit code, where it has ended before.
    pub ended: Option<i32>,
    /// Why it could not be started.
    pub not_started: Option<String>,
    /// Seconds from its start until then.
    pub seconds: i64,
    /// Why it did not answer when it was asked last, in the kubelet's words.
    pub unhealthy: Option<String>,
    /// The last lines that it printed.
    pub log: String,
    /// The beginning of what it printed.
    pub output: String,
}

impl Ran {
    /// Reads the outcome that a step has left, within bounds.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut text = vec![];
        let file = fs::File::open(folder.join(RAN))?;
        file.take(READ).read_to_end(&mut text)?;
        let mut ran: Self = serde_json::from_slice(&text).map_err(io::Error::other)?;
        let line = |text: &mut String| crate::bounds::line(text, WORDS);
        ran.not_started.iter_mut().for_each(line);
        ran.unhealthy.iter_mut().for_each(line);
        Ok(ran)
    }
}

/// Where it is done.
struct Place {
    program: PathBuf,
    outcome: PathBuf,
    address: &'static str,
}

/// Runs the image around this program, and leaves what came of it.
pub async fn run() -> ExitCode {
    let place = Place {
        program: PROGRAM.into(),
        outcome: OUTCOME.into(),
        address: ADDRESS,
    };
    let done = async {
        let asked = Asked::read()?;
        fs::DirBuilder::new().mode(0o700).create(&place.outcome)?;
        let ran = ran(&asked, &place).await?;
        let text = serde_json::to_vec(&ran).expect("plain data is always JSON");
        fs::write(place.outcome.join(RAN), text)
    };
    match done.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whittle: the image cannot be run here ({FOLDER}): {error}");
            ExitCode::FAILURE
        }
    }
}

async fn ran(asked: &Asked, place: &Place) -> io::Result<Ran> {
    let (reader, writer) = io::pipe()?;
    let errors = writer.try_clone()?;
    let mut child = Command::new(&place.program)
        .arg(COMMANDS[1])
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let begun = Instant::now();
    let heard = Arc::new(Mutex::new(Heard::default()));
    let reader = pipe::Receiver::from_owned_fd(reader.into())?;
    let hearing = tokio::spawn(hear(reader, heard.clone()));
    let mut last = None;
    let limit = asked.check.as_ref().map_or(UP * 2, |check| {
        Duration::from_secs(u64::try_from(check.timeout_seconds).unwrap_or(1))
    });
    let ended = tokio::select! {
        ended = child.wait() => Some(ended?),
        () = answers(asked, place, &mut last) => None,
        () = sleep(limit) => None,
    };
    let seconds = i64::try_from(begun.elapsed().as_secs()).unwrap_or(i64::MAX);
    let late = begun.elapsed() >= limit;
    end(&mut child, ended.is_some()).await;
    // Whoever outlives it may keep its output open.
    let _ = timeout(GRACE, hearing).await;
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let fault = fs::read_to_string(place.outcome.join(FAULT)).ok();
    let fault = fault.filter(|why| ended.is_some() && !why.is_empty());
    Ok(Ran {
        ready: ended.is_none() && !late,
        ended: ended.map(code).filter(|_| fault.is_none()),
        not_started: fault.map(|why| bounded(why, WORDS)),
        seconds,
        unhealthy: last.map(|why| bounded(why, WORDS)),
        log: heard.last(),
        output: String::from_utf8_lossy(&heard.first).into_owned(),
    })
}

/// As a container's status has it.
fn code(status: ExitStatus) -> i32 {
    let by_signal = || 128 + status.signal().unwrap_or_default();
    status.code().unwrap_or_else(by_signal)
}

/// Ends a program, and what it has started.
async fn end(child: &mut Child, ended: bool) {
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let Some(group) = group.and_then(Pid::from_raw).filter(|_| !ended) else {
        return;
    };
    let _ = kill_process_group(group, Signal::TERM);
    let _ = timeout(GRACE, child.wait()).await;
    // Also when the program has ended in time: what it has started may not have.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait().await;
}

/// Until it answers. `last`: why it did not when it was asked last.
async fn answers(asked: &Asked, place: &Place, last: &mut Option<String>) {
    let Some(check) = &asked.check else {
        return sleep(UP).await;
    };
    if check.run.is_some() {
        // How it ends is what counts.
        return std::future::pending().await;
    }
    let seconds = u64::try_from(check.timeout_seconds).unwrap_or(1);
    let time = ANSWER.min(Duration::from_secs(seconds));
    loop {
        let answer = timeout(time, answer(check, place)).await;
        let late = |_| Err(format!("no answer within {} s", time.as_secs()));
        match answer.unwrap_or_else(late) {
            Ok(()) => return,
            Err(why) => *last = Some(format!("Readiness probe failed: {}", worded(&why))),
        }
        sleep(PAUSE).await;
    }
}

/// The kubelet's words for an answer of HTTP.
fn worded(why: &str) -> String {
    match why.strip_prefix("answered ") {
        Some(code) => format!("HTTP probe failed with statuscode: {code}"),
        None => why.to_owned(),
    }
}

async fn answer(check: &HealthCheck, place: &Place) -> Result<(), String> {
    match (&check.http_get, &check.tcp_socket, &check.grpc, &check.exec) {
        (Some(asked), ..) => http::get(place.address, asked).await,
        (_, Some(asked), ..) => http::connect(place.address, asked.port).await.map(drop),
        (_, _, Some(asked), _) => http::check(place.address, asked).await,
        (.., Some(exec)) => execute(&exec.command, place).await,
        _ => Ok(()),
    }
}

/// Runs a command as the image's own program runs.
async fn execute(command: &[String], place: &Place) -> Result<(), String> {
    let said = |error: io::Error| error.to_string();
    let (reader, writer) = io::pipe().map_err(said)?;
    let errors = writer.try_clone().map_err(said)?;
    let mut child = Command::new(&place.program)
        .args([COMMANDS[1], "--"])
        .args(command)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .kill_on_drop(true)
        .spawn()
        .map_err(said)?;
    let reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(said)?;
    let mut output = vec![];
    let _ = reader.take(LAST as u64).read_to_end(&mut output).await;
    let status = child.wait().await.map_err(said)?;
    match code(status) {
        0 => Ok(()),
        code => {
            let output = String::from_utf8_lossy(&output);
            match output.trim() {
                "" => Err(format!("the command ended with exit code {code}")),
                output => Err(output.to_owned()),
            }
        }
    }
}

/// What a program has printed.
#[derive(Default)]
struct Heard {
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Heard {
    fn take(&mut self, bytes: &[u8]) {
        let room = FIRST.saturating_sub(self.first.len());
        self.first.extend(&bytes[..bytes.len().min(room)]);
        self.last.extend(bytes);
        let over = self.last.len().saturating_sub(LAST);
        self.last.drain(..over);
    }

    /// The last lines.
    fn last(&self) -> String {
        let text = String::from_utf8_lossy(&self.last);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

/// Hears what a program prints, and shows the beginning of it.
async fn hear(mut reader: pipe::Receiver, heard: Arc<Mutex<Heard>>) {
    let mut buffer = vec![0; 16 * 1024];
    let mut shown = 0;
    while let Ok(read) = reader.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(&buffer[..read]);
        if shown < SHOWN {
            shown += read;
            use std::io::Write;
            let _ = io::stdout().lock().write_all(&buffer[..read]);
            let _ = io::stdout().lock().flush();
        }
    }
}

#[cfg(test)]
#[path = "here_tests.rs"]
mod tests;
