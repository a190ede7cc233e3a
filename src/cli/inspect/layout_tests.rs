use serde_json::json;

use super::*;
use crate::inspect::fixtures::{CONFIG, GZIP, LayoutFolder, config, entry, program};
use crate::inspect::platform::Platforms;
use crate::inspect::source::{Source, Target};
use whittle_image::fixtures::{Tar, gzip};
use whittle_image::{Contents, OCI_INDEX, OCI_MANIFEST};

async fn find(
    layout: &LayoutFolder,
    name: Option<&str>,
    platforms: Platforms,
) -> Result<(Source, Target), InspectError> {
    let files = Files::open(layout.path())?;
    let mut source = Source::Layout(Layout::new(files, name.map(str::to_owned)));
    let target = source.find(&platforms).await?;
    Ok((source, target))
}

async fn read(layout: &LayoutFolder) -> Result<Contents, InspectError> {
    let (mut source, target) = find(layout, None, Platforms::Default).await?;
    source.contents(&target.images[0], 0).await
}

async fn said(layout: &LayoutFolder, name: Option<&str>) -> String {
    match find(layout, name, Platforms::Default).await {
        Ok(_) => panic!("it was found"),
        Err(error) => error.to_string(),
    }
}

async fn unread(layout: &LayoutFolder) -> String {
    read(layout).await.unwrap_err().to_string()
}

#[tokio::test]
async fn an_index_within_the_layout_leads_to_its_platforms() {
    let layout = LayoutFolder::new();
    let both = ["linux/amd64", "linux/arm64"].map(|platform| {
        let digest = layout.image(platform, &[program()]);
        (
            digest.clone(),
            entry(&digest, OCI_MANIFEST, Some(platform), None),
        )
    });
    let index = layout.index(&both.clone().map(|(_, entry)| entry));
    layout.top(&[entry(&index, OCI_INDEX, None, Some("v1"))]);
    let asked = Platforms::One("linux/arm64".into());
    let (_, target) = find(&layout, Some("v1"), asked).await.unwrap();
    assert_eq!(target.digest, Some(index));
    assert_eq!(target.images[0].digest.as_deref(), Some(&both[1].0[..]));
    assert_eq!(target.images[0].stated.as_deref(), Some("linux/arm64"));
    let (mut source, target) = find(&layout, None, Platforms::All).await.unwrap();
    for image in &target.images {
        let contents = source.contents(image, 0).await.unwrap();
        assert_eq!(contents.platform, image.config.platform());
    }
    let asked = Platforms::One("linux/s390x".into());
    let Err(error) = find(&layout, None, asked).await else {
        panic!("it was found");
    };
    assert_eq!(
        error.to_string(),
        "no image found for linux/s390x; available: linux/amd64, linux/arm64"
    );
    // What `docker save --platform` leaves: the whole index, and one image.
    std::fs::remove_file(layout.file(&both[0].0)).unwrap();
    let (_, target) = find(&layout, None, Platforms::Default).await.unwrap();
    assert_eq!(target.images[0].digest.as_deref(), Some(&both[1].0[..]));
}

#[tokio::test]
async fn platforms_may_stand_in_the_layout_itself() {
    let layout = LayoutFolder::new();
    let entries = ["linux/amd64", "linux/arm64"].map(|platform| {
        let digest = layout.image(platform, &[program()]);
        entry(&digest, OCI_MANIFEST, Some(platform), None)
    });
    layout.top(&entries);
    let (_, target) = find(&layout, None, Platforms::All).await.unwrap();
    assert_eq!((target.digest, target.images.len()), (None, 2));
}

#[tokio::test]
async fn of_several_images_one_must_be_named() {
    let layout = LayoutFolder::new();
    let one = layout.image("linux/amd64", &[program()]);
    let two = layout.image("linux/amd64", &[program(), program()]);
    layout.top(&[
        entry(&one, OCI_MANIFEST, None, Some("1")),
        entry(&two, OCI_MANIFEST, None, Some("docker.io/library/two:2")),
    ]);
    let text = said(&layout, None).await;
    assert!(
        text.contains("choose one of 1, docker.io/library/two:2, with the tag"),
        "{text}"
    );
    for (name, digest) in [("1", &one), ("two:2", &two), (&two[..], &two)] {
        let (_, target) = find(&layout, Some(name), Platforms::Default).await.unwrap();
        assert_eq!(target.digest.as_ref(), Some(digest), "{name}");
    }
    let text = said(&layout, Some("3")).await;
    assert!(
        text.contains("image 3 not found; it has 1, docker.io"),
        "{text}"
    );
}

#[tokio::test]
async fn two_tags_on_one_digest_are_one_image() {
    let layout = LayoutFolder::new();
    let one = layout.image("linux/amd64", &[program()]);
    let named = |digest: &str, tag| entry(digest, OCI_MANIFEST, Some("linux/amd64"), Some(tag));
    layout.top(&[named(&one, "1"), named(&one, "latest"), named(&one, "1.2")]);
    let (_, target) = find(&layout, None, Platforms::Default).await.unwrap();
    assert_eq!(target.digest, Some(one.clone()));
    // Two images, each with two tags, are two all the same.
    let two = layout.image("linux/amd64", &[program(), program()]);
    layout.top(&[
        named(&one, "1"),
        named(&one, "2"),
        named(&two, "3"),
        named(&two, "4"),
    ]);
    assert!(
        said(&layout, None)
            .await
            .contains("choose one of 1, 2, 3, 4, with")
    );
    let (_, target) = find(&layout, Some("4"), Platforms::Default).await.unwrap();
    assert_eq!(target.digest, Some(two));
}

#[tokio::test]
async fn an_image_without_layers_is_read_also_where_the_lists_are_null() {
    let layout = LayoutFolder::new();
    for (layers, diff_ids) in [("null", "null"), ("[]", "[]"), ("null", "[]")] {
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{{"Labels":{{"a":"b"}},"Env":null}},
            "rootfs":{{"type":"layers","diff_ids":{diff_ids}}},"history":null}}"#
        );
        let config_digest = layout.blob(config.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"{CONFIG}","digest":"{config_digest}",
            "size":{}}},"layers":{layers},"annotations":null}}"#,
            config.len()
        );
        let manifest = layout.blob(manifest.as_bytes());
        layout.top(&[entry(&manifest, OCI_MANIFEST, None, Some("1"))]);
        let (mut source, target) = find(&layout, None, Platforms::Default).await.unwrap();
        assert_eq!(target.images[0].size as usize, config.len());
        let contents = source.contents(&target.images[0], 0).await.unwrap();
        assert_eq!((contents.bytes, contents.files), (0, 0));
        assert_eq!(contents.start.program.runs, whittle_image::Runs::No);
        assert_eq!(
            contents.start.program.message.as_deref(),
            Some("the image has neither ENTRYPOINT nor CMD")
        );
    }
}

#[tokio::test]
async fn a_layout_that_names_nothing_leaves_the_word_to_what_docker_saved_beside_it() {
    for manifests in ["null", "[]"] {
        let layout = LayoutFolder::new();
        let index =
            format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":{manifests}}}"#);
        std::fs::write(layout.path().join("index.json"), index).unwrap();
        assert_eq!(said(&layout, None).await, "no image found in the index");
        let config = layout.blob(&config("linux/amd64", &[program()]));
        let layer = layout.blob(&program());
        let blob = |digest: &str| digest.replace("sha256:", "blobs/sha256/");
        let saved = json!([{"Config": blob(&config), "RepoTags": null, "Layers": [blob(&layer)]}]);
        std::fs::write(layout.path().join("manifest.json"), saved.to_string()).unwrap();
        let location =
            crate::inspect::location::Location::parse(&layout.name(), |path| path.exists());
        let mut source = Source::open(location.unwrap(), &Default::default()).unwrap();
        let target = source.find(&Platforms::Default).await.unwrap();
        assert_eq!(target.images[0].id, config);
        let contents = source.contents(&target.images[0], 0).await.unwrap();
        assert_eq!(contents.start.program.path, "/app");
    }
}

#[tokio::test]
async fn a_manifest_that_was_replaced_is_told_by_its_digest() {
    let layout = LayoutFolder::of("linux/amd64", &[program()]);
    let (_, target) = find(&layout, None, Platforms::Default).await.unwrap();
    let file = layout.file(target.digest.as_deref().unwrap());
    std::fs::write(&file, b"{}").unwrap();
    let text = said(&layout, None).await;
    assert!(
        text.starts_with("the manifest: digest mismatch: expected sha256:")
            && text.contains("got sha256:44136fa355b3"),
        "{text}"
    );
    std::fs::remove_file(&file).unwrap();
    let text = said(&layout, None).await;
    assert!(text.contains("manifest not found: sha256:"), "{text}");
}

#[tokio::test]
async fn a_layer_that_is_cut_short_damaged_or_missing_is_an_error() {
    let layout = LayoutFolder::of("linux/amd64", &[program()]);
    read(&layout).await.unwrap();
    let packed = gzip(&program());
    let file = layout.file(&whittle_image::digest_of(&packed));
    std::fs::write(&file, &packed[..packed.len() / 2]).unwrap();
    assert!(unread(&layout).await.contains("layer 1 is truncated"));
    std::fs::write(
        &file,
        gzip(&Tar::new().file("app", 0o755, b"other").bytes()),
    )
    .unwrap();
    let text = unread(&layout).await;
    assert!(text.contains("layer 1 has the wrong digest"), "{text}");
    std::fs::remove_file(&file).unwrap();
    let text = unread(&layout).await;
    assert!(text.contains("layer 1 not found: sha256:"), "{text}");
}

#[tokio::test]
async fn a_layer_that_lies_elsewhere_names_its_address() {
    let layout = LayoutFolder::new();
    let far = whittle_image::digest_of(b"far");
    let layers = [json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": far, "size": 3, "urls": ["https://example.com/far"],
    })];
    let config = config("windows/amd64", &[b"far".to_vec()]);
    let digest = layout.manifest(CONFIG, &config, &layers);
    layout.top(&[entry(&digest, OCI_MANIFEST, None, None)]);
    let text = unread(&layout).await;
    assert!(
        text.contains("layer 1 is a foreign layer, stored at https://example.com/far"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_no_image_says_so() {
    let layout = LayoutFolder::new();
    let chart = layout.manifest("application/vnd.cncf.helm.config.v1+json", b"{}", &[]);
    layout.top(&[entry(&chart, OCI_MANIFEST, None, None)]);
    assert!(said(&layout, None).await.contains("a Helm chart"));
    // The manifest says that it is an image, the config is none.
    let odd = layout.manifest(CONFIG, b"[]", &[]);
    layout.top(&[entry(&odd, OCI_MANIFEST, None, None)]);
    assert!(said(&layout, None).await.contains("not a container image"));
    // A config of another image.
    let layers = [json!({"mediaType": GZIP, "digest": layout.blob(b"x"), "size": 1})];
    let odd = layout.manifest(CONFIG, &config("linux/amd64", &[]), &layers);
    layout.top(&[entry(&odd, OCI_MANIFEST, None, None)]);
    let text = unread(&layout).await;
    assert!(
        text.contains("has 1 layers, and the image's config has 0"),
        "{text}"
    );
}

#[tokio::test]
async fn an_index_of_an_index_is_refused() {
    let layout = LayoutFolder::new();
    let image = layout.image("linux/amd64", &[program()]);
    let inner = layout.index(&[entry(&image, OCI_MANIFEST, Some("linux/amd64"), None)]);
    let outer = layout.index(&[entry(&inner, OCI_INDEX, None, None)]);
    layout.top(&[entry(&outer, OCI_INDEX, None, None)]);
    let text = said(&layout, None).await;
    assert!(text.contains(&format!("another index, {inner}")), "{text}");
    let empty = layout.index(&[]);
    layout.top(&[entry(&empty, OCI_INDEX, None, None)]);
    assert_eq!(said(&layout, None).await, "no image found in the index");
}
