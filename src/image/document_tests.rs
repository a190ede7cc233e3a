use super::super::{ImageConfig, Manifest, OCI_INDEX, OCI_MANIFEST, parse};
use super::*;

const DIGEST: &str = "sha256:e7821a2ed8b569f64f72d78686c2d8bf3add00eef1ef13639035c83fe7c9f5fc";

/// An image's manifest whose `layers`, `annotations` and the config's lists are what is given.
fn manifest(rest: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json",
        "digest":"{DIGEST}","size":200}}{rest}}}"#
    )
}

fn config(run: &str, rest: &str) -> Result<ImageConfig, String> {
    let text = format!(r#"{{"os":"linux","architecture":"amd64"{run}{rest}}}"#);
    ImageConfig::parse(text.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn an_image_without_layers_is_read_however_that_is_written() {
    for rest in ["", r#","layers":null"#, r#","layers":[]"#] {
        let Manifest::Image { size, layers, .. } = parse(manifest(rest).as_bytes()).unwrap() else {
            panic!("an image: {rest}");
        };
        assert_eq!((size, layers.len()), (200, 0), "{rest}");
    }
    for rootfs in [
        "",
        r#","rootfs":null"#,
        r#","rootfs":{"type":"layers"}"#,
        r#","rootfs":{"type":"layers","diff_ids":null}"#,
        r#","rootfs":{"type":"layers","diff_ids":[]}"#,
    ] {
        for history in [
            "",
            r#","history":null"#,
            r#","history":[]"#,
            r#","history":[{"created_by":"LABEL a=b","empty_layer":true}]"#,
        ] {
            let read = config(rootfs, history).unwrap();
            assert_eq!(read.diff_ids.len(), 0, "{rootfs} {history}");
            assert_eq!(read.instructions.len(), 0, "{rootfs} {history}");
        }
    }
}

#[test]
fn null_and_absent_are_empty_in_every_list_and_map_of_a_config() {
    let empty = config("", "").unwrap();
    assert_eq!(config(r#","config":null"#, "").unwrap(), empty);
    assert_eq!(config(r#","variant":null"#, "").unwrap(), empty);
    for name in [
        "User",
        "Env",
        "Entrypoint",
        "Cmd",
        "WorkingDir",
        "ExposedPorts",
        "Volumes",
        "Labels",
        "StopSignal",
        "Healthcheck",
    ] {
        let read = config(&format!(r#","config":{{"{name}":null}}"#), "").unwrap();
        assert_eq!(read, empty, "{name}");
    }
    let run = r#","config":{"ExposedPorts":{"80/tcp":null,"81/tcp":{}},"Volumes":{"/a":null},"Labels":{"a":null,"b":"c"},
        "Env":["A=1",null],"Healthcheck":{"Test":null}}"#;
    let steps = r#","history":[{"created_by":null,"empty_layer":null,"created":null,"comment":null}],
        "rootfs":{"diff_ids":["sha256:a"]}"#;
    let read = config(run, steps).unwrap();
    assert_eq!(read.env, ["A=1", ""]);
    assert_eq!(read.instructions, [""]);
    let steps = r#","history":[null],"rootfs":{"diff_ids":["sha256:a"]}"#;
    assert_eq!(config(run, steps).unwrap(), read);
}

#[test]
fn null_and_absent_are_empty_in_every_list_and_map_of_manifests_and_indexes() {
    let layer = format!(
        r#","annotations":null,"subject":null,"artifactType":null,"layers":[{{"mediaType":null,"digest":"{DIGEST}",
        "size":24,"annotations":null,"urls":null,"platform":null,"artifactType":null,"data":null}}]"#
    );
    let Manifest::Image { size, layers, .. } = parse(manifest(&layer).as_bytes()).unwrap() else {
        panic!("an image");
    };
    assert_eq!((size, layers.len()), (224, 1));
    for rest in ["", r#","manifests":null"#, r#","manifests":[]"#] {
        let index =
            format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","annotations":null{rest}}}"#);
        assert_eq!(
            parse(index.as_bytes()).unwrap(),
            Manifest::Index(vec![]),
            "{rest}"
        );
    }
    // Without a type of its own, the list alone says what it is, also an empty one.
    for stated in ["", r#","mediaType":null"#, r#","mediaType":"""#] {
        let index = format!(r#"{{"schemaVersion":2,"manifests":null{stated}}}"#);
        assert_eq!(
            parse(index.as_bytes()).unwrap(),
            Manifest::Index(vec![]),
            "{stated}"
        );
    }
    let entry = format!(
        r#"{{"mediaType":"{OCI_INDEX}","manifests":[{{"digest":"{DIGEST}","size":1,"annotations":null,
        "platform":{{"os":"linux","architecture":"arm64","variant":null,"os.version":null,"os.features":null}}}},
        {{"digest":"{DIGEST}","size":1,"platform":{{"os":"","architecture":""}}}}]}}"#
    );
    let Manifest::Index(entries) = parse(entry.as_bytes()).unwrap() else {
        panic!("an index");
    };
    assert_eq!(entries[0].platform.as_deref(), Some("linux/arm64"));
    assert_eq!(entries[1].platform, None);
}

#[test]
fn what_is_of_the_wrong_type_is_named_with_its_field() {
    let said = |bytes: &str| parse(bytes.as_bytes()).unwrap_err().to_string();
    for (rest, words) in [
        (
            r#","layers":"none""#,
            "layers: invalid type: string \"none\", expected a sequence",
        ),
        (r#","layers":{}"#, "layers: invalid type: map"),
        (r#","layers":[null]"#, "layer 1: digest missing"),
        (r#","layers":[{}]"#, "layer 1: digest missing"),
        (
            r#","layers":[{"digest":"../../etc"}]"#,
            "layer 1: invalid digest \"../../etc\"",
        ),
        (
            r#","layers":[{"digest":"sha256:00"}]"#,
            "layer 1: invalid digest \"sha256:00\"",
        ),
        (
            r#","layers":[{"size":-1}]"#,
            "layers[0].size: invalid value: integer `-1`",
        ),
        (r#","layers":[[]]"#, "layers[0]: invalid type: sequence"),
        (r#","subject":[]"#, "subject: invalid type: sequence"),
        (
            r#","annotations":["a"]"#,
            "annotations: invalid type: sequence",
        ),
    ] {
        let error = said(&manifest(rest));
        assert!(error.contains(words), "{rest}: {error}");
    }
    let error = said(&format!(
        r#"{{"mediaType":"{OCI_MANIFEST}","config":null}}"#
    ));
    assert!(error.contains("its config: digest missing"), "{error}");
    let error = said(&format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":"a"}}"#));
    assert!(error.contains("manifests: invalid type"), "{error}");
    for (run, field) in [
        (r#","config":{"Env":"A=1"}"#, "config.Env: "),
        (r#","config":{"Env":{"A":"1"}}"#, "config.Env: "),
        (r#","config":{"Entrypoint":"/a"}"#, "config.Entrypoint: "),
        (r#","config":{"Cmd":{}}"#, "config.Cmd: "),
        (r#","config":{"Cmd":[1]}"#, "config.Cmd"),
        (r#","config":{"Labels":["a"]}"#, "config.Labels: "),
        (
            r#","config":{"ExposedPorts":["80"]}"#,
            "config.ExposedPorts: ",
        ),
        (r#","config":{"Volumes":["/a"]}"#, "config.Volumes: "),
        (r#","config":[1]"#, "config: "),
        (r#","config":[]"#, "config: "),
        (r#","rootfs":[]"#, "rootfs: "),
        (r#","history":[[]]"#, "history[0]: "),
        (r#","history":["a"]"#, "history[0]: "),
        (r#","history":{}"#, "history: "),
        (r#","rootfs":{"diff_ids":"a"}"#, "rootfs.diff_ids: "),
    ] {
        let error = config(run, "").unwrap_err();
        assert!(error.contains(field), "{run}: {error}");
        assert!(error.contains("invalid type"), "{run}: {error}");
    }
}

#[test]
fn what_stands_behind_the_document_is_an_error() {
    assert!(IndexDocument::parse(br#"{"manifests":null} x"#).is_err());
    // A list is no document.
    for text in ["[]", "null", "[2]", "1"] {
        assert!(IndexDocument::parse(text.as_bytes()).is_err(), "{text}");
        assert!(ManifestDocument::parse(text.as_bytes()).is_err(), "{text}");
        assert!(ImageConfig::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(
        IndexDocument::parse(b"{}\n").unwrap(),
        IndexDocument::default()
    );
}
