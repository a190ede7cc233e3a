//! A map as a picture that needs no script.

use std::fmt::Write as _;

use super::COLORS;
use super::plot::{Area, areas};
use super::text::{escaped, shortened, size};
use whittle_image::map::{Region, RegionKind};

/// The picture's size, in its own units.
const ALL: Area = Area {
    x: 0.0,
    y: 0.0,
    width: 1200.0,
    height: 640.0,
};
/// Smaller than this, a part is not drawn.
const SEEN: f64 = 2.0;
/// The height of a folder's name.
const TITLE: f64 = 15.0;
/// Characters of a name that is pointed at.
const NAME: usize = 80;

pub(super) fn draw(page: &mut String, root: &Region, title: &str) {
    let _ = writeln!(
        page,
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}: each part as large as its bytes\">",
        ALL.width,
        ALL.height,
        escaped(title)
    );
    part(page, root, ALL, true);
    page.push_str("</svg>\n");
}

fn part(page: &mut String, region: &Region, area: Area, whole: bool) {
    if area.width < SEEN || area.height < SEEN {
        return;
    }
    let folder = !region.parts.is_empty();
    let number = region.layer.map_or(0, |layer| u32::from(layer) + 1);
    let layer = format!("{number} {}", region.name);
    let name = match region.kind {
        RegionKind::Others => "others",
        RegionKind::Hidden => "hidden by later layers",
        _ if whole => "",
        RegionKind::Layer => &layer,
        _ => &region.name,
    };
    let color = region.layer.map_or(0, usize::from) % COLORS;
    let class = match region.kind {
        _ if folder => "folder".into(),
        RegionKind::Hidden => "hidden".into(),
        _ => format!("c{color}"),
    };
    let _ = writeln!(
        page,
        "<rect class=\"{class}\" x=\"{:.0}\" y=\"{:.0}\" width=\"{:.0}\" height=\"{:.0}\"><title>{} {}</title></rect>",
        area.x,
        area.y,
        area.width,
        area.height,
        escaped(&shortened(name, NAME)),
        size(region.bytes)
    );
    let room = ((area.width - 6.0) / 6.8).floor();
    let titled = area.height >= TITLE * 1.2 && room >= 4.0 && !name.is_empty();
    if titled {
        let _ = writeln!(
            page,
            "<text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
            area.x + 3.0,
            area.y + 11.0,
            escaped(&shortened(name, room as usize))
        );
    }
    let sizes: Vec<u64> = region.parts.iter().map(|part| part.bytes).collect();
    let inner = match titled {
        true => area.within(1.5, TITLE),
        false => area.within(0.5, 0.5),
    };
    for (region, area) in region.parts.iter().zip(areas(&sizes, inner)) {
        part(page, region, area, false);
    }
}
