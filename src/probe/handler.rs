//! What a probe or a lifecycle hook does, apart from when it does it: the one type for both.

use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, SleepAction,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;

/// The handler of a probe or of a lifecycle hook; serialized with the field names of Kubernetes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Handler {
    /// Runs a program in the container.
    Exec(ExecAction),
    /// Asks over HTTP.
    HttpGet(HTTPGetAction),
    /// Connects.
    TcpSocket(TCPSocketAction),
    /// Asks grpc.health.v1.Health.
    Grpc(GRPCAction),
    /// Waits; lifecycle hooks alone have it (KEP-3960).
    Sleep(SleepAction),
}

/// How many handlers there are where one is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    None,
    Several,
}

impl Handler {
    /// The handler of a probe that has just one.
    pub fn of(probe: &Probe) -> Option<Self> {
        Self::of_probe(probe).ok()
    }

    /// The handler of a probe; an error where there is none, or more than one.
    pub(super) fn of_probe(probe: &Probe) -> Result<Self, Malformed> {
        one([
            probe.exec.clone().map(Self::Exec),
            probe.http_get.clone().map(Self::HttpGet),
            probe.tcp_socket.clone().map(Self::TcpSocket),
            probe.grpc.clone().map(Self::Grpc),
            None,
        ])
    }

    /// The handler of a lifecycle hook; an error where there is none, or more than one.
    pub(super) fn of_hook(hook: &LifecycleHandler) -> Result<Self, Malformed> {
        one([
            hook.exec.clone().map(Self::Exec),
            hook.http_get.clone().map(Self::HttpGet),
            hook.tcp_socket.clone().map(Self::TcpSocket),
            None,
            hook.sleep.clone().map(Self::Sleep),
        ])
    }

    /// The field's name in a manifest: `exec`, `httpGet`, `tcpSocket`, `grpc`, `sleep`.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::HttpGet(_) => "httpGet",
            Self::TcpSocket(_) => "tcpSocket",
            Self::Grpc(_) => "grpc",
            Self::Sleep(_) => "sleep",
        }
    }

    /// The field's value, as JSON.
    pub fn value(&self) -> serde_json::Value {
        let value = match self {
            Self::Exec(action) => serde_json::to_value(action),
            Self::HttpGet(action) => serde_json::to_value(action),
            Self::TcpSocket(action) => serde_json::to_value(action),
            Self::Grpc(action) => serde_json::to_value(action),
            Self::Sleep(action) => serde_json::to_value(action),
        };
        // These types hold texts and numbers alone: nothing in them can fail.
        value.unwrap_or_default()
    }

    /// One line for people: `httpGet {"path":"/healthz","port":8080}`.
    pub fn display(&self) -> String {
        format!("{} {}", self.field(), self.value())
    }
}

/// The one of them; an error where there is none, or more than one.
pub(super) fn one(handlers: [Option<Handler>; 5]) -> Result<Handler, Malformed> {
    let mut found = handlers.into_iter().flatten();
    match (found.next(), found.next()) {
        (Some(handler), None) => Ok(handler),
        (None, _) => Err(Malformed::None),
        (Some(_), Some(_)) => Err(Malformed::Several),
    }
}

/// What is said of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// It is one; a warning where the container does not declare it.
    Good(Option<String>),
    /// No probe can reach it.
    Bad(String),
}

/// Judges a port as the kubelet resolves it: a name among the container's own ports, or a number from 1
/// to 65535 (ResolveContainerPort, pkg/probe/util.go).
pub(super) fn port(port: &IntOrString, container: &Container) -> Port {
    let ports = container.ports.as_deref().unwrap_or_default();
    let number = match port {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(name) => {
            match ports
                .iter()
                .find(|port| port.name.as_deref() == Some(name.as_str()))
            {
                Some(port) => i64::from(port.container_port),
                None => match name.parse::<i64>() {
                    // The kubelet would take it; the API server does not (IsValidPortName, apimachinery).
                    Ok(_) => {
                        return Port::Bad(format!(
                            "invalid port \"{name}\": write a number, or a name with a letter"
                        ));
                    }
                    Err(_) => {
                        let names: Vec<&str> = ports
                            .iter()
                            .filter_map(|port| port.name.as_deref())
                            .collect();
                        return Port::Bad(if names.is_empty() {
                            format!("port {name} not found: the container has no named ports")
                        } else {
                            format!(
                                "port {name} not found: the container's ports are named {}",
                                names.join(", ")
                            )
                        });
                    }
                },
            }
        }
    };
    if !(1..=65535).contains(&number) {
        return Port::Bad(format!("invalid port {number}: ports are from 1 to 65535"));
    }
    let declared = ports
        .iter()
        .any(|port| i64::from(port.container_port) == number);
    // Declaring ports is optional: where some are and this is not, it may be a slip.
    Port::Good((!ports.is_empty() && !declared).then(|| {
        format!("port {number} is not declared by the container: allowed, but possibly a mistake")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ContainerPort;

    #[test]
    fn a_port_is_found_by_its_name_in_its_own_container_and_by_its_number() {
        let container = Container {
            ports: Some(vec![ContainerPort {
                name: Some("http".into()),
                container_port: 8080,
                ..ContainerPort::default()
            }]),
            ..Container::default()
        };
        let bare = Container::default();
        let of = |text: &str| IntOrString::String(text.into());
        assert_eq!(port(&of("http"), &container), Port::Good(None));
        assert_eq!(port(&IntOrString::Int(8080), &container), Port::Good(None));
        assert_eq!(port(&IntOrString::Int(9), &bare), Port::Good(None));
        assert!(matches!(
            port(&IntOrString::Int(9), &container),
            Port::Good(Some(_))
        ));
        for (bad, container) in [
            (of("web"), &container),
            (of("web"), &bare),
            (of(""), &bare),
            (of("8080"), &container),
            (IntOrString::Int(0), &container),
            (IntOrString::Int(-1), &container),
            (IntOrString::Int(65536), &container),
            (of("99999999999999999999"), &container),
        ] {
            assert!(matches!(port(&bad, container), Port::Bad(_)), "{bad:?}");
        }
    }

    #[test]
    fn a_probe_has_one_handler() {
        assert_eq!(Handler::of_probe(&Probe::default()), Err(Malformed::None));
        let both = Probe {
            exec: Some(ExecAction::default()),
            grpc: Some(GRPCAction::default()),
            ..Probe::default()
        };
        assert_eq!(Handler::of_probe(&both), Err(Malformed::Several));
    }
}
