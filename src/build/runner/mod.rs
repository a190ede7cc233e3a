//! What runs inside a build's Job: asks the builder to build and push, reads the pushed manifests back,
//! moves the tags, and reports.
//!
//! Exit code 0 stands for a pushed image, 1 for a failure that the termination message tells, 143 for an
//! end from outside, about which nothing is told.

mod attempt;
mod bases;
mod callback;
mod check;
mod child;
mod contents;
mod debug;
mod files;
mod finish;
mod flux;
mod hang;
mod look;
mod minimize;
mod oci;
mod parts;
mod print;
mod pushing;
mod raw;
mod reach;
mod redact;
mod registry_secret;
mod revision;
mod scripts;
mod solve;
mod source;
mod standby;
mod versions;

pub use check::{Runnable, platform_here, run_here};
pub use oci::{ENTRIES, LAYER_LIMIT};

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::place::Place;
use crate::report;
use crate::report::Report;
use crate::request::{BuildRequest, paths};
use crate::standby::{Standby, UNTAKEN};
use whittle_api::FailureReason;

/// Runs the attempt that [`paths::REQUEST`] asks for. Where it was made in advance, it waits for the request first.
pub async fn run() -> ExitCode {
    // What is written of a source has the modes that it would have on anybody's disk.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Another provider may stand already, for example in a test.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut terminated = match signal(SignalKind::terminate()) {
        Ok(terminated) => terminated,
        Err(error) => {
            eprintln!("whittle: cannot handle SIGTERM: {error}");
            return ExitCode::FAILURE;
        }
    };
    let request = tokio::select! {
        _ = terminated.recv() => None,
        request = request(Path::new(paths::REQUEST)) => request,
    };
    let Some(request) = request else {
        println!("ended before a build began");
        return u8::try_from(UNTAKEN).map_or(ExitCode::FAILURE, ExitCode::from);
    };
    tokio::select! {
        // Dropping the attempt ends buildctl, and with it what the builder does for us.
        _ = terminated.recv() => {
            println!("terminated");
            ExitCode::from(143)
        }
        report = run_and_report(request) => {
            match report {
                Report::Succeeded(_) => ExitCode::SUCCESS,
                Report::Failed(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// Carries out an attempt where this program stands, without a controller: the same as in a Pod, at the request's own
/// [`crate::place::Place`]. Dropping the future ends buildctl, and with it what the builder does.
pub async fn attempt_here(request: &BuildRequest) -> Report {
    let callback = callback::Callback::start(request);
    let redactor = redact::Redactor::load(request);
    let (report, _) = attempt::attempt(request, &callback, &redactor).await;
    report.bounded()
}

/// Attempts the build and reports the outcome: first as termination message, then to the controller.
async fn run_and_report(request: Result<BuildRequest, String>) -> Report {
    let request = match request {
        Ok(request) => request,
        Err(message) => {
            println!("{message}");
            let report = report::failed(FailureReason::BuildFailed, message);
            write_termination(&report);
            return report;
        }
    };
    let mut callback = callback::Callback::start(&request);
    let redactor = redact::Redactor::load(&request);
    let (report, look) = attempt::attempt(&request, &callback, &redactor).await;
    // What is told early and the record are held against each other: both are of one report.
    let report = report.bounded();
    write_termination(&report);
    callback.report(&report).await;
    if let Some(look) = look {
        let failed = matches!(report, Report::Failed(_));
        if let Some(cache) = look.tell(&request, failed, &redactor).await {
            callback.cache(cache).await;
        }
    }
    report
}

/// The request in this folder, or the one that is handed over where the folder says to wait; none where no attempt has begun in
/// time.
async fn request(folder: &Path) -> Option<Result<BuildRequest, String>> {
    let waits = folder.join(paths::STANDBY_KEY);
    if !waits.exists() {
        return Some(read(&folder.join(paths::REQUEST_KEY)));
    }
    let standby: Standby = match read(&waits) {
        Ok(standby) => standby,
        Err(why) => return Some(Err(why)),
    };
    println!("made in advance: waiting for the next build");
    let place = Place::default();
    let request = standby::wait(&standby, &place.tls, &place.attempt).await?;
    println!("build {} begins", request.build);
    Some(Ok(request))
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("the request {} cannot be read: {error}", path.display()))?;
    serde_json::from_str(&text)
        .map_err(|error| format!("the request {} is invalid: {error}", path.display()))
}

fn write_termination(report: &Report) {
    if let Err(error) = std::fs::write(paths::TERMINATION, report::encode(report)) {
        println!("the termination message cannot be written: {error}");
    }
}
