//! The policies' expressions, evaluated as the API server does. Whatever a test of this crate has judged is asked of the
//! policy, too: what it refuses must be what can never work.
//!
//! Not here: types, which the API server checks when the policy is made, the cost of an evaluation, and what the policy
//! matches besides its conditions. The tests against a real API server have those.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use k8s_openapi::api::core::v1::{
    Container, EnvVar, LifecycleHandler, PodSpec, ResourceClaim, ResourceRequirements,
    SecurityContext, VolumeMount,
};
use kube::core::cel::KubeCelExt;
use kube::core::cel::cel::extractors::This;
use kube::core::cel::cel::{Context, ExecutionError, Program, Value, to_value};
use serde_json::json;

use super::*;
use crate::fixtures::{
    IMAGE, One, alpine, container, debian, exec, exec_probe, found, live, pod, scratch, stop,
};
use crate::{Entry, Judgement, Profiled, Verdict, profiles};
use whittle_api::{ProbeProfileSpec, ProfileImage};
use whittle_image::Contents;
use whittle_image::shell::is_shell;

/// A policy, read once.
struct Compiled {
    conditions: Vec<Program>,
    variables: Vec<(&'static str, Program)>,
    valid: Program,
    messages: Program,
}

impl Compiled {
    fn of(speaks: Speaks) -> Self {
        let program = |text: &str| Program::compile(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let policy = policy(speaks);
        let conditions = policy.conditions.iter();
        let variables = policy.variables.iter();
        Self {
            conditions: conditions.map(|it| program(&it.expression)).collect(),
            variables: (variables.map(|it| (it.name, program(&it.expression)))).collect(),
            valid: program(VALID),
            messages: program(MESSAGES),
        }
    }
}

/// Both, read once.
fn compiled(speaks: Speaks) -> &'static Compiled {
    static ALL: OnceLock<[Compiled; 2]> = OnceLock::new();
    let [own, others] = ALL.get_or_init(|| Speaks::ALL.map(Compiled::of));
    match speaks {
        Speaks::Own => own,
        Speaks::Others => others,
    }
}

/// Expressions are read and evaluated level by level: deeper than the stack of a test's thread bears.
fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(64 << 20);
        let work = thread.spawn_scoped(scope, work).unwrap();
        work.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// RE2, which CEL speaks, quotes from \Q to \E.
fn matches(This(text): This<Arc<String>>, pattern: Arc<String>) -> bool {
    let mut plain = String::new();
    for (at, part) in pattern.split("\\Q").enumerate() {
        match part.split_once("\\E") {
            Some((quoted, rest)) if at > 0 => {
                plain.push_str(&regex::escape(quoted));
                plain.push_str(rest);
            }
            _ => plain.push_str(part),
        }
    }
    regex::Regex::new(&plain).unwrap().is_match(&text)
}

/// What a policy says of an object in a namespace; none where its conditions leave it alone, or nothing is missing.
fn told(
    speaks: Speaks,
    namespace: &str,
    object: &serde_json::Value,
    old: Option<&serde_json::Value>,
    profile: &ProbeProfileSpec,
) -> Option<String> {
    deep(|| evaluated(speaks, namespace, object, old, profile))
}

fn evaluated(
    speaks: Speaks,
    namespace: &str,
    object: &serde_json::Value,
    old: Option<&serde_json::Value>,
    profile: &ProbeProfileSpec,
) -> Option<String> {
    let mut context = Context::default().with_all();
    context.add_function("dyn", |value: Value| Ok::<_, ExecutionError>(value));
    context.add_function("matches", matches);
    let mut set = |name: &str, value: &serde_json::Value| {
        context.add_variable_from_value(name, to_value(value).unwrap());
    };
    set("object", object);
    set("oldObject", old.unwrap_or(&serde_json::Value::Null));
    set("request", &json!({"namespace": namespace}));
    set("params", &json!({"spec": profile}));
    let run = |name: &str, program: &Program, context: &Context<'_>| {
        (program.execute(context)).unwrap_or_else(|e| panic!("{name}: {e}: {object}"))
    };
    let compiled = compiled(speaks);
    let asked = (compiled.conditions.iter())
        .all(|condition| run("condition", condition, &context) == Value::Bool(true));
    if !asked {
        return None;
    }
    let mut variables: HashMap<String, Value> = HashMap::new();
    for (name, program) in &compiled.variables {
        variables.insert((*name).to_owned(), run(name, program, &context));
        context.add_variable_from_value("variables", variables.clone());
    }
    if run("validation", &compiled.valid, &context) == Value::Bool(true) {
        return None;
    }
    match run("message", &compiled.messages, &context) {
        Value::String(text) => Some(text.to_string()),
        other => panic!("{other:?}"),
    }
}

/// What the guard knows of an image; none where it knows nothing.
fn profile(contents: &[Contents]) -> Option<ProbeProfileSpec> {
    let (repository, tag) = IMAGE.rsplit_once(':').unwrap();
    let build = Profiled {
        image_build: "team/app".into(),
        repository: repository.into(),
        digest: "sha256:aa".into(),
        versions: vec![format!(":{tag}")],
        known: Ok(Arc::new(Entry::of(contents).ok()?)),
        earlier: vec![],
        fix: None,
        trusted: false,
    };
    Some(profiles(vec![build], &BTreeMap::new()).spec(0))
}

fn as_pod(pod: &PodSpec) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}, "spec": pod})
}

/// What the policy says of a Pod in the namespace of its image's ImageBuild.
fn said(pod: &PodSpec, contents: &[Contents]) -> Option<String> {
    told(Speaks::Own, "team", &as_pod(pod), None, &profile(contents)?)
}

/// Pods of one test that the policy is asked about: some judge thousands.
const ASKED: usize = 100;

thread_local! {
    static LEFT: Cell<usize> = const { Cell::new(ASKED) };
}

/// Each that the policy refuses is one that cannot work.
pub(crate) fn agrees(pod: &PodSpec, images: &One, judgement: &Judgement) {
    let all = pod
        .containers
        .iter()
        .chain(pod.init_containers.iter().flatten());
    // The API server takes no container without a name.
    if { all }.any(|container| container.name.is_empty()) {
        return;
    }
    let left = LEFT.get();
    if left == 0 {
        return;
    }
    LEFT.set(left - 1);
    let said = said(pod, &images.contents).unwrap_or_default();
    for message in said.split("; container ").filter(|text| !text.is_empty()) {
        let message = message.trim_start_matches("container ");
        let finding = judgement.findings.iter().find(|finding| {
            let hook = finding.hook.field().rsplit('.').next().unwrap();
            message.starts_with(&format!("{}: {hook} runs ", finding.container))
        });
        let finding = finding.unwrap_or_else(|| panic!("nobody else speaks of it: {message}"));
        assert!(
            matches!(finding.verdict, Verdict::CannotWork(_)),
            "the policy refuses it: {message}\nand the verdict is {:?}",
            finding.verdict
        );
    }
}

fn both(container: Container, image: Contents) -> (String, bool) {
    let verdict = found(container.clone(), image.clone()).verdict;
    (
        verdict.name().into(),
        said(&pod(container), &[image]).is_some(),
    )
}

#[test]
fn a_command_of_one_program_is_refused_where_it_cannot_work_and_nowhere_else() {
    let commands: [&[&str]; 16] = [
        &["curl", "-f", "http://localhost/"],
        &["/usr/bin/curl"],
        &["/bin/cat", "/tmp/ready"],
        &["cat", "/tmp/ready"],
        &["/app", "check"],
        &["/app/check"],
        &["sh", "-c", "curl -f http://localhost/"],
        &["/bin/sh", "-c", "cat /tmp/ready"],
        &["/bin/sh", "-c", "cd /tmp"],
        &["bash", "-c", "wget -q localhost:8080"],
        &["dash", "-c", "nc -z localhost 80"],
        &["/usr/bin/bash", "-c", "source /tmp/a"],
        &["python3", "-c", "pass"],
        &["/proc/1/exe"],
        &["./app"],
        &["sh", "-c", "local"],
    ];
    let mut refused = BTreeSet::new();
    for command in commands {
        for (name, image) in [
            ("scratch", scratch()),
            ("debian", debian()),
            ("alpine", alpine()),
        ] {
            let (verdict, is_refused) = both(live(command), image);
            if is_refused {
                refused.insert(verdict);
                continue;
            }
            // Of busybox nobody knows which applets it has; and of words of the shell's own no policy speaks.
            let silent = command[0] == "./app"
                || command[0].ends_with("sh") && name == "alpine"
                || command
                    .get(2)
                    .is_some_and(|script| !script.contains(' ') || script.starts_with("source"));
            assert!(verdict != "CannotWork" || silent, "{command:?} on {name}");
        }
    }
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), ["CannotWork"]);
}

#[test]
fn what_may_bring_a_program_is_left_alone_by_both() {
    let missing = || live(&["curl", "x"]);
    let mounted = |at: &str| Container {
        volume_mounts: Some(vec![VolumeMount {
            name: "tools".into(),
            mount_path: at.into(),
            ..VolumeMount::default()
        }]),
        ..missing()
    };
    let variable = |name: &str| Container {
        env: Some(vec![EnvVar {
            name: name.into(),
            value: Some("/opt/tools".into()),
            ..EnvVar::default()
        }]),
        ..missing()
    };
    let started = |words: &[&str]| Container {
        command: exec(words).command,
        ..missing()
    };
    let limits = |name: &str| Container {
        resources: Some(ResourceRequirements {
            limits: Some([(name.to_owned(), Default::default())].into()),
            ..ResourceRequirements::default()
        }),
        ..missing()
    };
    for (what, container, refused) in [
        ("nothing", missing(), true),
        ("a volume elsewhere", mounted("/data"), true),
        ("a volume over PATH", mounted("/usr/bin"), false),
        ("a volume over /usr", mounted("/usr"), false),
        (
            "a token",
            mounted("/var/run/secrets/kubernetes.io/serviceaccount"),
            true,
        ),
        ("another variable", variable("MODE"), true),
        ("a PATH of its own", variable("PATH"), false),
        ("its command", started(&["/app"]), true),
        (
            "a package manager",
            started(&["sh", "-c", "apk add curl && /app"]),
            false,
        ),
        (
            "a copy",
            started(&["sh", "-c", "cp /tools/curl /usr/bin/; /app"]),
            false,
        ),
        ("memory", limits("memory"), true),
        (
            "its own resources",
            limits("requests.kubernetes.io/a"),
            true,
        ),
        ("a plugin", limits("nvidia.com/gpu"), false),
        (
            "a device",
            Container {
                resources: Some(ResourceRequirements {
                    claims: Some(vec![ResourceClaim {
                        name: "gpu".into(),
                        request: None,
                    }]),
                    ..ResourceRequirements::default()
                }),
                ..missing()
            },
            false,
        ),
        (
            "a copy into what cannot be written",
            Container {
                security_context: Some(SecurityContext {
                    read_only_root_filesystem: Some(true),
                    ..SecurityContext::default()
                }),
                ..started(&["sh", "-c", "cp /tools/curl /usr/bin/; /app"])
            },
            true,
        ),
    ] {
        let (verdict, is_refused) = both(container, debian());
        assert_eq!(is_refused, refused, "{what}: {verdict}");
        // In another PATH the verdict looks, and the policy does not.
        let looks = what == "a PATH of its own";
        assert_eq!(
            verdict == "CannotWork",
            refused || looks,
            "{what}: {verdict}"
        );
    }
    let mut runtime = pod(missing());
    runtime.runtime_class_name = Some("nvidia".into());
    assert_eq!(said(&runtime, &[debian()]), None);
}

#[test]
fn every_hook_is_asked_about_and_named() {
    let image = || vec![scratch()];
    let probe = || Some(exec_probe(&["curl"]));
    let handler = |words: &[&str]| LifecycleHandler {
        exec: Some(exec(words)),
        ..LifecycleHandler::default()
    };
    let mut all = container();
    all.liveness_probe = probe();
    all.readiness_probe = probe();
    all.startup_probe = probe();
    all.lifecycle = Some(k8s_openapi::api::core::v1::Lifecycle {
        pre_stop: Some(handler(&["sleep", "5"])),
        post_start: Some(handler(&["curl"])),
        ..Default::default()
    });
    let said_of_all = said(&pod(all), &image()).unwrap();
    for hook in HOOKS {
        let hook = hook.field().rsplit('.').next().unwrap();
        assert!(
            said_of_all.contains(&format!("app: {hook} runs ")),
            "{said_of_all}"
        );
    }
    assert!(
        said_of_all.contains("use preStop: {sleep: {seconds: 5}}"),
        "{said_of_all}"
    );
    let script = said(&pod(stop(handler(&["sh", "-c", "sleep 7"]))), &image()).unwrap();
    assert!(
        script.contains("use preStop: {sleep: {seconds: 7}}"),
        "{script}"
    );
    let mut sidecar = pod(container());
    sidecar.init_containers = Some(vec![Container {
        restart_policy: Some("Always".into()),
        ..live(&["curl"])
    }]);
    assert!(said(&sidecar, &image()).is_some());
}

#[test]
fn each_policy_asks_about_what_people_change_and_goes_by_whose_word_counts() {
    let profile = profile(&[scratch()]).unwrap();
    let object = as_pod(&pod(live(&["curl"])));
    let own = |object: &serde_json::Value, old: Option<&serde_json::Value>| {
        told(Speaks::Own, "team", object, old, &profile)
    };
    let text = own(&object, None).unwrap();
    assert!(text.ends_with("(ImageBuild team/app)"), "{text}");
    assert_eq!(told(Speaks::Own, "other", &object, None, &profile), None);
    assert_eq!(told(Speaks::Others, "team", &object, None, &profile), None);
    assert!(told(Speaks::Others, "other", &object, None, &profile).is_some());

    let of = |template: &serde_json::Value, replicas: i32| json!({"kind": "Deployment", "metadata": {}, "spec": {"replicas": replicas, "template": template}});
    let template = json!({"spec": object["spec"]});
    assert!(own(&of(&template, 1), None).is_some());
    assert_eq!(own(&of(&template, 2), Some(&of(&template, 1))), None);
    let before = json!({"spec": pod(container())});
    assert!(own(&of(&template, 1), Some(&of(&before, 1))).is_some());
    let cron = json!({"kind": "CronJob", "metadata": {},
        "spec": {"jobTemplate": {"spec": {"template": template}}}});
    assert!(own(&cron, None).is_some());

    let mut made = object.clone();
    made["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet", "controller": true}]);
    assert_eq!(own(&made, None), None);
    // Who merely names an owner is asked.
    made["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet"}]);
    assert!(own(&made, None).is_some());
}

#[test]
fn an_image_is_found_by_the_names_that_profiles_have() {
    let profile = profile(&[scratch()]).unwrap();
    for (image, known) in [
        (IMAGE.to_owned(), true),
        ("registry.example.com/team/app".into(), false),
        (format!("{IMAGE}@sha256:aa"), false),
        ("registry.example.com/team/app:2".into(), false),
    ] {
        let mut container = live(&["curl"]);
        container.image = Some(image.clone());
        let object = as_pod(&pod(container));
        let said = told(Speaks::Own, "team", &object, None, &profile);
        assert_eq!(said.is_some(), known, "{image}");
    }
}

#[test]
fn what_the_policy_reads_of_a_profile_is_there() {
    let full = ProfileImage {
        open: vec!["/a".into()],
        fix: Some("f".into()),
        ..ProfileImage::default()
    };
    let (image, spec) = (json!(full), json!(ProbeProfileSpec::default()));
    let text = yaml(Speaks::Own) + &yaml(Speaks::Others);
    for (of, fields) in [("known.", &image), ("params.spec.", &spec)] {
        let read: BTreeSet<&str> = text
            .split(of)
            .skip(1)
            .map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap())
            .collect();
        let there: BTreeSet<&str> = fields
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(read, there, "{of}");
    }
}

#[test]
fn shells_are_called_by_names_of_shells_and_words_of_their_own_are_no_programs() {
    assert!(SHELLS.iter().all(|path| is_shell(crate::paths::name(path))));
    let words = own_words();
    for word in [
        "cd", "local", "source", "then", "time", ".", "print", "newgrp",
    ] {
        assert!(words.contains(&word), "{word}");
    }
    assert!(!words.contains(&"curl"));
}

#[test]
fn a_list_is_laid_out_in_lines_without_a_blank_at_their_ends() {
    let text = list(own_words());
    assert!(text.lines().count() > 5);
    assert!(
        text.lines()
            .all(|line| line.len() < 130 && line.trim() == line)
    );
}

#[test]
fn the_charts_policies_are_up_to_date() {
    for (file, text, speaks) in [
        (
            "own.yaml",
            include_str!("../../charts/whittle/files/probeguard/own.yaml"),
            Speaks::Own,
        ),
        (
            "elsewhere.yaml",
            include_str!("../../charts/whittle/files/probeguard/elsewhere.yaml"),
            Speaks::Others,
        ),
    ] {
        assert!(
            text == yaml(speaks),
            "charts/whittle/files/probeguard/{file} is out of date: run make generate"
        );
    }
}
