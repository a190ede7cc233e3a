//! A page with the map of an image: what stays and what goes, each as large as its bytes. It loads nothing and runs nothing, and is
//! bounded whatever the image holds.

use std::fmt::Write as _;

use super::{Outcome, Picture};
use crate::page::plot::{Area, areas};
use crate::page::text::{escaped, shortened, size};
use whittle_image::reach::{Because, Part, Tally};

/// Parts of all maps of a page.
pub(super) const PARTS: usize = 1500;
/// Characters of a path.
const PATH: usize = 160;
/// The map's size, in CSS pixels.
const MAP: Area = Area {
    x: 0.0,
    y: 0.0,
    width: 1200.0,
    height: 720.0,
};
/// Smaller than this, a part is not drawn.
const SEEN: f64 = 0.7;
/// The height of a folder's name.
const TITLE: f64 = 15.0;

const STYLE: &str = "\
body{font:14px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:1200px;padding:0 1rem;color:#1b1f24;background:#fff}\
h1{font-size:1.3rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin-top:2rem}code,td,text{font-family:ui-monospace,monospace}\
svg{width:100%;height:auto;background:#e4e7eb}rect{stroke:#fff;stroke-width:.6}.f{fill:#e4e7eb}.k{fill:#2f6fb0}.g{fill:#e0913a}\
.r{opacity:.75}rect:hover{stroke:#000;stroke-width:2}text{font-size:11px;pointer-events:none}.w{fill:#fff}\
.b{display:inline-block;width:.9em;height:.9em;vertical-align:-.1em;margin-right:.3em}.bk{background:#2f6fb0}.bg{background:#e0913a}\
table{border-collapse:collapse}td{padding:.1rem .8rem .1rem 0;vertical-align:top;overflow-wrap:anywhere}td:first-child{text-align:right;\
white-space:nowrap}pre{background:#f4f5f7;padding:.6rem;overflow:auto}\
@media(prefers-color-scheme:dark){body{background:#16191d;color:#e6e8eb}svg,.f{background:#2a2f36;fill:#2a2f36}pre{background:#22262c}\
text{fill:#e6e8eb}rect{stroke:#16191d}}";

/// The page of all platforms.
pub(super) fn write(image: &str, outcomes: &[Outcome]) -> String {
    let mut page =
        String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n",
    );
    let name = escaped(image);
    let _ = writeln!(
        page,
        "<title>{name}: what its program reaches</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>"
    );
    for outcome in outcomes {
        if let Some(picture) = &outcome.picture {
            platform(&mut page, outcome, picture);
        }
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn platform(page: &mut String, outcome: &Outcome, picture: &Picture) {
    let map = &picture.map;
    let _ = writeln!(
        page,
        "<h2>{} <code>{}</code></h2>",
        escaped(&outcome.platform),
        escaped(&outcome.digest)
    );
    let share = |tally: &Tally| match map.bytes() {
        0 => 0.0,
        all => tally.bytes as f64 * 100.0 / all as f64,
    };
    for (class, word, tally) in [("bk", "stays", &map.stays), ("bg", "goes", &map.goes)] {
        let _ = writeln!(
            page,
            "<p><span class=\"b {class}\"></span>{word}: <strong>{}</strong> in {} files, {:.1} %</p>",
            size(tally.bytes),
            tally.files,
            share(tally)
        );
    }
    if let Some(why) = &outcome.unsure {
        let _ = writeln!(page, "<p>Not all is known: {}</p>", escaped(why));
    }
    let _ = writeln!(
        page,
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"The folders and files of the image, each as large as its bytes\">",
        MAP.width, MAP.height
    );
    draw(page, map, MAP);
    page.push_str(
        "</svg>\n<p>Unpacked bytes. Point at a part: its path, its size, and why it stays.</p>\n",
    );
    let rows = picture.reasons.iter();
    let rows = rows.map(|(text, tally)| (tally.bytes, format!("{text} ({} files)", tally.files)));
    table(page, "Why it stays", rows.collect());
    let weights = |list: &[super::Weight]| {
        let rows = list.iter();
        rows.map(|found| (found.bytes, path(&found.path))).collect()
    };
    table(
        page,
        "What goes, the largest first",
        weights(&outcome.largest),
    );
    table(
        page,
        "What stays, the largest first",
        weights(&outcome.stays),
    );
    if let Some(stage) = &outcome.stage {
        let _ = writeln!(
            page,
            "<h3>A last stage that does the same</h3>\n<pre>{}</pre>",
            stage.lines().map(escaped).collect::<Vec<_>>().join("\n")
        );
    }
}

fn table(page: &mut String, title: &str, rows: Vec<(u64, String)>) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(page, "<h3>{title}</h3>\n<table>");
    for (bytes, text) in rows {
        let _ = writeln!(page, "<tr><td>{}</td><td>{text}</td></tr>", size(bytes));
    }
    page.push_str("</table>\n");
}

/// Draws a part, and what it holds: `area` is where.
fn draw(page: &mut String, part: &Part, area: Area) {
    if area.width < SEEN || area.height < SEEN {
        return;
    }
    let class = match (part.parts.is_empty(), part.stays.bytes > 0, part.rest) {
        (false, ..) => "f",
        (true, true, false) => "k",
        (true, true, true) => "k r",
        (true, false, false) => "g",
        (true, false, true) => "g r",
    };
    let _ = writeln!(
        page,
        "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
        area.x,
        area.y,
        area.width,
        area.height,
        said(part)
    );
    let name = part.path.rsplit('/').next().unwrap_or_default();
    let folder = !part.parts.is_empty();
    let room = ((area.width - 6.0) / 6.8).floor();
    let titled = area.height >= TITLE * 1.2 && room >= 4.0 && !part.rest && !name.is_empty();
    if titled {
        let name = shortened(name, room as usize);
        let class = if folder { "" } else { " class=\"w\"" };
        let (x, y) = (area.x + 3.0, area.y + 11.0);
        let _ = writeln!(
            page,
            "<text{class} x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            escaped(&name)
        );
    }
    if !folder {
        return;
    }
    let mut parts: Vec<&Part> = part.parts.iter().collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes()));
    let sizes: Vec<u64> = parts.iter().map(|part| part.bytes()).collect();
    let inner = match titled {
        true => area.within(1.5, TITLE),
        false => area.within(0.5, 0.5),
    };
    for (part, area) in parts.into_iter().zip(areas(&sizes, inner)) {
        draw(page, part, area);
    }
}

/// What is said of a part where somebody points at it.
fn said(part: &Part) -> String {
    let mut text = match part.rest {
        true => format!("the rest of {}", path(&part.path)),
        false => path(&part.path),
    };
    for (word, tally) in [("stays", &part.stays), ("goes", &part.goes)] {
        if tally.bytes > 0 {
            let _ = write!(
                text,
                "\n{word}: {} in {} files",
                size(tally.bytes),
                tally.files
            );
        }
    }
    for (at, step) in part.why.iter().enumerate() {
        let _ = write!(text, "\n{}", because(step, part.why.get(at + 1)));
    }
    text
}

fn because(step: &Because, next: Option<&Because>) -> String {
    match next {
        Some(next) => format!(
            "{} {}, by {}",
            path(&step.path),
            step.why.text(),
            path(&next.path)
        ),
        None => format!("{} {}", path(&step.path), step.why.text()),
    }
}

fn path(text: &str) -> String {
    escaped(&shortened(text, PATH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use whittle_image::reach::Why;

    fn leaf(path: &str, stays: u64, goes: u64) -> Part {
        let tally = |bytes| Tally {
            files: u64::from(bytes > 0),
            bytes,
        };
        Part {
            path: path.into(),
            stays: tally(stays),
            goes: tally(goes),
            ..Part::default()
        }
    }

    fn outcome(parts: Vec<Part>) -> Outcome {
        let sum = |of: fn(&Part) -> u64| parts.iter().map(of).sum();
        let mut map = leaf(
            "/",
            sum(|part| part.stays.bytes),
            sum(|part| part.goes.bytes),
        );
        map.parts = parts;
        Outcome {
            platform: "linux/amd64".into(),
            digest: "sha256:00".into(),
            picture: Some(Picture {
                map,
                reasons: vec![(
                    "is a library",
                    Tally {
                        files: 2,
                        bytes: 3 << 20,
                    },
                )],
            }),
            stage: Some("FROM scratch\n".into()),
            ..Outcome::default()
        }
    }

    #[test]
    fn the_page_has_a_colour_and_a_figure_for_what_stays_and_what_goes_and_says_why() {
        let mut kept = leaf("/app/server", 3 << 20, 0);
        kept.why = vec![
            Because {
                path: "/app/server".into(),
                why: Why::Library,
            },
            Because {
                path: "/app/run".into(),
                why: Why::Start,
            },
        ];
        let page = write(
            "a:1",
            &[outcome(vec![kept, leaf("/usr/bin/gcc", 0, 9 << 20)])],
        );
        for part in [
            "stays: <strong>3.0 MiB</strong> in 1 files, 25.0 %",
            "goes: <strong>9.0 MiB</strong> in 1 files, 75.0 %",
            "<rect class=\"k\"",
            "<rect class=\"g\"",
            "/app/server is a library, by /app/run\n/app/run is what the image starts</title>",
            "<td>is a library (2 files)</td>",
            "<pre>FROM scratch</pre>",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
    }

    #[test]
    fn nothing_of_an_image_becomes_a_part_of_the_page_itself() {
        let name = "/<script>alert(1)</script>\"'&\u{1b}[31m";
        let page = write(name, &[outcome(vec![leaf(name, 5, 0), leaf("/b", 0, 5)])]);
        assert!(
            !page.contains("<script") && !page.contains('\u{1b}'),
            "{page}"
        );
        assert!(page.contains("&lt;script&gt;"), "{page}");
    }

    #[test]
    fn a_page_is_bounded_however_long_names_are() {
        let long = format!("/{}", "n".repeat(4000));
        let parts: Vec<Part> = (0..PARTS * 3)
            .map(|number| leaf(&long, 1000 + number as u64, 0))
            .rev()
            .collect();
        let page = write(&long, &[outcome(parts)]);
        assert!(page.len() < 3 << 20, "{}", page.len());
    }
}
