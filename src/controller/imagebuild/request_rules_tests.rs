use std::collections::BTreeMap;

use super::job::{AttemptId, attempt};
use crate::fixtures;
use whittle_api::bounds::{ANNOTATIONS, BUILD_ARGS, LABELS};
use whittle_api::is_managed_secret;
use whittle_api::{
    BuildSecret, ConfigMapKeyRef, GitRef, GitSource, LocalRef, Platform, RegistryConfig,
    SecretKeyRef,
};
use whittle_build::buildctl::{self, Files, Goal};
use whittle_build::request::BuildRequest;
use whittle_build::request::{Tagging, paths};
use whittle_build::request_rules::{ARGUMENT, ARGUMENTS, refusal};

fn request() -> BuildRequest {
    let id = AttemptId {
        build: 1,
        job: "hello-0123456789".into(),
        seconds_left: 60,
        tagging: Tagging::Now,
        flux: None,
        no_cache: false,
        replica: None,
        natives: vec![],
    };
    let (build, builder) = (fixtures::git_with_secrets(), fixtures::builder());
    let attempt = attempt(&build, &builder, &id, &fixtures::settings()).unwrap();
    serde_json::from_str(&attempt.config_map.data.unwrap()[paths::REQUEST_KEY]).unwrap()
}

/// As many entries as the sum allows, with the longest values: characters of four bytes.
fn most(sum: usize, value: usize) -> BTreeMap<String, String> {
    let mut left = sum;
    let mut all = BTreeMap::new();
    while left > 8 && all.len() < 128 {
        let name = format!("n{:03}", all.len());
        let length = value.min(left - name.len());
        left -= name.len() + length;
        all.insert(name, "😀".repeat(length));
    }
    all
}

#[test]
fn the_longest_spec_that_the_schema_admits_fits_into_an_exec() {
    let mut request = request();
    request.inputs.build_args = most(BUILD_ARGS, 8192);
    request.inputs.output.labels = most(LABELS, 4096);
    request.inputs.output.annotations = most(ANNOTATIONS, 4096);
    request.inputs.dockerfile = "😀".repeat(1024);
    request.inputs.target = Some("t".repeat(128));
    request.inputs.output.image = format!("registry.example.com/{}", "a".repeat(234));
    request.inputs.platforms = vec![Platform("linux/mips64le".into()); 16];
    request.inputs.source.git = Some(GitSource {
        url: format!("https://git.example.com/{}", "😀".repeat(2024)),
        reference: Some(GitRef {
            branch: Some("b".repeat(255)),
            ..GitRef::default()
        }),
        sub_path: Some("%".repeat(1024)),
        secret_ref: None,
    });
    request.inputs.secrets = (0..64)
        .map(|at| BuildSecret {
            id: format!("{at:063}"),
            secret_ref: SecretKeyRef {
                name: "s".repeat(253),
                key: "k".repeat(253),
            },
        })
        .collect();
    request.registries = (0..64)
        .map(|at| RegistryConfig {
            host: format!("{at:0255}"),
            ca_ref: Some(ConfigMapKeyRef::default()),
            ..RegistryConfig::default()
        })
        .collect();
    assert_eq!(refusal(&request), None);
    let goal = Goal::Image {
        target: request.inputs.target.as_deref(),
        metadata: "/tmp/whittle/image.json",
    };
    let args = buildctl::build(&request, &Files::default(), &goal);
    let longest = args.iter().map(String::len).max().unwrap();
    let all: usize = args.iter().map(|arg| arg.len() + 1).sum();
    assert!(longest < ARGUMENT, "{longest}");
    assert!(all < ARGUMENTS, "{all}");
}

#[test]
fn what_is_too_long_for_an_exec_is_told_with_its_field_and_the_cure() {
    let mut long = request();
    long.inputs.output.annotations = (0..40)
        .map(|at| (format!("a{at}"), "x".repeat(4000)))
        .collect();
    let told = refusal(&long).unwrap();
    assert!(
        told.starts_with("output.annotations: too large: 16"),
        "{told}"
    );
    assert!(told.contains("shorten it"), "{told}");

    let mut long = request();
    long.inputs.build_args = [("A".to_owned(), "x".repeat(1_300_000))].into();
    let told = refusal(&long).unwrap();
    assert!(
        told.starts_with("buildArgs A: too large: 1300012 bytes"),
        "{told}"
    );

    let mut long = request();
    long.inputs.output.labels = (0..300)
        .map(|at| (format!("l{at}"), "x".repeat(4000)))
        .collect();
    let told = refusal(&long).unwrap();
    assert!(told.contains("bytes of arguments"), "{told}");
}

#[test]
fn a_character_nul_is_told_before_it_ends_in_an_error_of_the_system() {
    let mut nul = request();
    nul.inputs.build_args = [("A".to_owned(), "x\0y".to_owned())].into();
    assert!(
        refusal(&nul)
            .unwrap()
            .starts_with("buildArgs A: a value contains a NUL character")
    );
}

#[test]
fn a_label_or_an_annotation_that_would_become_another_is_refused() {
    let mut odd = request();
    odd.inputs.output.labels = [("a=b".to_owned(), "c".to_owned())].into();
    assert!(
        refusal(&odd)
            .unwrap()
            .contains("output.labels: invalid name \"a=b\"")
    );
    for key in ["org.example.Title", "a=b", "a,b", "a b", ""] {
        let mut odd = request();
        odd.inputs.output.annotations = [(key.to_owned(), "x".to_owned())].into();
        let told = refusal(&odd).unwrap();
        assert!(
            told.contains(&format!("output.annotations: invalid name {key:?}")),
            "{told}"
        );
    }
    let mut plain = request();
    plain.inputs.output.annotations = [(
        "org.example.title".to_owned(),
        "Über, \"a\"\nb=c".to_owned(),
    )]
    .into();
    plain.inputs.output.labels = [("Vendor.Name/x".to_owned(), "a=b\nc".to_owned())].into();
    assert_eq!(refusal(&plain), None);
}

#[test]
fn a_runner_does_not_use_secrets_that_whittle_manages() {
    let names = [
        "whittle-ca",
        "whittle-builder-default-client",
        "whittle-attempt-0123456789",
    ];
    for name in names {
        let reference = || Some(LocalRef { name: name.into() });
        let mut requests = vec![request(), request(), request()];
        requests[0].inputs.secrets[0].secret_ref.name = name.into();
        requests[1].inputs.source.git.as_mut().unwrap().secret_ref = reference();
        requests[2].inputs.output.secret_ref = reference();
        for request in &requests {
            let told = refusal(request).unwrap();
            assert!(
                told.contains(&format!("Secret {name} is not allowed")),
                "{told}"
            );
        }
    }
    assert_eq!(refusal(&request()), None);
}

#[test]
fn every_secret_that_whittle_makes_for_a_builder_is_known_as_managed() {
    use crate::names;
    for name in [
        names::builder_server_tls("default"),
        names::builder_client_tls("x"),
    ] {
        assert!(is_managed_secret(&name), "{name}");
    }
    assert!(!is_managed_secret("whittle-registry"));
}
