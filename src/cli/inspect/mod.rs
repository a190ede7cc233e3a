//! `whittle inspect`: what is in an image, on the command line, without a cluster, without a container
//! daemon, and without writing anything.
//!
//! The arrows: `location`, `files`, `tarball`, `manifest`, `platform` <- `layout`, `docker`, `remote` <-
//! `source`, `again` <- `rules`, `report`, `table` <- here. What is read is judged by `image`, as a build's image is.

mod again;
mod arguments;
pub(crate) mod credentials;
pub(crate) mod daemon;
mod difference;
mod docker;
pub(crate) mod error;
mod files;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod helper;
mod layout;
pub(crate) mod location;
mod manifest;
mod page;
pub(crate) mod platform;
pub(crate) mod remote;
mod report;
mod rules;
mod said;
pub(crate) mod source;
pub(crate) mod table;
mod tarball;
mod tree;

pub(crate) use arguments::{Arguments, EXAMPLES};
pub use error::{Hint, InspectError};
pub use platform::Platforms;
pub use report::{PlatformReport, Report, RuleFinding};

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use location::Location;
use remote::{Connection, Remote};
use rules::{Previous, Terms, Verdict};
use source::{Found, Source};
use whittle_image::{Budget, Contents, Finding, Reference, Rule, same_platform};

/// Something of the image breaks what was asked of it.
const BROKEN: u8 = 1;
/// The image could not be inspected.
const FAILED: u8 = 2;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The image: a reference, or a path.
    pub image: String,
    /// The image that `budget.max_growth_percent` compares with.
    pub against: Option<String>,
    /// The image that it is compared with, file by file.
    pub diff: Option<String>,
    /// Whether it is walked through on a terminal.
    pub tree: bool,
    /// Whether a difference is told by the exit code.
    pub exit_code: bool,
    /// Which platforms.
    pub platforms: Platforms,
    /// What the image must be.
    pub budget: Budget,
    /// How the report is printed.
    pub output: Output,
    /// HTTP without TLS.
    pub plain_http: bool,
    /// Certificates that sign the registry's, PEM.
    pub ca: Option<PathBuf>,
}

/// The form of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// [`Report`], for programs.
    Json,
    /// The same as YAML.
    Yaml,
    /// A page with maps of its bytes.
    Html,
}

/// Inspects, prints, and says by the exit code how it went: 0, 1 where what was asked of the image is
/// broken, 2 where it could not be inspected. A process-wide rustls provider must be installed.
pub async fn run(options: &Options) -> ExitCode {
    let now = Timestamp::now().as_second();
    if let Some(other) = &options.diff {
        return difference::run(options, other, now).await;
    }
    if options.tree {
        return tree::run(options).await;
    }
    if options.output == Output::Html && io::stdout().is_terminal() {
        eprintln!("whittle: a page is not for a terminal: add > image.html");
        return ExitCode::from(FAILED);
    }
    let (report, verdicts, drawn) = match look(options, now).await {
        Ok(found) => found,
        Err(error) => {
            eprintln!(
                "whittle: {}",
                table::plain(&explain(&options.image, &error))
            );
            return ExitCode::from(FAILED);
        }
    };
    let code = match verdicts.iter().any(|verdict| verdict.failed) {
        true => ExitCode::from(BROKEN),
        false => ExitCode::SUCCESS,
    };
    let out = io::stdout().lock();
    let result = match drawn.and_then(|drawn| page::page(&report, &verdicts[0], drawn)) {
        Some(page) => wrote(out, &page.html()),
        None => print(options.output, &report, &verdicts, out),
    };
    printed(result, code)
}

/// An error with the image's name, and that a file was meant, where that may be.
pub(crate) fn explain(name: &str, error: &InspectError) -> String {
    let mut text = error.to_string();
    if !text.starts_with(name) {
        text = format!("{name}: {text}");
    }
    let remote = matches!(error, InspectError::Registry(..) | InspectError::Name(_));
    let path = Path::new(name);
    if remote && path.is_relative() && path.exists() {
        text.push_str(&format!(
            " (a file of that name exists: for the file write ./{name})"
        ));
    }
    text
}

/// The report and the verdict for each of its images. `now`: seconds since 1970.
/// The page of an image.
#[cfg(test)]
pub(crate) async fn html(image: &str) -> String {
    let options = Options {
        image: image.into(),
        output: Output::Html,
        ..Options::default()
    };
    let (report, verdicts, drawn) = look(&options, 0).await.unwrap();
    let page = page::page(&report, &verdicts[0], drawn.unwrap());
    page.unwrap().html()
}

#[cfg(test)]
async fn inspect(options: &Options, now: i64) -> Result<(Report, Vec<Verdict>), InspectError> {
    let (report, verdicts, _) = look(options, now).await?;
    Ok((report, verdicts))
}

/// The same, with the maps of a page where one is wanted.
async fn look(
    options: &Options,
    now: i64,
) -> Result<(Report, Vec<Verdict>, Option<page::Drawn>), InspectError> {
    let terms = Terms {
        budget: options.budget.clone(),
        platform: match &options.platforms {
            Platforms::One(platform) => Some(platform.clone()),
            Platforms::Default | Platforms::All => None,
        },
    };
    let connection = Connection {
        plain_http: options.plain_http,
        ca: options.ca.clone(),
    };
    let open = |name: &str| Source::open(Location::parse(name, Path::exists)?, &connection);
    let twice = |rule: &&Rule| options.budget.warn.contains(rule);
    if let Some(rule) = options.budget.enforce.iter().find(twice) {
        return Err(InspectError::RuleTwice(rule.name()));
    }
    let against = |cause| InspectError::Against {
        image: options.against.clone().unwrap_or_default(),
        cause: Box::new(cause),
    };
    let mut source = open(&options.image)?;
    let target = source.find(&options.platforms).await?;
    let mut before = match &options.against {
        Some(name) => Some(open(name).map_err(against)?),
        None => None,
    };
    let (mut images, mut verdicts, mut drawn) = (Vec::new(), Vec::new(), None);
    for found in target.images {
        let contents = match options.output {
            Output::Html => {
                let image = source.image(&found, page::base(&found.config)).await?;
                drawn = Some(page::draw(&image, &found.config));
                Contents::of(&image, &found.config, now)
            }
            _ => source.contents(&found, now).await?,
        };
        let verdict = match &mut before {
            None => terms.judge(&found, &contents, None),
            Some(before) => {
                let compared = compare(&terms, before, &found, &contents, now).await;
                compared.map_err(against)?
            }
        };
        images.push(PlatformReport::new(found, contents, &verdict));
        verdicts.push(verdict);
    }
    let report = Report {
        image: options.image.clone(),
        digest: target.digest,
        images,
    };
    Ok((report, verdicts, drawn))
}

/// Judges an image against another one, whose layers are read only where it must be said what grew.
async fn compare(
    terms: &Terms,
    before: &mut Source,
    found: &Found,
    contents: &Contents,
    now: i64,
) -> Result<Verdict, InspectError> {
    let old = counterpart(before, found).await?;
    let mut previous = Previous {
        found: &old,
        contents: None,
    };
    let verdict = terms.judge(found, contents, Some(previous));
    let grew = |finding: &Finding| finding.rule == "maxGrowthPercent" && finding.certain;
    if !verdict.findings.iter().any(grew) {
        return Ok(verdict);
    }
    let held = before.contents(&old, now).await?;
    previous.contents = Some(&held);
    Ok(terms.judge(found, contents, Some(previous)))
}

/// The image for the same platform among those that it is compared with.
async fn counterpart(before: &mut Source, found: &Found) -> Result<Found, InspectError> {
    let platform = found.config.platform();
    let target = before.find(&Platforms::One(platform.clone())).await?;
    let same = |old: &Found| same_platform(&old.config.platform(), &platform);
    let there: Vec<String> = target
        .images
        .iter()
        .map(|old| old.config.platform())
        .collect();
    let old = target.images.into_iter().find(same);
    old.ok_or(InspectError::NoPlatform {
        asked: platform,
        there,
    })
}

fn print(
    output: Output,
    report: &Report,
    verdicts: &[Verdict],
    mut out: impl Write,
) -> io::Result<()> {
    match output {
        Output::Table | Output::Html => table::write(&mut out, report, verdicts)?,
        Output::Json | Output::Yaml => write(&mut out, output, report)?,
    }
    out.flush()
}

fn wrote(mut out: impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes something for programs.
fn write(out: &mut impl Write, output: Output, value: &impl Serialize) -> io::Result<()> {
    if output == Output::Yaml {
        let text = serde_saphyr::to_string(value).map_err(io::Error::other)?;
        return out.write_all(text.as_bytes());
    }
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// The exit code after something was printed.
fn printed(result: io::Result<()>, code: ExitCode) -> ExitCode {
    match result {
        // Whoever reads has seen enough, as `head` has.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("whittle: cannot print the report: {error}");
            ExitCode::from(FAILED)
        }
        _ => code,
    }
}

/// What an image of Docker or Podman on this machine holds, and the digests that it is known by; none where they do not have it.
pub(crate) async fn contents_in(
    engine: daemon::Engine,
    image: &str,
) -> Result<Option<(Vec<String>, Contents)>, InspectError> {
    let name = format!("{}{image}", engine.prefix());
    let location = Location::parse(&name, Path::exists)?;
    held(Source::open(location, &Connection::default())?).await
}

async fn held(mut source: Source) -> Result<Option<(Vec<String>, Contents)>, InspectError> {
    let mut target = match source.find(&Platforms::Default).await {
        Ok(target) => target,
        Err(InspectError::Absent(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = target.images.swap_remove(0);
    let contents = source
        .contents(&found, Timestamp::now().as_second())
        .await?;
    let digests = [target.digest, found.digest, Some(found.id)];
    Ok(Some((digests.into_iter().flatten().collect(), contents)))
}

/// The reports that Whittle has put beside an image in its registry: one a platform, each with the digests
/// that the image is known by.
///
/// # Errors
/// Where the registry does not give them.
pub async fn reports_beside(
    image: &str,
    plain_http: bool,
    ca: Option<PathBuf>,
) -> Result<Vec<(Vec<String>, Contents)>, InspectError> {
    let connection = Connection { plain_http, ca };
    Remote::new(Reference::parse(image), &connection)?
        .reports()
        .await
}

#[cfg(test)]
mod tests;
