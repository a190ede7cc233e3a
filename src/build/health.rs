//! Health checks against what the built image holds: its own HEALTHCHECK, and the `exec` of
//! `spec.healthCheck`.

use k8s_openapi::api::core::v1::{Container, ExecAction, PodSpec, Probe};

use whittle_dockerfile::advice::{HealthCheck, Hint, HintKind, View, health_check};
use whittle_image::Contents;
use whittle_probe::{Images, Known, Verdict, judge};

/// Whose command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The image's, by HEALTHCHECK.
    Image,
    /// `spec.healthCheck.exec`.
    Spec,
}

/// A health check that can only fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unhealthy {
    /// Whose command it is.
    pub whose: Whose,
    /// The platform of the image.
    pub platform: String,
    /// The program that decides.
    pub program: String,
    /// Why, in one clause.
    pub why: String,
}

/// One image, by whatever name.
struct Only<'a>(&'a Contents);

impl Images for Only<'_> {
    fn of(&self, _: &str) -> Known<'_> {
        Known {
            contents: vec![self.0],
            ..Known::default()
        }
    }
}

/// The health checks that cannot work in an image; what cannot be told is left out. `exec`: the command of
/// `spec.healthCheck`; empty where there is none.
pub fn unhealthy(contents: &Contents, exec: &[String]) -> Vec<Unhealthy> {
    let own = match contents.health_check.split_first() {
        Some((kind, words)) if kind == "CMD" => words.to_vec(),
        Some((kind, [text])) if kind == "CMD-SHELL" => {
            ["/bin/sh", "-c", text].map(str::to_owned).to_vec()
        }
        _ => vec![],
    };
    [(Whose::Image, own), (Whose::Spec, exec.to_vec())]
        .into_iter()
        .filter(|(_, command)| !command.is_empty())
        .filter_map(|(whose, command)| {
            let (program, why) = missing(contents, command)?;
            Some(Unhealthy {
                whose,
                platform: contents.platform.clone(),
                program,
                why,
            })
        })
        .collect()
}

/// The program that decides and why it does not work, as for a probe of a Pod.
fn missing(contents: &Contents, command: Vec<String>) -> Option<(String, String)> {
    let pod = PodSpec {
        containers: vec![Container {
            name: "image".into(),
            image: Some("image".into()),
            liveness_probe: Some(Probe {
                exec: Some(ExecAction {
                    command: Some(command),
                }),
                ..Probe::default()
            }),
            ..Container::default()
        }],
        ..PodSpec::default()
    };
    let found = judge(&pod, &Only(contents)).findings.into_iter().next()?;
    match found.verdict {
        Verdict::CannotWork(why) => Some((found.program?, why)),
        _ => None,
    }
}

/// Hints on health checks that cannot work, each with the line of its HEALTHCHECK.
pub fn health(view: &View, found: &[Unhealthy]) -> Vec<Hint> {
    let Some(HealthCheck { line, is_broken }) = health_check(view) else {
        return vec![];
    };
    let mut told = vec![];
    let mut hints = vec![];
    for one in found {
        // The same on every platform is told once.
        let known = told.contains(&(one.whose, &one.program));
        if known || (is_broken && one.whose == Whose::Image) {
            continue;
        }
        told.push((one.whose, &one.program));
        let Unhealthy {
            platform,
            program,
            why,
            ..
        } = one;
        let (line, whose, fix) = match one.whose {
            Whose::Image if line.is_some() => (
                line,
                "HEALTHCHECK",
                format!(
                    "install {program}, or check by a program that the image has; Kubernetes ignores \
                     HEALTHCHECK, there httpGet, tcpSocket and grpc need no program"
                ),
            ),
            Whose::Image => (
                None,
                "the base image's HEALTHCHECK",
                "write `HEALTHCHECK NONE`, or one whose program the image has".to_owned(),
            ),
            Whose::Spec => (
                None,
                "spec.healthCheck.exec",
                format!(
                    "install {program}, or use httpGet, tcpSocket or grpc, which need no program"
                ),
            ),
        };
        let text = format!(
            "{whose} cannot work in the image for {platform}, it can only fail: {why}; {fix}"
        );
        hints.push(view.hint(HintKind::HealthCheckCannotWork, line, &text));
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;
    use whittle_probe::fixtures::{alpine, debian, scratch};

    fn told(contents: &Contents, check: &[&str], exec: &[&str], text: &str) -> Vec<Hint> {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let contents = Contents {
            health_check: words(check),
            ..contents.clone()
        };
        let found = unhealthy(&contents, &words(exec));
        let view = View {
            dockerfile_path: "Dockerfile",
            dockerfile: text,
            target: None,
            build_args: &[].into(),
            files: &[],
            warnings: &[],
        };
        health(&view, &found)
    }

    #[test]
    fn a_health_check_whose_program_the_image_lacks_is_told_at_its_line() {
        let text = "FROM a\nHEALTHCHECK --interval=5s \\\n  CMD curl -f localhost || exit 1\n";
        let hints = told(
            &debian(),
            &["CMD-SHELL", "curl -f localhost || exit 1"],
            &[],
            text,
        );
        assert_eq!(hints.len(), 1, "{hints:#?}");
        assert_eq!(
            (hints[0].kind, hints[0].line),
            (HintKind::HealthCheckCannotWork, Some(2))
        );
        let start = "Dockerfile:2: HEALTHCHECK cannot work in the image for linux/amd64, it can only fail: ";
        assert!(hints[0].message.starts_with(start), "{}", hints[0].message);
        assert!(
            hints[0].message.contains("install curl"),
            "{}",
            hints[0].message
        );
    }

    #[test]
    fn each_form_of_a_health_check_is_judged_by_what_it_runs() {
        let text = "FROM a\nHEALTHCHECK CMD x\n";
        let lines = |contents: Contents, check: &[&str]| told(&contents, check, &[], text).len();
        for (contents, check, hints) in [
            (debian(), &["CMD", "/usr/bin/cat", "/x"][..], 0),
            (debian(), &["CMD-SHELL", "cat /x"], 0),
            (debian(), &["CMD-SHELL", "cat /x || curl x"], 0),
            (debian(), &["CMD", "curl", "x"], 1),
            (debian(), &["CMD", "/opt/check"], 1),
            (debian(), &["CMD-SHELL", "curl -q x"], 1),
            (alpine(), &["CMD-SHELL", "cat /x"], 0),
            (scratch(), &["CMD", "/app", "health"], 0),
            // No shell either.
            (scratch(), &["CMD-SHELL", "/app health"], 1),
            (debian(), &["NONE"], 0),
            (debian(), &[], 0),
        ] {
            assert_eq!(lines(contents, check), hints, "{check:?}");
        }
    }

    #[test]
    fn a_check_of_the_base_or_of_the_image_build_has_no_line() {
        let hints = told(&debian(), &["CMD", "curl"], &["grpcurl", "x"], "FROM a\n");
        assert_eq!(hints.len(), 2, "{hints:#?}");
        assert!(hints.iter().all(|hint| hint.line.is_none()));
        assert!(
            hints[0].message.contains("the base image's HEALTHCHECK"),
            "{}",
            hints[0].message
        );
        assert!(
            hints[1].message.contains("spec.healthCheck.exec"),
            "{}",
            hints[1].message
        );
        assert_eq!(told(&debian(), &[], &["cat", "/x"], "FROM a\n"), []);
    }

    #[test]
    fn a_health_check_that_is_no_list_is_told_as_that_alone() {
        let text = "FROM a\nHEALTHCHECK CMD ['curl']\n";
        assert_eq!(told(&debian(), &["CMD-SHELL", "['curl']"], &[], text), []);
    }

    #[test]
    fn what_cannot_be_told_is_not_told() {
        let partial = Contents {
            partial: true,
            ..debian()
        };
        assert_eq!(told(&partial, &["CMD", "curl"], &[], "FROM a\n"), []);
    }
}
