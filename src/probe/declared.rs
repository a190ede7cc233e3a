//! The health check of an ImageBuild as a handler.

use k8s_openapi::api::core::v1::{ExecAction, GRPCAction, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::handler::{Handler, one};
use whittle_api::HealthCheck;

impl Handler {
    /// The handler of an ImageBuild's healthCheck; none where there is none, or more than one.
    pub fn of_health_check(check: &HealthCheck) -> Option<Self> {
        let http = check.http_get.as_ref().map(|http| HTTPGetAction {
            path: Some(http.path.clone()),
            port: IntOrString::Int(http.port),
            scheme: Some(http.scheme.as_str().to_owned()).filter(|scheme| scheme != "HTTP"),
            ..HTTPGetAction::default()
        });
        let tcp = check.tcp_socket.as_ref().map(|tcp| TCPSocketAction {
            port: IntOrString::Int(tcp.port),
            host: None,
        });
        let grpc = check.grpc.as_ref().map(|grpc| GRPCAction {
            port: grpc.port,
            service: grpc.service.clone(),
        });
        let exec = check.exec.as_ref().map(|exec| ExecAction {
            command: Some(exec.command.clone()),
        });
        one([
            exec.map(Self::Exec),
            http.map(Self::HttpGet),
            tcp.map(Self::TcpSocket),
            grpc.map(Self::Grpc),
            None,
        ])
        .ok()
    }
}
