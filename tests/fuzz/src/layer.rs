//! Two layers, packed or not, to a tree, to a report, to a verdict.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whittle_image::{
    Budget, Contents, Image, ImageConfig, LayerSource, Limits, Measured, Rule, judge,
};

fuzz_target!(|data: &[u8]| {
    // Where the second layer begins, in blocks.
    let Some((&split, layers)) = data.split_first() else {
        return;
    };
    let (first, second) = layers.split_at((usize::from(split) * 512).min(layers.len()));
    let mut image = Image::new(Limits {
        unpacked_bytes: 8 << 20,
        ratio_floor: 1 << 20,
        entries: 2000,
        tree_bytes: 256 << 10,
        fact_bytes: 64 << 10,
        elf_bytes: 4096,
        zstd_window: 1 << 20,
        ..Limits::default()
    });
    for layer in [first, second] {
        if image.add_layer(layer, &LayerSource::default()).is_err() {
            break;
        }
    }
    let config = ImageConfig {
        os: "linux".into(),
        architecture: "amd64".into(),
        user: "app:app".into(),
        entrypoint: vec!["a".into()],
        env: vec!["PATH=/:/a:/b".into(), "LD_LIBRARY_PATH=/:a".into()],
        working_dir: "/b".into(),
        ..ImageConfig::default()
    };
    let contents = Contents::of(&image, &config, 0);
    let measured = Measured {
        size: 1,
        contents: Some(&contents),
    };
    let budget = Budget {
        max_size: Some(0),
        enforce: Rule::ALL.to_vec(),
        ..Budget::default()
    };
    judge(&budget, measured, Some("linux/amd64"), Some(measured));
});
