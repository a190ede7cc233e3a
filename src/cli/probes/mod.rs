//! `whittle probes`: judges the probes of manifests by the reports of their images, and mends them.
//!
//! Reads files and prints; what it judges by stands in [`whittle_probe`]. Reports come from files, so that
//! it works without a cluster and without a registry, or from these where that is asked for.

mod files;
mod manifests;
mod output;
mod remote;
mod reports;

pub use manifests::{Fixed, Judged, Manifest, Manifests, Spot};
pub use output::Format;
pub use reports::{Report, Reports};

pub use crate::inspect::daemon::Engine;

use std::io::Write;
use std::path::PathBuf;

/// Endings of manifests in directories.
const MANIFESTS: [&str; 3] = ["yaml", "yml", "json"];

/// True for a file that holds manifests, by its name, and for standard input.
pub(crate) fn is_manifest(path: &std::path::Path) -> bool {
    let end = path.extension().and_then(|it| it.to_str());
    path.as_os_str() == files::STDIN || end.is_some_and(|end| MANIFESTS.contains(&end))
}

/// What a run of the command ends with.
pub const FOUND: u8 = 1;
/// What it ends with where something could not be judged.
pub const FAILED: u8 = 2;

/// Something that could not be read, judged or written.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("{at} {why}")]
pub struct Error {
    /// The file, with the line where one is known.
    pub at: String,
    /// What is the matter: a sentence that the place begins.
    pub why: String,
}

impl Error {
    /// An error at a place.
    pub fn new(at: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            at: at.into(),
            why: why.into(),
        }
    }
}

/// What to do with the fixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fixing {
    /// Print the fixed manifests, and the verdicts to standard error.
    Print,
    /// Change the files.
    Write,
}

/// Checks the probes of manifests before they are applied.
///
/// Exit codes: 0: no probe is known to fail; 1: one cannot work; 2: something could not be read.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  whittle probes -f deploy/ --registry\n  whittle probes -f app.yaml --reports app.json --fix=write\n  \
        whittle probes -f app.yaml --daemon docker"
)]
pub struct Options {
    /// Manifests: files, directories, or - for standard input.
    #[arg(short = 'f', long = "filename", required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// Reports of images, as `whittle inspect -o json` writes them: JSON files, or directories of them.
    #[arg(long)]
    pub reports: Vec<PathBuf>,
    /// Ask the registries of the images for the reports that Whittle has put beside them.
    #[arg(long)]
    pub registry: bool,
    /// Use HTTP without TLS for registries; those on this machine always use it.
    #[arg(long, requires = "registry")]
    pub plain_http: bool,
    /// File with additional CA certificates (PEM) for the registries.
    #[arg(
        long,
        value_name = "FILE",
        requires = "registry",
        conflicts_with = "plain_http"
    )]
    pub ca: Option<PathBuf>,
    /// Read the images themselves, as far as Docker or Podman on this machine has them.
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub daemon: Option<Engine>,
    /// Ask the cluster of the current context for its ImageBuilds.
    #[arg(long)]
    pub cluster: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Exit with 1 also if it is unknown whether a probe works.
    #[arg(long)]
    pub strict: bool,
    /// Fix each probe that cannot work, where a fix is known; comments and layout are kept.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "print")]
    pub fix: Option<Fixing>,
}

/// Runs the command: what was found goes to `out`, errors go to `err`. The exit code.
pub async fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let mut errors = Vec::new();
    let mut reports = Reports::default();
    for path in &options.reports {
        if let Err(error) = reports.read_path(path) {
            errors.push(error);
        }
    }
    let manifests = read(&options.files, &mut errors);
    if options.registry {
        remote::registry(options, &manifests.images(), &mut reports, &mut errors).await;
    }
    if let Some(engine) = options.daemon {
        remote::daemon(engine, &manifests.images(), &mut reports, &mut errors).await;
    }
    if options.cluster {
        remote::cluster(&mut reports, &mut errors).await;
    }
    judge(options, manifests, &reports, errors, (out, err))
}

/// What is missing where images are asked for and nothing tells what they hold.
fn without_reports(options: &Options, reports: &Reports, judged: &Judged) -> Option<Error> {
    let asked = judged
        .findings
        .iter()
        .any(|(_, finding)| finding.verdict.name() == "Unknown");
    let elsewhere = options.registry || options.cluster || options.daemon.is_some();
    if !asked || elsewhere || !reports.is_empty() {
        return None;
    }
    let sources = "whittle inspect -o json IMAGE makes a report for --reports; --registry uses those beside \
                   the images, and --cluster asks the ImageBuilds";
    Some(match options.reports.first() {
        None => Error::new(
            "--reports",
            format!("is missing, so the images' contents are unknown: {sources}"),
        ),
        Some(path) => Error::new(
            path.display().to_string(),
            format!("has no report, so the images' contents are unknown: {sources}"),
        ),
    })
}

/// Judges, mends and prints.
fn judge(
    options: &Options,
    mut manifests: Manifests,
    reports: &Reports,
    mut errors: Vec<Error>,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> u8 {
    let mut mended = Vec::new();
    if let Some(fixing) = options.fix {
        let (fixed, refused) = manifests.fix(reports);
        errors.extend(refused);
        if fixing == Fixing::Print
            && let Err(error) = print(&fixed, out)
        {
            errors.push(Error::new(
                "standard output",
                format!("cannot be written: {error}"),
            ));
        }
        for (manifest, file) in manifests.all.iter_mut().zip(fixed) {
            if file.mended == 0 {
                continue;
            }
            let done = match fixing {
                Fixing::Print => Ok(()),
                Fixing::Write => write(&file),
            };
            // What is judged below is what there is now.
            match done.and_then(|()| Manifest::read(&file.name, file.text)) {
                Ok(now) => {
                    mended.push((file.name, file.mended));
                    *manifest = now;
                }
                Err(error) => errors.push(error),
            }
        }
    }
    let mut judged = manifests.judge(reports);
    errors.append(&mut judged.errors);
    // What could not be read may have been a report.
    if errors.is_empty() {
        errors.extend(without_reports(options, reports, &judged));
    }
    judged.errors = errors;
    let text = options.output.write(&judged, options.strict);
    let printed = if options.fix == Some(Fixing::Print) {
        err.write_all(text.as_bytes())
    } else {
        out.write_all(text.as_bytes())
    };
    for (name, count) in mended {
        let _ = writeln!(err, "{name}: {count} fixed");
    }
    for (spot, object) in &judged.passed_over {
        let _ = writeln!(
            err,
            "note: {}:{} {} {} has {} with probes in an unsupported place: they are not judged",
            spot.file,
            spot.line,
            object.kind,
            object.name,
            match object.containers {
                1 => "1 container".to_owned(),
                many => format!("{many} containers"),
            }
        );
    }
    for error in &judged.errors {
        // Whoever closed standard error does not want to know.
        let _ = writeln!(err, "error: {error}");
    }
    let (_, cannot, unknown) = judged.counts();
    if !judged.errors.is_empty() || printed.is_err() {
        FAILED
    } else if cannot > 0 || (options.strict && (unknown > 0 || !judged.passed_over.is_empty())) {
        FOUND
    } else {
        0
    }
}

fn read(paths: &[PathBuf], errors: &mut Vec<Error>) -> Manifests {
    let mut manifests = Manifests::default();
    for path in paths {
        let files = if path.as_os_str() == files::STDIN {
            Ok(vec![path.clone()])
        } else {
            files::list(path, &MANIFESTS)
        };
        let files = files.unwrap_or_else(|error| {
            errors.push(error);
            Vec::new()
        });
        for file in files {
            let read = files::text(&file)
                .and_then(|text| Manifest::read(&file.display().to_string(), text));
            match read {
                Ok(manifest) => manifests.all.push(manifest),
                Err(error) => errors.push(error),
            }
        }
    }
    manifests
}

/// Prints all manifests as one stream of documents.
fn print(fixed: &[Fixed], out: &mut dyn Write) -> std::io::Result<()> {
    for (index, file) in fixed.iter().enumerate() {
        if index > 0 && !file.text.starts_with("---") {
            out.write_all(b"---\n")?;
        }
        out.write_all(file.text.as_bytes())?;
        if !file.text.ends_with('\n') && index + 1 < fixed.len() {
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

fn write(file: &Fixed) -> Result<(), Error> {
    if file.name == files::STDIN {
        return Err(Error::new("-", "is not writable: use --fix, which prints"));
    }
    files::replace(std::path::Path::new(&file.name), &file.text)
}

#[cfg(test)]
mod tests;
