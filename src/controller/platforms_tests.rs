use super::*;
use crate::fixtures;
use k8s_openapi::api::core::v1::Toleration;
use serde_json::json;

fn of(platforms: &serde_json::Value) -> Builder {
    let mut builder = fixtures::builder();
    builder.spec.platforms = serde_json::from_value(platforms.clone()).unwrap();
    builder
}

fn arm() -> Builder {
    of(&json!([{"platform": "linux/arm64"}]))
}

fn first(builder: &Builder) -> Builder {
    wanted(builder).remove(0).1
}

#[test]
fn a_platform_has_a_builder_of_one_daemon_on_nodes_of_that_platform() {
    let mut builder = arm();
    builder.spec.standby = 2;
    builder.spec.node_selector = [("pool", "builds"), ("kubernetes.io/arch", "amd64")]
        .map(|(k, v)| (k.into(), v.into()))
        .into();
    let made = first(&builder);
    assert_eq!(made.name_any(), "default-linux-arm64");
    assert_eq!(
        parent(&made),
        Some(("default", builder.uid().unwrap().as_str()))
    );
    assert!(made.spec.platforms.is_empty() && made.spec.standby == 0);
    let nodes = [
        ("kubernetes.io/arch", "arm64"),
        ("kubernetes.io/os", "linux"),
        ("pool", "builds"),
    ];
    assert_eq!(
        made.spec.node_selector,
        nodes.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    assert_eq!(made.spec.cache, builder.spec.cache);
    // It has none of its own, whoever asks it for some.
    let mut asks = made;
    asks.spec.platforms = builder.spec.platforms;
    assert!(wanted(&asks).is_empty());
}

#[test]
fn what_a_platform_says_of_its_nodes_and_its_room_is_in_the_place_of_the_builders() {
    let mut builder = of(&json!([{
        "platform": "linux/arm/v7",
        "nodeSelector": {"kubernetes.io/arch": "arm64"},
        "tolerations": [{"key": "arm", "operator": "Exists"}],
        "resources": {"limits": {"memory": "1Gi"}},
    }]));
    builder.spec.tolerations = vec![Toleration::default()];
    let made = first(&builder);
    assert_eq!(made.name_any(), "default-linux-arm-v7");
    assert_eq!(made.spec.node_selector.len(), 1);
    assert_eq!(made.spec.tolerations[0].key.as_deref(), Some("arm"));
    assert_eq!(made.spec.resources.limits.unwrap()["memory"].0, "1Gi");
}

#[test]
fn names_are_those_of_builders_however_long_the_other_one_is() {
    let mut builder = arm();
    builder.metadata.name = Some("b".repeat(36));
    let name = first(&builder).name_any();
    assert!(names::check_builder(&name).is_ok(), "{name}");
    assert_eq!(names(&builder).collect::<Vec<_>>(), [name]);
}

#[test]
fn it_is_of_use_while_the_builder_that_it_is_made_after_names_its_platform() {
    let builder = arm();
    let made = first(&builder);
    assert!(is_of_use(&made, Some(&builder)));
    assert!(!is_of_use(&made, None));
    assert!(!is_of_use(
        &made,
        Some(&of(&json!([{"platform": "linux/s390x"}])))
    ));
    let mut another = builder.clone();
    another.metadata.uid = Some("another".into());
    assert!(!is_of_use(&made, Some(&another)));
    let mut alone = builder;
    alone.spec.sharing = Sharing::ImageBuild;
    assert!(!is_of_use(&made, Some(&alone)));
}

#[test]
fn a_builder_of_the_same_name_that_is_somebody_elses_is_left_alone() {
    let builder = arm();
    let mut seen = Seen {
        platform: "linux/arm64".into(),
        wanted: first(&builder),
        stands: None,
    };
    assert!(seen.differs() && !seen.is_taken());
    seen.stands = Some(seen.wanted.clone());
    assert!(!seen.differs() && seen.daemon().is_some());
    seen.wanted.spec.cache.size = "7Gi".into();
    assert!(seen.differs());
    for change in [
        |it: &mut Builder| it.metadata.labels = None,
        |it: &mut Builder| it.metadata.owner_references.as_mut().unwrap()[0].uid = "v".into(),
    ] {
        let mut other = seen.wanted.clone();
        change(&mut other);
        seen.stands = Some(other);
        assert!(seen.is_taken() && !seen.differs() && seen.daemon().is_none());
    }
}

#[test]
fn an_empty_cache_is_asked_for_once_for_each_time_that_it_is_asked_of_the_builder() {
    let mut builder = arm();
    let mut seen = Seen {
        platform: "linux/arm64".into(),
        wanted: first(&builder),
        stands: Some(first(&builder)),
    };
    builder.annotations_mut().insert(PRUNE.into(), "one".into());
    seen.wanted = first(&builder);
    assert!(seen.differs());
    let changed = seen.change();
    assert_eq!(changed.annotations()[PRUNE], "one");
    let mut stands = changed;
    stands
        .annotations_mut()
        .insert(PRUNE.into(), "its own".into());
    seen.stands = Some(stands);
    assert!(!seen.differs());
    assert_eq!(seen.change().annotations().get(PRUNE), None);
    // One that is made has nothing to throw away.
    assert_eq!(seen.wanted.annotations().get(PRUNE), None);
}

#[test]
fn what_to_change_is_said_of_the_builder_that_is_not_written_over() {
    let names = ["nodeSelector", "resources"];
    let builder = arm();
    assert_eq!(
        field(&first(&builder), &names),
        "spec.platforms[linux/arm64].nodeSelector or spec.platforms[linux/arm64].resources of Builder default"
    );
    assert_eq!(
        field(&builder, &["nodeSelector", "tolerations", "resources"]),
        "spec.nodeSelector, spec.tolerations or spec.resources of Builder default"
    );
    assert_eq!(
        memory_field(&builder, "linux/arm64"),
        "spec.resources.limits.memory of Builder default"
    );
}
