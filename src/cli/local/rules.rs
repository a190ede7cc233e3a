//! The API server's rules for an ImageBuild, held to where there is no API server. Pure.

use kube::ResourceExt;
use kube::core::cel::{ErrorKind, validate_cel};
use whittle_api::{ConfigMapSource, ImageBuild, Source};

use super::Error;

/// What an API server would deny of it, in the same words; `folder`: a directory stands in the place of its source.
pub fn allowed(build: &ImageBuild, folder: bool) -> Result<(), Error> {
    let mut build = build.clone();
    if folder {
        // Any one: the rules want one.
        build.spec.source = Source {
            config_map: Some(ConfigMapSource {
                name: "directory".into(),
                items: vec![],
            }),
            ..Source::default()
        };
    }
    let Err(errors) = validate_cel(&build) else {
        return Ok(());
    };
    // A rule that cannot be evaluated here is left to an API server.
    let denied: Vec<String> = errors
        .into_iter()
        .filter(|error| error.kind == ErrorKind::ValidationFailure)
        .map(|error| format!("\n  {}", error.message))
        .collect();
    match denied.is_empty() {
        true => Ok(()),
        false => Err(Error::new(format!(
            "ImageBuild {} is invalid, and an API server would deny it:{}",
            build.name_any(),
            denied.concat()
        ))),
    }
}
