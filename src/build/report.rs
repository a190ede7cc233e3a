//! What a runner reports: by callback while it runs, and as the termination message at its end.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::contract::Breach;
use super::course::Course;
use super::minimized::Minimized;
use whittle_api::FailureReason;
use whittle_api::{
    Base, CacheStatus, ContentsStatus, DebugStatus, Failure, LayerStatus, Phases, PlatformStatus,
    Steps, bounded,
};
use whittle_dockerfile::advice::Hint;
use whittle_image::digest_of;
use whittle_image::packed::{deflate, inflate};

/// The kubelet's limit for a termination message, in bytes
/// (<https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>).
pub const TERMINATION_LIMIT: usize = 4096;

/// What an attempt came to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// Pushed, read back, tagged.
    Succeeded(Built),
    /// Not built, or not pushed.
    Failed(Failed),
}

/// A pushed image.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    /// Digest of the index, or of the manifest where there is one platform.
    pub digest: String,
    /// Each platform's image.
    pub platforms: Vec<PlatformStatus>,
    /// What was built.
    pub revision: Option<String>,
    /// Its tags, where variables made them; those of `output.tags` without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The images that its stages start from, where a tag names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<Base>,
    /// Steps in all, and from the cache.
    pub steps: Steps,
    /// The image for debugging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<DebugStatus>,
    /// What became of `spec.minimize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimized: Option<Box<Minimized>>,
    /// Hints about the Dockerfile and the context.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Hint>,
    /// What of the contract is broken, and only warned of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaches: Vec<Breach>,
    /// Where its time went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phases: Option<Phases>,
}

impl Built {
    /// The image was built, and for this reason it is not taken.
    pub fn rejected(self, failure: Failure) -> Failed {
        Failed {
            failure,
            revision: self.revision,
            steps: self.steps,
            advice: self.advice,
            breaches: self.breaches,
            phases: self.phases,
        }
    }
}

/// Why there is no image.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// What users see. Whether another attempt may help follows from its reason.
    pub failure: Failure,
    /// What was to be built, where it was known by then.
    pub revision: Option<String>,
    /// Steps that had been done, and from the cache.
    pub steps: Steps,
    /// Hints about the Dockerfile and the context.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Hint>,
    /// What of the contract is broken, where that is why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaches: Vec<Breach>,
    /// Where its time went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phases: Option<Phases>,
}

/// What goes on, sent at most every two seconds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Steps done.
    pub done: i32,
    /// Steps known so far.
    pub total: i32,
    /// Name of the step that runs.
    pub step: String,
}

impl Progress {
    /// As it stands in `status.current.message`, for example `9/14 [build 4/5] RUN go build`.
    pub fn message(&self) -> String {
        let mut message = format!("{}/{} {}", self.done, self.total, self.step);
        super::bounds::line(&mut message, 512);
        message
    }

    /// As it stands in `status.current.progress`, for example `9/14`.
    pub fn counted(&self) -> String {
        format!("{}/{}", self.done, self.total)
    }
}

/// What a runner sends to the controller.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Callback {
    /// Namespace of the ImageBuild; must be that of the client certificate.
    pub namespace: String,
    /// Name of the ImageBuild.
    pub name: String,
    /// Name of the Job: identifies the attempt.
    pub job: String,
    /// What is told.
    pub body: CallbackBody,
}

/// What a callback tells.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum CallbackBody {
    /// Goes on.
    Progress(Progress),
    /// The early result; the termination message stays the record.
    Report(Box<Report>),
    /// What the builder's cache holds. It is in no record: where it is lost, the next build tells it.
    Cache(CacheStatus),
    /// What the attempt has come through, for traces. It is in no record.
    Course(Box<Course>),
}

/// Path of the callback on the controller's server.
pub const CALLBACK_PATH: &str = "/v1/callback";

/// Begins a compressed termination message.
const COMPRESSED: &str = "z:";
/// The most that a compressed message may expand to. Anybody in the namespace can make a Pod that says anything, and
/// what it says goes into a status.
const EXPANDED_LIMIT: u64 = 256 * 1024;

/// Why a termination message is not a report.
#[derive(thiserror::Error, Debug)]
pub enum DecodeError {
    /// Not JSON of a [`Report`].
    #[error("the termination message is not a valid report: {0}")]
    Json(#[from] serde_json::Error),
    /// Not base64 after `z:`.
    #[error("the termination message is not valid base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// Not deflated data.
    #[error("the termination message cannot be decompressed: {0}")]
    Deflate(#[from] std::io::Error),
}

/// A termination message.
#[derive(Serialize, Deserialize)]
struct Message {
    #[serde(flatten)]
    report: Report,
    /// Digest of the report before it was cut; absent where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole: Option<String>,
}

/// A report as termination message, at most [`TERMINATION_LIMIT`] bytes: as JSON where that fits, else
/// `z:` and the JSON deflated in base64, else with its texts shortened until that fits: of a failure
/// the log first, from its start, then hints, breaches and messages; of a success first the packed programs, then
/// the layers, the smallest of them, then what the images hold, hints and breaches, and platforms last: tags, which the next
/// runner goes by, have a bound of their own ([`super::variables::TAGS`]). One that is
/// shortened has the [`digest`] of the whole.
pub fn encode(report: &Report) -> String {
    let json = to_json(report);
    if json.len() <= TERMINATION_LIMIT {
        return json;
    }
    let mut message = compressed(&json);
    let mut less = Message {
        report: report.clone(),
        whole: Some(digest_of(json.as_bytes())),
    };
    let mut length = json.len();
    loop {
        let over = |length: usize, most: f64| most / length as f64;
        let ratio =
            over(message.len(), TERMINATION_LIMIT as f64).min(over(length, EXPANDED_LIMIT as f64));
        if ratio >= 1.0 {
            return message;
        }
        shorten(&mut less.report, ratio);
        let json = to_json(&less);
        (message, length) = (compressed(&json), json.len());
    }
}

/// True where a termination message has room for all of a report.
pub fn fits(report: &Report) -> bool {
    let json = to_json(report);
    json.len() <= TERMINATION_LIMIT
        || json.len() as u64 <= EXPANDED_LIMIT && compressed(&json).len() <= TERMINATION_LIMIT
}

/// Bytes of a report that a status keeps, packed.
const KEPT: usize = 96 * 1024;

/// A report that a status keeps while its image is being checked: whole, programs and all, where that takes no more
/// than 96 KiB, else as a termination message. [`decode`] reads it.
pub fn keep(report: &Report) -> String {
    let json = to_json(report);
    if json.len() > TERMINATION_LIMIT && json.len() as u64 <= EXPANDED_LIMIT {
        let packed = compressed(&json);
        if packed.len() <= KEPT {
            return packed;
        }
    }
    encode(report)
}

/// Reads a termination message that [`encode`] wrote.
pub fn decode(message: &str) -> Result<Report, DecodeError> {
    Ok(decode_whole(message)?.0)
}

/// Reads a termination message that [`encode`] wrote, with the [`digest`] of the report before it was cut.
pub fn decode_whole(message: &str) -> Result<(Report, String), DecodeError> {
    let read: Message = match message.trim().strip_prefix(COMPRESSED) {
        None => serde_json::from_str(message)?,
        Some(rest) => {
            let bytes = STANDARD.decode(rest)?;
            serde_json::from_slice(&inflate(&bytes, EXPANDED_LIMIT)?)?
        }
    };
    let whole = read.whole.unwrap_or_else(|| digest(&read.report));
    Ok((read.report, whole))
}

/// Digest of all that a report says: two that differ in anything have two.
pub fn digest(report: &Report) -> String {
    digest_of(to_json(report).as_bytes())
}

fn to_json(report: &impl Serialize) -> String {
    serde_json::to_string(report).expect("a report has string keys only")
}

fn compressed(json: &str) -> String {
    format!("{COMPRESSED}{}", STANDARD.encode(deflate(json.as_bytes())))
}

/// Makes a report smaller: its longest text to about `ratio` of its length, and a little less. Ends at a
/// report that fits: every text can go down to nothing.
fn shorten(report: &mut Report, ratio: f64) {
    let most = |text: &str| (text.len() as f64 * ratio * 0.95) as usize;
    match report {
        Report::Failed(failed) => {
            let failure = &mut failed.failure;
            if let Some(log) = failure.log.take() {
                failure.log = tail(&log, most(&log));
                return;
            }
            if failed.advice.pop().is_some() {
                return;
            }
            // The first of them stands in the message, too.
            if failed.breaches.pop().is_some() {
                return;
            }
            let texts = [
                Some(&mut failure.message),
                failure.step.as_mut(),
                failed.revision.as_mut(),
            ];
            let longest = texts.into_iter().flatten().max_by_key(|text| text.len());
            if let Some(text) = longest {
                let most = most(text);
                *text = bounded(std::mem::take(text), most);
            }
        }
        Report::Succeeded(built) => {
            let revision = built.revision.as_ref().map_or(0, String::len);
            let layers = built.platforms.iter().map(|p| p.layers.len()).max();
            if let Some(contents) = largest_programs(built) {
                contents.programs = None;
            } else if layers > Some(0) {
                let keep = (layers.unwrap_or(0) as f64 * ratio * 0.95) as usize;
                for platform in &mut built.platforms {
                    keep_largest(&mut platform.layers, keep);
                }
            } else if built.platforms.iter_mut().any(trim) {
                built.platforms.iter_mut().for_each(|platform| {
                    trim(platform);
                });
            } else if built.advice.pop().is_some() || built.breaches.pop().is_some() {
            } else if revision > 256 {
                built.revision = built.revision.take().map(|text| bounded(text, 256));
            } else if built.minimized.as_mut().is_some_and(|it| it.shorten()) {
            } else if built.platforms.iter().any(|p| p.contents.is_some()) {
                for platform in &mut built.platforms {
                    platform.contents = None;
                }
            } else if built.bases.pop().is_none() && built.platforms.pop().is_none() {
                built.tags.clear();
            }
        }
    }
}

/// What the platform holds whose packed programs are the longest.
fn largest_programs(built: &mut Built) -> Option<&mut ContentsStatus> {
    let all = built.platforms.iter_mut();
    all.filter_map(|platform| platform.contents.as_mut())
        .filter(|contents| contents.programs.is_some())
        .max_by_key(|contents| contents.programs.as_ref().map_or(0, String::len))
}

/// Takes the lists out of what a platform's image holds; true where there were any.
fn trim(platform: &mut PlatformStatus) -> bool {
    let Some(contents) = &mut platform.contents else {
        return false;
    };
    let had = !contents.executables.is_empty() || !contents.largest.is_empty();
    contents.executables.clear();
    contents.largest.clear();
    had
}

/// Leaves the `most` largest layers, in their order.
pub fn keep_largest(layers: &mut Vec<LayerStatus>, most: usize) {
    if layers.len() <= most {
        return;
    }
    let mut sizes: Vec<(i64, usize)> = layers.iter().map(|l| l.size).zip(0..).collect();
    sizes.sort_by_key(|(size, at)| (std::cmp::Reverse(*size), *at));
    let kept: BTreeSet<usize> = sizes.iter().take(most).map(|(_, at)| *at).collect();
    let mut at = 0;
    layers.retain(|_| {
        at += 1;
        kept.contains(&(at - 1))
    });
}

/// The last whole lines of a log, at most `most` bytes; where not even one fits, the start of the last;
/// nothing where that would be next to nothing.
fn tail(log: &str, most: usize) -> Option<String> {
    let mut from = log.len();
    for (at, _) in log.match_indices('\n').rev().chain([(0, "")]) {
        let start = if at == 0 { 0 } else { at + 1 };
        if log.len() - start > most {
            break;
        }
        from = start;
    }
    if from < log.len() {
        return Some(log[from..].to_owned());
    }
    let last = log.lines().next_back().unwrap_or_default();
    (most > 40).then(|| bounded(last.to_owned(), most))
}

/// A failed report without step or log.
pub fn failed(reason: FailureReason, message: String) -> Report {
    Report::Failed(Failed {
        failure: Failure {
            reason,
            message,
            step: None,
            dockerfile_line: None,
            log: None,
            hint: None,
            image: None,
        },
        revision: None,
        steps: Steps::default(),
        advice: vec![],
        breaches: vec![],
        phases: None,
    })
}

/// What to do about a source that is too large. `said`: by the kubelet, or the runner.
pub fn scratch_full(said: &str) -> String {
    format!(
        "the source is too large for the runner's scratch directory: {}; make the source smaller \
            (source.git.subPath, .dockerignore, fewer layers), or raise runner.scratchSize of \
            the chart",
        said.trim().trim_end_matches('.')
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use whittle_api::FailureReason;

    #[test]
    fn a_message_that_expands_to_a_status_too_large_is_no_report_and_is_never_written() {
        let mut long = super::failed(FailureReason::StepFailed, "x".repeat(400_000));
        assert!(decode(&compressed(&to_json(&long))).is_err());
        let Report::Failed(back) = decode(&encode(&long)).unwrap() else {
            panic!("another kind of report");
        };
        assert!(back.failure.message.len() < 262_144);
        if let Report::Failed(failed) = &mut long {
            failed.failure.message = "x".repeat(100_000);
        }
        assert_eq!(decode(&encode(&long)).unwrap(), long);
    }

    fn failed(message: String, log: Option<String>) -> Report {
        Report::Failed(Failed {
            failure: Failure {
                reason: FailureReason::StepFailed,
                message,
                step: Some("RUN go build".into()),
                dockerfile_line: Some(12),
                log,
                hint: None,
                image: None,
            },
            revision: Some("main@sha1:837dd142b9ed4a2a48537e32a6406699dbe776bd".into()),
            steps: Steps {
                total: 9,
                cached: 2,
            },
            advice: vec![],
            breaches: vec![],
            phases: None,
        })
    }

    fn built(platforms: usize) -> Report {
        Report::Succeeded(Built {
            digest: digest(0),
            platforms: (0..platforms)
                .map(|n| PlatformStatus {
                    platform: format!("linux/arch{n}"),
                    digest: digest(n),
                    size: 4_812_345 + n as i64,
                    solve: None,
                    layers: vec![],
                    contents: None,
                })
                .collect(),
            ..Built::default()
        })
    }

    fn digest(seed: usize) -> String {
        whittle_image::digest_of(&seed.to_le_bytes())
    }

    /// Text that deflate can do little with, of characters with one to four bytes.
    fn noise(seed: u64, chars: usize) -> String {
        let mut state = seed | 1;
        (0..chars)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                match state % 5 {
                    0 => '\n',
                    1 => 'é',
                    2 => '"',
                    3 => char::from_u32(0x1F300 + (state >> 8) as u32 % 256).unwrap_or('x'),
                    _ => char::from(b'a' + (state >> 16) as u8 % 26),
                }
            })
            .collect()
    }

    #[test]
    fn a_small_report_is_plain_json_that_a_person_can_read() {
        let message = encode(&built(2));
        assert!(message.starts_with(r#"{"succeeded":{"digest":"sha256:"#));
        assert_eq!(decode(&message).unwrap(), built(2));
    }

    #[test]
    fn a_larger_report_is_compressed_and_nothing_is_lost() {
        let report = failed("m".into(), Some("the same line again\n".repeat(400)));
        let message = encode(&report);
        assert!(message.starts_with("z:"));
        assert_eq!(decode(&message).unwrap(), report);
    }

    #[test]
    fn every_report_fits_and_can_be_read_back() {
        for seed in 0..40_u64 {
            let chars = (seed as usize * 497) % 20_000;
            let report = failed(
                noise(seed, chars / (1 + seed as usize % 7)),
                (seed % 3 > 0).then(|| noise(seed + 1, chars)),
            );
            let message = encode(&report);
            assert!(message.len() <= TERMINATION_LIMIT, "seed {seed}");
            let (back, whole) = decode_whole(&message).unwrap();
            assert_eq!(whole, super::digest(&report), "seed {seed}");
            let Report::Failed(back) = back else {
                panic!("seed {seed}: another kind of report");
            };
            assert_eq!(back.failure.reason, FailureReason::StepFailed);
            assert_eq!(back.failure.dockerfile_line, Some(12));
        }
    }

    #[test]
    fn where_a_log_is_too_long_its_end_is_what_stays() {
        let log = format!("{}\nthe cause", noise(7, 30_000));
        let Report::Failed(back) = decode(&encode(&failed("m".into(), Some(log)))).unwrap() else {
            panic!("another kind of report");
        };
        assert!(back.failure.log.unwrap().ends_with("the cause"));
        assert_eq!(back.failure.message, "m");
    }

    #[test]
    fn as_many_tags_as_a_build_may_have_are_never_cut() {
        let mut state = 1_u64;
        let mut tag = |length: usize| -> String {
            let mut next = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let of = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
                char::from(of[(state >> 33) as usize % of.len()])
            };
            (0..length).map(|_| next()).collect()
        };
        let tags: Vec<String> = (0..32).map(|_| tag(crate::variables::TAGS / 32)).collect();
        let mut report = built(16);
        if let Report::Succeeded(built) = &mut report {
            built.revision = Some(format!("{}@sha1:{}", noise(3, 200), "c".repeat(40)));
            built.debug = Some(DebugStatus {
                image: format!("{}@{}", noise(5, 250), digest(7)),
                digest: digest(7),
                size: 1,
            });
            built.tags.clone_from(&tags);
        }
        let message = encode(&report);
        assert!(message.len() <= TERMINATION_LIMIT);
        let Report::Succeeded(back) = decode(&message).unwrap() else {
            panic!("another kind of report");
        };
        assert_eq!((back.tags, back.digest), (tags, digest(0)));
    }

    #[test]
    fn sixteen_platforms_fit_without_loss() {
        assert_eq!(decode(&encode(&built(16))).unwrap(), built(16));
    }

    #[test]
    fn a_report_that_was_cut_still_tells_whether_another_is_the_same() {
        let contents = |programs: &str| {
            let mut report = built(2);
            let Report::Succeeded(built) = &mut report else {
                panic!()
            };
            let layer = LayerStatus {
                size: 1,
                instruction: programs.to_owned(),
            };
            built.platforms[0].layers = vec![layer];
            report
        };
        let (told, forged) = (contents(&noise(1, 9000)), contents(&noise(3, 9000)));
        let (record, whole) = decode_whole(&encode(&told)).unwrap();
        assert_ne!(record, told);
        assert_eq!(whole, super::digest(&told));
        assert_ne!(whole, super::digest(&forged));
    }

    #[test]
    fn what_a_status_keeps_has_the_programs_that_a_termination_message_has_no_room_for() {
        let with = |bytes: usize| {
            let mut report = built(2);
            if let Report::Succeeded(built) = &mut report {
                built.platforms[0].contents = Some(ContentsStatus {
                    programs: Some(noise(5, bytes)),
                    ..ContentsStatus::default()
                });
            }
            report
        };
        let debian = with(20_000);
        assert_ne!(decode(&encode(&debian)).unwrap(), debian);
        assert!(!fits(&debian) && fits(&built(2)));
        assert_eq!(decode(&keep(&debian)).unwrap(), debian);
        let huge = keep(&with(400_000));
        assert!(huge.len() <= TERMINATION_LIMIT);
        assert!(decode(&huge).is_ok());
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        for message in ["", "Killed", "{}", "z:%%%", "z:AAAA", r#"{"succeeded":{}}"#] {
            assert!(decode(message).is_err(), "{message}");
        }
    }
}
