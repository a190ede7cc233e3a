//! `whittle minimize`: what of an image its program never reaches, and the image without that.

mod out;
mod page;
mod table;
mod target;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::inspect::error::file;
use crate::inspect::location::Location;
use crate::inspect::platform::Platforms;
use crate::inspect::remote::Connection;
use crate::inspect::source::{Found, Source};
use crate::inspect::table::plain;
use crate::inspect::{InspectError, explain};
use out::Out;
use target::Target;
use whittle_image::reach::{Globs, Part, Reach, Tally, Wanted, assumed_base};
use whittle_image::stage::Stage;
use whittle_image::{Image, ImageConfig, digest_of, same_platform};

/// It could not be done.
const FAILED: u8 = 2;
/// Folders and files that are shown.
const SHOWN: usize = 10;

/// Shows what of an image its program never reaches, and writes the image without that.
///
/// What is kept: what the image starts and what that needs and names, the files that its own COPY and ADD brought, and what
/// --keep names. The smaller image is not tried out: run it before you use it, or let an ImageBuild with a healthCheck do so.
///
/// Exit codes: 0: done; 2: the image cannot be read or written.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  whittle minimize registry.example.com/team/app:1.2\n  \
        whittle minimize registry.example.com/team/app:1.2 --base golang:1.26 --to registry.example.com/team/app:1.2-small\n  \
        whittle minimize docker-daemon:app:dev --explain /usr/bin/curl"
)]
pub struct Options {
    /// host/repository[:tag][@digest]; or a path that starts with / or . : an OCI layout (a directory or a tar archive),
    /// or what `docker save` writes. oci:PATH[:tag] and docker-archive:PATH[:name:tag] say which. docker-daemon:NAME and
    /// podman:NAME are images of Docker and Podman on this machine.
    image: String,
    /// Where the smaller image goes: host/repository:tag, in the same registry or another; or an OCI layout that does not exist yet:
    /// oci:DIRECTORY[:tag] or oci-archive:FILE[:tag]. Without it, nothing is written.
    #[arg(long, value_name = "IMAGE")]
    to: Option<String>,
    /// Paths that stay: /app/templates/**. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    keep: Vec<String>,
    /// Paths that go: /usr/share/doc/**. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    drop: Vec<String>,
    /// The image that the last stage is built on, written as IMAGE is: what came on top of it is the application's. Without it, all layers but the
    /// first count as the application's, and less goes.
    #[arg(long, value_name = "IMAGE", conflicts_with = "base_layers")]
    base: Option<String>,
    /// The same, as a number of layers; 0: built from scratch.
    #[arg(long, value_name = "N")]
    base_layers: Option<u16>,
    /// Say why this path stays or goes. May be repeated.
    #[arg(long, value_name = "PATH")]
    explain: Vec<String>,
    /// The platform: os/architecture[/variant]. Without it, and with --to, all that there are.
    #[arg(long, value_parser = crate::platform)]
    platform: Option<String>,
    /// Write a page with a map of the image into this file: what stays and what goes, each as large as its bytes.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Use HTTP without TLS; registries on this machine always use it.
    #[arg(long)]
    plain_http: bool,
    /// File with additional CA certificates (PEM) for the registries.
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    ca: Option<PathBuf>,
}

/// What came of one platform's image.
#[derive(Serialize, Debug, Default)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    platform: String,
    digest: String,
    /// Bytes in the registry.
    size: i64,
    /// Files and bytes that stay, and that go, unpacked.
    kept_files: u64,
    kept_bytes: u64,
    gone_files: u64,
    gone_bytes: u64,
    /// The largest folders and files that go, and that stay.
    largest: Vec<Weight>,
    stays: Vec<Weight>,
    #[serde(skip_serializing_if = "Option::is_none")]
    smaller: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsure: Option<String>,
    /// A last stage for the Dockerfile.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    explained: Vec<Explained>,
    #[serde(skip)]
    manifest: Option<Vec<u8>>,
    #[serde(skip)]
    picture: Option<Picture>,
}

/// What a page shows of it.
#[derive(Debug)]
struct Picture {
    map: Part,
    /// Why how much stays.
    reasons: Vec<(&'static str, Tally)>,
}

#[derive(Serialize, Debug)]
struct Weight {
    path: String,
    bytes: u64,
}

#[derive(Serialize, Debug)]
struct Written {
    digest: String,
    size: i64,
}

#[derive(Serialize, Debug)]
struct Explained {
    path: String,
    lines: Vec<String>,
}

/// Does it, prints, and says by the exit code how it went.
pub(crate) async fn run(options: &Options) -> ExitCode {
    match minimize(options).await {
        Ok(text) => match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                eprintln!("whittle: cannot print: {error}");
                ExitCode::from(FAILED)
            }
            _ => ExitCode::SUCCESS,
        },
        Err(error) => {
            eprintln!("whittle: {}", plain(&explain(&options.image, &error)));
            ExitCode::from(FAILED)
        }
    }
}

async fn minimize(options: &Options) -> Result<String, InspectError> {
    let connection = Connection {
        plain_http: options.plain_http,
        ca: options.ca.clone(),
    };
    let globs = |patterns: &[String]| {
        Globs::parse(patterns).map_err(|error| InspectError::Name(error.to_string()))
    };
    let wanted = Wanted {
        keep: globs(&options.keep)?,
        drop: globs(&options.drop)?,
        ..Wanted::default()
    };
    let mut to = match &options.to {
        Some(text) => Some(Out::open(Target::parse(text)?, &connection)?),
        None => None,
    };
    let platforms = match (&options.platform, &to) {
        (Some(platform), _) => Platforms::One(platform.clone()),
        (None, Some(_)) => Platforms::All,
        (None, None) => Platforms::Default,
    };
    let location = Location::parse(&options.image, Path::exists)?;
    let mut source = Source::open(location, &connection)?;
    let target = source.find(&platforms).await?;
    if let (Some(asked), [found]) = (&options.platform, &target.images[..])
        && !same_platform(&found.config.platform(), asked)
    {
        return Err(InspectError::NoPlatform {
            asked: asked.clone(),
            there: vec![found.config.platform()],
        });
    }
    let parts = page::PARTS / target.images.len().max(1);
    let mut outcomes = Vec::new();
    for found in &target.images {
        let (back, outcome) = one(
            options,
            &connection,
            source,
            to.as_mut(),
            found,
            (wanted.clone(), parts),
        )
        .await;
        outcomes.push(outcome?);
        source = back;
    }
    let mut top = None;
    if let Some(to) = to {
        let index = match target.images.len() {
            1 => None,
            _ => Some(
                source
                    .index(target.digest.as_deref(), &target.images)
                    .await?,
            ),
        };
        let written = outcomes
            .iter()
            .filter_map(|outcome| Some((outcome.digest.clone(), outcome.manifest.clone()?)))
            .collect();
        let platform = target.images[0].config.document_platform();
        top = Some(to.publish(index.as_deref(), written, platform).await?);
    }
    if let Some(path) = &options.html {
        let page = page::write(&options.image, &outcomes);
        std::fs::write(path, page).map_err(file(path))?;
    }
    if options.json {
        let mut text = serde_json::to_string_pretty(&outcomes).expect("string keys only");
        text.push('\n');
        return Ok(text);
    }
    Ok(table::write(&outcomes, options, top.as_deref()))
}

/// One platform. The source comes back.
async fn one(
    options: &Options,
    connection: &Connection,
    mut source: Source,
    to: Option<&mut Out>,
    found: &Found,
    wanted: (Wanted, usize),
) -> (Source, Result<Outcome, InspectError>) {
    let read = look(options, connection, &mut source, found, wanted).await;
    let (mut outcome, image, reach) = match read {
        Ok(read) => read,
        Err(error) => return (source, Err(error)),
    };
    let Some(to) = to else {
        return (source, Ok(outcome));
    };
    if let Some(why) = &outcome.unsure {
        let error = InspectError::Name(format!("cannot be made smaller: {why}"));
        return (source, Err(error));
    }
    let (source, smaller) = to.add(source, found, image, reach).await;
    let outcome = smaller.map(|smaller| {
        let layers: u64 = smaller.layers.iter().map(|layer| layer.size).sum();
        outcome.smaller = Some(Written {
            digest: digest_of(&smaller.manifest),
            size: i64::try_from(layers + smaller.config.len() as u64).unwrap_or(i64::MAX),
        });
        outcome.manifest = Some(smaller.manifest);
        outcome
    });
    (source, outcome)
}

/// What of one platform's image is reached. `parts`: those of the map.
async fn look(
    options: &Options,
    connection: &Connection,
    source: &mut Source,
    found: &Found,
    (mut wanted, parts): (Wanted, usize),
) -> Result<(Outcome, Image, Reach), InspectError> {
    let config = &found.config;
    wanted.base_layers = match (&options.base, options.base_layers) {
        (Some(base), _) => Some(base_layers(base, connection, config).await?),
        (None, Some(number)) => Some(usize::from(number)),
        (None, None) => None,
    };
    let base = wanted.base_layers.unwrap_or_else(|| assumed_base(config));
    let base = u16::try_from(base).unwrap_or(u16::MAX);
    let image = source.image(found, base).await?;
    let reach = Reach::of(&image, config, &wanted);
    let (kept, gone) = reach.tally(&image);
    let largest = |stay: bool| {
        let found = reach.largest(&image, SHOWN, stay).into_iter();
        found
            .map(|found| Weight {
                path: found.path,
                bytes: found.bytes,
            })
            .collect()
    };
    let outcome = Outcome {
        platform: config.platform(),
        digest: found.name().to_owned(),
        size: found.size,
        kept_files: kept.files,
        kept_bytes: kept.bytes,
        gone_files: gone.files,
        gone_bytes: gone.bytes,
        largest: largest(false),
        stays: largest(true),
        smaller: None,
        unsure: reach.unsure.clone(),
        stage: Stage::of(&image, &reach, config, &wanted).map(|stage| stage.text),
        explained: options
            .explain
            .iter()
            .map(|path| explained(&image, &reach, path))
            .collect(),
        manifest: None,
        picture: options.html.as_ref().map(|_| Picture {
            map: reach.map(&image, parts),
            reasons: reach.reasons(&image),
        }),
    };
    Ok((outcome, image, reach))
}

/// How many layers an image has in common with the base that it is built on.
async fn base_layers(
    base: &str,
    connection: &Connection,
    config: &ImageConfig,
) -> Result<usize, InspectError> {
    if base == "scratch" {
        return Ok(0);
    }
    let wrong = |why: String| InspectError::Name(format!("base image {base}: {why}"));
    let location = Location::parse(base, Path::exists)?;
    let mut source = Source::open(location, connection)?;
    let platform = Platforms::One(config.platform());
    let target = source.find(&platform).await;
    let target = target.map_err(|error| wrong(error.to_string()))?;
    let base = &target.images[0].config;
    if !config.diff_ids.starts_with(&base.diff_ids) {
        return Err(wrong(
            "the image is not built on it, or on another version of it: their layers differ".into(),
        ));
    }
    Ok(base.diff_ids.len())
}

fn explained(image: &Image, reach: &Reach, path: &str) -> Explained {
    let chain = reach.explain(image, path);
    let lines = match chain.as_slice() {
        [] => match image.tree.find(path) {
            Ok(id) => vec![format!(
                "goes: nothing that is kept needs or names it; it comes from layer {}",
                image.tree.meta(id).layer + 1
            )],
            Err(error) => vec![error.to_string()],
        },
        chain => chain
            .iter()
            .enumerate()
            .map(|(at, step)| match chain.get(at + 1) {
                Some(next) => format!("{} {}, by {}", step.path, step.why.text(), next.path),
                None => format!("{} {}", step.path, step.why.text()),
            })
            .collect(),
    };
    Explained {
        path: path.to_owned(),
        lines,
    }
}
