use super::*;
use crate::fixtures::{Fake, answer};
use whittle_image::fixtures::Tar;
use whittle_image::{LayerError, digest_of};

fn tar() -> String {
    let bytes = Tar::new()
        .file("app", 0o755, b"hello")
        .file("data", 0o644, &[b'x'; 40_000])
        .bytes();
    String::from_utf8(bytes).unwrap()
}

fn layer(bytes: &str) -> (Vec<Layer>, ImageConfig) {
    let digest = digest_of(bytes.as_bytes());
    let layer = Layer {
        media_type: "application/vnd.oci.image.layer.v1.tar".into(),
        digest: digest.clone(),
        size: bytes.len() as i64,
        title: None,
    };
    let config = ImageConfig {
        diff_ids: vec![digest],
        ..ImageConfig::default()
    };
    (vec![layer], config)
}

async fn read(answers: &[&str], bytes: &str) -> (Result<Image, ReadError>, Vec<String>) {
    let fake = Fake::start(answers).await;
    let (layers, config) = layer(bytes);
    let image = read_image(&fake.client(None), &layers, &config, Limits::default()).await;
    (image, fake.asked())
}

#[tokio::test]
async fn layers_are_read_as_they_come() {
    let tar = tar();
    let (image, asked) = read(&[&answer("200 OK", "", &tar)], &tar).await;
    let image = image.unwrap();
    assert!(image.layers[0].complete);
    assert_eq!(image.layers[0].content, 40_005);
    assert!(!asked[0].to_lowercase().contains("range:"), "{}", asked[0]);
}

#[tokio::test]
async fn a_connection_that_breaks_goes_on_where_it_was() {
    let tar = tar();
    let whole = answer("200 OK", "", &tar);
    let head = whole.len() - tar.len();
    let cut = &whole[..head + 10_000];
    for (second, what) in [
        (
            answer("206 Partial Content", "", &tar[10_000..]),
            "with ranges",
        ),
        (answer("200 OK", "", &tar), "without ranges"),
    ] {
        let (image, asked) = read(&[cut, &second], &tar).await;
        assert!(image.unwrap().layers[0].complete, "{what}");
        assert!(asked[1].contains("range: bytes=10000-"), "{}", asked[1]);
    }
}

#[tokio::test]
async fn a_layer_with_other_bytes_is_refused() {
    let tar = tar();
    let other = tar.replace("hello", "HELLO");
    let (image, _) = read(&[&answer("200 OK", "", &other)], &tar).await;
    assert!(matches!(
        image.err().unwrap(),
        ReadError::Layer(LayerError::WrongDigest { layer: 1, .. })
    ));
}

#[tokio::test]
async fn a_layer_that_the_registry_does_not_have_is_told_by_its_digest() {
    let tar = tar();
    let (image, _) = read(&[&answer("404 Not Found", "", "")], &tar).await;
    let said = image.err().unwrap().to_string();
    assert!(said.contains(&digest_of(tar.as_bytes())), "{said}");
}

#[tokio::test]
async fn a_manifest_with_other_layers_than_its_config_is_refused() {
    let fake = Fake::start(&[]).await;
    let (layers, _) = layer("x");
    let image = read_image(
        &fake.client(None),
        &layers,
        &ImageConfig::default(),
        Limits::default(),
    )
    .await;
    assert!(matches!(image.err().unwrap(), ReadError::Mismatch { .. }));
}
