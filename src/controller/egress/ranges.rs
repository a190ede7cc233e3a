//! From what was found of a cluster to the prefixes that are closed to build steps.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

/// Closed whatever else is: link-local addresses, and the metadata services of clouds, which may hold the node's credentials
/// (of several; Azure's wire server, Alibaba, Oracle; AWS and Google by IPv6).
const ALWAYS: [&str; 7] = [
    "169.254.0.0/16",
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "fe80::/10",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
];
/// Prefixes of a family, at most, where wider ones can be had.
const FEW: usize = 100;
/// Prefixes of a family, at most: public addresses of nodes are closed one by one, as wider prefixes would be others'.
const MOST: usize = 1000;
/// No prefix is made wider than this.
const WIDEST: (u8, u8) = (16, 48);
/// Addresses and ranges of a Node that are taken, at most.
const OF_A_NODE: usize = 8;

/// What is closed, as in `except` of a NetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Of `0.0.0.0/0`.
    pub v4: Vec<String>,
    /// Of `::/0`.
    pub v6: Vec<String>,
    /// Where that comes from, for people.
    pub note: String,
}

impl Closed {
    fn of(prefixes: impl IntoIterator<Item = IpNet>, note: String) -> Self {
        let always = ALWAYS.iter().filter_map(|text| text.parse().ok());
        let (mut v4, mut v6) = (vec![], vec![]);
        for prefix in always.chain(prefixes) {
            match prefix {
                IpNet::V4(_) => v4.push(prefix),
                IpNet::V6(_) => v6.push(prefix),
            }
        }
        let text = |all| few(all).iter().map(ToString::to_string).collect();
        Self {
            v4: text(v4),
            v6: text(v6),
            note,
        }
    }
}

/// What the administrator gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given(Vec<IpNet>);

impl Given {
    /// Reads `builder.egress.clusterCIDRs`.
    ///
    /// # Errors
    /// Which of them is invalid.
    pub fn read(texts: &[String]) -> Result<Self, String> {
        let one = |text: &String| {
            let prefix = text.parse::<IpNet>();
            prefix.map(|prefix| prefix.trunc()).map_err(|_| {
                format!(
                    "builder.egress.clusterCIDRs: {text:?} is invalid: write address/length, for \
                        example 10.96.0.0/16"
                )
            })
        };
        texts.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// What that closes.
    pub fn closed(&self) -> Closed {
        let note = "given by builder.egress.clusterCIDRs of the chart";
        Closed::of(self.0.clone(), note.into())
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Those of ServiceCIDRs; none where the API server has no such kind, or denies to list it.
    pub services: Option<Vec<String>>,
    /// The address of the Service `kubernetes`.
    pub service: Option<IpAddr>,
    /// The API server's own addresses: of the EndpointSlice `kubernetes`.
    pub api_server: Vec<String>,
    /// The Nodes.
    pub nodes: Vec<NodeRanges>,
}

/// Of a Node.
#[derive(Clone, Debug, Default)]
pub struct NodeRanges {
    /// Its UID.
    pub uid: String,
    /// Its addresses; names are among them.
    pub addresses: Vec<String>,
    /// The ranges of its Pods.
    pub pods: Vec<String>,
}

impl NodeRanges {
    /// Those of a Node.
    pub fn of(node: Node) -> Self {
        let (spec, status) = (
            node.spec.unwrap_or_default(),
            node.status.unwrap_or_default(),
        );
        let addresses = status.addresses.unwrap_or_default().into_iter();
        let pods = spec.pod_cidrs.unwrap_or_default().into_iter();
        Self {
            uid: node.metadata.uid.unwrap_or_default(),
            addresses: addresses.take(OF_A_NODE).map(|it| it.address).collect(),
            pods: pods.take(OF_A_NODE).collect(),
        }
    }
}

impl Found {
    /// What that closes.
    pub fn closed(&self) -> Closed {
        let services = self.services.iter().flatten();
        let of_nodes = self
            .nodes
            .iter()
            .flat_map(|node| node.pods.iter().chain(&node.addresses));
        let all = services.chain(&self.api_server).chain(of_nodes);
        let all = all.filter_map(|text| prefix(text));
        Closed::of(all.chain(self.service.map(IpNet::from)), self.note())
    }

    /// True where a Node has no range yet, as others have.
    pub fn waits(&self) -> bool {
        let without = self.without_pods();
        without > 0 && without < self.nodes.len()
    }

    fn without_pods(&self) -> usize {
        let without = self.nodes.iter().filter(|node| node.pods.is_empty());
        without.count()
    }

    /// Which kinds of addresses were found, and which were not: the policy is open to these.
    fn note(&self) -> String {
        let kinds = [
            ("Service CIDRs", self.services.is_some()),
            (
                "Pod CIDRs",
                !self.nodes.is_empty() && self.without_pods() == 0,
            ),
            ("addresses of Nodes", !self.nodes.is_empty()),
            ("addresses of the API server", !self.api_server.is_empty()),
        ];
        let named = |found: bool| -> Vec<&str> {
            let of = kinds.iter().filter(|(_, it)| *it == found);
            of.map(|(name, _)| *name).collect()
        };
        let (found, missing) = (named(true).join(", "), named(false).join(", "));
        match missing.as_str() {
            "" => format!("found: {found}"),
            _ => format!(
                "found: {found}; not found: {missing}: set builder.egress.clusterCIDRs of the chart"
            ),
        }
    }
}

/// A prefix, or an address as one; none where it is neither.
fn prefix(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let prefix = text.parse().or_else(|_| address()).ok()?;
    Some(prefix.trunc())
}

/// These of one family as few prefixes: neighbors are put together, and private ones are made wider, step by step.
fn few(all: Vec<IpNet>) -> Vec<IpNet> {
    let (private, public): (Vec<_>, Vec<_>) = all.into_iter().partition(is_private);
    let (mut private, mut public) = (IpNet::aggregate(&private), IpNet::aggregate(&public));
    for length in (WIDEST.0..128).rev() {
        if private.len() <= FEW {
            break;
        }
        let wider: Vec<IpNet> = private.into_iter().map(|it| widened(it, length)).collect();
        private = IpNet::aggregate(&wider);
    }
    private.truncate(MOST);
    public.truncate(MOST - private.len());
    private.extend(public);
    private.sort();
    private
}

/// It, or what it is in of this length.
fn widened(prefix: IpNet, length: u8) -> IpNet {
    let widest = match prefix {
        IpNet::V4(_) => WIDEST.0,
        IpNet::V6(_) => WIDEST.1,
    };
    if length < widest || prefix.prefix_len() <= length {
        return prefix;
    }
    IpNet::new(prefix.addr(), length).map_or(prefix, |wide| wide.trunc())
}

/// RFC 1918 and 4193, and what carriers share, which clouds give to Pods.
fn is_private(prefix: &IpNet) -> bool {
    match prefix.addr() {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_private() || a == 100 && (64..128).contains(&b)
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|it| (*it).to_owned()).collect()
    }

    fn node(addresses: &[&str], pods: &[&str]) -> NodeRanges {
        NodeRanges {
            uid: addresses.join(","),
            addresses: texts(addresses),
            pods: texts(pods),
        }
    }

    /// Without what is always closed.
    fn closed(found: &Found) -> Vec<String> {
        let closed = found.closed();
        let all = closed.v4.into_iter().chain(closed.v6);
        all.filter(|it| !ALWAYS.contains(&it.as_str())).collect()
    }

    #[test]
    fn services_pods_nodes_and_the_api_server_are_closed() {
        let found = Found {
            services: Some(texts(&["10.96.0.0/16", "fd00:96::/108"])),
            service: "10.96.0.1".parse().ok(),
            api_server: texts(&["203.0.113.7"]),
            nodes: vec![
                node(&["10.0.0.2", "node-2"], &["10.244.0.0/24", "fd00:44::/64"]),
                node(&["10.0.0.3", "198.51.100.9"], &["10.244.1.0/24"]),
            ],
        };
        let expected = [
            "10.0.0.2/31",
            "10.96.0.0/16",
            "10.244.0.0/23",
            "198.51.100.9/32",
            "203.0.113.7/32",
            "fd00:44::/64",
            "fd00:96::/108",
        ];
        assert_eq!(closed(&found), expected);
        assert!(found.closed().note.ends_with("of the API server"));
        assert!(found.closed().v4.contains(&"169.254.0.0/16".to_owned()));
    }

    #[test]
    fn what_is_not_found_is_named_with_what_to_do() {
        let found = Found {
            service: "10.96.0.1".parse().ok(),
            api_server: texts(&["10.0.0.1"]),
            nodes: vec![node(&["10.0.0.2"], &[])],
            ..Found::default()
        };
        let note = found.closed().note;
        assert!(
            note.contains("not found: Service CIDRs, Pod CIDRs: set builder.egress.clusterCIDRs"),
            "{note}"
        );
        // On an API server without ServiceCIDRs: the one address that is known.
        assert!(closed(&found).contains(&"10.96.0.1/32".to_owned()));
        assert!(!found.waits());
    }

    #[test]
    fn a_node_that_has_no_range_yet_is_looked_at_again_soon() {
        let found = Found {
            nodes: vec![
                node(&["10.0.0.2"], &["10.244.0.0/24"]),
                node(&["10.0.0.3"], &[]),
            ],
            ..Found::default()
        };
        assert!(found.waits());
    }

    #[test]
    fn five_thousand_nodes_are_few_prefixes_that_cover_each_of_them() {
        let nodes: Vec<NodeRanges> = (0..5000u32)
            .map(|at| {
                // Scattered: no two are neighbors.
                let (high, low) = (at * 3 / 256 % 256, at * 3 % 256);
                let public = format!("{}.{}.{high}.{low}", 34 + at % 3, at % 200);
                let private = format!("10.{}.{high}.{low}", at % 4);
                let pods = format!("100.{}.{}.0/25", 64 + at / 250, at % 250);
                node(&[&private, &public], &[&pods, &format!("fd00:{at:x}::/64")])
            })
            .collect();
        let found = Found {
            nodes,
            ..Found::default()
        };
        let made = found.closed();
        assert!(made.v4.len() <= MOST && made.v6.len() <= MOST);
        let prefixes: Vec<IpNet> = made.v4.iter().map(|it| it.parse().unwrap()).collect();
        for node in &found.nodes {
            for text in [&node.addresses[0], &node.pods[0]] {
                let wanted = prefix(text).unwrap();
                assert!(prefixes.iter().any(|it| it.contains(&wanted)), "{text}");
            }
        }
        // Nobody else's addresses go with theirs.
        let public = |net: &&IpNet| net.addr().to_string().starts_with("3");
        assert!(
            prefixes
                .iter()
                .filter(public)
                .all(|it| it.prefix_len() >= 31)
        );
    }

    #[test]
    fn an_invalid_prefix_is_named() {
        let error = Given::read(&texts(&["10.0.0.0/8", "10.0.0/8"])).unwrap_err();
        assert!(error.contains("clusterCIDRs: \"10.0.0/8\""), "{error}");
        let closed = Given::read(&texts(&["10.1.2.3/8"])).unwrap().closed();
        assert!(closed.v4.contains(&"10.0.0.0/8".to_owned()));
    }
}
