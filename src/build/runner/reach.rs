//! What of an image its program reaches, as numbers and sentences.

use super::bases::Bases;
use super::finish::{Stored, Trouble};
use super::minimize::Found;
use crate::minimized::{PlatformToTry, ToTry};
use crate::request::{BuildRequest, Trace};
use whittle_api::LeftOut;
use whittle_image::reach::{Globs, Reach, Tally, Wanted, assumed_base};
use whittle_image::{Image, ImageConfig, display_size};
use whittle_registry::{Client, DockerConfig};

/// Images below this size are small enough: nobody is told what of them could go.
const SMALL: i64 = 20 << 20;
/// The largest things that are named.
const NAMED: usize = 3;

/// What is to be found out.
pub(super) struct Sought {
    wanted: Wanted,
    bases: Bases,
    traces: Vec<Trace>,
}

/// What of one platform's image could go.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Could {
    kept: Tally,
    gone: Tally,
    left: Vec<LeftOut>,
    /// Why nothing should.
    pub(super) unsure: Option<String>,
}

/// What is to be found out about an image that was pushed; none where nothing is. `used`: the images that stages start from.
pub(super) async fn sought(
    request: &BuildRequest,
    config: &DockerConfig,
    used: &[(String, String)],
    platforms: &[Stored],
) -> Option<Sought> {
    let asked = request.inputs.minimize.as_ref();
    let large = platforms.iter().any(|it| it.status.size >= SMALL);
    if asked.is_none() && !large {
        return None;
    }
    let configs: Vec<&ImageConfig> = platforms.iter().map(|it| &it.config).collect();
    Some(Sought {
        wanted: wanted(request),
        bases: Bases::of(request, config, used, &configs).await,
        traces: vec![],
    })
}

/// The same about an image that an earlier runner has pushed, and that was tried since.
pub(super) fn sought_again(
    request: &BuildRequest,
    tried: &ToTry,
    traces: &[Trace],
    platforms: &[Stored],
) -> Sought {
    let bases = platforms.iter().map(|stored| {
        let mut known = tried.platforms.iter();
        let known = known.find(|it| it.platform == stored.status.platform);
        (&stored.config, known.and_then(|it| it.base_layers))
    });
    Sought {
        wanted: wanted(request),
        bases: Bases::known(&bases.collect::<Vec<_>>()),
        traces: traces.to_vec(),
    }
}

fn wanted(request: &BuildRequest) -> Wanted {
    let asked = request.inputs.minimize.as_ref();
    let globs = |patterns: Option<&Vec<String>>| {
        // They were held to the same rules when they were applied.
        Globs::parse(patterns.map_or(&[][..], Vec::as_slice)).unwrap_or_default()
    };
    let check = request.inputs.health_command();
    let exercise = asked.map_or(&[][..], |it| &it.exercise);
    let exercise = exercise.iter().filter_map(|it| it.exec.as_ref());
    let commands = exercise.map(|exec| exec.command.clone());
    let check = Some(check.to_vec()).filter(|it| !it.is_empty());
    Wanted {
        keep: globs(asked.map(|it| &it.keep)),
        drop: globs(asked.map(|it| &it.drop)),
        commands: check.into_iter().chain(commands).collect(),
        traced: vec![],
        base_layers: None,
    }
}

impl Sought {
    fn wanted(&self, stored: &Stored) -> Wanted {
        let mut traces = self.traces.iter();
        let trace = traces.find(|it| it.platform == stored.status.platform);
        Wanted {
            base_layers: self.bases.layers(&stored.config),
            traced: trace.map(|it| it.found.unpack()).unwrap_or_default(),
            ..self.wanted.clone()
        }
    }

    /// What it takes to try these images.
    pub(super) fn to_try(&self, job: &str, platforms: &[Stored]) -> ToTry {
        let platforms = platforms.iter().map(|stored| PlatformToTry {
            platform: stored.status.platform.clone(),
            entrypoint: stored.config.entrypoint.clone(),
            cmd: stored.config.cmd.clone(),
            base_layers: self.bases.layers(&stored.config),
        });
        ToTry {
            job: job.to_owned(),
            platforms: platforms.collect(),
        }
    }

    /// Reads an image for it.
    pub(super) async fn image(&self, client: &Client, stored: &Stored) -> Result<Image, Trouble> {
        let config = &stored.config;
        let base = self.bases.layers(config);
        let base = base.unwrap_or_else(|| assumed_base(config));
        let base = u16::try_from(base).unwrap_or(u16::MAX);
        Ok(client.image(&stored.manifest.layers, config, base).await?)
    }

    /// What its program reaches.
    pub(super) fn reach(&self, image: &Image, stored: &Stored) -> Reach {
        Reach::of(image, &stored.config, &self.wanted(stored))
    }

    /// The same in numbers.
    pub(super) fn could(&self, image: &Image, stored: &Stored) -> Could {
        let reach = self.reach(image, stored);
        let (kept, gone) = reach.tally(image);
        let left = reach.largest(image, NAMED, false);
        Could {
            left: left
                .into_iter()
                .map(|it| LeftOut {
                    path: whittle_api::bounded(it.path, 256),
                    size: i64::try_from(it.bytes).unwrap_or(i64::MAX),
                })
                .collect(),
            unsure: reach.unsure,
            kept,
            gone,
        }
    }
}

impl Could {
    /// At least a tenth.
    pub(super) fn is_much(&self) -> bool {
        self.gone.bytes >= (self.kept.bytes + self.gone.bytes).div_ceil(10).max(1)
    }

    /// At least half of what is not small.
    pub(super) fn is_worth_a_hint(&self, size: i64) -> bool {
        self.unsure.is_none() && size >= SMALL && self.gone.bytes >= self.kept.bytes
    }

    /// About what it would be in the registry: as well compressed as all of it.
    fn about(&self, size: i64) -> i64 {
        let all = (self.kept.bytes + self.gone.bytes).max(1);
        let share = self.kept.bytes as f64 / all as f64;
        (size as f64 * share).round() as i64
    }

    /// For people. `size`: bytes in the registry; `program`: what the image starts.
    pub(super) fn found(&self, size: i64, program: Option<&str>) -> Found {
        let bytes = |bytes: u64| display_size(i64::try_from(bytes).unwrap_or(i64::MAX));
        let about = self.about(size);
        let named: Vec<String> = self
            .left
            .iter()
            .map(|left| format!("{} ({})", left.path, display_size(left.size)))
            .collect();
        let largest = match named.as_slice() {
            [] => String::new(),
            named => format!("; the largest: {}", named.join(", ")),
        };
        let program = whittle_api::bounded(program.unwrap_or("its program").to_owned(), 100);
        Found {
            size: Some(about),
            left: self.left.clone(),
            message: format!(
                "of {} unpacked, {} are never reached from {program}: without them about {} of {} would be \
                 pushed{largest}",
                bytes(self.kept.bytes + self.gone.bytes),
                bytes(self.gone.bytes),
                display_size(about),
                display_size(size),
            ),
        }
    }
}

/// What is told where hardly anything would go.
pub(super) fn too_little(size: i64, found: Found) -> Found {
    Found {
        size: None,
        message: format!(
            "nothing was left out: less than a tenth of the image ({}) is not reached",
            display_size(size)
        ),
        ..found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn could(kept: u64, gone: u64) -> Could {
        let tally = |bytes| Tally { files: 1, bytes };
        Could {
            kept: tally(kept),
            gone: tally(gone),
            left: vec![LeftOut {
                path: "/usr/local/go".into(),
                size: 100 << 20,
            }],
            unsure: None,
        }
    }

    #[test]
    fn a_tenth_is_much_and_a_hint_wants_half_of_what_is_not_small() {
        assert!(could(90, 10).is_much() && !could(91, 9).is_much());
        assert!(!could(0, 0).is_much());
        assert!(could(1, 1).is_worth_a_hint(SMALL));
        assert!(!could(1, 1).is_worth_a_hint(SMALL - 1));
        assert!(!could(2, 1).is_worth_a_hint(SMALL));
    }

    #[test]
    fn the_sentence_says_what_would_be_pushed_and_what_is_the_most_of_it() {
        let found = could(2 << 20, 198 << 20).found(100 << 20, Some("/server"));
        assert_eq!(
            found.message,
            "of 200.0 MiB unpacked, 198.0 MiB are never reached from /server: without them about 1.0 MiB of 100.0 MiB \
             would be pushed; the largest: /usr/local/go (100.0 MiB)"
        );
        assert_eq!(found.size, Some(1 << 20));
    }
}
