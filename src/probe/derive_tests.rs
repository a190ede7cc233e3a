use super::*;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector};

fn container() -> Container {
    Container {
        env: Some(vec![
            EnvVar {
                name: "PORT".into(),
                value: Some("8080".into()),
                value_from: None,
            },
            EnvVar {
                name: "POD_IP".into(),
                value: None,
                value_from: Some(EnvVarSource {
                    field_ref: Some(ObjectFieldSelector {
                        field_path: "status.podIP".into(),
                        ..ObjectFieldSelector::default()
                    }),
                    ..EnvVarSource::default()
                }),
            },
            EnvVar {
                name: "TOKEN".into(),
                value: None,
                value_from: Some(EnvVarSource::default()),
            },
        ]),
        ..Container::default()
    }
}

fn of(command: &[&str]) -> Option<String> {
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    derive(&command, &container(), &PodSpec::default()).map(|derived| derived.handler.display())
}

/// A command in exec form, its words separated by blanks.
fn exec(command: &str) -> Option<String> {
    of(&command.split(' ').collect::<Vec<_>>())
}

#[test]
fn requests_to_the_pod_itself_are_http_get() {
    let plain = r#"httpGet {"path":"/healthz","port":8080}"#;
    for command in [
        "curl -f http://localhost:8080/healthz",
        "curl -fsS -m 5 -o /dev/null localhost:8080/healthz",
        "/usr/bin/curl --fail --max-time=3 http://127.0.0.1:8080/healthz#x",
        "curl -f http://[::1]:8080/healthz",
        "curl -f http://$(POD_IP):$(PORT)/healthz",
        "wget -qO- http://localhost:8080/healthz",
        "wget --spider -q -T 3 http://0.0.0.0:8080/healthz",
        "timeout 5 curl -f http://localhost:8080/healthz",
        "busybox wget -q -O /dev/null http://localhost:8080/healthz",
    ] {
        assert_eq!(exec(command).as_deref(), Some(plain), "{command}");
    }
    for script in [
        "curl -f http://localhost:8080/healthz || exit 1",
        "exec curl -f http://localhost:$PORT/healthz >/dev/null 2>&1",
        "curl -f \"http://${POD_IP}:${PORT}/healthz\" && exit 0 || exit 1",
        "wget -q --spider http://$HOSTNAME:8080/healthz || false",
    ] {
        assert_eq!(
            of(&["sh", "-c", script]).as_deref(),
            Some(plain),
            "{script}"
        );
        assert_eq!(
            of(&["/bin/busybox", "sh", "-ec", script]).as_deref(),
            Some(plain)
        );
    }
    assert_eq!(
        of(&["curl", "-fk", "-H", "Host: a", "https://localhost/x?y=1"]).as_deref(),
        Some(
            r#"httpGet {"httpHeaders":[{"name":"Host","value":"a"}],"path":"/x?y=1","port":443,"scheme":"HTTPS"}"#
        )
    );
    assert_eq!(
        exec("curl -f localhost").as_deref(),
        Some(r#"httpGet {"path":"/","port":80}"#)
    );
}

#[test]
fn connections_grpc_and_pauses_have_handlers_too() {
    for (command, handler) in [
        ("nc -z localhost 5432", r#"tcpSocket {"port":5432}"#),
        ("nc -zv -w 1 127.0.0.1 5432", r#"tcpSocket {"port":5432}"#),
        (
            "/bin/grpc_health_probe -addr=:50051",
            r#"grpc {"port":50051}"#,
        ),
        (
            "grpc_health_probe --addr localhost:50051 -service=shop -connect-timeout 2s",
            r#"grpc {"port":50051,"service":"shop"}"#,
        ),
        ("sleep 5", r#"sleep {"seconds":5}"#),
        ("/bin/sleep 1m", r#"sleep {"seconds":60}"#),
    ] {
        assert_eq!(exec(command).as_deref(), Some(handler), "{command}");
    }
    assert_eq!(
        of(&["sh", "-c", "sleep 10s"]).as_deref(),
        Some(r#"sleep {"seconds":10}"#)
    );
}

#[test]
fn what_is_not_the_same_has_none() {
    for command in [
        "curl -f http://api:8080/healthz",
        "curl -X POST http://localhost:8080/stop",
        "curl -d x localhost:80",
        "curl -u a:b localhost:80",
        "curl -f http://a:b@localhost:80/",
        "curl --unix-socket /x http://localhost/",
        "curl -f localhost:99999/",
        "curl -f ftp://localhost/",
        "curl -f http://localhost:8080/$(TOKEN)",
        "curl -f",
        "curl a b",
        "nc localhost 5432",
        "nc -zu localhost 53",
        "grpc_health_probe -addr=:1 -tls",
        "grpc_health_probe",
        "sleep 0.5",
        "sleep infinity",
        "sleep 9223372036854775807m",
        "cat /tmp/healthy",
        "sh -c",
        "",
    ] {
        assert_eq!(exec(command), None, "{command}");
    }
    for script in [
        "curl -f localhost:80 | grep ok",
        "curl -f localhost:80; sleep 1",
        "curl -f localhost:80 || true",
        "curl -f localhost:80 && test -f /x",
        "! curl -f localhost:80",
        "curl -f localhost:80 > /tmp/x",
        "curl -f localhost:80 >& /tmp/x",
        "curl -f localhost:$OTHER",
        "X=1 curl -f localhost:80",
    ] {
        assert_eq!(of(&["sh", "-c", script]), None, "{script}");
    }
}

#[test]
fn what_is_stricter_is_said() {
    let command = ["curl", "localhost:80"].map(str::to_owned);
    assert!(
        derive(&command, &Container::default(), &PodSpec::default())
            .unwrap()
            .caution
            .is_some()
    );
}

#[test]
fn on_the_nodes_network_the_loopback_stays_the_host() {
    let pod = PodSpec {
        host_network: Some(true),
        ..PodSpec::default()
    };
    let of = |command: &str| {
        let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
        derive(&command, &Container::default(), &pod).map(|derived| derived.handler.display())
    };
    for (command, handler) in [
        (
            "curl -f http://127.0.0.1:9099/live",
            Some(r#"httpGet {"host":"127.0.0.1","path":"/live","port":9099}"#),
        ),
        (
            "wget -q localhost:80/x",
            Some(r#"httpGet {"host":"127.0.0.1","path":"/x","port":80}"#),
        ),
        (
            "curl -f http://[::1]:80/x",
            Some(r#"httpGet {"host":"::1","path":"/x","port":80}"#),
        ),
        (
            "curl -f http://127.0.0.53:80/x",
            Some(r#"httpGet {"host":"127.0.0.53","path":"/x","port":80}"#),
        ),
        (
            "curl -f http://0.0.0.0:80/x",
            Some(r#"httpGet {"path":"/x","port":80}"#),
        ),
        (
            "nc -z localhost 5432",
            Some(r#"tcpSocket {"host":"127.0.0.1","port":5432}"#),
        ),
        ("grpc_health_probe -addr=localhost:50051", None),
        (
            "grpc_health_probe -addr=:50051",
            Some(r#"grpc {"port":50051}"#),
        ),
    ] {
        assert_eq!(of(command).as_deref(), handler, "{command}");
    }
}
