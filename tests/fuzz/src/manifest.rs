//! Manifests, indexes, configs and bundles of certificates.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whittle_image::{Certificates, ImageConfig, Repository, parse};

fuzz_target!(|data: &[u8]| {
    let _ = parse(data);
    if let Ok(config) = ImageConfig::parse(data) {
        config.platform();
        config.command();
        assert_eq!(config.instructions.len(), config.diff_ids.len());
    }
    Certificates::read(data);
    if let Ok(text) = std::str::from_utf8(data) {
        Repository::parse(text);
    }
});
