//! The images, all of one source; and what the pairs' Pods mount.

use std::collections::BTreeMap;

use serde_json::json;
use whittle_api::ImageBuild;
use whittle_image::Contents;

use crate::field::Field;
use crate::truth::contents;

/// The stages of sources/Dockerfile that pairs use.
pub const NAMES: [&str; 8] = [
    "bare",
    "broken",
    "distroless",
    "busybox",
    "alpine",
    "debian",
    "user",
    "own",
];
const CHECK: &str = "#!/bin/sh\nexit 0\n";

/// One image.
pub struct Image {
    /// By digest.
    pub reference: String,
    pub contents: Contents,
}

/// Builds these images, and reads back what they hold.
pub async fn build(field: &Field, names: &[&'static str]) -> BTreeMap<&'static str, Image> {
    field.builder_of_tables(4).await;
    for (name, data) in [
        (
            "pairs",
            json!({
                "Dockerfile": include_str!("sources/Dockerfile"),
                "app.go": include_str!("sources/app.go"),
                "check": CHECK,
                "envcheck": "#!/bin/env sh\nexit 0\n",
                "badenv": "#!/bin/env python3\nexit(0)\n",
                "plain": "exit 0\n",
                "toolcheck": "#!/opt/shell/run\n",
            }),
        ),
        ("scripts", json!({"check": CHECK})),
        ("env", json!({"PATH": "/srv/bin"})),
        ("libraries", json!({"LD_LIBRARY_PATH": "/opt/spare"})),
    ] {
        field
            .create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}))
            .await;
    }
    for name in names {
        let source = json!({"configMap": {"name": "pairs"}});
        field.apply(name, source, json!({"target": name})).await;
    }
    let all = names.iter().map(async |name| {
        let status = ended(field, name).await;
        let image = Image {
            contents: contents(&status).await,
            reference: status,
        };
        (*name, image)
    });
    futures::future::join_all(all).await.into_iter().collect()
}

/// The image of a build, by digest, once that has ended well.
async fn ended(field: &Field, name: &str) -> String {
    let builds = field.api::<ImageBuild>();
    let mut asked = 1;
    super::until(&format!("{name} is built"), super::LONG, async || {
        let status = builds.get(name).await.unwrap().status?;
        assert!(status.failure.is_none(), "{name}: {:#?}", status.failure);
        status.completed_at.as_ref()?;
        if status.build < Some(asked) {
            return None;
        }
        // Tests beside this one kill the controller, and with it what a runner has just told: as condition ProbeProfile
        // then says, build again.
        let contents = status.platforms.first()?.contents.as_ref()?;
        if contents.programs.is_none() {
            asked += 1;
            field.request(name).await;
            return None;
        }
        status.image
    })
    .await
    .unwrap_or_else(|what| panic!("{what}"))
}
