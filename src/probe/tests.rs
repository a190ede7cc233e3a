use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec,
    Probe, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::fixtures::{
    IMAGE, One, container, contents, debian, exec, exec_probe, found, judged, live, of_command,
    pod, scratch, stop,
};
use super::*;

fn http(path: &str, port: i32) -> Handler {
    Handler::HttpGet(HTTPGetAction {
        path: Some(path.into()),
        port: IntOrString::Int(port),
        ..HTTPGetAction::default()
    })
}

/// The Pod template after its first fix.
fn mended(pod: &PodSpec, finding: &Finding) -> PodSpec {
    let mut value = serde_json::to_value(pod).unwrap();
    let patch = finding.fix.as_ref().unwrap().patch.as_ref().unwrap();
    json_patch::patch(&mut value, patch).unwrap();
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_probe_that_cannot_work_is_told_with_what_follows_and_what_mends_it() {
    let finding = of_command(&["curl", "-f", "http://localhost:8080/healthz"], scratch());
    assert_eq!(
        finding.message,
        format!(
            "container app, livenessProbe of image {IMAGE}: cannot work: curl not found \
                in PATH (/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin). The \
                kubelet discards the error, so this probe never restarts the container. Use \
                httpGet {{\"path\":\"/healthz\",\"port\":8080}}, which does the same; the \
                kubelet connects from outside, so the program must listen on the Pod's address, \
                not only on 127.0.0.1."
        )
    );
    assert_eq!(finding.pointer, "/containers/0/livenessProbe");
    assert_eq!(finding.program.as_deref(), Some("curl"));
    assert_eq!(finding.fix.unwrap().handler, Some(http("/healthz", 8080)));
}

#[test]
fn what_follows_depends_on_the_probe_and_on_whether_a_shell_answers() {
    let probe = || Some(exec_probe(&["curl", "x"]));
    let script = || Some(exec_probe(&["sh", "-c", "curl x"]));
    let hook = || LifecycleHandler {
        exec: Some(exec(&["nginx", "-s", "quit"])),
        ..LifecycleHandler::default()
    };
    let message = |container: Container| found(container, debian()).message;
    for (container, follows) in [
        (
            Container {
                liveness_probe: probe(),
                ..container()
            },
            "never restarts the container",
        ),
        (
            Container {
                liveness_probe: script(),
                ..container()
            },
            "keeps restarting the container",
        ),
        (
            Container {
                readiness_probe: probe(),
                ..container()
            },
            "never becomes ready",
        ),
        (
            Container {
                startup_probe: probe(),
                ..container()
            },
            "never counts as started",
        ),
        (
            Container {
                startup_probe: script(),
                ..container()
            },
            "keeps restarting it",
        ),
        (stop(hook()), "FailedPreStopHook"),
        (
            Container {
                lifecycle: Some(Lifecycle {
                    post_start: Some(hook()),
                    ..Lifecycle::default()
                }),
                ..container()
            },
            "kills the container",
        ),
    ] {
        let text = message(container);
        assert!(text.contains(follows), "{text}");
    }
}

#[test]
fn a_file_that_may_be_run_and_breaks_counts_as_a_failure() {
    // The runtime has begun the container's process by then: its end is the probe's result.
    for (command, follows) in [
        (["/broken", "x"], "keeps restarting the container"),
        (["/absent", "x"], "never restarts the container"),
    ] {
        let finding = of_command(&command, contents(&["/broken ! /broken needs libz.so.1"]));
        assert_eq!(finding.verdict.name(), "CannotWork");
        assert!(finding.message.contains(follows), "{}", finding.message);
    }
}

#[test]
fn a_fix_replaces_the_handler_and_leaves_the_rest() {
    let container = Container {
        readiness_probe: Some(Probe {
            period_seconds: Some(7),
            ..exec_probe(&["sh", "-c", "wget -qO- localhost:80/ready || exit 1"])
        }),
        ..container()
    };
    let pod = pod(container);
    let finding = judged(&pod, scratch()).findings.remove(0);
    let after = mended(&pod, &finding);
    let probe = after.containers[0].readiness_probe.as_ref().unwrap();
    assert!(probe.exec.is_none());
    assert_eq!(probe.period_seconds, Some(7));
    assert_eq!(Handler::of_probe(probe), Ok(http("/ready", 80)));
    assert_eq!(
        judged(&after, scratch()).findings[0].verdict,
        Verdict::Works
    );
}

#[test]
fn the_health_check_of_the_image_build_is_offered_where_the_command_says_nothing() {
    let images = |health_check| One {
        contents: vec![scratch()],
        health_check,
    };
    let command = ["cat", "/tmp/healthy"];
    let declared = found(live(&command), images(Some(http("/ok", 1))));
    assert_eq!(declared.fix.unwrap().handler, Some(http("/ok", 1)));
    // It is judged before it is offered.
    let named = Handler::HttpGet(HTTPGetAction {
        port: IntOrString::String("http".into()),
        ..HTTPGetAction::default()
    });
    let bad = found(live(&command), images(Some(named)));
    assert_eq!(bad.fix.as_ref().unwrap().handler, None);
    assert!(
        bad.message.contains("put cat into the image"),
        "{}",
        bad.message
    );
    let stop = stop(LifecycleHandler {
        exec: Some(exec(&command)),
        ..LifecycleHandler::default()
    });
    assert_eq!(
        found(stop, images(Some(http("/ok", 1))))
            .fix
            .unwrap()
            .handler,
        None
    );
}

#[test]
fn the_images_own_health_check_is_offered_and_missed_where_there_is_no_probe() {
    let with = |words: &[&str]| Contents {
        health_check: words.iter().map(|word| (*word).to_owned()).collect(),
        ..scratch()
    };
    let own = with(&["CMD", "/app", "health"]);
    let finding = found(live(&["curl", "-d", "x", "localhost"]), own.clone());
    assert_eq!(
        finding.fix.unwrap().handler,
        Some(Handler::Exec(exec(&["/app", "health"])))
    );
    let judgement = judged(&pod(container()), own.clone());
    let fix = judgement.warnings[0].fix.clone().unwrap();
    let mut value = serde_json::to_value(pod(container())).unwrap();
    json_patch::patch(&mut value, &fix.patch.unwrap()).unwrap();
    let after: PodSpec = serde_json::from_value(value).unwrap();
    assert_eq!(
        judged(&after, own.clone()).findings[0].verdict,
        Verdict::Works
    );
    // A shell that is not there: what it says can be asked from outside.
    let judgement = judged(
        &pod(container()),
        with(&["CMD-SHELL", "curl -f localhost:80/x || exit 1"]),
    );
    assert_eq!(
        judgement.warnings[0].fix.as_ref().unwrap().handler,
        Some(http("/x", 80))
    );
    let judgement = judged(&pod(container()), with(&["CMD-SHELL", "check"]));
    assert_eq!(judgement.warnings[0].fix, None);
    // With a probe, for a Job, and without one, nothing is missed.
    assert!(
        judged(&pod(live(&["/app"])), own.clone())
            .warnings
            .is_empty()
    );
    let job = PodSpec {
        restart_policy: Some("Never".into()),
        ..pod(container())
    };
    assert!(judged(&job, own).warnings.is_empty());
    assert!(judged(&pod(container()), scratch()).warnings.is_empty());
}

#[test]
fn ports_have_to_be_the_containers_own() {
    let declared = ContainerPort {
        name: Some("http".into()),
        container_port: 8080,
        ..ContainerPort::default()
    };
    let of = |probe: Probe| {
        found(
            Container {
                liveness_probe: Some(probe),
                ports: Some(vec![declared.clone()]),
                ..container()
            },
            scratch(),
        )
    };
    let get = |port| Probe {
        http_get: Some(HTTPGetAction {
            port,
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    };
    let name = |name: &str| IntOrString::String(name.into());
    assert_eq!(of(get(name("http"))).verdict, Verdict::Works);
    assert_eq!(of(get(IntOrString::Int(8080))).verdict, Verdict::Works);
    let odd = of(get(IntOrString::Int(9090)));
    assert_eq!((odd.verdict, odd.warnings.len()), (Verdict::Works, 1));
    let unnamed = of(get(name("web")));
    assert!(
        unnamed
            .message
            .contains("the container's ports are named http"),
        "{}",
        unnamed.message
    );
    assert!(
        unnamed.message.contains("discards the error"),
        "{}",
        unnamed.message
    );
    for port in [name("8080"), IntOrString::Int(0), IntOrString::Int(70_000)] {
        let refused = of(get(port));
        assert!(
            refused.message.contains("The API server rejects"),
            "{}",
            refused.message
        );
    }
    let tcp = |port| Probe {
        tcp_socket: Some(TCPSocketAction { host: None, port }),
        ..Probe::default()
    };
    assert_eq!(of(tcp(name("http"))).verdict, Verdict::Works);
    assert_eq!(of(tcp(name("web"))).verdict.name(), "CannotWork");
    let grpc = |port| Probe {
        grpc: Some(GRPCAction {
            port,
            service: None,
        }),
        ..Probe::default()
    };
    assert_eq!(of(grpc(8080)).verdict, Verdict::Works);
    assert_eq!(of(grpc(0)).verdict.name(), "CannotWork");
    // Ports of another container do not count.
    let mut two = pod(Container {
        liveness_probe: Some(get(name("http"))),
        ..container()
    });
    two.containers.push(Container {
        ports: Some(vec![declared.clone()]),
        ..container()
    });
    assert_eq!(
        judged(&two, scratch()).findings[0].verdict.name(),
        "CannotWork"
    );
    let mut secure = get(IntOrString::Int(8080));
    secure.http_get.as_mut().unwrap().scheme = Some("HTTPS".into());
    assert_eq!(of(secure.clone()).verdict, Verdict::Works);
    secure.http_get.as_mut().unwrap().scheme = Some("https".into());
    assert_eq!(of(secure).verdict.name(), "CannotWork");
    let mut local = get(IntOrString::Int(8080));
    local.http_get.as_mut().unwrap().host = Some("127.0.0.1".into());
    assert_eq!(of(local).warnings.len(), 1);
}

#[test]
fn lifecycle_hooks_have_handlers_of_their_own() {
    let sleep = |seconds| LifecycleHandler {
        sleep: Some(SleepAction { seconds }),
        ..LifecycleHandler::default()
    };
    for (seconds, expected) in [
        (0, "Works"),
        (30, "Works"),
        (31, "CannotWork"),
        (-1, "CannotWork"),
    ] {
        assert_eq!(
            found(stop(sleep(seconds)), scratch()).verdict.name(),
            expected
        );
    }
    let mut long = pod(stop(sleep(60)));
    long.termination_grace_period_seconds = Some(90);
    assert_eq!(judged(&long, scratch()).findings[0].verdict, Verdict::Works);
    let run = |command: &[&str]| LifecycleHandler {
        exec: Some(exec(command)),
        ..LifecycleHandler::default()
    };
    let paused = found(stop(run(&["sh", "-c", "sleep 5"])), scratch());
    assert_eq!(
        paused.fix.unwrap().handler,
        Some(Handler::Sleep(SleepAction { seconds: 5 }))
    );
    assert_eq!(
        found(stop(run(&["sleep", "5"])), debian()).verdict,
        Verdict::Works
    );
    // Longer than the Pod is given: no fix.
    assert_eq!(
        found(stop(run(&["sleep", "50"])), scratch())
            .fix
            .unwrap()
            .handler,
        None
    );
    let tcp = LifecycleHandler {
        tcp_socket: Some(TCPSocketAction::default()),
        ..LifecycleHandler::default()
    };
    assert_eq!(found(stop(tcp), scratch()).verdict.name(), "CannotWork");
    let literal = found(stop(run(&["sh", "-c", "kill $(PID)"])), debian());
    assert_eq!(literal.warnings.len(), 1);
}

#[test]
fn malformed_probes_are_refused() {
    for probe in [
        Probe::default(),
        exec_probe(&[]),
        Probe {
            grpc: Some(GRPCAction::default()),
            ..exec_probe(&["/app"])
        },
    ] {
        let finding = found(
            Container {
                liveness_probe: Some(probe),
                ..container()
            },
            scratch(),
        );
        assert!(
            finding.message.contains("The API server rejects"),
            "{}",
            finding.message
        );
        assert!(finding.fix.is_some());
    }
}

#[test]
fn sidecars_have_probes_and_init_containers_have_none() {
    let with = |policy: Option<&str>| {
        let mut all = pod(container());
        all.init_containers = Some(vec![Container {
            restart_policy: policy.map(str::to_owned),
            ..live(&["/app"])
        }]);
        judged(&all, scratch()).findings.remove(0)
    };
    let sidecar = with(Some("Always"));
    assert_eq!(
        (sidecar.role, sidecar.verdict),
        (Role::Sidecar, Verdict::Works)
    );
    assert_eq!(sidecar.pointer, "/initContainers/0/livenessProbe");
    let init = with(None);
    assert_eq!(
        (init.role, init.verdict.name()),
        (Role::InitContainer, "CannotWork")
    );
}

#[test]
fn an_image_without_a_report_or_for_another_platform_is_not_known() {
    let none = One {
        contents: Vec::new(),
        health_check: None,
    };
    let finding = found(live(&["curl"]), none);
    assert_eq!(finding.verdict.name(), "Unknown");
    assert!(
        finding.message.contains("ImageBuild"),
        "{}",
        finding.message
    );
    let on = |architecture: &str| PodSpec {
        node_selector: Some(BTreeMap::from([(
            "kubernetes.io/arch".to_owned(),
            architecture.to_owned(),
        )])),
        ..pod(live(&["/app"]))
    };
    assert_eq!(
        judged(&on("amd64"), scratch()).findings[0].verdict,
        Verdict::Works
    );
    let other = judged(&on("arm64"), scratch()).findings.remove(0);
    assert!(other.message.contains("linux/amd64"), "{}", other.message);
    assert_eq!(other.verdict.name(), "Unknown");
}

#[test]
fn what_works_on_some_platforms_alone_is_not_known() {
    let images = One {
        contents: vec![
            scratch(),
            Contents {
                platform: "linux/arm64".into(),
                ..contents(&["/other"])
            },
        ],
        health_check: None,
    };
    let finding = found(live(&["/app"]), images);
    assert!(
        finding
            .message
            .contains("on linux/arm64, program /app not found in the image")
    );
}

#[test]
fn a_command_in_one_word_is_offered_in_words_of_their_own() {
    let of = |command: &[&str]| of_command(command, debian());
    let works = of(&["cat /tmp/x"]);
    let fix = works.fix.unwrap();
    assert!(matches!(works.verdict, Verdict::CannotWork(_)));
    assert_eq!(
        fix.handler.unwrap().display(),
        r#"exec {"command":["cat","/tmp/x"]}"#
    );
    let asks = of(&["curl -f http://localhost:8080/x"]).fix.unwrap();
    assert_eq!(
        asks.handler.unwrap().display(),
        r#"httpGet {"path":"/x","port":8080}"#
    );
    assert!(
        asks.advice
            .contains(r#"write ["curl","-f","http://localhost:8080/x"]"#),
        "{}",
        asks.advice
    );
    // A blank that nobody sees.
    for command in ["cat ", "\tcat\n"] {
        let fix = of(&[command]).fix.unwrap();
        assert_eq!(
            fix.handler.unwrap().display(),
            r#"exec {"command":["cat"]}"#
        );
    }
    for (command, words) in [
        (&["nope --check"][..], r#"write ["nope","--check"]"#),
        (&["nope a", "b c"], r#"write ["nope","a","b c"]"#),
        (&["nope 'a b'"], r#"write ["nope","a b"]"#),
        (
            &["nope a || exit 1"],
            r#"write ["sh","-c","nope a || exit 1"]"#,
        ),
    ] {
        let advice = of(command).fix.unwrap().advice;
        assert!(advice.contains(words), "{command:?}: {advice}");
    }
    let fix = of(&["cat /tmp/x | grep -q y"]).fix.unwrap();
    assert_eq!(
        fix.handler.unwrap().display(),
        r#"exec {"command":["sh","-c","cat /tmp/x | grep -q y"]}"#
    );
}

#[test]
fn a_container_without_a_name_is_named_by_its_place() {
    let mut pod = pod(live(&["curl", "x"]));
    pod.containers[0].name = String::new();
    let finding = judged(&pod, scratch()).findings.remove(0);
    assert_eq!(finding.container, "containers[0]");
    assert!(
        finding
            .message
            .starts_with("container containers[0], livenessProbe"),
        "{}",
        finding.message
    );
}
