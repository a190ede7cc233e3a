//! How the Pods of builds reach what is outside of the cluster: by which proxy, and whose certificates they trust. Builders,
//! runners and watchers are told alike.

use k8s_openapi::api::core::v1::{EnvVar, Volume, VolumeMount};
use kube::ResourceExt;

use crate::builder::objects::{config_map_volume, mount};
use crate::names;
use crate::settings::Settings;
use whittle_api::{Builder, Proxy};
use whittle_build::request::paths;

/// Key of a Builder's ConfigMap with the certificates that the installation trusts.
pub const CA_KEY: &str = "ca.crt";

/// The proxy that holds for a Builder: its own, where it has one, else the installation's.
pub fn proxy<'a>(builder: &'a Builder, settings: &'a Settings) -> Option<&'a Proxy> {
    builder.spec.proxy.as_ref().or(settings.proxy.as_ref())
}

/// The variables of that proxy, in capitals. The controller is never asked by it.
pub fn proxy_variables(builder: &Builder, settings: &Settings) -> Vec<(&'static str, String)> {
    let host = settings
        .callback
        .as_ref()
        .and_then(|callback| host(&callback.url));
    let own: Vec<String> = host.into_iter().collect();
    proxy(builder, settings).map_or_else(Vec::new, |proxy| proxy.variables(&own))
}

fn host(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_owned())
}

/// The environment of a container that reaches out.
pub fn environment(builder: &Builder, settings: &Settings) -> Vec<EnvVar> {
    let variable = |name: &str, value: &str| EnvVar {
        name: name.into(),
        value: Some(value.into()),
        value_from: None,
    };
    let proxies = proxy_variables(builder, settings);
    // git reads the proxy of http:// URLs in small letters alone.
    let mut all: Vec<EnvVar> = proxies
        .iter()
        .flat_map(|(name, value)| [variable(name, value), variable(&name.to_lowercase(), value)])
        .collect();
    let folders: Vec<&str> = trusted(builder, settings).iter().map(|it| it.1).collect();
    if !folders.is_empty() {
        // Go reads all files of these besides its usual bundle; so does rustls besides SSL_CERT_FILE, which the image sets, and reads
        // nothing else then.
        all.push(variable("SSL_CERT_DIR", &folders.join(":")));
    }
    all
}

/// The volumes with what such a container trusts. `late`: it may start before they exist.
pub fn volumes(
    builder: &Builder,
    settings: &Settings,
    late: bool,
) -> (Vec<Volume>, Vec<VolumeMount>) {
    let all = trusted(builder, settings).into_iter();
    all.map(|(name, folder, (config_map, key), optional)| {
        let mut volume = config_map_volume(name, config_map, Some((key, CA_KEY.into())));
        if let Some(of) = &mut volume.config_map {
            of.optional = (late || optional).then_some(true);
        }
        (volume, mount(name, folder.into(), true))
    })
    .unzip()
}

/// What is trusted besides the public authorities: name of the volume, folder, ConfigMap and key, and whether it may be missing.
fn trusted(
    builder: &Builder,
    settings: &Settings,
) -> Vec<(&'static str, &'static str, (String, String), bool)> {
    let mut all = vec![];
    if settings.ca_file.is_some() {
        // It is there before the daemon is; of a Builder that an earlier version made, it comes with the next look at it.
        let of = (names::builder(&builder.name_any()), CA_KEY.to_owned());
        all.push(("ca-installation", paths::CA_INSTALLATION, of, true));
    }
    if let Some(ca) = &builder.spec.ca_ref {
        let of = (ca.name.clone(), ca.key.clone());
        all.push(("ca-builder", paths::CA_BUILDER, of, false));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use serde_json::json;

    fn settings() -> Settings {
        let mut settings = fixtures::settings();
        settings.proxy = serde_json::from_value(
            json!({"httpProxy": "http://proxy.example.com:3128", "noProxy": ".corp.example.com"}),
        )
        .unwrap();
        settings.ca_file = Some("/etc/whittle-ca/ca.crt".into());
        settings
    }

    fn with(spec: serde_json::Value) -> Builder {
        let mut builder = fixtures::builder();
        builder.spec = serde_json::from_value(spec).unwrap();
        builder
    }

    fn of(env: &[EnvVar], name: &str) -> Option<String> {
        let mut found = env.iter().filter(|it| it.name == name);
        found.next().and_then(|it| it.value.clone())
    }

    #[test]
    fn an_installation_without_a_proxy_and_certificates_changes_nothing() {
        let (builder, settings) = (fixtures::builder(), fixtures::settings());
        assert!(environment(&builder, &settings).is_empty());
        assert_eq!(volumes(&builder, &settings, false), (vec![], vec![]));
    }

    #[test]
    fn the_installations_proxy_holds_for_each_builder_and_its_controller_is_never_asked_by_it() {
        let env = environment(&fixtures::builder(), &settings());
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            let value = of(&env, name).unwrap();
            assert_eq!(value, "http://proxy.example.com:3128", "{name}");
        }
        for name in ["NO_PROXY", "no_proxy"] {
            let value = of(&env, name).unwrap();
            assert!(value.contains("whittle.whittle-system.svc"), "{value}");
            assert!(value.ends_with(",.corp.example.com"), "{value}");
        }
        let mut elsewhere = settings();
        for (url, expected) in [
            ("https://10.0.0.9:8443", ",10.0.0.9,"),
            ("https://[fd00::9]:8443/x", ",fd00::9,"),
        ] {
            elsewhere.callback.as_mut().unwrap().url = url.into();
            let env = environment(&fixtures::builder(), &elsewhere);
            let value = of(&env, "NO_PROXY").unwrap();
            assert!(value.contains(expected), "{value}");
        }
    }

    #[test]
    fn a_builders_own_proxy_takes_its_place_and_an_empty_one_is_none() {
        let own = with(json!({"proxy": {"httpsProxy": "http://other.example.com:8080"}}));
        let env = environment(&own, &settings());
        assert_eq!(of(&env, "HTTP_PROXY"), None);
        let https = of(&env, "HTTPS_PROXY").unwrap();
        assert_eq!(https, "http://other.example.com:8080");
        let no = of(&env, "NO_PROXY").unwrap();
        assert!(!no.contains("corp"), "{no}");
        let env = environment(&with(json!({"proxy": {}})), &settings());
        assert!(!env.iter().any(|it| it.name.contains("PROXY")), "{env:?}");
    }

    #[test]
    fn a_builders_certificates_stand_beside_the_installations() {
        let own = with(json!({"caRef": {"name": "corporate", "key": "bundle.pem"}}));
        let env = environment(&own, &settings());
        let folders = of(&env, "SSL_CERT_DIR").unwrap();
        assert_eq!(folders, "/whittle/ca/installation:/whittle/ca/builder");
        let (volumes, mounts) = volumes(&own, &settings(), false);
        let of = |at: usize| {
            let of = volumes[at].config_map.clone().unwrap();
            let item = of.items.unwrap().remove(0);
            (of.name, item.key, item.path, of.optional)
        };
        assert_eq!(
            of(0),
            (
                "whittle-builder-default".into(),
                "ca.crt".into(),
                "ca.crt".into(),
                Some(true)
            )
        );
        assert_eq!(
            of(1),
            (
                "corporate".into(),
                "bundle.pem".into(),
                "ca.crt".into(),
                None
            )
        );
        assert_eq!(mounts[1].mount_path, "/whittle/ca/builder");
    }
}
