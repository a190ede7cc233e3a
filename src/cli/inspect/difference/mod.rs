//! `whittle inspect A --diff B`: what is added, removed and changed from one image to the other.

mod facts;
mod table;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;

use super::location::Location;
use super::remote::Connection;
use super::source::{Found, Source};
use super::table::plain;
use super::{
    BROKEN, FAILED, InspectError, Options, Output, Platforms, counterpart, explain, printed, write,
};
use facts::{FactChange, facts};
use whittle_image::{Contents, Difference, Image, Limits, Side, compare, is_digest, same_platform};

/// What `whittle inspect A --diff B -o json` prints.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DifferenceReport {
    /// The first image.
    from: Head,
    /// The second.
    to: Head,
    /// The platform of both.
    platform: String,
    /// False where files, packages and contents are the same.
    differs: bool,
    /// What is said of them that is not the same.
    contents: Vec<FactChange>,
    /// Files, packages, layers.
    #[serde(flatten)]
    difference: Difference,
}

/// Which image.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Head {
    /// As it was asked for.
    image: String,
    /// Digest of the platform's manifest; absent for `docker save`.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// Digest of its config.
    id: String,
    /// Bytes as stored: config and layers.
    size: i64,
    /// True where layers are uncompressed in a file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    uncompressed: bool,
    /// How many layers.
    layers: usize,
}

/// Compares, prints, and says by the exit code how it went. `now`: seconds since 1970.
pub(super) async fn run(options: &Options, other: &str, now: i64) -> ExitCode {
    let report = match inspect(options, other, now).await {
        Ok(report) => report,
        Err(error) => {
            eprintln!("whittle: {}", plain(&explain(&options.image, &error)));
            return ExitCode::from(FAILED);
        }
    };
    // What was not compared may differ.
    let differs = report.differs || report.difference.partial;
    let code = match options.exit_code && differs {
        true => ExitCode::from(BROKEN),
        false => ExitCode::SUCCESS,
    };
    printed(print(options.output, &report, io::stdout().lock()), code)
}

fn print(output: Output, report: &DifferenceReport, mut out: impl io::Write) -> io::Result<()> {
    match output {
        Output::Table | Output::Html => table::write(&mut out, report)?,
        Output::Json | Output::Yaml => write(&mut out, output, report)?,
    }
    out.flush()
}

/// One of the two, read.
struct Read {
    found: Found,
    image: Image,
    contents: Contents,
}

async fn inspect(
    options: &Options,
    other: &str,
    now: i64,
) -> Result<DifferenceReport, InspectError> {
    let connection = Connection {
        plain_http: options.plain_http,
        ca: options.ca.clone(),
    };
    let name = beside(&options.image, other);
    let against = |cause| InspectError::Against {
        image: name.clone(),
        cause: Box::new(cause),
    };
    let open = |name: &str| Source::open(Location::parse(name, Path::exists)?, &connection);
    let mut source = open(&options.image)?;
    let mut target = source.find(&options.platforms).await?;
    // One platform was asked for.
    let found = target.images.swap_remove(0);
    if let Platforms::One(asked) = &options.platforms
        && !same_platform(asked, &found.config.platform())
    {
        return Err(InspectError::NoPlatform {
            asked: asked.clone(),
            there: vec![found.config.platform()],
        });
    }
    let mut second = open(&name).map_err(against)?;
    let old = counterpart(&mut second, &found).await.map_err(against)?;
    let heads = (
        head(&options.image, &found),
        head(&name, &old),
        found.config.platform(),
    );
    // The same config has the same layers: nothing need be read.
    if found.id == old.id {
        return Ok(report(
            heads,
            Vec::new(),
            Difference {
                shared_layers: found.config.diff_ids.len() as i64,
                ..Difference::default()
            },
        ));
    }
    let from = read(&mut source, found, now).await?;
    let to = read(&mut second, old, now).await.map_err(against)?;
    let changes = facts(
        (&from.contents, &from.found.config),
        (&to.contents, &to.found.config),
    );
    let difference = compare(
        Side {
            image: &from.image,
            config: &from.found.config,
        },
        Side {
            image: &to.image,
            config: &to.found.config,
        },
    );
    Ok(report(heads, changes, difference))
}

fn report(
    (from, to, platform): (Head, Head, String),
    contents: Vec<FactChange>,
    difference: Difference,
) -> DifferenceReport {
    DifferenceReport {
        from,
        to,
        platform,
        differs: !contents.is_empty() || !difference.is_empty(),
        contents,
        difference,
    }
}

async fn read(source: &mut Source, found: Found, now: i64) -> Result<Read, InspectError> {
    let limits = Limits {
        prints: true,
        ..Limits::default()
    };
    let image = source.read(&found, limits).await?;
    let contents = Contents::of(&image, &found.config, now);
    Ok(Read {
        found,
        image,
        contents,
    })
}

fn head(name: &str, found: &Found) -> Head {
    Head {
        image: name.to_owned(),
        digest: found.digest.clone(),
        id: found.id.clone(),
        size: found.size,
        uncompressed: found.uncompressed,
        layers: found.config.diff_ids.len(),
    }
}

/// Beside an image of a registry, `:tag` and a digest mean another one of the same repository.
fn beside(image: &str, other: &str) -> String {
    let tag = other.strip_prefix(':');
    let digest = is_digest(other);
    let Ok(Location::Registry(reference)) = Location::parse(image, |_| false) else {
        return other.to_owned();
    };
    let repository = format!(
        "{}/{}",
        reference.repository.host, reference.repository.path
    );
    match tag {
        Some(tag) => format!("{repository}:{tag}"),
        None if digest => format!("{repository}@{other}"),
        None => other.to_owned(),
    }
}

#[cfg(test)]
mod tests;
