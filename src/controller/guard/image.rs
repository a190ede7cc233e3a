//! What is kept of one ImageBuild: small, whatever its status holds.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

use kube::ResourceExt;

use crate::triggers::hashed;
use whittle_api::{
    ImageBuild, ImageBuildStatus, PROBE_PROFILE, PROBES_COMPATIBLE, READY, Reason, bounded, find,
    is_true,
};
use whittle_build::record::recorded;
use whittle_build::variables::literal;
use whittle_probe::{Audit, Earlier, Entry, Handler, NotKnown, Set};

/// Tags of an ImageBuild that count.
const TAGS: usize = 64;
/// Earlier builds that count.
const HISTORY: usize = 100;
/// Bytes of a repository's name, of a tag, of a declared probe.
const TEXT: usize = 1024;
/// Bytes of a condition's message that is compared.
const MESSAGE: usize = 32 << 10;

/// Status, reason and message of a condition. Few images have one.
pub type Said = Box<(String, Reason, String)>;

/// The same of what a pure room says: whether it is true, why, and in words.
pub fn said((is, reason, message): (bool, Reason, String)) -> Said {
    let status = if is { "True" } else { "False" };
    Box::new((status.to_owned(), reason, message))
}

/// One ImageBuild with an image.
pub struct Image {
    /// The repository.
    pub repository: String,
    /// What the tags point at.
    pub digest: String,
    /// `:tag` and `@sha256:…` each.
    pub versions: Vec<String>,
    /// `@sha256:…` of earlier builds, until they were looked up.
    pub history: Vec<String>,
    /// The same while the history is.
    past: u64,
    /// The probe that its `healthCheck` declares, as text.
    pub fix: Option<String>,
    /// The Builder that it is built on.
    pub builder: String,
    /// The same while its reports are.
    pub print: u64,
    /// What is known of the image; none where it has not been judged yet.
    pub known: Option<Result<Arc<Entry>, NotKnown>>,
    /// False where `known` is what an earlier process wrote.
    pub judged: bool,
    /// What is known of earlier images, the newest first.
    pub earlier: Vec<Earlier>,
    /// The condition `ProbesCompatible`, as last seen or written.
    pub compatible: Option<Said>,
    /// The condition `ProbeProfile`.
    pub profile: Option<Said>,
    /// What the audit came to, and what it looked at.
    pub audited: Option<(u64, Audit)>,
}

impl Image {
    /// None where there is no image.
    pub fn of(build: &ImageBuild) -> Option<Self> {
        let standing = build.status.as_ref()?;
        // What others are refused by is the record, never a runner's early word.
        let status = &*recorded(standing);
        let repository = status.image.as_deref()?.split('@').next()?;
        let digest = status.digest.clone()?;
        if repository.len() > TEXT || digest.len() > TEXT {
            return None;
        }
        let tags = tags(build, status);
        let tags = tags.iter().filter(|tag| tag.len() <= TEXT).take(TAGS);
        let platforms = status.platforms.iter().map(|platform| &platform.digest);
        let platforms = platforms.filter(|digest| digest.len() <= TEXT).take(TAGS);
        let digests = std::iter::once(&digest).chain(platforms);
        let mut versions: Vec<String> = tags
            .map(|tag| format!(":{tag}"))
            .chain(digests.map(|digest| format!("@{digest}")))
            .collect();
        let mut seen = std::collections::HashSet::new();
        versions.retain(|version| seen.insert(version.clone()));
        let history = status
            .history
            .iter()
            .filter_map(|entry| entry.digest.as_ref());
        let history = history.filter(|earlier| **earlier != digest && earlier.len() <= TEXT);
        let history = history.take(HISTORY).map(|digest| format!("@{digest}"));
        let history: Vec<String> = history.collect();
        let said = |kind: &str| {
            find(&standing.conditions, kind).map(|condition| {
                let message = bounded(condition.message.clone(), MESSAGE);
                // One that this version does not know is another than whatever it writes.
                let reason = Reason::named(&condition.reason).unwrap_or(Reason::NotJudged);
                Box::new((condition.status.clone(), reason, message))
            })
        };
        let handler = build
            .spec
            .health_check
            .as_ref()
            .and_then(Handler::of_health_check);
        let fix = handler.as_ref().map(Handler::display);
        Some(Self {
            repository: repository.to_owned(),
            versions,
            past: hashed(&history),
            history,
            fix: fix.filter(|fix| fix.len() <= TEXT),
            builder: build.spec.builder_ref.name.clone(),
            print: print(status),
            known: None,
            judged: false,
            earlier: vec![],
            compatible: said(PROBES_COMPATIBLE),
            profile: said(PROBE_PROFILE),
            audited: None,
            digest,
        })
    }

    /// Its digest, and those of earlier builds.
    pub fn digests(&self) -> impl Iterator<Item = &str> {
        let earlier = self.history.iter();
        let earlier = earlier.filter_map(|version| version.strip_prefix('@'));
        std::iter::once(self.digest.as_str()).chain(earlier)
    }

    /// Takes over what was known before the ImageBuild changed; true where something has to be written.
    pub fn follow(&mut self, old: Option<Self>) -> bool {
        let Some(old) = old else {
            return true;
        };
        let same = self.print == old.print && self.digest == old.digest;
        let changed = !same
            || self.versions != old.versions
            || self.past != old.past
            || self.repository != old.repository
            || self.fix != old.fix
            || self.compatible != old.compatible
            || self.profile != old.profile;
        let version = format!("@{}", old.digest);
        let mut earlier = old.earlier;
        if same {
            self.known = old.known;
            self.judged = old.judged;
        } else if let Some(Ok(entry)) = old.known {
            let fix = old.fix;
            earlier.insert(
                0,
                Earlier {
                    version,
                    entry,
                    fix,
                },
            );
        }
        self.remember(earlier);
        self.audited = old.audited;
        changed
    }

    /// Takes in what is known of earlier images, as far as its history names them.
    pub fn remember(&mut self, earlier: Vec<Earlier>) {
        for earlier in earlier {
            let wanted = self.history.contains(&earlier.version);
            let known = self
                .earlier
                .iter()
                .any(|known| known.version == earlier.version);
            if wanted && !known {
                self.earlier.push(earlier);
            }
        }
        let place = |earlier: &Earlier| {
            self.history
                .iter()
                .position(|version| *version == earlier.version)
        };
        self.earlier.sort_by_key(place);
    }
}

/// The tags that the last success moved. A status of an earlier version does not name them: then those of the
/// spec count, as long as it is the spec that was built.
fn tags(build: &ImageBuild, status: &ImageBuildStatus) -> Vec<String> {
    match &status.tags {
        Some(tags) => tags.clone(),
        None if status.observed_generation == build.metadata.generation
            && is_true(&status.conditions, READY) =>
        {
            literal(&build.spec.output.tags)
        }
        None => vec![],
    }
}

/// The same for the same reports.
pub fn print(status: &ImageBuildStatus) -> u64 {
    let mut hasher = DefaultHasher::new();
    status.digest.hash(&mut hasher);
    packed(status).for_each(|packed| packed.hash(&mut hasher));
    fetching(status).hash(&mut hasher);
    hasher.finish()
}

/// What is being done, or was in vain, about programs that are not known.
fn fetching(status: &ImageBuildStatus) -> Option<String> {
    let fetch = status.fetch.as_ref()?;
    let why = fetch.last_failure.as_deref().unwrap_or_default();
    Some(match (&fetch.job, why) {
        (Some(job), "") => format!("Job {job} fetches them from the report beside the image"),
        (Some(job), why) => {
            format!(
                "Job {job} fetches them from the report beside the image, retrying after: {why}"
            )
        }
        (None, why) => {
            format!("fetching them from the report beside the image failed too: {why}")
        }
    })
}

/// Why an image is not known, with what is done about that.
pub fn explain(known: NotKnown, status: &ImageBuildStatus) -> NotKnown {
    let Some(fetching) = fetching(status).filter(|_| known.reason == Reason::NoReport) else {
        return known;
    };
    let under_way = status
        .fetch
        .as_ref()
        .is_some_and(|fetch| fetch.job.is_some());
    let message = match under_way {
        true => format!("the status has no report of the image's programs yet: {fetching}"),
        false => format!("{}; {fetching}", known.message),
    };
    NotKnown {
        message: bounded(message, MESSAGE),
        ..known
    }
}

/// The packed report of each platform.
pub fn packed(status: &ImageBuildStatus) -> impl Iterator<Item = Option<&str>> {
    status
        .platforms
        .iter()
        .map(|platform| platform.contents.as_ref()?.programs.as_deref())
}

/// `namespace/name`.
pub fn key(build: &ImageBuild) -> String {
    format!(
        "{}/{}",
        build.namespace().unwrap_or_default(),
        build.name_any()
    )
}

/// Sets of programs, each of them once in memory.
#[derive(Default)]
pub struct Pool(HashMap<Box<str>, Weak<Set>>);

impl Pool {
    /// The entry, with the sets that others have already.
    pub fn share(&mut self, mut entry: Entry) -> Arc<Entry> {
        for set in &mut entry.sets {
            match self.0.get(&set.id).and_then(Weak::upgrade) {
                Some(known) => *set = known,
                None => drop(self.0.insert(set.id.clone(), Arc::downgrade(set))),
            }
        }
        if self.0.len() > 1000 && self.0.len().is_power_of_two() {
            self.0.retain(|_, set| set.strong_count() > 0);
        }
        Arc::new(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn build(status: Value, spec: Value) -> ImageBuild {
        let mut build = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild",
            "metadata": {"name": "app", "namespace": "team", "generation": 2},
            "spec": {"source": {"inline": {"files": {}}}, "output": {"image": "r.example.com/app", "tags": ["new"]}},
            "status": {"image": "r.example.com/app@sha256:aa", "digest": "sha256:aa", "observedGeneration": 2}});
        json_patch::merge(&mut build["status"], &status);
        json_patch::merge(&mut build["spec"], &spec);
        serde_json::from_value(build).unwrap()
    }

    fn image(status: Value) -> Image {
        Image::of(&build(status, json!({}))).unwrap()
    }

    #[test]
    fn tags_count_from_the_success_that_moved_them() {
        let ready = json!([{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        for (status, expected) in [
            (
                json!({"tags": ["old"], "conditions": ready}),
                vec![":old", "@sha256:aa"],
            ),
            (json!({"tags": []}), vec!["@sha256:aa"]),
            // A status of an earlier version.
            (json!({"conditions": ready}), vec![":new", "@sha256:aa"]),
            (json!({}), vec!["@sha256:aa"]),
            (
                json!({"conditions": ready, "observedGeneration": 1}),
                vec!["@sha256:aa"],
            ),
        ] {
            assert_eq!(image(status.clone()).versions, expected, "{status}");
        }
    }

    #[test]
    fn what_was_known_of_a_digest_stays_while_the_history_names_it() {
        let mut old = image(json!({}));
        let contents = whittle_image::Contents::default();
        old.known = Some(Entry::of(&[contents]).map(Arc::new));
        old.judged = true;
        // The same image: nothing to judge.
        let mut same = image(json!({"tags": ["other"]}));
        let known = old.known.clone();
        assert!(same.follow(Some(old)));
        assert!(same.judged && same.known == known);
        let past = |digest: &str| {
            json!({"image": "r.example.com/app@sha256:bb", "digest": "sha256:bb",
                "history": [{"build": 1, "generation": 1, "result": "Succeeded", "digest": digest}]})
        };
        let mut next = image(past("sha256:aa"));
        assert!(next.follow(Some(same)));
        assert!(!next.judged && next.known.is_none());
        assert_eq!(next.earlier[0].version, "@sha256:aa");
        let mut later = image(past("sha256:cc"));
        later.follow(Some(next));
        assert!(later.earlier.is_empty());
    }

    #[test]
    fn while_programs_are_fetched_the_condition_says_so_and_it_is_said_anew_where_that_changes() {
        let status = |fetch: Value| build(json!({"fetch": fetch}), json!({})).status.unwrap();
        let not_known = || Entry::of_packed([None]).unwrap_err();
        let said = |fetch: Value| explain(not_known(), &status(fetch)).message;
        let under_way = json!({"digest": "sha256:aa", "attempt": 1, "job": "app-0123456789"});
        let given_up =
            json!({"digest": "sha256:aa", "attempt": 5, "lastFailure": "PushDenied: no"});
        assert_eq!(explain(not_known(), &status(Value::Null)), not_known());
        assert_eq!(
            said(under_way.clone()),
            "the status has no report of the image's programs yet: Job app-0123456789 fetches them from the report \
             beside the image"
        );
        let failed = said(given_up.clone());
        assert!(failed.starts_with(&not_known().message), "{failed}");
        assert!(failed.ends_with("failed too: PushDenied: no"), "{failed}");
        let prints = [Value::Null, under_way, given_up].map(|fetch| print(&status(fetch)));
        assert!(prints[0] != prints[1] && prints[1] != prints[2]);
    }

    #[test]
    fn whatever_a_status_holds_little_of_it_is_kept() {
        let tags: Vec<String> = (0..5000)
            .map(|tag| format!("{tag}{}", "t".repeat(120)))
            .collect();
        let header = json!([{"name": "x", "value": "v".repeat(100_000)}]);
        let check = json!({"healthCheck": {"httpGet": {"port": 80, "httpHeaders": header}}});
        let image = Image::of(&build(json!({"tags": tags}), check)).unwrap();
        assert_eq!(image.versions.len(), TAGS + 1);
        assert_eq!(image.fix.filter(|fix| fix.len() > TEXT), None);
        let long = "x".repeat(100_000);
        assert!(
            Image::of(&build(
                json!({"image": format!("{long}@sha256:aa")}),
                json!({})
            ))
            .is_none()
        );
    }
}
