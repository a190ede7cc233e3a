//! A Builder of a cluster as the daemon: each connection to a socket of the build's own goes to its Pod, through the API server
//! (`kubectl port-forward`, in process). Its client certificate is that of its runners, which not everybody may read.

use std::collections::BTreeMap;
use std::io;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::client::UpgradeConnectionError;
use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;
use whittle_api::{Builder, READY, Reason, ReplicaStatus, Sharing, find};
use whittle_build::seal::KEY_FILE;
use whittle_controller::builder::objects::PORT;
use whittle_controller::{names, placement, platforms};

use super::Error;
use super::relay::Relay;
use super::room::{Room, write_private};
use crate::cluster::{Reach, answer};

/// A Builder by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    namespace: Option<String>,
    name: String,
}

/// What leads to it.
pub struct Reached {
    /// The socket.
    pub relay: Relay,
    /// The name in its certificate.
    pub server_name: String,
}

/// The Builder of this address; none where it is of something else.
pub fn builder(address: &str) -> Option<Result<Named, Error>> {
    let text = address.strip_prefix("kube:")?;
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, text),
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let good = |text: &str| !text.is_empty() && text.chars().all(plain);
    Some(match good(name) && namespace.is_none_or(good) {
        true => Ok(Named {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }),
        false => Err(Error::new(format!(
            "--builder: invalid address {address}: write kube:NAMESPACE/NAME, for example kube:team/default"
        ))),
    })
}

impl Named {
    /// Answers at a socket in the room, once the Builder is up and its certificate is there.
    pub async fn reached(&self, reach: &Reach, room: &Room) -> Result<Reached, Error> {
        let failed = |failed: answer::Failed| Error::new(format!("--builder kube: {failed}"));
        let cluster = reach.cluster().await.map_err(failed)?;
        let (client, name) = (cluster.client, &self.name);
        let namespace = self.namespace.clone().unwrap_or(cluster.namespace);
        let told = |what: &str, error: &kube::Error| failed(answer::api(error, what));
        let what = format!("Builder {name} in namespace {namespace}");
        let builders = Api::<Builder>::namespaced(client.clone(), &namespace);
        let found = builders.get_opt(name).await;
        let found = found.map_err(|error| told(&what, &error))?;
        let found = found.ok_or_else(|| {
            Error::new(format!(
                "--builder kube: {what} not found: see kubectl get builders --all-namespaces"
            ))
        })?;
        if let Some(why) = away(&found) {
            return Err(Error::new(format!("--builder kube: {what} {why}")));
        }
        let secret = names::builder_client_tls(name);
        let of_secret = format!("Secret {secret} in namespace {namespace}");
        let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
        let certificates = secrets.get(&secret).await.map_err(|error| match &error {
            kube::Error::Api(said) if said.code == 403 => Error::new(format!(
                "--builder kube: {of_secret}: denied: {}: the builder's client certificate is in it: ask for a Role that allows to get \
                 it (whoever has it can use the builder and its cache), or build in the cluster: whittle build without --local",
                answer::said(&error)
            )),
            _ => told(&of_secret, &error),
        })?;
        let data = certificates.data.unwrap_or_default();
        let data = data
            .into_iter()
            .map(|(key, value)| (key, value.0))
            .collect();
        for (key, value) in checked(data).map_err(|key| {
            Error::new(format!("--builder kube: {of_secret} is missing key {key}"))
        })? {
            write_private(&room.tls().join(key), &value)?;
        }
        let pods = Pods {
            api: Api::namespaced(client, &namespace),
            pod: names::builder_pod(name, up(&found)),
        };
        // Where it is denied, it is told before buildctl finds a connection closed.
        drop(pods.open().await.map_err(|why| {
            let what = format!("Pod {} in namespace {namespace}", pods.pod);
            Error::new(format!("--builder kube: {what}: {why}"))
        })?);
        let relay = Relay::of(&room.folder().join("builder.sock"), move |stream| {
            carried(stream, pods.clone())
        })?;
        Ok(Reached {
            relay,
            server_name: names::builder_server_name(name, &namespace),
        })
    }
}

/// The first replica that takes builds, where the Builder has several.
fn up(builder: &Builder) -> i32 {
    let takes = |it: &&ReplicaStatus| it.ready && !it.draining;
    let first = placement::each(builder).iter().find(takes);
    first.map_or(0, |it| it.replica.max(0))
}

/// Why a Builder takes no builds now.
fn away(builder: &Builder) -> Option<String> {
    if let Some((of, _)) = platforms::parent(builder) {
        return Some(format!(
            "is the daemon of a platform of Builder {of}, which has no key of its own: name that one, kube:{}/{of}",
            builder.metadata.namespace.as_deref().unwrap_or_default()
        ));
    }
    let owners = builder.metadata.owner_references.iter().flatten();
    let is_own = owners.into_iter().any(|it| it.kind == "ImageBuild");
    if builder.spec.sharing != Sharing::Namespace && !is_own {
        return Some(
            "has no daemon of its own: with its spec.sharing each build or ImageBuild has one: name another Builder".into(),
        );
    }
    let status = builder.status.as_ref();
    if status.and_then(|status| status.state) == Some(Reason::Idle) {
        return Some(format!(
            "sleeps: nothing was built on it for {}: any build of the cluster wakes it, for example whittle rebuild IMAGEBUILD: then \
             try again",
            builder.spec.idle_timeout
        ));
    }
    let ready = status.and_then(|status| find(&status.conditions, READY));
    match ready {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(format!("is not ready: {}: {}", ready.reason, ready.message)),
        None => Some("is not ready: Whittle's controller has not looked at it yet".into()),
    }
}

/// The files of the Secret of a Builder's runners; else the key that is missing.
fn checked(data: BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, Vec<u8>>, &'static str> {
    const KEYS: [&str; 4] = ["tls.crt", "tls.key", "builder-ca.crt", KEY_FILE];
    match KEYS.iter().find(|key| !data.contains_key(**key)) {
        Some(key) => Err(key),
        None => {
            let ours = |(key, _): &(String, Vec<u8>)| KEYS.contains(&key.as_str());
            Ok(data.into_iter().filter(ours).collect())
        }
    }
}

/// The Pod of the daemon.
#[derive(Clone)]
struct Pods {
    api: Api<Pod>,
    pod: String,
}

impl Pods {
    /// A connection to it; an error in words for people.
    async fn open(&self) -> Result<tokio::io::DuplexStream, String> {
        let port = u16::try_from(PORT).map_err(|error| error.to_string())?;
        let forwarded = self.api.portforward(&self.pod, &[port]).await;
        let mut forwarded = forwarded.map_err(|error| refused(&error))?;
        let stream = forwarded.take_stream(port);
        stream.ok_or_else(|| "the API server forwards no port".to_owned())
    }
}

/// Why no port is forwarded.
fn refused(error: &kube::Error) -> String {
    let code = match error {
        kube::Error::Api(answer) => answer.code,
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) => {
            code.as_u16()
        }
        _ => 0,
    };
    let said = answer::said(error);
    match code {
        403 => format!(
            "denied: {said}: ask for a Role that allows to create and get pods/portforward (kubectl auth can-i create pods \
             --subresource=portforward)"
        ),
        404 => {
            format!("{said}: the builder may just have been put to sleep, or restarts: try again")
        }
        _ => format!("the port-forward failed: {said}"),
    }
}

/// Carries one connection to its end.
async fn carried(mut stream: UnixStream, pods: Pods) -> io::Result<()> {
    let mut there = pods.open().await.map_err(io::Error::other)?;
    copy_bidirectional(&mut stream, &mut there).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_builder_is_named_with_its_namespace_or_is_one_of_the_contexts() {
        let named = |namespace: Option<&str>, name: &str| {
            Some(Ok(Named {
                namespace: namespace.map(str::to_owned),
                name: name.into(),
            }))
        };
        assert_eq!(builder("kube:team/default"), named(Some("team"), "default"));
        assert_eq!(builder("kube:default"), named(None, "default"));
        for wrong in [
            "kube:",
            "kube:/x",
            "kube:team/",
            "kube://team/x",
            "kube:a/b/c",
        ] {
            let said = builder(wrong).unwrap().unwrap_err().to_string();
            assert!(
                said.contains("write kube:NAMESPACE/NAME"),
                "{wrong}: {said}"
            );
        }
        for other in ["kube-pod://x", "unix:///run/x.sock", "tcp://kube:1"] {
            assert_eq!(builder(other), None, "{other}");
        }
    }

    #[test]
    fn a_builder_that_is_not_up_says_why_and_what_to_do() {
        let of = |spec: Value, state: Option<&str>, ready: &str| {
            let ready = json!([{"type": "Ready", "status": ready, "reason": "Starting", "message": "the Pod starts",
                "lastTransitionTime": "2026-11-27T07:00:00Z"}]);
            let status = json!({"state": state, "conditions": ready});
            let builder = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"},
                "spec": spec, "status": status});
            away(&serde_json::from_value(builder).unwrap())
        };
        assert_eq!(of(json!({}), Some("Available"), "True"), None);
        let asleep = of(json!({}), Some("Idle"), "True").unwrap();
        assert!(
            asleep.contains("sleeps") && asleep.contains("wakes it"),
            "{asleep}"
        );
        let starting = of(json!({}), None, "Unknown").unwrap();
        assert_eq!(starting, "is not ready: Starting: the Pod starts");
        let own = of(json!({"sharing": "Build"}), None, "True").unwrap();
        assert!(own.contains("no daemon of its own"), "{own}");
        let of_platform = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "spec": {}, "metadata": {
            "name": "default-linux-arm64", "namespace": "team", "labels": {"whittle.dev/made-after": "default"},
            "ownerReferences": [{"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "name": "default", "uid": "u", "controller": true}]}});
        let said = away(&serde_json::from_value(of_platform).unwrap()).unwrap();
        assert!(said.ends_with("name that one, kube:team/default"), "{said}");
    }

    #[test]
    fn a_port_that_is_denied_is_told_with_the_rights_that_are_missing() {
        let denied = |code: u16| {
            let code = reqwest::StatusCode::from_u16(code).unwrap();
            let why = UpgradeConnectionError::ProtocolSwitch(code);
            refused(&kube::Error::UpgradeConnection(why))
        };
        assert!(denied(403).contains("create and get pods/portforward"));
        assert!(denied(404).contains("put to sleep"));
        assert!(denied(500).starts_with("the port-forward failed: "));
    }

    #[test]
    fn of_the_secret_what_a_runner_needs_is_taken_and_nothing_else() {
        let data = |keys: &[&str]| {
            let all = keys.iter().map(|key| ((*key).to_owned(), vec![1]));
            all.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(
            checked(data(&["tls.crt", "tls.key"])),
            Err("builder-ca.crt")
        );
        let all = ["tls.crt", "tls.key", "builder-ca.crt", "seal.key", "../x"];
        assert_eq!(checked(data(&all)).unwrap().len(), 4);
    }
}
