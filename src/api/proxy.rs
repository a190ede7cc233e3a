//! How builds reach what is outside of the cluster: by a proxy.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The proxy by which builds reach registries, git servers and what steps ask for.
///
/// None of it is secret: it stands in objects that many may read, and steps get it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// The proxy for `http://` URLs, for example `http://proxy.example.com:3128`; without credentials. Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("!self.contains('@')").message("proxy.httpProxy: credentials are not allowed in the URL, because many may read it: use a proxy \
        that allows the cluster's addresses without credentials"))]
    #[x_kube(validation = Rule::new(URL).message("proxy.httpProxy: invalid URL: write http://host:port or https://host:port, for example http://proxy.example.com:3128"))]
    pub http_proxy: String,
    /// The proxy for `https://` URLs; httpProxy where it is empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("!self.contains('@')").message("proxy.httpsProxy: credentials are not allowed in the URL, because many may read it: use a proxy \
        that allows the cluster's addresses without credentials"))]
    #[x_kube(validation = Rule::new(URL).message("proxy.httpsProxy: invalid URL: write http://host:port or https://host:port, for example http://proxy.example.com:3128"))]
    pub https_proxy: String,
    /// Hosts, domains (.example.com), addresses and prefixes that are reached without it, separated by commas. Names of the
    /// cluster (.svc, .cluster.local) always are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    #[x_kube(validation = Rule::new(HOSTS).message("proxy.noProxy: invalid: write hosts, domains as .example.com, addresses and prefixes, without ports and *., \
        separated by commas, for example registry.example.com,.corp.example.com,10.0.0.0/8"))]
    pub no_proxy: String,
}

/// A URL of a proxy; of what has credentials another rule speaks. The chart's schema has the same.
const URL: &str = "self == '' || self.contains('@') || self.matches('^https?://([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*|\\\\[[0-9A-Fa-f:.]+\\\\])(:[0-9]{1,5})?/?$')";

/// What programs agree on: Go reads ports and `*.`, curl and others do not.
const HOSTS: &str = "self.matches('^( *([*]|[.]?[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*(/[0-9]{1,3})?|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(/[0-9]{1,3})?)? *(,|$))*$')";

/// Never by a proxy: this machine, and what has a name within the cluster.
pub const NEVER_BY_PROXY: [&str; 5] = ["localhost", "127.0.0.1", "::1", ".svc", ".cluster.local"];

impl Proxy {
    /// The variables by which programs are told of it, in capitals; none where there is no proxy. `own`: hosts that are never
    /// reached by it, besides [`NEVER_BY_PROXY`].
    pub fn variables(&self, own: &[String]) -> Vec<(&'static str, String)> {
        let https = match self.https_proxy.as_str() {
            "" => &self.http_proxy,
            https => https,
        };
        let proxies = [("HTTP_PROXY", &self.http_proxy[..]), ("HTTPS_PROXY", https)];
        let proxies = proxies.into_iter().filter(|(_, url)| !url.is_empty());
        let mut all: Vec<(&str, String)> =
            proxies.map(|(name, url)| (name, url.to_owned())).collect();
        if all.is_empty() {
            return all;
        }
        let given = self
            .no_proxy
            .split(',')
            .map(str::trim)
            .filter(|it| !it.is_empty());
        let mut without: Vec<&str> = vec![];
        for one in NEVER_BY_PROXY
            .into_iter()
            .chain(own.iter().map(String::as_str))
            .chain(given)
        {
            if !without.contains(&one) {
                without.push(one);
            }
        }
        all.push(("NO_PROXY", without.join(",")));
        all
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Builder;
    use kube::core::cel::validate_cel;

    fn of(value: Value) -> Proxy {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn https_goes_where_http_goes_and_names_of_the_cluster_never_go_by_it() {
        let proxy = of(
            json!({"httpProxy": "http://p:3128", "noProxy": " r.example.com, 10.0.0.0/8 ,,.svc"}),
        );
        let all = proxy.variables(&["callback.example.com".into()]);
        assert_eq!(
            all,
            [
                ("HTTP_PROXY", "http://p:3128".to_owned()),
                ("HTTPS_PROXY", "http://p:3128".to_owned()),
                (
                    "NO_PROXY",
                    "localhost,127.0.0.1,::1,.svc,.cluster.local,callback.example.com,r.example.com,10.0.0.0/8"
                        .to_owned()
                ),
            ]
        );
        let own = of(json!({"httpsProxy": "http://s:3128"})).variables(&[]);
        assert_eq!(own[0], ("HTTPS_PROXY", "http://s:3128".to_owned()));
        assert_eq!(own.len(), 2);
    }

    #[test]
    fn without_a_proxy_there_are_no_variables() {
        assert!(of(json!({})).variables(&[]).is_empty());
        assert!(of(json!({"noProxy": "*"})).variables(&[]).is_empty());
    }

    #[test]
    fn what_is_no_proxy_is_refused_by_the_name_of_its_field_and_credentials_by_a_rule_of_their_own()
    {
        let told = |proxy: Value| {
            let spec = serde_json::from_value(json!({"proxy": proxy})).unwrap();
            let checked = validate_cel(&Builder::new("default", spec));
            checked.map_or_else(|error| error.to_string(), |()| String::new())
        };
        for url in [
            "",
            "http://proxy.example.com:3128",
            "https://10.0.0.1",
            "http://[fd00::1]:3128/",
        ] {
            assert_eq!(
                told(json!({"httpProxy": url, "httpsProxy": url})),
                "",
                "{url}"
            );
        }
        for url in [
            "proxy:3128",
            "socks5://proxy:1080",
            "http://proxy:3128/x",
            "http://pro xy",
            "http://",
            "http://a\nb",
        ] {
            let said = told(json!({"httpProxy": url}));
            assert!(
                said.contains("proxy.httpProxy: invalid URL: write http://"),
                "{url}: {said}"
            );
            let said = told(json!({"httpsProxy": url}));
            assert!(
                said.contains("proxy.httpsProxy: invalid URL"),
                "{url}: {said}"
            );
        }
        let said = told(json!({"httpProxy": "http://bob:pw@proxy:3128"}));
        assert!(
            said.contains("credentials are not allowed in the URL"),
            "{said}"
        );
        assert!(!said.contains("invalid URL"), "{said}");
        for hosts in [
            "",
            "*",
            "a",
            ".example.com, 10.0.0.0/8,fd00::/8 ,::1",
            "a_b,c,",
        ] {
            assert_eq!(told(json!({"noProxy": hosts})), "", "{hosts}");
        }
        for hosts in ["a:80", "*.example.com", "a b", "http://a", "a\n", "a;b"] {
            let said = told(json!({"noProxy": hosts}));
            assert!(
                said.contains("proxy.noProxy: invalid: write hosts"),
                "{hosts}: {said}"
            );
        }
    }
}
