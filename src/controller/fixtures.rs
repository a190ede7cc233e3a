//! Objects for the tests of this room.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::settings::{
    BuilderSettings, CallbackSettings, EgressSettings, ProbeGuardSettings, RunnerSettings, Settings,
};
use crate::builder::state::CERTIFICATES_VERSION;
use crate::imagebuild::Ended;
use whittle_api::{
    BuildSecret, Builder, BuilderSpec, Certificates, FluxKind, FluxSource, GitRef, GitSource,
    ImageBuild, ImageBuildSpec, LocalRef, SecretKeyRef, Source, Started, TriggerReason,
};

/// Runners that have labels, annotations and nodes of the installation's own.
pub const PLACED: &str = r#"{"image": "w", "podLabels": {"example.com/team": "build"},
    "podAnnotations": {"example.com/a": "b"}, "nodeSelector": {"pool": "builds"},
    "tolerations": [{"key": "builds", "operator": "Exists"}]}"#;

pub fn settings() -> Settings {
    Settings {
        runner: RunnerSettings {
            image: "whittle:1".into(),
            image_pull_policy: None,
            image_pull_secrets: vec![],
            resources: Default::default(),
            priority_class_name: None,
            scratch_size: "8Gi".into(),
            pod_labels: Default::default(),
            pod_annotations: Default::default(),
            node_selector: Default::default(),
            tolerations: vec![],
        },
        builder: BuilderSettings {
            image: "moby/buildkit:rootless".into(),
            image_pull_policy: None,
            image_pull_secrets: vec![],
            seccomp_profile: Some("whittle/builder.json".into()),
            app_armor_profile: None,
            defaults: BuilderSpec::default(),
            egress: EgressSettings::default(),
            pod_labels: Default::default(),
            pod_annotations: Default::default(),
            env: vec![],
        },
        callback: Some(CallbackSettings {
            url: "https://whittle.whittle-system.svc:8443".into(),
        }),
        concurrency: 8,
        installation: "whittle-system/whittle".into(),
        watch: Default::default(),
        probe_guard: ProbeGuardSettings::default(),
        triggers: Default::default(),
        webhooks: Default::default(),
        notifications: Default::default(),
        traces: Default::default(),
        metrics: Default::default(),
        proxy: None,
        ca_file: None,
    }
}

/// A Builder that is not ready.
pub fn builder() -> Builder {
    let mut builder = Builder::new("default", BuilderSpec::default());
    builder.metadata.namespace = Some("team".into());
    builder.metadata.uid = Some("22222222-2222-2222-2222-222222222222".into());
    builder.metadata.generation = Some(1);
    builder
}

/// What the status of a Builder of this version says of its certificates.
pub fn certificates() -> Certificates {
    let end = Time(Timestamp::from_second(4_000_000_000).unwrap());
    Certificates {
        authority: "a".into(),
        not_after: end.clone(),
        renew_at: end,
        digest: format!("{CERTIFICATES_VERSION}d"),
    }
}

pub fn inline() -> ImageBuild {
    let spec: ImageBuildSpec = serde_json::from_str(
        r#"{"source": {"inline": {"files": {"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "b"}}},
            "output": {"image": "registry.example.com/team/hello"}}"#,
    )
    .unwrap();
    build(spec)
}

pub fn git_with_secrets() -> ImageBuild {
    let mut build = inline();
    build.spec.source = Source {
        git: Some(GitSource {
            url: "https://git.example.com/team/hello.git".into(),
            reference: Some(GitRef {
                branch: Some("main".into()),
                ..GitRef::default()
            }),
            sub_path: Some("cmd/hello".into()),
            secret_ref: Some(LocalRef {
                name: "git-credentials".into(),
            }),
        }),
        ..Source::default()
    };
    build.spec.output.secret_ref = Some(LocalRef {
        name: "registry-credentials".into(),
    });
    build.spec.secrets = vec![BuildSecret {
        id: "npmrc".into(),
        secret_ref: SecretKeyRef {
            name: "npm".into(),
            key: ".npmrc".into(),
        },
    }];
    build
}

/// An ImageBuild of a GitRepository of Flux.
pub fn of_flux() -> ImageBuild {
    let mut build = inline();
    build.spec.source = Source {
        flux: Some(FluxSource {
            kind: FluxKind::GitRepository,
            name: "app".into(),
            sub_path: None,
        }),
        ..Source::default()
    };
    build
}

fn build(spec: ImageBuildSpec) -> ImageBuild {
    let mut build = ImageBuild::new("hello", spec);
    build.metadata.namespace = Some("team".into());
    build.metadata.uid = Some("11111111-1111-1111-1111-111111111111".into());
    build.metadata.generation = Some(1);
    build
}

/// The end of a build that has succeeded.
pub fn ended() -> Ended {
    Ended {
        reason: "Succeeded",
        message: "m".into(),
        build: 3,
        generation: Some(2),
        image: Some("registry.example.com/team/hello@sha256:aa".into()),
        digest: Some("sha256:aa".into()),
        tags: vec!["latest".into()],
        revision: Some("main@sha1:bb".into()),
        duration_seconds: Some(12),
        queued_seconds: Some(0),
        trigger: Some(Started {
            revision: None,
            tree: None,
            read: true,
            reason: TriggerReason::Commit,
            detail: "main@sha1:bb".into(),
            since: Time(Timestamp::from_second(999_000).unwrap()),
            row: None,
        }),
        corrects: false,
        at: Some(Time(Timestamp::from_second(1_000_000).unwrap())),
    }
}
