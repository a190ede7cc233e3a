//! What a daemon says that its cache holds: `buildctl du`, a record a line.
//!
//! The records: <https://github.com/moby/buildkit/blob/v0.33.1/client/diskusage.go>; how cache mounts are described:
//! <https://github.com/moby/buildkit/blob/v0.33.1/solver/llbsolver/mounts/mount.go>.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

use super::bounds::line;
use whittle_api::{CacheKinds, CacheMountStatus, CacheStatus};
use whittle_dockerfile::advice::{CacheMount, Hint};
use whittle_image::display_size;

/// Cache mounts that are told.
pub const MOUNTS: usize = 10;
/// Cache mounts that are remembered while the answer is read.
const REMEMBERED: usize = 4096;
/// Bytes that an empty folder takes on usual file systems, at most: a block on ext4, none on XFS, where one small file alone
/// takes as many.
pub const EMPTY: i64 = 4096;
/// Bytes of each text of a mount.
const TEXT: usize = 256;

/// Prints each record in a line; of all but cache mounts no more than is counted.
pub const FORMAT: &str = r#"{{range .}}{{if eq (print .RecordType) "exec.cachemount"}}{{json .}}{{else}}{"recordType":{{json .RecordType}},"size":{{.Size}}}{{end}}{{"\n"}}{{end}}"#;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    #[serde(default)]
    record_type: String,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    in_use: bool,
    #[serde(default)]
    last_used_at: Option<Timestamp>,
    #[serde(default)]
    usage_count: i64,
    #[serde(default)]
    description: String,
}

/// A cache mount of the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// As it is told.
    pub told: CacheMountStatus,
    /// True while a step uses it: nobody knows its size then.
    pub in_use: bool,
    /// When a step last used it, by the daemon's clock.
    pub last_used: Option<Timestamp>,
}

/// What was read so far.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    records: u64,
    kinds: CacheKinds,
    /// All cache mounts.
    pub mounts: Vec<Mount>,
}

impl Usage {
    /// Reads one line; what is no record is passed over.
    pub fn line(&mut self, text: &str) {
        let Ok(record) = serde_json::from_str::<Record>(text) else {
            return;
        };
        let size = record.size.max(0);
        let kinds = &mut self.kinds;
        let of = match record.record_type.as_str() {
            "regular" => &mut kinds.layers,
            "exec.cachemount" => &mut kinds.cache_mounts,
            "source.local" | "source.git.checkout" => &mut kinds.sources,
            _ => &mut kinds.other,
        };
        *of = of.saturating_add(size);
        self.records += 1;
        if record.record_type == "exec.cachemount" && self.mounts.len() < REMEMBERED {
            self.mounts.push(mount(record, size));
        }
    }

    /// As it is told to the controller; none where the daemon listed nothing, as one does that has failed.
    /// `clean` takes secrets out of commands.
    pub fn status(&self, now: Timestamp, clean: &dyn Fn(&str) -> String) -> Option<CacheStatus> {
        if self.records == 0 {
            return None;
        }
        let kinds = self.kinds.clone();
        let all = [kinds.layers, kinds.cache_mounts, kinds.sources, kinds.other];
        let bytes = all.into_iter().fold(0, i64::saturating_add);
        let mut mounts: Vec<CacheMountStatus> =
            self.mounts.iter().map(|mount| mount.told.clone()).collect();
        mounts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.id.cmp(&b.id)));
        mounts.truncate(MOUNTS);
        for mount in &mut mounts {
            for text in [&mut mount.id, &mut mount.target, &mut mount.step] {
                *text = clean(text);
            }
        }
        let status = CacheStatus {
            bytes,
            display: String::new(),
            by_kind: kinds,
            mounts,
            measured_at: Time(now),
            replica: None,
        };
        Some(bounded(status))
    }
}

/// Hints on the cache mounts of a Dockerfile that hold nothing though all steps that have them ran: each once. `ran`: the
/// first lines of the steps that did, and when they began.
pub fn empty(mounts: &[CacheMount], ran: &BTreeMap<i32, Timestamp>, usage: &Usage) -> Vec<Hint> {
    let mut told: Vec<&str> = vec![];
    let mut hints = vec![];
    for mount in mounts {
        let same = mounts.iter().filter(|it| it.id == mount.id);
        let began: Option<Vec<_>> = same.map(|it| ran.get(&it.line)).collect();
        let Some(since) = began.and_then(|all| all.into_iter().min()) else {
            continue;
        };
        // Several where steps have it each for itself, or by other owners.
        let mut used = usage.mounts.iter().filter(|it| {
            it.told.id == mount.id && (it.in_use || it.last_used.is_some_and(|at| at >= *since))
        });
        let most = mount.folders * EMPTY;
        // Of one that was locked just then no size is known, and 0 is told.
        let is_empty = |it: &Mount| !it.in_use && (1..=most).contains(&it.told.bytes);
        let all_are = used.clone().count() > 0 && used.all(is_empty);
        if all_are && !told.contains(&mount.id.as_str()) {
            told.push(&mount.id);
            hints.push(mount.hint.clone());
        }
    }
    hints
}

/// What a runner says of a cache, within bounds.
pub fn bounded(mut status: CacheStatus) -> CacheStatus {
    let kinds = &mut status.by_kind;
    let numbers = [
        &mut status.bytes,
        &mut kinds.layers,
        &mut kinds.cache_mounts,
        &mut kinds.sources,
        &mut kinds.other,
    ];
    numbers.into_iter().for_each(|n| *n = (*n).max(0));
    status.display = display_size(status.bytes);
    status.mounts.truncate(MOUNTS);
    for mount in &mut status.mounts {
        for text in [&mut mount.id, &mut mount.target, &mut mount.step] {
            line(text, TEXT);
        }
        mount.bytes = mount.bytes.max(0);
        mount.hits = mount.hits.max(0);
    }
    status
}

fn mount(record: Record, size: i64) -> Mount {
    let (id, target, step) = described(&record.description);
    Mount {
        told: CacheMountStatus {
            id,
            target,
            bytes: size,
            empty: (1..=EMPTY).contains(&size) && !record.in_use,
            last_used: record.last_used_at.map(Time),
            hits: record.usage_count,
            step,
        },
        in_use: record.in_use,
        last_used: record.last_used_at,
    }
}

/// Id, target and command of `cached mount /c from exec /bin/sh -c make with id "/c"`. The Dockerfile's frontend puts a
/// slash before each id; without `with id` it is the target as the description has it.
fn described(text: &str) -> (String, String, String) {
    let rest = text.strip_prefix("cached mount ").unwrap_or(text);
    let (target, command) = rest.split_once(" from exec ").unwrap_or((rest, ""));
    let quoted = command.rsplit_once(" with id ").and_then(|(before, id)| {
        // Go's form of a quoted text is JSON's for all that ids have.
        Some((before, serde_json::from_str::<String>(id).ok()?))
    });
    let (command, id) = quoted.unwrap_or_else(|| (command, target.to_owned()));
    let id = id.strip_prefix('/').unwrap_or(&id).to_owned();
    (id, target.to_owned(), command.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use whittle_dockerfile::advice::{View, cache_mounts};

    /// As a daemon of v0.33.1 has printed them.
    const SAID: &str = r#"
{"id":"pieeesd8tjiwnd0a5ro48g5fj","mutable":true,"inUse":false,"size":4096,"createdAt":"2026-11-26T15:08:10.282209463Z","lastUsedAt":"2026-11-26T15:08:10.369554274Z","usageCount":1,"parents":null,"description":"cached mount /rel from exec /bin/sh -c echo $HOME &&    true","recordType":"exec.cachemount","shared":false}
{"id":"ufgnb6hfse91otc8wz038okjf","mutable":true,"inUse":false,"size":8192,"createdAt":"2026-11-26T15:08:09.753129698Z","lastUsedAt":"2026-11-26T15:08:09.909669356Z","usageCount":4,"parents":null,"description":"cached mount /root/.npm from exec /bin/sh -c npm ci with id \"//root/.npm\"","recordType":"exec.cachemount","shared":false}
{"id":"xlh3ma3rf4o53sqfnwqe2zm52","mutable":true,"inUse":true,"size":0,"createdAt":"2026-11-26T15:08:10.279946726Z","lastUsedAt":null,"usageCount":0,"parents":null,"description":"cached mount /ided from exec /bin/sh -c a with id \"/foo\"","recordType":"exec.cachemount","shared":false}
{"recordType":"regular","size":6209797}
{"recordType":"source.local","size":8192}
{"recordType":"source.git.checkout","size":100}
{"recordType":"frontend","size":7}
not a record"#;

    fn said() -> Usage {
        let mut usage = Usage::default();
        SAID.lines().for_each(|line| usage.line(line));
        usage
    }

    #[test]
    fn sizes_are_summed_by_kind_and_mounts_have_their_ids_targets_and_commands() {
        let now = "2026-11-26T15:09:00Z".parse().unwrap();
        let status = said().status(now, &str::to_owned).unwrap();
        assert_eq!(status.by_kind.layers, 6_209_797);
        assert_eq!(status.by_kind.cache_mounts, 12_288);
        assert_eq!(status.by_kind.sources, 8292);
        assert_eq!(status.by_kind.other, 7);
        assert_eq!(status.bytes, 6_209_797 + 12_288 + 8292 + 7);
        assert_eq!(status.display, "5.9 MiB");
        let told: Vec<_> = status
            .mounts
            .iter()
            .map(|it| (it.id.as_str(), it.target.as_str(), it.step.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("/root/.npm", "/root/.npm", "/bin/sh -c npm ci"),
                ("rel", "/rel", "/bin/sh -c echo $HOME &&    true"),
                ("foo", "/ided", "/bin/sh -c a"),
            ]
        );
        assert_eq!(status.mounts[0].hits, 4);
        assert_eq!(
            status.mounts[0]
                .last_used
                .as_ref()
                .map(|it| it.0.as_second()),
            Some(1_795_705_689)
        );
    }

    #[test]
    fn a_mount_of_an_empty_folders_size_is_empty_but_not_one_that_a_step_uses() {
        let empty = |at: usize| said().mounts[at].told.empty;
        assert!(empty(0));
        assert!(!empty(1) && !empty(2));
    }

    /// The lines of mounts that are told to be empty, of those of a Dockerfile whose steps of these lines ran.
    fn lines(dockerfile: &str, ran: &[(i32, &str)]) -> Vec<Option<i32>> {
        let mounts = cache_mounts(&View {
            dockerfile_path: "Dockerfile",
            dockerfile,
            target: None,
            build_args: &BTreeMap::new(),
            files: &[],
            warnings: &[],
        });
        let ran = ran.iter().map(|(line, at)| (*line, at.parse().unwrap()));
        let hints = empty(&mounts, &ran.collect(), &said());
        hints.into_iter().map(|hint| hint.line).collect()
    }

    #[test]
    fn a_mount_is_told_that_holds_nothing_though_its_step_ran_and_no_other() {
        const BEFORE: &str = "2026-11-26T15:08:10.2Z";
        const AFTER: &str = "2026-11-26T15:08:11Z";
        let rel = "FROM a\nRUN --mount=type=cache,target=rel a\n";
        assert_eq!(lines(rel, &[(2, BEFORE)]), [Some(2)]);
        // What the builder shows was left by another build: this step was cached, or had another mount.
        assert!(lines(rel, &[]).is_empty());
        assert!(lines(rel, &[(2, AFTER)]).is_empty());
        // It is filled, in use, or unknown.
        for mount in ["target=/root/.npm", "id=foo,target=/ided", "target=/other"] {
            let text = format!("FROM a\nRUN --mount=type=cache,{mount} a\n");
            assert!(
                lines(&text, &[(2, "2026-11-26T15:08:00Z")]).is_empty(),
                "{mount}"
            );
        }
        // One step was cached that may have filled it, and another builder's disk has lost it since.
        let twice = format!("{rel}RUN --mount=type=cache,target=rel b\n");
        assert!(lines(&twice, &[(2, BEFORE)]).is_empty());
        assert_eq!(lines(&twice, &[(2, BEFORE), (3, BEFORE)]), [Some(2)]);
    }

    #[test]
    fn a_daemon_that_has_said_nothing_has_no_cache_to_tell_of() {
        let mut usage = Usage::default();
        usage.line("error: failed to call diskusage: rpc error");
        assert_eq!(usage.status(Timestamp::UNIX_EPOCH, &str::to_owned), None);
    }

    #[test]
    fn what_a_runner_says_of_a_cache_is_bounded() {
        let mount = CacheMountStatus {
            id: "i\u{1b}[2J\n".repeat(100_000),
            target: "t".repeat(100_000),
            step: "s\r\n".repeat(100_000),
            bytes: -1,
            hits: i64::MIN,
            ..CacheMountStatus::default()
        };
        let status = bounded(CacheStatus {
            bytes: -7,
            display: "x".repeat(100_000),
            by_kind: CacheKinds::default(),
            mounts: vec![mount; 1000],
            measured_at: Time(Timestamp::UNIX_EPOCH),
            replica: None,
        });
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.len() < 10 * 1024, "{}", text.len());
        assert!(!text.contains("\\u001b") && !text.contains("\\n"));
        assert_eq!(
            (status.bytes, status.mounts[0].bytes, status.mounts[0].hits),
            (0, 0, 0)
        );
        assert_eq!(status.display, "0 B");
    }
}
