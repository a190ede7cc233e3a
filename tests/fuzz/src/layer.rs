//! Two layers, packed or not, to a tree, to a report, to a verdict; and to a smaller image, which must hold what was to stay and
//! nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whittle_image::reach::{Reach, Wanted};
use whittle_image::smaller::{Writer, WriterError};
use whittle_image::{
    Budget, Contents, Image, ImageConfig, Kind, LayerSource, Limits, Measured, Rule, judge,
};

fuzz_target!(|data: &[u8]| {
    // Where the second layer begins, in blocks.
    let Some((&split, layers)) = data.split_first() else {
        return;
    };
    let (first, second) = layers.split_at((usize::from(split) * 512).min(layers.len()));
    let limits = Limits {
        unpacked_bytes: 8 << 20,
        ratio_floor: 1 << 20,
        entries: 2000,
        tree_bytes: 256 << 10,
        fact_bytes: 64 << 10,
        elf_bytes: 4096,
        zstd_window: 1 << 20,
        reach: Some(1),
        mention_bytes: 16 << 10,
        ..Limits::default()
    };
    let mut image = Image::new(limits.clone());
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
    if image.partial || image.layers.len() < 2 || image.left_out > 0 {
        return;
    }
    let wanted = Wanted {
        base_layers: Some(1),
        ..Wanted::default()
    };
    let reach = Reach::of(&image, &config, &wanted);
    let mut writer = Writer::new(&image, &reach, Vec::new(), Vec::new());
    for layer in [first, second] {
        if writer.add_layer(layer, &LayerSource::default()).is_err() {
            return;
        }
    }
    let layers = match writer.finish() {
        Ok(layers) => layers,
        Err(WriterError::Lost { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let mut small = Image::new(limits);
    for (_, layer) in &layers {
        small.add_layer(&layer[..], &LayerSource::default()).unwrap();
    }
    if small.partial {
        return;
    }
    for id in image.tree.all().filter(|id| reach.keeps(*id)) {
        let path = image.tree.path(id);
        if path.contains(char::REPLACEMENT_CHARACTER) {
            return;
        }
        let (one, other) = (&image.tree, &small.tree);
        let found = other.resolve_link(other.root(), path.as_bytes());
        let before = one.meta(id);
        let Ok(found) = found else {
            // A folder that no layer has an entry for is there for what it holds.
            assert!(before.kind == Kind::Directory, "{path} is missing");
            continue;
        };
        let after = other.meta(found);
        assert_eq!(before.kind, after.kind, "{path}");
        assert_eq!(one.target(id), other.target(found), "{path}");
        if before.kind != Kind::Directory {
            assert_eq!((before.mode, before.uid, before.gid), (after.mode, after.uid, after.gid), "{path}");
        }
    }
    let kept = image.tree.all().filter(|id| reach.keeps(*id)).count();
    assert!(small.tree.len() <= kept + 1, "there is more than was to stay");
});
