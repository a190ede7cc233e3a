//! A request, for tests.

use whittle_api::{Compression, Output, Source};

use crate::inputs::Inputs;
use crate::request::BuildRequest;

/// A build of nothing, into `registry.example.com/team/hello:latest`.
pub fn request() -> BuildRequest {
    BuildRequest {
        namespace: "demo".into(),
        name: "hello".into(),
        uid: "u".into(),
        job: "hello-1".into(),
        build: 1,
        builder_address: "tcp://builder.demo.svc:1234".into(),
        builder_server_name: "builder.demo.svc".into(),
        natives: vec![],
        builder_memory: None,
        callback: None,
        inputs: Inputs {
            source: Source::default(),
            dockerfile: "Dockerfile".into(),
            target: None,
            debug: None,
            build_args: Default::default(),
            secrets: vec![],
            platforms: vec![],
            output: Output {
                image: "registry.example.com/team/hello".into(),
                tags: vec!["latest".into()],
                secret_ref: None,
                compression: Compression::Gzip,
                labels: Default::default(),
                annotations: Default::default(),
            },
            contract: None,
            health_check: None,
            minimize: None,
            builder: "default".into(),
            requested_at: None,
            rebuild: None,
        },
        flux: None,
        tagging: Default::default(),
        cache: None,
        proxy: Default::default(),
        previous: vec![],
        standing: vec![],
        rejected: None,
        registries: vec![],
        scratch_bytes: 8 << 30,
        looks: true,
        no_cache: false,
        traced: false,
        part: false,
        place: Default::default(),
    }
}
