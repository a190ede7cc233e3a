//! For what a watcher has room: its list is one ConfigMap, and each Secret is a volume of its Pod.

use std::collections::{BTreeMap, BTreeSet};

use whittle_api::is_managed_secret;
use whittle_watch::wire::{Watched, What};

/// ImageBuilds of a Builder whose sources are watched.
pub const BUILDS: usize = 2_000;
/// Bytes of the list: a ConfigMap holds 1 MiB.
pub const LIST: usize = 900 * 1024;
/// Secrets that a watcher mounts.
pub const SECRETS: usize = 100;

/// Which bound keeps something out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// [`BUILDS`].
    Builds,
    /// [`LIST`].
    List,
    /// [`SECRETS`].
    Secrets,
    /// None: it names a Secret of Whittle's own, which the API server rejects.
    Managed,
}

/// What of an ImageBuild there is no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// What keeps the first of it out.
    pub bound: Bound,
    /// What is left out, each in words.
    pub what: Vec<String>,
}

/// What a watcher looks at, and what not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Room {
    /// What there is room for.
    pub watched: Vec<Watched>,
    /// The Secrets that it names.
    pub secrets: BTreeSet<String>,
    /// The others, by the UID of the ImageBuild.
    pub left_out: BTreeMap<String, LeftOut>,
}

/// The Secret that a source names.
fn secret_of(watched: &Watched) -> Option<&str> {
    match &watched.what {
        What::Git { secret, .. } | What::Image { secret, .. } => secret.as_deref(),
    }
}

/// The UID of the ImageBuild that an id is of.
pub fn uid_of(id: &str) -> &str {
    id.split('/').next().unwrap_or_default()
}

/// Gives room to what comes first.
pub fn share(all: Vec<Watched>) -> Room {
    let mut room = Room::default();
    let mut builds = BTreeSet::new();
    let mut bytes = 0;
    for watched in all {
        let uid = uid_of(&watched.id).to_owned();
        match keeps_out(&watched, &room.secrets, &mut builds, &mut bytes) {
            None => {
                room.secrets.extend(secret_of(&watched).map(str::to_owned));
                room.watched.push(watched);
            }
            Some(bound) => {
                let what = match &watched.what {
                    What::Git { url, .. } => format!("git repository {url}"),
                    What::Image { image, .. } => format!("image {image}"),
                };
                let of_build = room.left_out.entry(uid).or_insert(LeftOut {
                    bound,
                    what: vec![],
                });
                of_build.what.push(what);
            }
        }
    }
    room
}

fn keeps_out(
    watched: &Watched,
    secrets: &BTreeSet<String>,
    builds: &mut BTreeSet<String>,
    bytes: &mut usize,
) -> Option<Bound> {
    let secret = secret_of(watched);
    if secret.is_some_and(is_managed_secret) {
        return Some(Bound::Managed);
    }
    let uid = uid_of(&watched.id);
    if !builds.contains(uid) && builds.len() >= BUILDS {
        return Some(Bound::Builds);
    }
    if secret.is_some_and(|secret| !secrets.contains(secret)) && secrets.len() >= SECRETS {
        return Some(Bound::Secrets);
    }
    // Also of what there is no room for: what is smaller and came later does not take its place.
    *bytes += serde_json::to_string(watched).map_or(LIST, |text| text.len()) + 1;
    if *bytes > LIST {
        return Some(Bound::List);
    }
    builds.insert(uid.to_owned());
    None
}

impl LeftOut {
    /// The thing, the cause and the next step.
    pub fn message(&self, builder: &str) -> String {
        let all = self.what.len();
        let first = self.what.first().map_or("its source", String::as_str);
        let more = match all {
            0 | 1 => String::new(),
            _ => format!(" and {} more", all - 1),
        };
        let other = "create another Builder and name it in spec.builderRef";
        let why = match self.bound {
            Bound::Builds => format!(
                "too many ImageBuilds: of Builder {builder} at most {BUILDS} are looked at, those that were created first: {other}"
            ),
            Bound::List => format!(
                "too many sources: of Builder {builder} at most {} KiB of them are looked at, those of the ImageBuilds that were \
                 created first: {other}",
                LIST / 1024
            ),
            Bound::Secrets => format!(
                "too many Secrets: the ImageBuilds of Builder {builder} name more than the {SECRETS} that its watcher mounts, and \
                 those that were created first stay: name a Secret that others name too, or {other}"
            ),
            Bound::Managed => "its Secret is one of Whittle's own: name another Secret".to_owned(),
        };
        format!("{first}{more} cannot be looked at: {why}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(uid: &str, image: &str, secret: Option<String>) -> Watched {
        Watched {
            id: format!("{uid}/0123456789abcdef"),
            interval_seconds: 300,
            folder: None,
            what: What::Image {
                image: image.into(),
                builder: "default".into(),
                secret,
            },
        }
    }

    fn out(room: &Room) -> Vec<(&str, Bound)> {
        let all = room.left_out.iter();
        all.map(|(uid, out)| (uid.as_str(), out.bound)).collect()
    }

    #[test]
    fn of_many_image_builds_the_first_stay_and_the_others_are_told_why_not() {
        let many = |number: usize| {
            let all = (0..number).flat_map(|at| {
                let uid = format!("{at:05}");
                [image(&uid, "h/a:1", None), image(&uid, "h/b:1", None)]
            });
            share(all.collect())
        };
        assert!(many(BUILDS).left_out.is_empty());
        let room = many(BUILDS + 2);
        assert_eq!(room.watched.len(), 2 * BUILDS);
        assert_eq!(
            out(&room),
            [("02000", Bound::Builds), ("02001", Bound::Builds)]
        );
        let said = room.left_out["02000"].message("default");
        for words in ["image h/a:1 and 1 more", "at most 2000", "spec.builderRef"] {
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn of_many_secrets_the_first_stay_and_what_names_one_of_them_has_room() {
        let mut all: Vec<Watched> = (0..=SECRETS)
            .map(|at| image(&format!("{at:05}"), "h/a:1", Some(format!("secret-{at}"))))
            .collect();
        all.push(image("later", "h/a:1", Some("secret-0".into())));
        let room = share(all);
        assert_eq!(out(&room), [("00100", Bound::Secrets)]);
        assert_eq!(
            (room.secrets.len(), room.watched.len()),
            (SECRETS, SECRETS + 1)
        );
        let said = room.left_out["00100"].message("default");
        assert!(said.contains("100") && said.contains("Secrets"), "{said}");
    }

    #[test]
    fn what_came_later_does_not_take_the_place_of_what_is_larger() {
        let large = "x".repeat(LIST / 2);
        let all = [("a", &large), ("b", &large), ("c", &"small".to_owned())];
        let room = share(
            all.into_iter()
                .map(|(uid, name)| image(uid, name, None))
                .collect(),
        );
        assert_eq!(out(&room), [("b", Bound::List), ("c", Bound::List)]);
        let said = room.left_out["c"].message("default");
        assert!(said.contains("900 KiB"), "{said}");
    }

    #[test]
    fn a_secret_of_our_own_is_mounted_for_nobody() {
        let room = share(vec![image("a", "h/a:1", Some("whittle-ca".into()))]);
        assert_eq!(out(&room), [("a", Bound::Managed)]);
        assert!(room.secrets.is_empty());
    }
}
