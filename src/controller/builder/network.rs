//! The Builder's NetworkPolicy: who reaches its daemon, and what its build steps reach.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::objects::{PORT, metadata, selector};
use crate::egress::Closed;
use crate::{names, platforms, sharing};
use whittle_api::Builder;

/// Only this Builder's runners reach the daemon, and that of a platform those of the Builder whose platform it is.
pub fn policy(builder: &Builder) -> NetworkPolicy {
    let whose = match sharing::owner(builder).filter(|_| sharing::is_own(builder)) {
        Some((_, uid)) => (names::IMAGE_BUILD_UID, uid.to_owned()),
        None => (names::BUILDER_NAME, platforms::whose(builder)),
    };
    let runners = [(names::COMPONENT, names::RUNNER.to_owned()), whose];
    NetworkPolicy {
        metadata: metadata(builder),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labels(selector(builder))),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some(vec![NetworkPolicyPeer {
                    pod_selector: Some(labels(
                        runners.map(|(key, value)| (key.to_owned(), value)).into(),
                    )),
                    ..NetworkPolicyPeer::default()
                }]),
                ports: Some(vec![port("TCP", PORT)]),
            }]),
            egress: None,
        }),
    }
}

/// From now on the steps reach names (port 53), what is not `closed`, and what `allow` says.
pub fn hold(policy: &mut NetworkPolicy, closed: &Closed, allow: &[NetworkPolicyEgressRule]) {
    let note = (names::EGRESS.to_owned(), closed.note.clone());
    policy.annotations_mut().extend([note]);
    let Some(spec) = &mut policy.spec else { return };
    let outside: Vec<NetworkPolicyPeer> = [("0.0.0.0/0", &closed.v4), ("::/0", &closed.v6)]
        .into_iter()
        // The API server accepts no exception as wide as what it is of.
        .filter(|(all, except)| except.iter().all(|one| one != all))
        .map(|(all, except)| NetworkPolicyPeer {
            ip_block: Some(IPBlock {
                cidr: all.into(),
                except: Some(except.clone()),
            }),
            ..NetworkPolicyPeer::default()
        })
        .collect();
    let names = NetworkPolicyEgressRule {
        // Anywhere: some plugins look at a packet before its Service's address is turned into a Pod's, others after, and
        // the node may have a cache of names of its own.
        ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
        to: None,
    };
    // Without a peer a rule would be open to all.
    let outside = (!outside.is_empty()).then_some(NetworkPolicyEgressRule {
        ports: None,
        to: Some(outside),
    });
    let rules = [names].into_iter().chain(outside);
    spec.egress = Some(rules.chain(allow.iter().cloned()).collect());
    spec.policy_types = Some(vec!["Ingress".into(), "Egress".into()]);
}

fn labels(all: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(all),
        match_expressions: None,
    }
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number)),
        protocol: Some(protocol.into()),
        end_port: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Given;
    use crate::fixtures;

    fn held(cidrs: &[&str], allow: Vec<NetworkPolicyEgressRule>) -> NetworkPolicy {
        let cidrs: Vec<String> = cidrs.iter().map(|it| (*it).to_owned()).collect();
        let mut made = policy(&fixtures::builder());
        hold(&mut made, &Given::read(&cidrs).unwrap().closed(), &allow);
        made
    }

    #[test]
    fn steps_reach_names_and_what_is_outside_of_the_cluster() {
        let policy = held(&["10.96.0.0/16", "10.244.0.0/16", "fd00:10::/64"], vec![]);
        insta::assert_yaml_snapshot!("builder-egress", policy);
    }

    #[test]
    fn what_the_administrator_allows_stands_behind_it() {
        let rule = NetworkPolicyEgressRule {
            ports: Some(vec![port("TCP", 5000)]),
            to: Some(vec![NetworkPolicyPeer {
                namespace_selector: Some(labels(BTreeMap::from([("a".into(), "b".into())]))),
                ..NetworkPolicyPeer::default()
            }]),
        };
        let spec = held(&["10.96.0.0/16"], vec![rule.clone()]).spec.unwrap();
        assert_eq!(spec.egress.unwrap().last(), Some(&rule));
    }

    #[test]
    fn a_family_that_is_closed_as_a_whole_has_no_rule_that_would_open_it() {
        let spec = held(&["::/0"], vec![]).spec.unwrap();
        let egress = spec.egress.unwrap();
        assert_eq!(egress[1].to.as_ref().unwrap().len(), 1);
        let spec = held(&["::/0", "0.0.0.0/0"], vec![]).spec.unwrap();
        let egress = spec.egress.unwrap();
        assert_eq!(egress.len(), 1, "{egress:?}");
    }
}
