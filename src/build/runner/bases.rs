//! The images that a build's stages start from, as far as it takes to know which layers of the result are theirs.

use super::finish;
use crate::request::BuildRequest;
use whittle_image::{Entry, ImageConfig, Repository, same_platform};
use whittle_registry::{Client, DockerConfig, Pointed, ReadError};

/// Bases that are asked for, at most.
const MOST: usize = 16;
/// Platforms of one base that are read, at most.
const PLATFORMS: usize = 16;

/// What stages start from: the layers of each, by their diff IDs.
#[derive(Debug, Default)]
pub(super) struct Bases {
    layers: Vec<Vec<String>>,
    /// True where one could not be read: then it is not known which layers are the base's.
    unknown: bool,
}

impl Bases {
    /// Asks for them: manifest and config of each platform that the result has. `images`: names and digests, as BuildKit resolved
    /// them.
    pub(super) async fn of(
        request: &BuildRequest,
        config: &DockerConfig,
        images: &[(String, String)],
        results: &[&ImageConfig],
    ) -> Self {
        let mut bases = Self {
            unknown: images.len() > MOST,
            ..Self::default()
        };
        for (name, digest) in images.iter().take(MOST) {
            match read(request, config, name, digest, results).await {
                Ok(found) => bases.layers.extend(found),
                Err(why) => {
                    bases.unknown = true;
                    let said = format!("minimize: the base image {name} cannot be read: {why}");
                    request.place.say(&said);
                }
            }
        }
        bases
    }

    /// As an earlier runner has found out, for each of these images.
    pub(super) fn known(images: &[(&ImageConfig, Option<usize>)]) -> Self {
        let of = |(config, count): &(&ImageConfig, Option<usize>)| {
            let count = (*count)?.min(config.diff_ids.len());
            Some(config.diff_ids[..count].to_vec())
        };
        Self {
            layers: images.iter().filter_map(of).collect(),
            unknown: images.iter().any(|(_, count)| count.is_none()),
        }
    }

    /// How many layers of an image are its base's; none where that is not known.
    pub(super) fn layers(&self, config: &ImageConfig) -> Option<usize> {
        let starts = self
            .layers
            .iter()
            .filter(|base| !base.is_empty() && config.diff_ids.starts_with(base));
        match starts.map(Vec::len).max() {
            // A longer one may be that which is not known.
            _ if self.unknown => None,
            found => Some(found.unwrap_or(0)),
        }
    }
}

async fn read(
    request: &BuildRequest,
    config: &DockerConfig,
    name: &str,
    digest: &str,
    results: &[&ImageConfig],
) -> Result<Vec<Vec<String>>, String> {
    let repository = Repository::parse(name);
    let mut why = String::new();
    for place in places(request, &repository) {
        let client = match finish::client(request, &place, config, false) {
            Ok(client) => client.hasty(),
            Err(error) => {
                why = error.to_string();
                continue;
            }
        };
        match layers(&client, digest, results).await {
            Ok(found) => return Ok(found),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

/// Mirrors first, as the builder is told to.
fn places(request: &BuildRequest, repository: &Repository) -> Vec<Repository> {
    let known = request
        .registries
        .iter()
        .find(|registry| registry.host == repository.host);
    let mirrors = known.map(|registry| registry.mirrors.as_slice());
    let mirrors = mirrors.unwrap_or_default().iter().map(|mirror| {
        let (host, path) = mirror.split_once('/').unwrap_or((mirror, ""));
        let path = path.trim_end_matches('/');
        Repository {
            host: host.to_owned(),
            path: match path {
                "" => repository.path.clone(),
                path => format!("{path}/{}", repository.path),
            },
        }
    });
    mirrors.chain([repository.clone()]).collect()
}

async fn layers(
    client: &Client,
    digest: &str,
    results: &[&ImageConfig],
) -> Result<Vec<Vec<String>>, ReadError> {
    let manifests = match client.pointed_at(digest).await? {
        Pointed::Image(manifest) => vec![manifest],
        Pointed::Index { entries, .. } => {
            // One for each platform of the result; a stage that runs on the builder's own platform is no base of another.
            let wanted = |entry: &&Entry| {
                let stated = entry.platform.as_deref().unwrap_or_default();
                results
                    .iter()
                    .any(|result| same_platform(stated, &result.platform()))
            };
            let mut found = Vec::new();
            for entry in entries.iter().filter(wanted).take(PLATFORMS) {
                found.push(client.platform_manifest(&entry.digest).await?);
            }
            found
        }
    };
    let mut found = Vec::new();
    for manifest in manifests {
        found.push(client.image_config(&manifest.config).await?.diff_ids);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(layers: &[&[&str]], unknown: bool) -> Bases {
        let own = |ids: &&[&str]| ids.iter().map(|&id| id.to_owned()).collect();
        Bases {
            layers: layers.iter().map(own).collect(),
            unknown,
        }
    }

    #[test]
    fn the_base_is_that_whose_layers_an_image_begins_with_the_longest_of_several() {
        let config = ImageConfig {
            diff_ids: ["a", "b", "c"].map(str::to_owned).into(),
            ..ImageConfig::default()
        };
        for (layers, unknown, expected) in [
            (&[&["a"][..], &["a", "b"], &["x"]][..], false, Some(2)),
            (&[&["x"][..]], false, Some(0)),
            (&[], false, Some(0)),
            (&[&["a"][..]], true, None),
        ] {
            assert_eq!(bases(layers, unknown).layers(&config), expected);
        }
    }
}
