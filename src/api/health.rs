//! `spec.healthCheck`: how the image shows that it works, before any tag points to it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{NO_NUL, item};

/// What the image must answer as a Pod before any tag points to it: exactly one of `httpGet`, `tcpSocket`, `grpc`, `exec` and,
/// for programs that end, `run`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.httpGet), has(self.tcpSocket), has(self.grpc), has(self.exec), has(self.run)].filter(x, x).size() == 1").message("healthCheck: set exactly one of httpGet, tcpSocket, grpc, exec and run"))]
#[x_kube(validation = Rule::new("!has(self.run) || !has(self.args)").message("healthCheck.args: not allowed beside run: use run.args"))]
pub struct HealthCheck {
    /// A request that must be answered with a status from 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// A port that must accept connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocket>,
    /// A port that must answer the gRPC health protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Grpc>,
    /// A command within the container that must end with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// How the image's own program must end: for tools and jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// As whom an image whose USER is root runs: Restricted, the default, as user 65532; Image, as root, for which its namespace must
    /// allow Pod Security level baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<RunAs>,
    /// Seconds from the container's start until the probe must have succeeded, or the program must have ended.
    #[serde(default = "timeout_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: i32,
    /// Arguments in place of the image's CMD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("items" = item(0, 4096, NO_NUL, "healthCheck.args: NUL characters are not allowed"))
    )]
    #[x_kube(validation = Rule::new("self.map(a, size(a)).sum() <= 16384").message("healthCheck.args: too large: more than 16,384 characters in total"))]
    pub args: Vec<String>,
    /// Environment of the container. Not for secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.map(v, size(v.name) + (has(v.value) ? size(v.value) : 0)).sum() <= 32768").message("healthCheck.env: too large: more than 32,768 characters in total"))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<Variable>,
    /// Memory request and limit of the container, for example 512Mi; absent: a request of 32Mi, and no limit but the namespace's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("healthCheck.memory: invalid: write a quantity over 0, for example 512Mi"))]
    pub memory: Option<String>,
}

fn timeout_seconds() -> i32 {
    30
}

/// An HTTP request, as the kubelet sends it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    /// Its path, with a query where there is one.
    #[serde(default = "root")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("healthCheck.httpGet.path: invalid path: it must start with /, for example /healthz"))]
    pub path: String,
    /// The port within the container.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// HTTP, or HTTPS, whose certificate is not checked.
    #[serde(default)]
    pub scheme: Scheme,
}

fn root() -> String {
    "/".into()
}

/// How an HTTP request goes.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Scheme {
    /// Plain.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    /// Over TLS.
    #[serde(rename = "HTTPS")]
    Https,
}

impl Scheme {
    /// As a probe writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        }
    }
}

/// A TCP connection.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpSocket {
    /// The port within the container.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// The gRPC health protocol
/// (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grpc {
    /// The port within the container.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The service to check; absent: the whole server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service: Option<String>,
}

/// A command, which no shell reads.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exec {
    /// The program and its arguments.
    #[schemars(
        length(min = 1, max = 64),
        extend("items" = item(0, 4096, NO_NUL, "healthCheck.exec: NUL characters are not allowed"))
    )]
    #[x_kube(validation = Rule::new("self.map(a, size(a)).sum() <= 16384").message("healthCheck.exec: too large: more than 16,384 characters in total"))]
    pub command: Vec<String>,
}

/// A program that ends.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Arguments in place of the image's CMD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("items" = item(0, 4096, NO_NUL, "healthCheck.run.args: NUL characters are not allowed"))
    )]
    #[x_kube(validation = Rule::new("self.map(a, size(a)).sum() <= 16384").message("healthCheck.run.args: too large: more than 16,384 characters in total"))]
    pub args: Vec<String>,
    /// The exit code that it must end with.
    #[serde(default)]
    #[schemars(range(min = 0, max = 255))]
    pub exit_code: i32,
    /// A text that must stand in the first 64 KiB of its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub stdout: Option<String>,
}

/// As whom an image whose USER is root is checked.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum RunAs {
    /// As user 65532, within Pod Security level restricted.
    #[default]
    Restricted,
    /// As the image says: root, with the capabilities that containers have by default.
    Image,
}

/// A variable of the environment.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Its name.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^[ -<>-~]+$')").message("healthCheck.env: invalid name: use printable ASCII characters without ="))]
    pub name: String,
    /// Its value.
    #[serde(default)]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = Rule::new(NO_NUL).message("healthCheck.env: NUL characters are not allowed"))]
    pub value: String,
}
