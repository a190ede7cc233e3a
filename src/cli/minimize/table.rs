//! What came of it, for people.

use std::fmt::Write as _;

use super::{Options, Outcome};
use crate::inspect::table::plain;
use whittle_image::display_size;

pub(super) fn write(outcomes: &[Outcome], options: &Options, top: Option<&str>) -> String {
    let mut text = String::new();
    let bytes = |bytes: u64| display_size(i64::try_from(bytes).unwrap_or(i64::MAX));
    for outcome in outcomes {
        let _ = writeln!(
            text,
            "{} {}\n  full     {} in the registry, {} unpacked, {} files",
            outcome.platform,
            outcome.digest,
            display_size(outcome.size),
            bytes(outcome.kept_bytes + outcome.gone_bytes),
            outcome.kept_files + outcome.gone_files,
        );
        let _ = writeln!(
            text,
            "  reached  {} unpacked, {} files",
            bytes(outcome.kept_bytes),
            outcome.kept_files
        );
        if let Some(smaller) = &outcome.smaller {
            let _ = writeln!(
                text,
                "  smaller  {} in the registry: {}",
                display_size(smaller.size),
                smaller.digest
            );
        }
        if let Some(why) = &outcome.unsure {
            let _ = writeln!(text, "  not all is known: {}", plain(why));
        }
        for (title, found) in [("stays", &outcome.stays), ("goes", &outcome.largest)] {
            if !found.is_empty() {
                let _ = writeln!(text, "  what {title}, the largest first:");
            }
            for found in found {
                let _ = writeln!(
                    text,
                    "    {:>10}  {}",
                    bytes(found.bytes),
                    plain(&found.path)
                );
            }
        }
        if let Some(stage) = &outcome.stage {
            text.push_str(
                "  a last stage that does the same, behind the one that is there (FROM … AS build):\n",
            );
            for line in stage.lines() {
                let _ = writeln!(text, "    {}", plain(line));
            }
        }
        for explained in &outcome.explained {
            let _ = writeln!(text, "  {}:", plain(&explained.path));
            for line in &explained.lines {
                let _ = writeln!(text, "    {}", plain(line));
            }
        }
    }
    if options.base.is_none() && options.base_layers.is_none() {
        text.push_str(
            "The base is not known: with --base IMAGE, what its toolchain brought can go, too.\n",
        );
    }
    if let Some(path) = &options.html {
        let _ = writeln!(text, "wrote the map {}", path.display());
    }
    match top {
        Some(name) => {
            let _ = writeln!(
                text,
                "wrote {name}\nIt was not tried out: run it before you use it."
            );
        }
        None => text.push_str("Nothing was written: --to IMAGE writes the smaller image.\n"),
    }
    text
}
