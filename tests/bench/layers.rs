//! Reads the layers of an image from files and prints what it took: `layers CONFIG LAYER…`, where CONFIG
//! is the config blob, or `-` for one that names /bin/sh.

use std::fs::File;
use std::time::{Instant, SystemTime};

use whittle_image::{Contents, Image, ImageConfig, LayerError, LayerSource, Limits};

/// That of the program: its memory is what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let config = match arguments.next().as_deref() {
        None => return Err("usage: layers CONFIG|- LAYER…".into()),
        Some("-") => ImageConfig {
            os: "linux".into(),
            architecture: "amd64".into(),
            entrypoint: vec!["/bin/sh".into()],
            ..ImageConfig::default()
        },
        Some(path) => ImageConfig::parse(&std::fs::read(path)?)?,
    };
    let began = Instant::now();
    let mut image = Image::new(Limits::default());
    for (index, path) in arguments.enumerate() {
        let layer = LayerSource {
            diff_id: config
                .diff_ids
                .get(index)
                .cloned()
                .or_else(|| Some("sha256:unknown".into())),
            // Hashed as a real one is; that it is another one is no matter here.
            digest: Some("sha256:unknown".into()),
            ..LayerSource::default()
        };
        match image.add_layer(File::open(path)?, &layer) {
            Ok(()) => {}
            Err(LayerError::WrongDigest { what: "digest", .. }) => image.partial = false,
            Err(error) => return Err(error.into()),
        }
    }
    let read = began.elapsed();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let report = Contents::of(&image, &config, i64::try_from(now.as_secs())?);
    let json = serde_json::to_string_pretty(&report)?;
    if std::env::var_os("REPORT").is_some() {
        println!("{json}");
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default();
    eprintln!(
        "read {:.2} s, judged {:.2} s, {peak}, {} entries in the tree ({} KiB), {} programs, report {} KiB, partial {}, \
         left out {}",
        read.as_secs_f64(),
        (began.elapsed() - read).as_secs_f64(),
        image.tree.len(),
        image.tree.bytes() / 1024,
        report.executables.items.len() as i64 + report.executables.omitted,
        json.len() / 1024,
        report.partial,
        image.left_out
    );
    for note in &report.notes.items {
        eprintln!("note: layer {:?}: {}", note.layer, note.message);
    }
    Ok(())
}
