//! How builders are isolated, and what a RUN step can see in each mode: docs/security.md has the table.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use whittle_api::{Builder, FailureReason, IsolationMode};

use crate::field::Field;

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
exit 7
"#;

const ROWS: [(&str, bool); 9] = [
    ("sees-the-daemon", true),
    ("signals-the-daemon", true),
    ("sees-another-step", true),
    ("reads-others-secret", true),
    ("reads-others-environment", true),
    ("reads-the-certificates", false),
    ("sees-what-a-step-has-left", false),
    ("writes-kernel-settings", false),
    ("mounts", false),
];

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
    let victim = "FROM busybox:1.36\nRUN --mount=type=secret,id=prize OF_VICTIM=x sh -c 'test -s /run/secrets/prize && sleep 40; : the-victim'\n";
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
            message.contains("RUN --mount").then_some(())
        })
        .await;
    let spy = json!({"spy.sh": SPY, "Dockerfile": "FROM busybox:1.36\nCOPY spy.sh /spy.sh\nRUN sh /spy.sh\n"});
    field.build("spy", spy, json!({})).await;
    let failure = field.fails("spy", FailureReason::StepFailed).await;
    let log = failure.log.unwrap_or_default();
    let victim = field
        .api::<whittle_api::ImageBuild>()
        .get("victim")
        .await
        .unwrap();
    assert!(victim.status.unwrap().current.is_some(), "it ran meanwhile");
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

#[tokio::test]
async fn in_a_user_namespace_a_step_sees_nothing_of_others() {
    let field = Field::new("userns").await;
    field.isolated(IsolationMode::UserNamespace).await;
    let found = tried(&field).await;
    let expected = ROWS.map(|(name, _)| (name.to_owned(), false));
    assert_eq!(found, expected);
    let status = field
        .api::<Builder>()
        .get("default")
        .await
        .unwrap()
        .status
        .unwrap();
    let isolation = status.isolation.unwrap();
    assert_eq!(
        (isolation.mode, isolation.proven),
        (IsolationMode::UserNamespace, true)
    );
    let pod = field
        .api::<Pod>()
        .get("whittle-builder-default-0")
        .await
        .unwrap();
    assert_eq!(pod.spec.unwrap().host_users, Some(false));
    field.close().await;
}

/// What the documentation says of it, and no more.
#[tokio::test]
async fn without_one_a_step_sees_other_steps_and_leaves_nothing() {
    let field = Field::new("rootless").await;
    field.isolated(IsolationMode::Rootless).await;
    let found = tried(&field).await;
    let expected = ROWS.map(|(name, seen)| (name.to_owned(), seen));
    assert_eq!(found, expected);
    field.close().await;
}
