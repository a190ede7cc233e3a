//! A thousand ImageBuilds that have ended, of ordinary size, and a controller that has the chart's memory.

use std::collections::BTreeSet;

use futures::StreamExt;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use whittle_api::{ImageBuild, ProbeProfile};

use crate::api_server::ApiServer;
use crate::many::{NAMESPACES, finished};
use crate::stage::{Stage, make_namespace, root, success};

/// So many.
const COUNT: usize = 1000;

/// `resources.limits.memory` of the chart, in bytes.
fn limit() -> u64 {
    let values = std::fs::read_to_string(root().join("charts/whittle/values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    let text = values["resources"]["limits"]["memory"].as_str().unwrap();
    let mebibytes = text.strip_suffix("Mi").expect("the limit is in Mi");
    mebibytes.parse::<u64>().unwrap() << 20
}

#[tokio::test]
async fn a_thousand_finished_image_builds_take_a_part_of_the_charts_memory() {
    let mut stage = Stage::on(ApiServer::alone()).await;
    // All of a thousand, by a program without optimization, beside other tests.
    stage.patience *= 4;
    for number in 0..NAMESPACES {
        make_namespace(&stage.client, &format!("team-{number}")).await;
    }
    let client = stage.client.clone();
    let builds = |number: usize| -> Api<ImageBuild> {
        Api::namespaced(client.clone(), &format!("team-{}", number % NAMESPACES))
    };
    let sizes = futures::stream::iter(0..COUNT).map(|number| finished(builds(number), number));
    let sizes: Vec<usize> = sizes.buffer_unordered(8).collect().await;
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    assert!((5_000..14_000).contains(&mean), "{mean} bytes each");

    stage.everywhere();
    stage.start_controller().await;
    // One more is built meanwhile.
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage
        .pod_ends(&job, &success(&format!("sha256:{}", "a".repeat(64))))
        .await;
    stage.ready("hello", "True", "Succeeded").await;
    // All of them were listed and judged.
    let profiles = Api::<ProbeProfile>::all(client);
    stage
        .until("the guard knows each image", async || {
            let all = profiles.list(&ListParams::default()).await.unwrap();
            let known = all.iter().flat_map(|profile| profile.spec.images.values());
            let known: BTreeSet<_> = known.map(|image| &image.image_build).collect();
            (known.len() >= COUNT).then_some(())
        })
        .await;
    let peak = stage.peak_memory();
    println!(
        "{COUNT} finished ImageBuilds of {mean} bytes: the controller has {} MiB, at its peak {} MiB",
        stage.memory_now() >> 20,
        peak >> 20
    );
    // The everyday build has 80 MiB, of which 40 are its code.
    assert!(peak < limit() / 2, "{} MiB", peak >> 20);
}
