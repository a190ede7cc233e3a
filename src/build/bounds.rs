//! Bounds of what a runner says, however it says it: nothing longer reaches a status, a condition or an Event.

use super::contract::Breach;
use super::report::{Built, Report};
use super::variables::is_tag;
use whittle_api::{ContentsStatus, Failure, Phases, PlatformSolve, PlatformStatus, bounded};

/// Bytes of a name: a digest, a platform, an image.
pub(super) const NAME: usize = 512;
/// Bytes of a sentence.
pub(super) const SENTENCE: usize = 2048;
/// Bytes of an instruction as written, and of the last lines of its output.
const TEXT: usize = 32 * 1024;
/// Hints; and parts of a contract that are broken.
const LINES: usize = 100;
/// Platforms: as many as a spec may name.
pub(super) const PLATFORMS: usize = 16;
/// Tags: as many as a spec may name.
const TAGS: usize = 32;
/// Layers of an image: no runtime takes more.
const LAYERS: usize = 128;
/// Entries of the lists in `contents`.
const LISTED: usize = 16;
/// Bytes of the packed programs of all platforms, of which a report's body could hold no more.
const PROGRAMS: usize = 192 * 1024;

impl Report {
    /// The report within bounds, without control characters but in logs and instructions.
    pub fn bounded(mut self) -> Self {
        let (revision, advice, breaches, phases) = match &mut self {
            Self::Succeeded(built) => {
                success(built);
                (
                    &mut built.revision,
                    &mut built.advice,
                    &mut built.breaches,
                    &mut built.phases,
                )
            }
            Self::Failed(failed) => {
                failure(&mut failed.failure);
                (
                    &mut failed.revision,
                    &mut failed.advice,
                    &mut failed.breaches,
                    &mut failed.phases,
                )
            }
        };
        revision.iter_mut().for_each(|text| line(text, SENTENCE));
        advice.truncate(LINES);
        for hint in advice {
            line(&mut hint.message, SENTENCE);
        }
        self::breaches(breaches);
        *phases = phases.map(Phases::bounded);
        self
    }
}

pub(super) fn breaches(breaches: &mut Vec<Breach>) {
    breaches.truncate(LINES);
    for breach in breaches {
        line(&mut breach.rule, NAME);
        line(&mut breach.message, SENTENCE);
        breach.platforms.truncate(PLATFORMS);
        breach.platforms.iter_mut().for_each(|text| line(text, 64));
    }
}

fn success(built: &mut Built) {
    line(&mut built.digest, NAME);
    if let Some(debug) = &mut built.debug {
        line(&mut debug.image, NAME);
        line(&mut debug.digest, NAME);
    }
    if let Some(minimized) = &mut built.minimized {
        minimized.bound();
    }
    built.tags.retain(|tag| is_tag(tag));
    built.tags.truncate(TAGS);
    built.platforms.truncate(PLATFORMS);
    let mut room = PROGRAMS;
    for platform in &mut built.platforms {
        self::platform(platform, &mut room);
    }
}

fn platform(platform: &mut PlatformStatus, room: &mut usize) {
    line(&mut platform.platform, 64);
    line(&mut platform.digest, NAME);
    platform.solve = platform.solve.map(PlatformSolve::bounded);
    platform.layers.truncate(LAYERS);
    for layer in &mut platform.layers {
        line(&mut layer.instruction, SENTENCE);
    }
    if let Some(contents) = &mut platform.contents {
        self::contents(contents, room);
    }
}

fn contents(contents: &mut ContentsStatus, room: &mut usize) {
    contents.command.truncate(LISTED);
    contents.executables.truncate(LISTED);
    contents.largest.truncate(LISTED);
    let texts = [
        &mut contents.os,
        &mut contents.problem,
        &mut contents.user,
        &mut contents.report,
    ];
    let texts = texts.into_iter().flatten();
    let lists = contents.command.iter_mut().chain(&mut contents.executables);
    let files = contents.largest.iter_mut().map(|file| &mut file.path);
    for text in texts.chain(lists).chain(files) {
        line(text, SENTENCE);
    }
    // Cut, they would be no programs at all.
    contents.programs = contents.programs.take().filter(|text| text.len() <= *room);
    *room -= contents.programs.as_ref().map_or(0, String::len);
}

fn failure(failure: &mut Failure) {
    line(&mut failure.message, 2 * SENTENCE);
    failure
        .hint
        .iter_mut()
        .for_each(|text| line(text, SENTENCE));
    failure
        .image
        .iter_mut()
        .for_each(|text| line(text, 2 * NAME));
    for text in failure.step.iter_mut().chain(&mut failure.log) {
        clean(text, |c| c.is_control() && !matches!(c, '\n' | '\t'));
        *text = bounded(std::mem::take(text), TEXT);
    }
}

/// One line of text, of at most so many bytes.
pub(super) fn line(text: &mut String, most: usize) {
    clean(text, char::is_control);
    *text = bounded(std::mem::take(text), most);
}

fn clean(text: &mut String, bad: impl Fn(char) -> bool) {
    if text.contains(&bad) {
        *text = text.replace(&bad, " ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Progress;
    use crate::report::failed;
    use whittle_api::{FailureReason, LayerStatus};
    use whittle_dockerfile::advice::Hint;

    #[test]
    fn what_a_runner_says_of_a_failure_is_bounded() {
        let Report::Failed(mut huge) =
            failed(FailureReason::StepFailed, "m\u{1b}[2J".repeat(100_000))
        else {
            panic!()
        };
        huge.failure.log = Some("line\r\n".repeat(100_000));
        huge.failure.hint = Some("h".repeat(100_000));
        let hint: Hint = serde_json::from_value(
            serde_json::json!({"kind": "BuildCheck", "message": "a".repeat(10_000)}),
        )
        .unwrap();
        huge.advice = vec![hint; 10_000];
        let bounded = Report::Failed(huge).bounded();
        let text = serde_json::to_string(&bounded).unwrap();
        assert!(text.len() < 512 * 1024, "{}", text.len());
        assert!(!text.contains("\\u001b") && !text.contains("\\r"));
        assert_eq!(bounded.clone().bounded(), bounded);
    }

    #[test]
    fn what_a_runner_says_of_an_image_is_bounded() {
        let layer = LayerStatus {
            size: 1,
            instruction: "RUN x".repeat(10_000),
        };
        let platform = PlatformStatus {
            platform: "linux/amd64".repeat(1000),
            digest: "sha256:aa".repeat(1000),
            size: 1,
            solve: None,
            layers: vec![layer; 1000],
            contents: None,
        };
        let Report::Succeeded(built) = Report::Succeeded(Built {
            digest: "sha256:aa".repeat(1000),
            platforms: vec![platform; 40],
            tags: [vec!["../a?b".into()], vec!["a".repeat(128); 40]].concat(),
            ..Built::default()
        })
        .bounded() else {
            panic!()
        };
        assert_eq!(built.platforms.len(), PLATFORMS);
        assert_eq!(built.tags, vec!["a".repeat(128); TAGS]);
        assert!(built.digest.len() <= NAME);
        assert!(built.platforms[0].layers.len() <= LAYERS);
    }

    #[test]
    fn progress_is_one_short_line() {
        let progress = Progress {
            done: 1,
            total: 2,
            step: "RUN a\nb\u{1b}".repeat(10_000),
        };
        let message = progress.message();
        assert!(message.len() <= 512 && !message.contains(char::is_control));
    }
}
