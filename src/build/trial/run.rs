//! `whittle trial`: the second container of a trial.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};
use whittle_api::{Exec, Exercise, HealthCheck, bounded};
use whittle_trace::{ANSWER, ASK, Answer, Ask, Document, Wish};

use super::{DOCUMENT, FOLDER, Outcome, Paths, Step, UNREAD, WORDS, http, print};

/// How much longer a program that is traced may take until it is ready.
const SLOWER: u32 = 3;
/// How long one exercise may take.
const EXERCISE: Duration = Duration::from_secs(60);
/// How long the document may take to be written.
const WRITING: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of a document that are read: a little more than its own bound.
const READ: u64 = 64 << 20;

/// What is to be done, and where.
#[derive(Debug)]
pub struct Options {
    /// Steps, each as JSON.
    pub steps: Vec<String>,
    /// The folder that the tracer shares.
    pub folder: PathBuf,
    /// The document of the trace.
    pub document: PathBuf,
    /// So many times the tracer was asked.
    pub number: AtomicU64,
}

impl Options {
    /// In the Pod of a trial.
    pub fn of_pod(steps: Vec<String>) -> Self {
        Self {
            steps,
            folder: FOLDER.into(),
            document: DOCUMENT.into(),
            number: AtomicU64::new(1),
        }
    }
}

/// Waits until the image answers, exercises it, and prints what came of it.
///
/// # Errors
/// Where a step cannot be read.
pub async fn run(options: &Options) -> Result<(), serde_json::Error> {
    let steps = options.steps.iter().map(|text| serde_json::from_str(text));
    let steps: Vec<Step> = steps.collect::<Result<_, _>>()?;
    let mut outcome = Outcome::default();
    for step in &steps {
        match step {
            Step::Ready(check) => outcome.not_ready = ready(check, options).await.err(),
            Step::Exercise(_) if outcome.not_ready.is_some() => {}
            Step::Exercise(exercise) => {
                outcome.steps.push(exercised(exercise, options).await.err())
            }
        }
    }
    if !has_ended(options).await {
        let _ = timeout(WRITING, ask(Wish::Write, options)).await;
    }
    match document(&options.document).await {
        Ok(document) => enter(&mut outcome, document),
        Err(why) => {
            println!("the trace cannot be read: {why}");
            outcome.cut = true;
        }
    }
    print!("{}", print(&outcome));
    Ok(())
}

/// Waits until the image answers its health check.
async fn ready(check: &HealthCheck, options: &Options) -> Result<(), String> {
    let seconds = u64::try_from(check.timeout_seconds).unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds) * SLOWER;
    // How it ends is seen without a tracer, too.
    while check.run.is_some() {
        if has_ended(options).await {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err("not ended in time".into());
        }
        sleep(PAUSE).await;
    }
    loop {
        if has_ended(options).await {
            return Err("the container has ended before it was ready".into());
        }
        let said = match (&check.http_get, &check.tcp_socket, &check.grpc, &check.exec) {
            (Some(asked), ..) => http::get(http::LOOPBACK, asked).await,
            (_, Some(asked), ..) => http::connect(http::LOOPBACK, asked.port).await.map(drop),
            (_, _, Some(asked), _) => http::check(http::LOOPBACK, asked).await,
            (.., Some(exec)) => execute(exec, options).await,
            _ => Ok(()),
        };
        match said {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() >= end => return Err(format!("not ready in time: {why}")),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn exercised(exercise: &Exercise, options: &Options) -> Result<(), String> {
    if has_ended(options).await {
        return Err("the container has ended before".into());
    }
    let done = async {
        match (&exercise.http_get, &exercise.exec) {
            (Some(asked), _) => http::get(http::LOOPBACK, asked).await,
            (_, Some(exec)) => execute(exec, options).await,
            _ => Ok(()),
        }
    };
    timeout(EXERCISE, done)
        .await
        .unwrap_or_else(|_| Err("timed out".into()))
}

/// Has the tracer run a command within the image.
async fn execute(exec: &Exec, options: &Options) -> Result<(), String> {
    let command = exec.command.clone();
    match timeout(EXERCISE, ask(Wish::Run { command }, options)).await {
        Ok(Ok(0)) => Ok(()),
        Ok(Ok(127)) => Err("not found (exit code 127)".into()),
        Ok(Ok(code)) => Err(format!("ended with exit code {code}")),
        Ok(Err(why)) => Err(why),
        Err(_) => Err("timed out".into()),
    }
}

/// Asks the tracer, and waits for its answer to this: one that was given up may be answered late.
async fn ask(wish: Wish, options: &Options) -> Result<u8, String> {
    let ask = &Ask {
        number: options.number.fetch_add(1, Ordering::Relaxed),
        wish,
    };
    let said =
        |error: std::io::Error| format!("{} cannot be written: {error}", options.folder.display());
    let answer = options.folder.join(ANSWER);
    let _ = tokio::fs::remove_file(&answer).await;
    let part = options.folder.join("ask.part");
    let text = serde_json::to_vec(ask).expect("plain data is always JSON");
    tokio::fs::write(&part, text).await.map_err(said)?;
    tokio::fs::rename(&part, options.folder.join(ASK))
        .await
        .map_err(said)?;
    loop {
        if let Ok(text) = contents(&answer, 4096).await {
            // What cannot be read is of somebody else.
            let answer: Option<Answer> = serde_json::from_slice(&text).ok();
            if let Some(answer) = answer.filter(|it| it.number == ask.number) {
                return Ok(answer.code);
            }
        }
        if ask.wish != Wish::Write && has_ended(options).await {
            return Err("the container has ended meanwhile".into());
        }
        sleep(PAUSE).await;
    }
}

/// True once the document is there though nobody has asked for it: the tracer writes it at its end.
async fn has_ended(options: &Options) -> bool {
    tokio::fs::symlink_metadata(&options.document).await.is_ok()
}

async fn document(path: &Path) -> Result<Document, String> {
    let text = contents(path, READ)
        .await
        .map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

/// A file of the shared folder, where the program that is tried may write, too: no link is followed, and nothing is waited for.
async fn contents(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut text = Vec::new();
    let file = tokio::fs::File::from_std(file);
    file.take(most).read_to_end(&mut text).await?;
    Ok(text)
}

fn enter(outcome: &mut Outcome, document: Document) {
    let own = format!("{FOLDER}/");
    let named = document
        .entries
        .into_iter()
        .filter(|entry| !entry.path.starts_with(&own));
    let found = named.filter(|entry| entry.found).map(|entry| entry.path);
    let (found, all) = Paths::pack(found.collect());
    outcome.found = found;
    outcome.cut = document.cut || !all;
    let short = |name: String| bounded(name, WORDS);
    outcome.unread = document
        .unread
        .into_iter()
        .take(UNREAD)
        .map(short)
        .collect();
    if let Some(why) = document.failed {
        outcome.not_ready = Some(bounded(why, WORDS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whittle_trace::{Entry, How};

    fn options(folder: &Path) -> Options {
        Options {
            steps: vec![],
            folder: folder.into(),
            document: folder.join("trace.json"),
            number: AtomicU64::new(1),
        }
    }

    #[test]
    fn what_was_found_is_told_and_the_shared_folder_is_left_out() {
        let entry = |path: &str, found| Entry {
            path: path.into(),
            how: vec![How::Opened],
            found,
        };
        let mut outcome = Outcome::default();
        let document = Document {
            version: 1,
            cut: false,
            failed: None,
            unread: vec!["x".into()],
            entries: vec![
                entry("/.whittle-trial/trace.json", true),
                entry("/a", true),
                entry("/b", false),
            ],
        };
        enter(&mut outcome, document);
        assert_eq!(outcome.found.unpack(), ["/a"]);
        assert_eq!((outcome.cut, outcome.unread.len()), (false, 1));
    }

    #[tokio::test]
    async fn a_container_that_has_ended_is_told_and_nobody_waits_for_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let exec = Exec {
            command: vec!["/selftest".into()],
        };
        let ends = async {
            while !folder.path().join(ASK).exists() {
                tokio::task::yield_now().await;
            }
            std::fs::write(&options.document, "{}").unwrap();
        };
        let (said, ()) = tokio::join!(execute(&exec, &options), ends);
        assert_eq!(said.unwrap_err(), "the container has ended meanwhile");
        let exercise = Exercise {
            http_get: None,
            exec: Some(exec),
        };
        assert!(exercised(&exercise, &options).await.is_err());
    }

    #[tokio::test]
    async fn the_exit_code_of_a_command_is_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        for (number, code, words) in [
            (1, 0, None),
            (2, 3, Some("exit code 3")),
            (3, 127, Some("not found")),
        ] {
            let exec = Exec {
                command: vec!["/selftest".into()],
            };
            let answers = async {
                while std::fs::remove_file(folder.path().join(ASK)).is_err() {
                    tokio::task::yield_now().await;
                }
                // One that was given up is answered late.
                let answer = folder.path().join(ANSWER);
                std::fs::write(&answer, "{\"number\":0,\"code\":0}").unwrap();
                tokio::time::sleep(PAUSE).await;
                let text = format!("{{\"number\":{number},\"code\":{code}}}");
                std::fs::write(answer, text).unwrap();
            };
            let (said, ()) = tokio::join!(execute(&exec, &options), answers);
            match words {
                None => assert_eq!(said, Ok(())),
                Some(words) => assert!(said.unwrap_err().contains(words)),
            }
        }
    }
}
