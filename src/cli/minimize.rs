//! `whittle minimize`: what of an image its program never reaches, and the image without that.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::inspect::InspectError;
use crate::inspect::error::Hint;
use crate::inspect::platform::{Platforms, choose, of_this_machine};
use crate::inspect::remote::{Connection, Remote};
use whittle_image::reach::{Globs, Reach, Wanted, assumed_base};
use whittle_image::smaller::index;
use whittle_image::{Entry, ImageConfig, Reference, digest_of, display_size, same_platform};
use whittle_registry::{Access, PlatformManifest, Pointed, SmallerError};

/// It could not be done.
const FAILED: u8 = 2;
/// Folders and files that are shown.
const SHOWN: usize = 10;

/// Shows what of an image its program never reaches, and pushes the image without that.
///
/// What is kept: what the image starts and what that needs and names, the files that its own COPY and ADD brought, and what
/// --keep names. The smaller image is not tried out: run it before you use it, or let an ImageBuild with a healthCheck do so.
///
/// Exit codes: 0: done; 2: the image cannot be read or written.
///
/// Example: whittle minimize registry.example.com/team/app:1.2 --base golang:1.26 --to registry.example.com/team/app:1.2-small
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// host/repository[:tag][@digest]
    image: String,
    /// Push the smaller image here: host/repository:tag, in the same registry or another. Without it, nothing is written.
    #[arg(long, value_name = "IMAGE")]
    to: Option<String>,
    /// Paths that stay: /app/templates/**. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    keep: Vec<String>,
    /// Paths that go: /usr/share/doc/**. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    drop: Vec<String>,
    /// The image that the last stage is built on: what came on top of it is the application's. Without it, all layers but the
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
#[derive(Serialize, Debug)]
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
    explained: Vec<Explained>,
    #[serde(skip)]
    manifest: Option<Vec<u8>>,
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
            eprintln!("whittle: {}: {error}", options.image);
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
    let (keep, drop) = (globs(&options.keep)?, globs(&options.drop)?);
    let from = Remote::with(Reference::parse(&options.image), &connection, Access::Pull)?;
    let to = match &options.to {
        Some(name) => {
            let reference = Reference::parse(name);
            if reference.tag.is_none() || reference.digest.is_some() {
                return Err(InspectError::Name(format!(
                    "--to {name}: a tag is missing: write host/repository:tag, which is then moved to the smaller image"
                )));
            }
            Some(Remote::with(reference, &connection, Access::PullPush)?)
        }
        None => None,
    };
    let pointed = from.client().pointed(from.reference()).await;
    let pointed = pointed.map_err(|error| from.failed(error, "the manifest"))?;
    let platforms = match (&options.platform, &to) {
        (Some(platform), _) => Platforms::One(platform.clone()),
        (None, Some(_)) => Platforms::All,
        (None, None) => Platforms::Default,
    };
    let mut outcomes = Vec::new();
    let manifests = match &pointed {
        Pointed::Image(manifest) => vec![manifest.clone()],
        Pointed::Index { entries, .. } => {
            let mut found = Vec::new();
            for entry in choose(entries, &platforms, &of_this_machine())? {
                let manifest = from.client().platform_manifest(&entry.digest).await;
                found.push(manifest.map_err(|error| from.failed(error, "a manifest"))?);
            }
            found
        }
    };
    for manifest in manifests {
        let wanted = Wanted {
            keep: keep.clone(),
            drop: drop.clone(),
            ..Wanted::default()
        };
        outcomes.push(one(options, &connection, &from, to.as_ref(), manifest, wanted).await?);
    }
    let mut top = None;
    if let Some(to) = &to {
        top = Some(publish(to, &pointed, &outcomes).await?);
    }
    if options.json {
        let mut text = serde_json::to_string_pretty(&outcomes).expect("string keys only");
        text.push('\n');
        return Ok(text);
    }
    Ok(table(&outcomes, options, top.as_deref()))
}

/// One platform.
async fn one(
    options: &Options,
    connection: &Connection,
    from: &Remote,
    to: Option<&Remote>,
    manifest: PlatformManifest,
    mut wanted: Wanted,
) -> Result<Outcome, InspectError> {
    let client = from.client();
    let failed = |error| from.failed(error, "the image");
    let config = client
        .image_config(&manifest.config)
        .await
        .map_err(failed)?;
    wanted.base_layers = match (&options.base, options.base_layers) {
        (Some(base), _) => Some(base_layers(base, connection, &config).await?),
        (None, Some(number)) => Some(usize::from(number)),
        (None, None) => None,
    };
    let base = wanted.base_layers.unwrap_or_else(|| assumed_base(&config));
    let base = u16::try_from(base).unwrap_or(u16::MAX);
    let image = client
        .image(&manifest.layers, &config, base)
        .await
        .map_err(failed)?;
    let reach = Reach::of(&image, &config, &wanted);
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
    let mut outcome = Outcome {
        platform: config.platform(),
        digest: manifest.digest.clone(),
        size: manifest.size,
        kept_files: kept.files,
        kept_bytes: kept.bytes,
        gone_files: gone.files,
        gone_bytes: gone.bytes,
        largest: largest(false),
        stays: largest(true),
        smaller: None,
        unsure: reach.unsure.clone(),
        explained: options
            .explain
            .iter()
            .map(|path| explained(&image, &reach, path))
            .collect(),
        manifest: None,
    };
    let Some(to) = to else {
        return Ok(outcome);
    };
    if let Some(why) = &outcome.unsure {
        return Err(InspectError::Name(format!("cannot be made smaller: {why}")));
    }
    let smaller = client
        .push_smaller(to.client(), &manifest, &config, image, reach)
        .await;
    let smaller = smaller.map_err(|error| match error {
        SmallerError::Read(error) => to.failed(error, "the smaller image"),
        error => InspectError::Name(error.to_string()),
    })?;
    let layers: u64 = smaller.layers.iter().map(|layer| layer.size).sum();
    outcome.smaller = Some(Written {
        digest: digest_of(&smaller.manifest),
        size: i64::try_from(layers + smaller.config.len() as u64).unwrap_or(i64::MAX),
    });
    outcome.manifest = Some(smaller.manifest);
    Ok(outcome)
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
    let remote = Remote::with(Reference::parse(base), connection, Access::Pull)?;
    let client = remote.client();
    let failed = |error| remote.failed(error, "the base image");
    let manifest = match client.pointed(remote.reference()).await.map_err(failed)? {
        Pointed::Image(manifest) => manifest,
        Pointed::Index { entries, .. } => {
            let same = |entry: &&Entry| {
                let stated = entry.platform.as_deref();
                stated.is_some_and(|stated| same_platform(stated, &config.platform()))
            };
            let Some(entry) = entries.iter().find(same) else {
                return Err(InspectError::Name(format!(
                    "base image {base}: it has no image for {}",
                    config.platform()
                )));
            };
            let manifest = client.platform_manifest(&entry.digest).await;
            manifest.map_err(failed)?
        }
    };
    let found = client
        .image_config(&manifest.config)
        .await
        .map_err(failed)?;
    if !config.diff_ids.starts_with(&found.diff_ids) {
        return Err(InspectError::Name(format!(
            "base image {base}: the image is not built on it, or on another version of it: their layers differ"
        )));
    }
    Ok(found.diff_ids.len())
}

/// Puts the tag on what was written.
async fn publish(
    to: &Remote,
    pointed: &Pointed,
    outcomes: &[Outcome],
) -> Result<String, InspectError> {
    let written: Vec<(String, Vec<u8>)> = outcomes
        .iter()
        .filter_map(|outcome| Some((outcome.digest.clone(), outcome.manifest.clone()?)))
        .collect();
    let (media_type, bytes) = match (pointed, &written[..]) {
        (Pointed::Index { bytes, .. }, [_, _, ..]) => (
            whittle_image::OCI_INDEX,
            index(bytes, &written).map_err(InspectError::Name)?,
        ),
        (_, [(_, manifest)]) => (whittle_image::OCI_MANIFEST, manifest.clone()),
        _ => return Err(InspectError::Name("nothing was written".into())),
    };
    let digest = digest_of(&bytes);
    let reference = to.reference();
    let tag = reference.tag.as_deref().unwrap_or_default();
    let put = to.client().put_manifest(tag, media_type, &bytes).await;
    put.map_err(|error| InspectError::Registry(error, Hint(None)))?;
    Ok(format!(
        "{}/{}:{tag}@{digest}",
        reference.repository.host, reference.repository.path
    ))
}

fn explained(image: &whittle_image::Image, reach: &Reach, path: &str) -> Explained {
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

fn table(outcomes: &[Outcome], options: &Options, top: Option<&str>) -> String {
    let mut text = String::new();
    let bytes = |bytes: u64| display_size(i64::try_from(bytes).unwrap_or(i64::MAX));
    for outcome in outcomes {
        let _ = writeln!(
            text,
            "{} {}\n  full     {} in the registry, {} unpacked, {} files",
            outcome.platform,
            outcome.digest,
            display_size(outcome.size),
            bytes(outcome.kept_bytes + outcome.gone_bytes),
            outcome.kept_files + outcome.gone_files,
        );
        let _ = writeln!(
            text,
            "  reached  {} unpacked, {} files",
            bytes(outcome.kept_bytes),
            outcome.kept_files
        );
        if let Some(smaller) = &outcome.smaller {
            let _ = writeln!(
                text,
                "  smaller  {} in the registry: {}",
                display_size(smaller.size),
                smaller.digest
            );
        }
        if let Some(why) = &outcome.unsure {
            let _ = writeln!(text, "  not all is known: {why}");
        }
        for (title, found) in [("stays", &outcome.stays), ("goes", &outcome.largest)] {
            if !found.is_empty() {
                let _ = writeln!(text, "  what {title}, the largest first:");
            }
            for found in found {
                let _ = writeln!(text, "    {:>10}  {}", bytes(found.bytes), found.path);
            }
        }
        for explained in &outcome.explained {
            let _ = writeln!(text, "  {}:", explained.path);
            for line in &explained.lines {
                let _ = writeln!(text, "    {line}");
            }
        }
    }
    if options.base.is_none() && options.base_layers.is_none() {
        text.push_str(
            "The base is not known: with --base IMAGE, what its toolchain brought can go, too.\n",
        );
    }
    match top {
        Some(name) => {
            let _ = writeln!(
                text,
                "pushed {name}\nIt was not tried out: run it before you use it."
            );
        }
        None => text.push_str("Nothing was written: --to IMAGE pushes the smaller image.\n"),
    }
    text
}
