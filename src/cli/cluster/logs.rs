//! `whittle logs`: the log of a build, as the runner printed it, or as a terminal shows it best.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressDrawTarget;
use k8s_openapi::jiff::Timestamp;
use whittle_build::place::read_by;

use super::Reach;
use super::answer::Failed;
use super::follow::{Shown, follow};
use super::followed::Until;
use super::pods;
use super::raw::Raw;
use super::screen::tame;
use super::steps::parse;
use super::terminal::Terminal;

/// What `logs` is asked for.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    reach: Reach,
    /// The ImageBuild.
    #[arg(value_name = "NAME", add = crate::complete::builds())]
    name: String,
    /// Print on until the build has ended; its result is the exit code.
    #[arg(short, long, conflicts_with_all = ["build", "previous"])]
    follow: bool,
    /// The build's number, as `whittle history` lists them.
    #[arg(long, value_name = "N")]
    build: Option<i64>,
    /// The build before the last one.
    #[arg(short, long, conflicts_with = "build")]
    previous: bool,
    /// How steps are shown.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// How steps are shown.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Output {
    /// On a terminal those that run below those that have ended; else as plain.
    #[default]
    Auto,
    /// Line by line.
    Plain,
    /// BuildKit's JSON, a SolveStatus in each line, as `buildctl --progress=rawjson` has it.
    #[value(name = "rawjson")]
    RawJson,
}

/// So long at most is followed: builds have a timeout of their own, and may wait for their turn before.
const FOLLOW: Duration = Duration::from_secs(7 * 86_400);

/// Prints it.
pub(super) async fn run(options: &Options) -> Result<(), Failed> {
    let cluster = options.reach.cluster().await?;
    if options.follow {
        let shown = Shown {
            output: options.output,
            quiet: false,
        };
        return follow(&cluster, &options.name, &Until::Current, shown, FOLLOW).await;
    }
    let build = cluster.build(&options.name).await?;
    let status = build.status.clone().unwrap_or_default();
    let Some(last) = status.build else {
        let text = format!(
            "{}: no build has begun yet: whittle status {}",
            options.name, options.name
        );
        return Err(Failed::Refused(text));
    };
    let number = match (options.build, options.previous) {
        (Some(number), _) => number,
        (None, true) => last - 1,
        (None, false) => last,
    };
    let sink = Sink::new(options.output);
    let printed = pods::print_all(&cluster, &build, number, &sink).await;
    sink.close();
    if printed? == 0 {
        let why = match (number < 1 || number > last, status.current.is_some() && number == last) {
            (true, _) => format!("there is none: whittle history {}", options.name),
            (_, true) => format!("it has not started: whittle status {}", options.name),
            _ => "its Pods are gone: the last builds are kept, as many as `spec.historyLimit` says, unless they are deleted; \
                  what failed is in `whittle status`"
                .into(),
        };
        return Err(Failed::Refused(format!(
            "{}: the log of build {number} not found: {why}",
            options.name
        )));
    }
    Ok(())
}

/// Where lines of a log go.
#[derive(Clone)]
pub(super) struct Sink {
    inner: Arc<Mutex<Inner>>,
}

enum Inner {
    Plain,
    Raw(Raw),
    Terminal(Terminal),
}

impl Sink {
    pub(super) fn new(output: Output) -> Self {
        let inner = match output {
            Output::RawJson => Inner::Raw(Raw::default()),
            Output::Auto if std::io::stdout().is_terminal() => {
                Inner::Terminal(Terminal::new(ProgressDrawTarget::stdout()))
            }
            Output::Auto | Output::Plain => Inner::Plain,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// A line that the runner printed, and when.
    pub(super) fn line(&self, time: Option<Timestamp>, text: &str) {
        match &mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner) {
            Inner::Plain => out(&format!("{text}\n")),
            Inner::Raw(raw) => match raw.line(time.unwrap_or_default(), &parse(text)) {
                Some(json) => out(&(json + "\n")),
                // As buildctl does with what is not of a step.
                None => anstream::eprintln!("{}", tame(text)),
            },
            Inner::Terminal(terminal) => terminal.line(&parse(text)),
        }
    }

    /// Something that is said beside the log.
    pub(super) fn note(&self, text: &str) {
        match &mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner) {
            Inner::Plain | Inner::Raw(_) => anstream::eprintln!("{text}"),
            Inner::Terminal(terminal) => terminal.say(text),
        }
    }

    /// Nothing follows.
    pub(super) fn close(&self) {
        if let Inner::Terminal(terminal) =
            &mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner)
        {
            terminal.close();
        }
    }
}

/// Whoever reads may be gone.
fn out(text: &str) {
    let mut out = std::io::stdout().lock();
    let text = read_by(out.is_terminal(), text);
    let _ = out.write_all(text.as_bytes());
}
