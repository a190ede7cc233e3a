//! `whittle build --local`: an ImageBuild built without a cluster, by the runner's own code, on a daemon that is there or
//! that is started for it.

mod address;
mod bound;
mod check;
mod checked;
mod credentials;
mod daemon;
mod in_cluster;
mod manifest;
mod masked;
mod output;
mod programs;
mod relay;
mod room;
mod rules;
mod spec;
mod table;

use std::ffi::OsString;
use std::future::Future;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use k8s_openapi::jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use whittle_api::{FailureReason, ImageBuild};
use whittle_build::place::{Log, read_by};
use whittle_build::report::{Report, failed};
use whittle_build::runner::attempt_here;
use whittle_controller::imagebuild::alone;

pub use self::bound::Bound;
use self::bound::bound;
use self::check::Checked;
use self::daemon::Daemon;
use self::manifest::Manifest;
use self::output::Output;
use self::room::Room;
use self::spec::Wanted;
use crate::cluster::Reach;

/// The command's own name: `whittle build --local` has other options than a build in a cluster.
pub const NAME: &str = "build-local";

/// The words of a command line, with [`NAME`] in the place of `build --local`.
pub fn asked(mut words: Vec<OsString>) -> Vec<OsString> {
    let is_build = words.get(1).is_some_and(|word| word == "build");
    let at = words
        .iter()
        .take_while(|word| *word != "--")
        .position(|word| word == "--local");
    if let (true, Some(at)) = (is_build, at) {
        words.remove(at);
        words[1] = NAME.into();
    }
    words
}

/// Exit code where the build failed.
const FAILED: u8 = 1;
/// Exit code of wrong use: nothing was built.
const USAGE: u8 = 2;
/// Exit code where the time was over, as that of timeout(1).
const TIMED_OUT: u8 = 124;

/// Builds an image on this machine, without a cluster: as the ImageBuild would be built there.
///
/// Exit codes: 0: built; 1: the build failed; 2: wrong use, or nothing to build with; 124: the time was over.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The directory to build from, under its .dockerignore. Without it: the source of the ImageBuild in -f; without that,
    /// the current directory.
    folder: Option<PathBuf>,
    /// An ImageBuild as YAML or JSON (- for standard input), with the ConfigMaps, Secrets and Builders that it names in the
    /// same file; or a Dockerfile.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Which ImageBuild, where the file has several.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The repository, for example registry.example.com/team/hello.
    #[arg(long, value_name = "REPOSITORY")]
    image: Option<String>,
    /// A tag. May be repeated.
    #[arg(short, long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A platform: os/architecture[/variant]. May be repeated.
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',', value_parser = crate::platform)]
    platforms: Vec<String>,
    /// The stage to build.
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// The value of an ARG of the Dockerfile. May be repeated.
    #[arg(long = "build-arg", value_name = "NAME=VALUE", value_parser = spec::build_arg)]
    build_args: Vec<(String, String)>,
    /// A secret of the build: id=ID,src=FILE or id=ID,env=NAME. May be repeated.
    #[arg(long = "secret", value_name = "SECRET", value_parser = spec::secret)]
    secrets: Vec<spec::SecretOption>,
    /// Take no step from the cache.
    #[arg(long)]
    no_cache: bool,
    /// Push the image, and move its tags.
    #[arg(long)]
    push: bool,
    /// Write the image instead: oci:DIRECTORY, oci-archive:FILE, or docker-archive:FILE for `docker load`.
    #[arg(long, value_name = "OUTPUT", value_parser = output::output, conflicts_with = "push")]
    output: Option<Output>,
    /// The daemon to build on, for example unix:///run/buildkit/buildkitd.sock, tcp://host:1234, docker-container://NAME, or
    /// kube:NAMESPACE/NAME for a Builder of a cluster. Without it, one is started, and stopped at the end.
    #[arg(long, value_name = "ADDRESS", env = "BUILDKIT_HOST")]
    builder: Option<String>,
    /// The context of the kubeconfig for --builder kube:NAMESPACE/NAME; the current one by default.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig for it; $KUBECONFIG or ~/.kube/config by default.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Run the image on the daemon that has built it, and hold it to spec.healthCheck, before its tags move. Without one it only
    /// has to start.
    #[arg(long)]
    check: bool,
    /// How long the build may take, for example 30m; spec.timeout without it.
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// What is said on standard error while it builds.
    #[arg(long, value_enum, default_value_t)]
    progress: Progress,
    /// The result on standard output.
    #[arg(
        short = 'o',
        long = "status",
        value_enum,
        value_name = "FORMAT",
        default_value_t
    )]
    format: Format,
}

#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    /// Lines.
    #[default]
    Plain,
    /// BuildKit's own, as JSON.
    Rawjson,
}

#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    /// A few lines.
    #[default]
    Table,
    /// The ImageBuild with its status, as YAML.
    Yaml,
    /// The same as JSON.
    Json,
}

/// Why nothing was built.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// How it came to an end.
enum Ended {
    By(Box<Checked>),
    Late,
    Stopped(u8),
}

/// Builds what the options ask for.
pub async fn run(options: &Options) -> ExitCode {
    match build(options).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(&error);
            ExitCode::from(USAGE)
        }
    }
}

/// Says why; the words of others may stand in it.
fn tell(error: &Error) {
    let text = format!("whittle: {error}");
    eprintln!("{}", read_by(std::io::stderr().is_terminal(), &text));
}

async fn build(options: &Options) -> Result<u8, Error> {
    if options.output.is_none() && !options.push {
        return Err(Error::new(
            "where is the image to go? --push pushes it to its repository; --output oci:DIRECTORY, oci-archive:FILE or \
             docker-archive:FILE writes it",
        ));
    }
    let manifest = Manifest::of(options)?;
    let wanted = Wanted::of(options, &manifest)?;
    let within = wanted.timeout()?;
    if let Some(output) = &options.output {
        output.check(wanted.build.spec.platforms.len())?;
    }
    let buildctl = programs::buildctl()?;
    // Files of a source have the modes that they have in the cluster.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Until here a signal ends the program at once, also where a terminal is read: there is nothing to remove yet.
    let mut stop = Stop::new();
    let until = Instant::now() + within;
    let room = Room::make()?;
    let mut request = room.request(&wanted, &manifest, bound(&buildctl)?)?;
    request.place.log = match options.progress {
        Progress::Plain => Log::Error,
        Progress::Rawjson => Log::RawJson,
    };
    let builder = room::builder(&wanted, &manifest);
    tokio::select! {
        done = room.log_in(&request, &wanted, &builder) => done?,
        code = stop.asked() => return Ok(code),
    }
    if options.output.is_some() {
        request.place.layout = Some(room.folder().join("layout"));
    }
    let reach = Reach {
        namespace: None,
        context: options.context.clone(),
        kubeconfig: options.kubeconfig.clone(),
    };
    let address = options.builder.as_deref();
    let starting = Daemon::at(address, &reach, &room, &builder, |it| request.place.say(it));
    let daemon = tokio::select! {
        daemon = starting => daemon?,
        code = stop.asked() => return Ok(code),
        () = tokio::time::sleep_until(until) => {
            tell(&Error::new(format!(
                "timed out: no daemon to build on within {}: another whittle build --local has the build cache: wait for it, \
                 raise --timeout, or name a daemon that runs with --builder",
                wanted.build.spec.timeout
            )));
            return Ok(TIMED_OUT);
        }
    };
    request.builder_address = daemon.address();
    request.builder_server_name = daemon.server_name();
    for note in &wanted.notes {
        request.place.say(note);
    }
    let program = program_of_check(options, |it| request.place.say(it));
    let attempt = async {
        match &program {
            Some(program) => check::attempt(&request, &wanted.build, program).await,
            None => Checked {
                report: attempt_here(&request).await,
                checks: vec![],
            },
        }
    };
    let started = Timestamp::now();
    let ended = ended(attempt, until, &mut stop).await;
    drop(daemon);
    let mut checks = vec![];
    let (report, code) = match ended {
        Ended::Stopped(code) => return Ok(code),
        Ended::By(checked) => {
            checks = checked.checks;
            match checked.report {
                report @ Report::Succeeded(_) => (report, 0),
                report @ Report::Failed(_) => (report, FAILED),
            }
        }
        Ended::Late => {
            let message = format!(
                "timed out: the build did not end within {}: raise --timeout or spec.timeout, or find the slow step in \
                 the lines above",
                wanted.build.spec.timeout
            );
            (failed(FailureReason::Timeout, message), TIMED_OUT)
        }
    };
    if let (0, Some(output), Some(layout)) = (code, &options.output, &request.place.layout) {
        let written = tokio::select! {
            written = write(output, layout, &wanted.build.spec.output.image) => written,
            code = stop.asked() => return Ok(code),
        };
        if let Err(error) = written {
            tell(&error);
            return Ok(FAILED);
        }
    }
    if let Report::Failed(found) = &report
        && let Some(note) = log_in(found.failure.reason, &wanted.build)
    {
        request.place.say(&note);
    }
    let mut build = wanted.build.clone();
    let (status, _) = alone::ended(
        &build,
        &request.job,
        report,
        &checks,
        started,
        Timestamp::now(),
    );
    build.status = Some(status);
    print(&build, options.format)?;
    Ok(code)
}

/// The program that runs the image; none where that was not asked for, or cannot be.
fn program_of_check(options: &Options, say: impl Fn(&str)) -> Option<PathBuf> {
    let program = options.check.then(check::program)?;
    let told = |why| say(&format!("health check: not done: {why}"));
    program.map_err(told).ok()
}

/// Writes the image in a thread of its own, which the end of this program does not wait for.
async fn write(output: &Output, layout: &Path, image: &str) -> Result<(), Error> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let (output, layout, image) = (output.clone(), layout.to_owned(), image.to_owned());
    std::thread::spawn(move || {
        // Whoever has been stopped does not listen.
        let _ = tell.send(output.write(&layout, &image));
    });
    let died = |_| Err(Error::new("--output: the image could not be written"));
    told.await.unwrap_or_else(died)
}

/// Where credentials come from here, for who is told of Secrets.
fn log_in(reason: FailureReason, build: &ImageBuild) -> Option<String> {
    let denied = matches!(
        reason,
        FailureReason::PushDenied | FailureReason::BaseImageDenied
    );
    let secret = build.spec.output.secret_ref.is_some();
    (denied && !secret).then(|| {
        "credentials: on this machine they are those of `docker login HOST`: a Secret is what a cluster needs".to_owned()
    })
}

/// Waits for the end of an attempt, of its time, or for a signal. The attempt is dropped then, which ends buildctl.
async fn ended(attempt: impl Future<Output = Checked>, until: Instant, stop: &mut Stop) -> Ended {
    tokio::select! {
        checked = attempt => Ended::By(Box::new(checked)),
        () = tokio::time::sleep_until(until) => Ended::Late,
        code = stop.asked() => Ended::Stopped(code),
    }
}

/// Signals that ask for the end, from the moment that this is made.
struct Stop {
    interrupted: Signal,
    terminated: Signal,
    hung: Signal,
}

impl Stop {
    fn new() -> Self {
        let of = |kind| signal(kind).expect("signals can be handled");
        Self {
            interrupted: of(SignalKind::interrupt()),
            terminated: of(SignalKind::terminate()),
            hung: of(SignalKind::hangup()),
        }
    }

    /// Waits for one; the exit code that tells of it.
    async fn asked(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupted.recv() => 130,
            _ = self.terminated.recv() => 143,
            _ = self.hung.recv() => 129,
        }
    }
}

fn print(build: &ImageBuild, format: Format) -> Result<(), Error> {
    let text = match format {
        Format::Table => table::table(build),
        Format::Yaml => table::yaml(build)?,
        Format::Json => table::json(build),
    };
    use std::io::Write;
    // Whoever reads may be gone.
    let mut output = std::io::stdout().lock();
    let text = read_by(output.is_terminal(), text.trim_end());
    let _ = writeln!(output, "{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_attempt_ends_with_the_time_that_is_left() {
        let mut stop = Stop::new();
        let until = Instant::now() + std::time::Duration::from_secs(60);
        let late = ended(std::future::pending(), until, &mut stop).await;
        assert!(matches!(late, Ended::Late));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::OciArchive(folder.path().join("x.tar"));
        let none = folder.path().join("none");
        let said = write(&output, &none, "r.example/x").await;
        let said = said.unwrap_err().to_string();
        assert!(said.contains("cannot be written"), "{said}");
    }

    #[test]
    fn who_is_denied_without_a_secret_is_told_of_docker_login() {
        let mut build: ImageBuild = serde_json::from_value(serde_json::json!({
            "apiVersion": "whittle.dev/v1alpha1",
            "kind": "ImageBuild",
            "metadata": {"name": "hello"},
            "spec": {"source": {}, "output": {"image": "r.example/hello"}},
        }))
        .unwrap();
        let told = |reason, build: &ImageBuild| log_in(reason, build).is_some();
        assert!(told(FailureReason::PushDenied, &build));
        assert!(!told(FailureReason::StepFailed, &build));
        build.spec.output.secret_ref = Some(whittle_api::LocalRef {
            name: "push".into(),
        });
        assert!(!told(FailureReason::PushDenied, &build));
    }

    #[test]
    fn a_build_with_local_anywhere_is_one_of_this_machine_and_no_other_is() {
        let of = |text: &str| {
            let words = text.split(' ').map(OsString::from).collect();
            let words: Vec<String> = asked(words)
                .into_iter()
                .map(|it| it.into_string().unwrap())
                .collect();
            words.join(" ")
        };
        assert_eq!(
            of("whittle build --local . --push"),
            "whittle build-local . --push"
        );
        assert_eq!(of("whittle build app --local"), "whittle build-local app");
        for other in [
            "whittle build app",
            "whittle build -- --local",
            "whittle inspect --local",
            "whittle",
        ] {
            assert_eq!(of(other), other);
        }
    }
}
