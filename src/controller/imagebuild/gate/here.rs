//! The check of an image that was run without a cluster: judged as its Pod would be, so in the same words.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use whittle_build::trial::here::Ran;

use super::*;

/// The owner of a Job that is in no cluster.
const OWNER: &str = "here";

/// Where the check of one platform stands whose image was run; none: it could not be, as the daemon is of another platform.
pub fn check(check: &HealthCheck, platform: &PlatformStatus, ran: Option<&Ran>) -> Check {
    let state = ran.map_or(State::NoNode, |ran| judged(check, platform, ran));
    Check {
        platform: platform.platform.clone(),
        state,
    }
}

/// Why the build fails, where a check has.
pub fn checks_failure(checks: &[Check], image: &str) -> Option<Failure> {
    failure(checks, image)
}

/// Why the build fails, where an image was only to start and has not stayed up.
pub fn starts_failure(platform: &PlatformStatus, ran: &Ran, image: &str) -> Option<Failure> {
    let message = match (&ran.not_started, ran.ended) {
        (Some(why), _) => format!("the container failed to start: {why}"),
        (None, Some(code)) if code != 0 => format!(
            "the container exited with code {code} after {} s: for a program that has to end so, or needs arguments or a \
             configuration, write a healthCheck",
            ran.seconds
        ),
        _ => return None,
    };
    let state = State::Failed {
        how: How::Ended,
        message,
        log: None,
    };
    let none: HealthCheck = serde_json::from_value(serde_json::json!({})).ok()?;
    let state = explain(state, None, Some(ran.log.clone()));
    let check = Check {
        platform: platform.platform.clone(),
        state: as_another_user(&none, platform, state),
    };
    failure(&[check], image)
}

/// What the condition `Probed` says once all checks have passed.
pub fn told(checks: &[Check], check: &HealthCheck) -> (bool, String) {
    let nowhere = "the daemon that would run it is of another platform";
    told_of(checks, check, nowhere)
}

fn judged(check: &HealthCheck, platform: &PlatformStatus, ran: &Ran) -> State {
    let begun = Timestamp::UNIX_EPOCH;
    let then = begun + SignedDuration::from_secs(ran.seconds);
    let job = Job {
        metadata: ObjectMeta {
            owner_references: Some(vec![OwnerReference {
                uid: OWNER.into(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        ..Job::default()
    };
    let pod = pod(ran, begun, then);
    let seen = Seen {
        owner: OWNER,
        job: Some(&job),
        pod: Some(&pod),
        // What is neither Ready nor over has had its time.
        ran: SignedDuration::from_secs(i64::from(check.timeout_seconds)),
        refused: None,
    };
    let mut state = state(&seen, check, then);
    if let State::Ended { seconds } = state {
        let wanted = check.run.as_ref().and_then(|run| run.stdout.as_deref());
        state = match wanted {
            None => State::Passed { seconds },
            Some(wanted) => printed(seconds, wanted, &ran.output),
        };
    }
    let log = Some(ran.log.clone());
    let state = explain(state, ran.unhealthy.as_deref(), log);
    as_another_user(check, platform, state)
}

/// The Pod as the kubelet would tell of it.
fn pod(ran: &Ran, begun: Timestamp, then: Timestamp) -> Pod {
    let over = |code: i32, reason: &str, message: Option<String>| ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: code,
            reason: Some(reason.into()),
            message,
            started_at: Some(Time(begun)),
            finished_at: Some(Time(then)),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    };
    let state = match (&ran.not_started, ran.ended) {
        (Some(why), _) => over(128, "StartError", Some(why.clone())),
        (None, Some(0)) => over(0, "Completed", None),
        (None, Some(code)) => over(code, "Error", None),
        (None, None) => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(begun)),
            }),
            ..ContainerState::default()
        },
    };
    let ready = PodCondition {
        type_: "Ready".into(),
        status: "True".into(),
        last_transition_time: Some(Time(then)),
        ..PodCondition::default()
    };
    Pod {
        status: Some(PodStatus {
            phase: Some("Running".into()),
            conditions: Some(vec![ready]).filter(|_| ran.ready),
            container_statuses: Some(vec![ContainerStatus {
                name: CONTAINER.into(),
                state: Some(state),
                ..ContainerStatus::default()
            }]),
            ..PodStatus::default()
        }),
        ..Pod::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn platform(root: bool) -> PlatformStatus {
        serde_json::from_value(json!({"platform": "linux/amd64", "digest": "sha256:bb", "size": 1,
            "contents": {"base": "Scratch", "starts": "Yes", "root": root, "shell": false, "packageManager": false,
                "caCertificates": false, "timeZones": false, "writableTmp": false, "setuidFiles": 0, "files": 1,
                "unpackedSize": 1}}))
        .unwrap()
    }

    fn of(how: Value, ran: &Ran) -> State {
        let asked: HealthCheck = serde_json::from_value(how).unwrap();
        check(&asked, &platform(false), Some(ran)).state
    }

    fn message(state: State) -> String {
        match state {
            State::Failed { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_answers_has_passed_and_what_does_not_fails_with_the_kubelets_words() {
        let http = || json!({"httpGet": {"port": 8080}, "timeoutSeconds": 7});
        let mut ran = Ran {
            ready: true,
            seconds: 2,
            ..Ran::default()
        };
        assert_eq!(of(http(), &ran), State::Passed { seconds: 2 });
        ran.ready = false;
        ran.unhealthy =
            Some("Readiness probe failed: HTTP probe failed with statuscode: 500".into());
        assert_eq!(
            message(of(http(), &ran)),
            "timed out: not Ready within 7 s: Readiness probe failed: HTTP probe failed with statuscode: 500"
        );
        ran = Ran {
            ended: Some(3),
            log: "no configuration\n".into(),
            ..Ran::default()
        };
        let State::Failed { message, log, .. } = of(http(), &ran) else {
            panic!("it ended");
        };
        assert_eq!(
            message,
            "the container exited with code 3 before it was Ready"
        );
        assert_eq!(log.as_deref(), Some("no configuration\n"));
    }

    #[test]
    fn what_cannot_be_started_is_told_with_the_cause_and_the_fix() {
        let http = || json!({"httpGet": {"port": 8080}});
        let ran = |why: &str| Ran {
            not_started: Some(why.into()),
            ..Ran::default()
        };
        let said = message(of(http(), &ran("exec: \"/app\": operation not permitted")));
        assert!(
            said.starts_with("the container failed to start: "),
            "{said}"
        );
        assert!(said.contains("file capabilities"), "{said}");
        let asked: HealthCheck = serde_json::from_value(http()).unwrap();
        let as_root = check(&asked, &platform(true), Some(&ran("x"))).state;
        assert!(message(as_root).contains("it was run as user 65532"));
        let other = check(&asked, &platform(true), None);
        assert_eq!(other.state, State::NoNode);
    }

    #[test]
    fn a_program_that_ends_is_held_to_its_code_and_its_output() {
        let ran = Ran {
            ended: Some(0),
            seconds: 1,
            output: "version 3\n".into(),
            ..Ran::default()
        };
        let run = |run: Value| json!({"run": run, "timeoutSeconds": 5});
        assert_eq!(of(run(json!({})), &ran), State::Passed { seconds: 1 });
        let stdout = |text: &str| of(run(json!({"stdout": text})), &ran);
        assert_eq!(stdout("version 3"), State::Passed { seconds: 1 });
        assert!(message(stdout("version 4")).contains("has no \"version 4\""));
        let code = of(run(json!({"exitCode": 2})), &ran);
        assert!(message(code).contains("exit code 0, and has to end with 2"));
        let late = of(run(json!({})), &Ran::default());
        assert_eq!(message(late), "timed out: not ended within 5 s");
    }

    #[test]
    fn an_image_that_only_has_to_start_fails_where_it_ends_with_an_error() {
        let failure = |ran: Ran| starts_failure(&platform(false), &ran, "r.example/x@sha256:aa");
        assert_eq!(failure(Ran::default()), None);
        let ended = |code| Ran {
            ended: Some(code),
            ..Ran::default()
        };
        assert_eq!(failure(ended(0)), None);
        let found = failure(ended(1)).unwrap();
        assert_eq!(found.reason, FailureReason::HealthCheckFailed);
        assert!(found.message.contains("exited with code 1"), "{found:?}");
        assert_eq!(found.image.as_deref(), Some("r.example/x@sha256:aa"));
        let none = Ran {
            not_started: Some("exec: \"x\": no such file or directory".into()),
            ..Ran::default()
        };
        assert!(failure(none).unwrap().message.contains("no such file"));
    }
}
