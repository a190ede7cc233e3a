//! How builders are isolated, and what a RUN step can see in each mode: docs/security.md has the table.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::json;
use whittle_api::{Builder, FailureReason, IsolationMode, Sharing};

use crate::field::Field;
use crate::long;

/// What a step of somebody else tries, each in a line of its own: NAME yes, or NAME no.
const SPY: &str = r#"#!/bin/sh
exec 2>/dev/null
others() { for p in /proc/[0-9]*; do [ "$p" = "/proc/$$" ] || echo "$p"; done; }
say() { if [ -n "$2" ]; then echo "$1 yes"; else echo "$1 no"; fi; }
say sees-the-daemon "$(grep -ls buildkitd /proc/[0-9]*/comm)"
say signals-the-daemon "$(for p in $(grep -ls buildkitd /proc/[0-9]*/comm); do kill -0 "$(basename "$(dirname "$p")")" 2>/dev/null && echo x; done)"
say sees-another-step "$(for p in $(others); do tr '\0' ' ' <"$p/cmdline" 2>/dev/null | grep 'the-[v]ictim'; done)"
say reads-others-secret "$(cat /proc/[0-9]*/root/run/secrets/prize 2>/dev/null)"
say reads-others-environment "$(for p in $(others); do tr '\0' '\n' <"$p/environ" 2>/dev/null | grep 'OF_VICTI[M]'; done)"
say reads-the-certificates "$(cat /proc/[0-9]*/root/etc/buildkit-tls/tls.key 2>/dev/null)"
say sees-what-a-step-has-left "$(for p in $(others); do tr '\0' ' ' <"$p/cmdline" 2>/dev/null | grep '/lef[t].sh'; done)"
say writes-kernel-settings "$(echo core >/proc/sys/kernel/core_pattern 2>/dev/null && echo x)"
say mounts "$(mount -t tmpfs x /mnt 2>/dev/null && echo x)"
say finds-others-cache-mount "$(cat /shared/mark)"
exit 7
"#;

/// Where a step succeeds with what it tries.
#[derive(Clone, Copy, PartialEq)]
enum Where {
    Nowhere,
    /// Without a process sandbox: the daemon that it finds is its own.
    Rootless,
    /// Without one, where the other build runs on the same daemon.
    RootlessAndShared,
    /// Where the other build runs on the same daemon.
    Shared,
}

const ROWS: [(&str, Where); 10] = [
    ("sees-the-daemon", Where::Rootless),
    ("signals-the-daemon", Where::Rootless),
    ("sees-another-step", Where::RootlessAndShared),
    ("reads-others-secret", Where::RootlessAndShared),
    ("reads-others-environment", Where::RootlessAndShared),
    ("reads-the-certificates", Where::Nowhere),
    ("sees-what-a-step-has-left", Where::Nowhere),
    ("writes-kernel-settings", Where::Nowhere),
    ("mounts", Where::Nowhere),
    ("finds-others-cache-mount", Where::Shared),
];

fn expected(mode: IsolationMode, sharing: Sharing) -> Vec<(String, bool)> {
    let rootless = mode == IsolationMode::Rootless;
    let shared = sharing == Sharing::Namespace;
    let of = |at: Where| match at {
        Where::Nowhere => false,
        Where::Rootless => rootless,
        Where::RootlessAndShared => rootless && shared,
        Where::Shared => shared,
    };
    ROWS.map(|(name, at)| (name.to_owned(), of(at))).into()
}

/// What the spy says while somebody else's build runs, and after one that has left a process.
async fn tried(field: &Field) -> Vec<(String, bool)> {
    field
        .create(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "prize"},
            "stringData": {"value": "the-prize-of-another-build"}}),
        )
        .await;
    let left = json!({"left.sh": "#!/bin/sh\nsleep 600\n", "Dockerfile":
        "FROM busybox:1.36\nCOPY left.sh /left.sh\nRUN (setsid sh /left.sh >/dev/null 2>&1 </dev/null &); sleep 1\n"});
    field.build("leaves", left, json!({})).await;
    field.succeeds("leaves").await;
    let victim = "FROM busybox:1.36\nRUN --mount=type=cache,target=/shared echo x >/shared/mark\nRUN --mount=type=secret,id=prize OF_VICTIM=x sh -c 'test -s /run/secrets/prize && sleep 1800; : the-victim'\n";
    let secrets =
        json!({"secrets": [{"id": "prize", "secretRef": {"name": "prize", "key": "value"}}]});
    field
        .build("victim", json!({"Dockerfile": victim}), secrets)
        .await;
    field
        .until("the victim's step runs", async || {
            let build = field
                .api::<whittle_api::ImageBuild>()
                .get("victim")
                .await
                .unwrap();
            let message = build.status?.current?.message?;
            message.contains("RUN --mount=type=secret").then_some(())
        })
        .await;
    let spy = json!({"spy.sh": SPY, "Dockerfile": "FROM busybox:1.36\nCOPY spy.sh /spy.sh\nRUN --mount=type=cache,target=/shared sh /spy.sh\n"});
    field.build("spy", spy, json!({})).await;
    let failure = field.fails("spy", FailureReason::StepFailed).await;
    let log = failure.log.unwrap_or_default();
    let victim = field
        .api::<whittle_api::ImageBuild>()
        .get("victim")
        .await
        .unwrap();
    assert!(victim.status.unwrap().current.is_some(), "it ran meanwhile");
    // However long the spy took, its victim was there: it is ended here, and not by a time.
    field
        .annotate("victim", "whittle.dev/cancel", json!("1"))
        .await;
    ROWS.map(|(name, _)| {
        let said = |answer: &str| {
            log.lines()
                .any(|line| line.trim() == format!("{name} {answer}"))
        };
        assert!(said("yes") != said("no"), "{name}: {log}");
        (name.to_owned(), said("yes"))
    })
    .into()
}

async fn sees(topic: &str, mode: IsolationMode, sharing: Sharing) {
    let field = Field::new(topic).await;
    field.isolated(mode, sharing).await;
    assert_eq!(tried(&field).await, expected(mode, sharing));
    let pods = ListParams::default().labels("whittle.dev/component=builder");
    let pods = field.api::<Pod>().list(&pods).await.unwrap().items;
    assert!(!pods.is_empty());
    for pod in pods {
        let own = (mode == IsolationMode::UserNamespace).then_some(false);
        assert_eq!(pod.spec.unwrap().host_users, own);
    }
    let builders = field
        .api::<Builder>()
        .list(&ListParams::default())
        .await
        .unwrap();
    let found = builders.into_iter().filter_map(|it| it.status?.isolation);
    let proven: Vec<_> = found.filter(|it| it.proven).map(|it| it.mode).collect();
    assert!(
        !proven.is_empty() && proven.iter().all(|it| *it == mode),
        "{proven:?}"
    );
    field.close().await;
}

#[tokio::test]
async fn in_a_user_namespace_a_step_sees_nothing_of_others() {
    sees("userns", IsolationMode::UserNamespace, Sharing::Namespace).await;
}

/// What the documentation says of it, and no more.
#[tokio::test]
async fn without_one_a_step_sees_other_steps_and_leaves_nothing() {
    sees("rootless", IsolationMode::Rootless, Sharing::Namespace).await;
}

#[tokio::test]
async fn without_one_a_step_sees_nothing_of_builds_on_other_builders() {
    sees("rootless-own", IsolationMode::Rootless, Sharing::ImageBuild).await;
}

#[tokio::test]
async fn each_other_isolation_and_sharing_is_as_the_table_says() {
    if long::whole() {
        sees("rootless-build", IsolationMode::Rootless, Sharing::Build).await;
        sees(
            "userns-own",
            IsolationMode::UserNamespace,
            Sharing::ImageBuild,
        )
        .await;
    }
    sees("userns-build", IsolationMode::UserNamespace, Sharing::Build).await;
}
