use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn object(verb: Verb, kind: &str) -> Option<Object> {
    Some(Object {
        verb,
        kind: kind.into(),
        namespace: "team".into(),
        name: "hello-1".into(),
    })
}

fn refusal(kind: &str, code: u16, message: &str) -> Refusal {
    let what = format!("creating {kind} team/hello-1");
    Refusal::of(&what, object(Verb::Create, kind), code, message).unwrap()
}

/// As the API server and the controllers of Kubernetes write them.
const POD_SECURITY: &str = r#"create Pod whittle-builder-default-0 in StatefulSet whittle-builder-default failed error: pods "whittle-builder-default-0" is forbidden: violates PodSecurity "restricted:latest": seccompProfile (pod or container "buildkitd" must not set securityContext.seccompProfile.type to "Unconfined")"#;
const QUOTA_UNNAMED: &str = r#"create Pod whittle-builder-default-0 in StatefulSet whittle-builder-default failed error: pods "whittle-builder-default-0" is forbidden: failed quota: q: must specify limits.cpu for: buildkitd; requests.memory for: buildkitd"#;
const QUOTA: &str = r#"jobs.batch "hello-1" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: count/jobs.batch=0, limited: count/jobs.batch=0"#;
const LIMIT_RANGE: &str = r#"create Pod whittle-builder-default-0 in StatefulSet whittle-builder-default failed error: pods "whittle-builder-default-0" is forbidden: [maximum cpu usage per Container is 100m, but limit is 2, maximum memory usage per Container is 64Mi, but limit is 4Gi]"#;
const POLICY: &str = r#"jobs.batch "hello-1" is forbidden: ValidatingAdmissionPolicy 'no-jobs' with binding 'no-jobs' denied request: no Jobs here"#;
const WEBHOOK: &str =
    r#"admission webhook "validate.example.com" denied the request: no Jobs here"#;
const FOREIGN: &str = r#"secrets "whittle-builder-default-client" is forbidden: ValidatingAdmissionPolicy 'whittle-self-objects' with binding 'whittle-self-objects' denied request: not whittle's: it may make, change or delete only objects with the labels app.kubernetes.io/managed-by=whittle and whittle.dev/component; if this one has a name that whittle needs, delete or rename it"#;
const DOTS: &str = r#"Job.batch "hello-1" is invalid: spec.template.spec.volumes[1].configMap.items[1].path: Invalid value: "..x/Dockerfile": must not start with '..'"#;
const TOO_LONG: &str =
    r#"ConfigMap "hello-1" is invalid: []: Too long: may not be more than 1048576 bytes"#;

#[test]
fn the_words_tell_the_classes_apart() {
    for (forbidden, message, reason) in [
        (false, POD_SECURITY, Reason::PodSecurity),
        (false, QUOTA_UNNAMED, Reason::QuotaExceeded),
        (true, QUOTA, Reason::QuotaExceeded),
        (false, LIMIT_RANGE, Reason::LimitRange),
        // A policy's denial comes as 422, as what is invalid does.
        (false, POLICY, Reason::AdmissionDenied),
        (false, WEBHOOK, Reason::AdmissionDenied),
        (false, FOREIGN, Reason::NameTaken),
        (false, DOTS, Reason::Rejected),
        (false, TOO_LONG, Reason::Rejected),
        (
            true,
            r#"jobs.batch is forbidden: User "system:serviceaccount:whittle-system:whittle" cannot create resource "jobs" in API group "batch" in the namespace "team""#,
            Reason::Forbidden,
        ),
        (
            true,
            r#"pods "a" is forbidden: no PriorityClass with name high was found"#,
            Reason::ClassNotFound,
        ),
        (
            true,
            r#"pods "a" is forbidden: pod rejected: RuntimeClass "kata" not found"#,
            Reason::ClassNotFound,
        ),
    ] {
        assert_eq!(why(forbidden, message).reason(), reason, "{message}");
        assert!(reason.is_denial());
    }
}

#[test]
fn pod_security_is_cured_by_one_command() {
    let (reason, message) = of_event(POD_SECURITY, "team", Whose::Builder("default"));
    assert_eq!(reason, Reason::PodSecurity);
    let command =
        "kubectl label namespace team pod-security.kubernetes.io/enforce=privileged --overwrite";
    assert!(message.contains(command), "{message}");
    assert!(
        message.contains(r#"The API server says: pods "whittle-builder-default-0" is forbidden"#),
        "{message}"
    );
}

#[test]
fn a_quota_that_wants_requests_is_cured_by_one_command() {
    let (reason, message) = of_event(QUOTA_UNNAMED, "team", Whose::Builder("default"));
    assert_eq!(reason, Reason::QuotaExceeded);
    let patch = message
        .split_once("kubectl patch builder default -n team --type merge -p '")
        .and_then(|(_, rest)| rest.split_once('\''))
        .unwrap()
        .0;
    let patch: serde_json::Value = serde_json::from_str(patch).unwrap();
    let resources = &patch["spec"]["resources"];
    for kind in ["requests", "limits"] {
        assert!(resources[kind]["cpu"].is_string() && resources[kind]["memory"].is_string());
    }
    let (_, message) = of_event(QUOTA_UNNAMED, "team", Whose::Runner);
    assert!(message.contains("runner.resources"), "{message}");
}

#[test]
fn a_foreign_object_is_named_with_the_command_that_takes_it_away() {
    let refusal = Refusal::of(
        "applying Secret team/whittle-builder-default-client",
        Some(Object {
            verb: Verb::Apply,
            kind: "Secret".into(),
            namespace: "team".into(),
            name: "whittle-builder-default-client".into(),
        }),
        422,
        FOREIGN,
    )
    .unwrap();
    let message = of_call(&refusal, "team", Whose::Builder("default"));
    assert!(
        message.contains("kubectl delete secret whittle-builder-default-client -n team"),
        "{message}"
    );
    assert!(!refusal.is_final());
}

#[test]
fn only_what_another_spec_cures_is_final() {
    for (kind, code, message) in [
        ("Job", 422, DOTS),
        ("ConfigMap", 422, TOO_LONG),
        (
            "ConfigMap",
            413,
            "Request entity too large: limit is 3145728",
        ),
        (
            "ConfigMap",
            500,
            "rpc error: code = InvalidArgument desc = etcdserver: request is too large",
        ),
    ] {
        assert!(refusal(kind, code, message).is_final(), "{message}");
    }
    for (kind, code, message) in [
        ("Job", 403, QUOTA),
        ("Job", 422, POLICY),
        ("Job", 400, WEBHOOK),
        (
            "Job",
            500,
            r#"Internal error occurred: failed calling webhook "a.example.com": connection refused"#,
        ),
        (
            "Builder",
            422,
            r#"Builder.whittle.dev "default" is invalid: spec.cache.size: Invalid value"#,
        ),
    ] {
        assert!(!refusal(kind, code, message).is_final(), "{message}");
    }
}

#[test]
fn what_may_be_taken_a_moment_later_is_no_refusal() {
    for (code, message) in [
        (409, "the object has been modified"),
        (429, "too many requests"),
        (500, "etcdserver: leader changed"),
        (503, "the server is currently unable to handle the request"),
        (401, "Unauthorized"),
        (
            403,
            r#"jobs.batch "a" is forbidden: unable to create new content in namespace team because it is being terminated"#,
        ),
    ] {
        let refusal = Refusal::of(
            "creating Job team/a",
            object(Verb::Create, "Job"),
            code,
            message,
        );
        assert_eq!(refusal, None, "{message}");
    }
}

#[test]
fn others_words_are_cut_and_cleaned() {
    let said = words(&format!("a\u{1b}[31m\nb\u{202e}c{}", "x".repeat(100_000)));
    assert!(said.starts_with("a [31m bc"), "{said}");
    assert!(said.len() <= whittle_image::text::WORDS);
}

#[test]
fn what_a_policy_quotes_of_a_secret_is_left_out() {
    let key = "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1DNENBUUF3QlFZREsy";
    let message = format!("denied request: data.tls.key is {key}, and is no good");
    let refusal = Refusal::of(
        "applying Secret a",
        object(Verb::Apply, "Secret"),
        422,
        &message,
    );
    let words = refusal.unwrap().words;
    assert_eq!(words, "denied request: data.tls.key is …, and is no good");
    // Names stay whole.
    assert_eq!(without_keys(FOREIGN), FOREIGN);
}

#[test]
fn looks_come_soon_at_first_and_at_most_twenty_times_a_minute() {
    let (mut at, mut looks, mut early) = (0, 0, 0);
    while at < 60 {
        at += look_again(now(), now() + SignedDuration::from_secs(at)).as_secs();
        looks += 1;
        early += i32::from(at <= 10);
    }
    assert!(early >= 4 && looks <= 20, "{early}, {looks}");
    let day = now() + SignedDuration::from_hours(24);
    assert_eq!(look_again(now(), day).as_secs(), 30);
}

#[test]
fn whittles_own_policy_is_known_by_its_words() {
    let chart = include_str!("../../charts/whittle/templates/selfguard.yaml");
    let taken = chart
        .lines()
        .filter_map(|line| line.trim().strip_prefix("message: "))
        .filter(|message| message.contains("has a name that whittle needs"));
    assert_eq!(taken.clone().count(), 2);
    for message in taken {
        assert!(message.starts_with("\"not whittle's: "), "{message}");
    }
}

#[test]
fn each_level_of_pod_security_has_its_own_command() {
    for (violates, level) in [
        (
            r#""baseline:latest": seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")"#,
            "privileged",
        ),
        (
            r#""baseline:v1.34": procMount (container "buildkitd" must not set securityContext.procMount to "Unmasked")"#,
            "privileged",
        ),
        (
            r#""restricted:latest": allowPrivilegeEscalation != false, unrestricted capabilities, procMount"#,
            "baseline",
        ),
    ] {
        let words = format!(r#"pods "b-0" is forbidden: violates PodSecurity {violates}"#);
        let (reason, message) = of_event(&words, "team", Whose::Builder("default"));
        assert_eq!(reason, Reason::PodSecurity);
        let command = format!(
            "kubectl label namespace team pod-security.kubernetes.io/enforce={level} --overwrite"
        );
        assert!(message.contains(&command), "{message}");
    }
}
