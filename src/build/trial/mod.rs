//! The trial of an image: a Pod in which it runs under `whittle trace`, and a second container, `whittle trial`, that waits until it
//! answers, has it do what `spec.minimize.exercise` says, and prints what came of it and which files were asked for. The
//! controller reads that from the container's log.

pub mod here;
mod http;
mod run;
pub mod start;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

pub use run::{Options, run};
use whittle_api::{Exec, Exercise, HealthCheck, Variable, bounded};
use whittle_image::packed::{deflate, inflate};
use whittle_probe::filled_in;

/// Where the shared volume lies in both containers: nothing of an image is there.
pub const FOLDER: &str = "/.whittle-trial";
/// The program in it, which an init container puts there.
pub const PROGRAM: &str = "/.whittle-trial/whittle";
/// The document of the trace in it.
pub const DOCUMENT: &str = "/.whittle-trial/trace.json";

/// Bytes of a packed list of paths.
pub const PATHS: usize = 256 * 1024;
/// The most that one may expand to.
const EXPANDED: u64 = 8 << 20;
/// Bytes of the container's log that are read: what it prints, and a line or two of the runtime's.
pub const LOG: usize = PATHS * 2 + 64 * 1024;
/// Bytes of a sentence about a step.
const WORDS: usize = 300;
/// Programs that are named as unread.
const UNREAD: usize = 8;
/// Characters of a line of the log: longer ones are cut into parts by container runtimes.
const LINE: usize = 4096;
const BEGIN: &str = "whittle-trial 1 begin";
const END: &str = "whittle-trial 1 end";

/// What came of a trial.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Outcome {
    /// Why the image did not answer its health check; none where it did.
    pub not_ready: Option<String>,
    /// Of each exercise, why it failed; none for one that did not. Empty where the image did not answer.
    pub steps: Vec<Option<String>>,
    /// Files that were asked for and are there, packed.
    pub found: Paths,
    /// True where not all that was asked for is known.
    pub cut: bool,
    /// Programs whose calls are not seen, or not all.
    pub unread: Vec<String>,
}

/// Absolute paths, packed: deflated JSON in base64, at most 256 KiB of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(transparent)]
pub struct Paths(String);

impl Paths {
    /// As many of these as there is room for, and whether that is all.
    pub fn pack(mut paths: Vec<String>) -> (Self, bool) {
        let all = paths.len();
        loop {
            let packed = STANDARD.encode(deflate(&serde_json::to_vec(&paths).unwrap_or_default()));
            if packed.len() <= PATHS {
                return (Self(packed), paths.len() == all);
            }
            paths.truncate(paths.len() * 3 / 4);
        }
    }

    /// The paths; none where they cannot be read.
    pub fn unpack(&self) -> Vec<String> {
        if self.0.len() > PATHS {
            return vec![];
        }
        let bytes = STANDARD.decode(&self.0).ok();
        let bytes = bytes.and_then(|bytes| inflate(&bytes, EXPANDED).ok());
        bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Bytes that it takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True where nothing was packed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What `whittle trial` is asked to do, one step in an argument each: an argument may have 128 KiB.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// The image answers this once it is ready.
    Ready(Box<HealthCheck>),
    /// It does this.
    Exercise(Box<Exercise>),
}

/// The arguments of `whittle trial`.
pub fn arguments(check: &HealthCheck, exercise: &[Exercise]) -> Vec<String> {
    // The kubelet puts variables of the container into the command of a probe.
    let exec = check.exec.as_ref().map(|exec| Exec {
        command: filled(&exec.command, &check.env),
    });
    // What the image's own container is started with is of no use here.
    let check = HealthCheck {
        exec,
        args: vec![],
        env: vec![],
        ..check.clone()
    };
    let steps = exercise.iter().cloned().map(|it| Step::Exercise(it.into()));
    let json = |step: Step| serde_json::to_string(&step).expect("plain data is always JSON");
    let steps = std::iter::once(Step::Ready(check.into()))
        .chain(steps)
        .map(json);
    ["trial".to_owned()].into_iter().chain(steps).collect()
}

/// What an exercise is, for people: `exercise[0] (GET /login on port 8080)`.
pub fn named(number: usize, exercise: &Exercise) -> String {
    let what = match (&exercise.http_get, &exercise.exec) {
        (Some(http), _) => format!("GET {} on port {}", http.path, http.port),
        (_, Some(exec)) => exec.command.join(" "),
        _ => String::new(),
    };
    format!("exercise[{number}] ({})", bounded(what, 120))
}

/// The outcome as it is printed.
pub fn print(outcome: &Outcome) -> String {
    let json = serde_json::to_vec(outcome).expect("plain data is always JSON");
    let packed = STANDARD.encode(deflate(&json));
    let mut text = format!("{BEGIN}\n");
    for line in packed.as_bytes().chunks(LINE) {
        text += &String::from_utf8_lossy(line);
        text.push('\n');
    }
    text + END + "\n"
}

/// Reads what [`print()`] gave out of a log, within bounds; none where it is not whole.
pub fn read(log: &str) -> Option<Outcome> {
    let mut lines = log.lines().skip_while(|line| line.trim() != BEGIN).skip(1);
    let mut packed = String::new();
    loop {
        match lines.next()?.trim() {
            END => break,
            line if packed.len() + line.len() <= LOG => packed += line,
            _ => return None,
        }
    }
    // It was packed before: what expands to more was never printed by us.
    let json = inflate(&STANDARD.decode(packed).ok()?, LOG as u64).ok()?;
    let mut outcome: Outcome = serde_json::from_slice(&json).ok()?;
    let line = |text: &mut String| super::bounds::line(text, WORDS);
    outcome.not_ready.iter_mut().for_each(line);
    outcome.steps.truncate(16);
    outcome.steps.iter_mut().flatten().for_each(line);
    outcome.unread.truncate(UNREAD);
    outcome.unread.iter_mut().for_each(line);
    Some(outcome)
}

/// A command with the values of variables in it; as it is where that comes to more than Linux starts.
fn filled(command: &[String], env: &[Variable]) -> Vec<String> {
    let values = env.iter().map(|it| (it.name.as_str(), it.value.as_str()));
    filled_in(command, &values.collect()).unwrap_or_else(|| command.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let path = |number: u32| format!("/usr/lib/{}", number.wrapping_mul(2_654_435_761));
        Outcome {
            steps: vec![None, Some("answered 500".into())],
            found: Paths::pack((0..4000).map(path).collect()).0,
            unread: vec!["qemu".into()],
            ..Outcome::default()
        }
    }

    #[test]
    fn what_is_printed_is_read_out_of_a_log_and_what_is_not_whole_is_not() {
        let outcome = outcome();
        let text = print(&outcome);
        assert!(text.lines().count() > 4 && text.lines().all(|line| line.len() <= LINE));
        assert_eq!(
            read(&format!("first\n{text}last\n")).as_ref(),
            Some(&outcome)
        );
        assert_eq!(read(&text[..text.len() - 8]), None);
        assert_eq!(read(&text.replacen(BEGIN, "", 1)), None);
        assert_eq!(outcome.found.unpack().len(), 4000);
    }

    #[test]
    fn paths_beyond_the_bound_are_cut_and_told() {
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("/{seed:020}{:020}", seed.rotate_left(17))
        };
        let (paths, all) = Paths::pack((0..40_000).map(|_| random()).collect());
        assert!(!all && paths.len() <= PATHS && paths.unpack().len() > 5_000);
        assert_eq!(Paths("?".into()).unpack(), Vec::<String>::new());
    }

    #[test]
    fn what_expands_to_more_than_was_ever_printed_is_not_read() {
        let many = Outcome {
            unread: vec!["a".into(); 1_000_000],
            ..Outcome::default()
        };
        assert_eq!(read(&print(&many)), None);
    }

    #[test]
    fn variables_are_put_into_words_as_the_kubelet_does() {
        let env = [Variable {
            name: "A".into(),
            value: "x$(A)".into(),
        }];
        for (word, expected) in [
            ("$(A)-$(B)", "x$(A)-$(B)"),
            ("$$(A) $$$(A) $$$$", "$(A) $x$(A) $$"),
            ("echo $A $ $(A", "echo $A $ $(A"),
            ("", ""),
        ] {
            assert_eq!(filled(&[word.into()], &env), [expected], "{word}");
        }
    }

    #[test]
    fn sentences_of_an_outcome_are_bounded() {
        let long = Outcome {
            not_ready: Some("a\nb".repeat(1000)),
            steps: vec![Some("x".repeat(5000)); 100],
            ..Outcome::default()
        };
        let read = read(&print(&long)).unwrap();
        assert!(
            read.not_ready
                .is_some_and(|it| it.len() <= WORDS && !it.contains('\n'))
        );
        assert_eq!(read.steps.len(), 16);
        assert!(read.steps.iter().flatten().all(|it| it.len() <= WORDS));
    }
}
