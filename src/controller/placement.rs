//! Which replica of a Builder a build goes to: always the same for builds of one repository and target, as their cache is there.
//!
//! Rendezvous hashing: each key has an order of preference of its own among all replicas, and takes the first. One replica more takes
//! those keys alone that prefer it to all others; one less gives away its own alone
//! (<https://en.wikipedia.org/wiki/Rendezvous_hashing>).

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::sharing;
use whittle_api::{Builder, ImageBuild, MOST_REPLICAS, ReplicaStatus, Source};
use whittle_image::digest_of;

/// A replica that is down keeps its builds for so long: a Pod that is moved to another node, volume and all, is back by then.
pub const BACK_BY: SignedDuration = SignedDuration::from_secs(120);
/// For its cache a build waits as long as its builds usually take, within these bounds: what it would take longer elsewhere nobody
/// knows, and so it loses twice what it could have had at most.
const CACHE_WORTH: [SignedDuration; 2] = [
    SignedDuration::from_secs(10),
    SignedDuration::from_secs(120),
];

/// A replica that a build may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its number.
    pub replica: i32,
    /// Since when it is down; none where it takes builds.
    pub down_since: Option<Timestamp>,
    /// Builds that run on it.
    pub running: usize,
}

/// For how long a build waits for a replica that is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Since when it waits for its start, its turn included.
    pub since: Timestamp,
    /// From then on.
    pub cache: SignedDuration,
}

/// Where a build goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To this replica.
    On(i32),
    /// Nowhere yet: until then it waits for this replica, which has its cache.
    Waits {
        /// That one.
        replica: i32,
        /// Then it goes elsewhere.
        until: Timestamp,
        /// It does not run; else it is busy.
        down: bool,
    },
    /// Nowhere: no replica that is up has a place.
    Full,
}

/// What builds of one cache have in common: repository and target. Without a repository it is the ImageBuild.
pub fn key(build: &ImageBuild) -> String {
    let Source { git, oci, flux, .. } = &build.spec.source;
    let of = if let Some(git) = git {
        let url = git.url.trim_end_matches('/');
        format!("git {}", url.strip_suffix(".git").unwrap_or(url))
    } else if let Some(oci) = oci {
        format!("oci {}", repository(&oci.image))
    } else if let Some(flux) = flux {
        format!("flux {:?}/{}", flux.kind, flux.name)
    } else {
        format!("ImageBuild {}", build.name_any())
    };
    format!("{of}\n{}", build.spec.target.as_deref().unwrap_or_default())
}

/// An image without its tag and digest.
fn repository(image: &str) -> &str {
    let named = image.split_once('@').map_or(image, |(named, _)| named);
    match named.rsplit_once(':') {
        // What follows the port of a host is a path.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => named,
    }
}

/// How much a key prefers a replica.
fn weight(key: &str, replica: i32) -> String {
    digest_of(format!("{replica}\n{key}").as_bytes())
}

/// These replicas, in the key's order of preference.
pub fn preference(key: &str, replicas: impl IntoIterator<Item = i32>) -> Vec<i32> {
    let mut all: Vec<i32> = replicas.into_iter().collect();
    all.sort_by_cached_key(|replica| std::cmp::Reverse(weight(key, *replica)));
    all
}

/// Where a build of this key goes, on replicas that take `most` builds each.
pub fn place(key: &str, seats: &[Seat], most: usize, patience: Patience, now: Timestamp) -> Place {
    let of = |replica: i32| seats.iter().find(|seat| seat.replica == replica);
    let order = preference(key, seats.iter().map(|seat| seat.replica));
    // One that does not come back is none: the next one in the order has the cache by and by.
    let gone = |seat: &Seat| {
        seat.down_since
            .is_some_and(|since| until(since, BACK_BY, now) <= now)
    };
    let order: Vec<&Seat> = order
        .into_iter()
        .filter_map(of)
        .filter(|it| !gone(it))
        .collect();
    let Some(first) = order.first() else {
        return Place::Full;
    };
    let free = |seat: &&&Seat| seat.down_since.is_none() && seat.running < most;
    if free(&first) {
        return Place::On(first.replica);
    }
    let until = match first.down_since {
        Some(since) => self::until(since, BACK_BY, now),
        None => self::until(patience.since, patience.cache, now),
    };
    if now < until {
        return Place::Waits {
            replica: first.replica,
            until,
            down: first.down_since.is_some(),
        };
    }
    let next = order.iter().find(free);
    next.map_or(Place::Full, |seat| Place::On(seat.replica))
}

/// When this much has passed since then. What stands in a status may be any time: where it lies ahead, that much has passed, or else
/// somebody would wait for years.
pub(crate) fn until(since: Timestamp, passes: SignedDuration, now: Timestamp) -> Timestamp {
    let until = since.checked_add(passes).unwrap_or(Timestamp::MAX);
    // Clocks of two machines differ by a moment.
    match until.duration_since(now) > passes + passes {
        true => now,
        false => until,
    }
}

/// How long a build waits for its cache at most, given how many seconds its builds usually take: none has one that never succeeded.
pub fn worth(usual: Option<i64>) -> SignedDuration {
    let [least, most] = CACHE_WORTH;
    usual.map_or(SignedDuration::ZERO, |seconds| {
        SignedDuration::from_secs(seconds).clamp(least, most)
    })
}

/// How many replicas a Builder is to have while it is awake.
pub fn desired(builder: &Builder) -> i32 {
    let spec = &builder.spec;
    let Some(scale) = &spec.autoscale else {
        return spec.replicas.clamp(1, MOST_REPLICAS);
    };
    let (least, most) = (
        scale.min.clamp(1, MOST_REPLICAS),
        scale.max.clamp(1, MOST_REPLICAS),
    );
    let status = builder.status.as_ref();
    let known = status.and_then(|status| Some(status.replicas.as_ref()?.desired));
    known.unwrap_or(least).clamp(least, most.max(least))
}

/// True where a build has a choice, or may have had one: the Builder has several replicas, or had.
pub fn has_several(builder: &Builder) -> bool {
    let several = desired(builder) > 1 || !each(builder).is_empty();
    sharing::has_daemon(builder) && (builder.spec.autoscale.is_some() || several)
}

/// What its status says of each replica.
pub fn each(builder: &Builder) -> &[ReplicaStatus] {
    let status = builder.status.as_ref();
    let replicas = status.and_then(|status| status.replicas.as_ref());
    let each = replicas.map_or(&[][..], |replicas| &replicas.each);
    let most = usize::try_from(MOST_REPLICAS).unwrap_or(0);
    &each[..each.len().min(most)]
}

/// The replicas that builds may go to, given how many run on which. One that has never been up has no cache that anybody would wait for.
pub fn seats(builder: &Builder, running: impl Fn(i32) -> usize) -> Vec<Seat> {
    let to = desired(builder);
    let all = each(builder)
        .iter()
        .filter(|it| (0..to).contains(&it.replica));
    all.filter_map(|it| {
        let since = it.since.as_ref().map(|since| since.0);
        Some(Seat {
            replica: it.replica,
            down_since: match it.ready {
                true => None,
                false => Some(since?),
            },
            running: running(it.replica),
        })
    })
    .collect()
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
