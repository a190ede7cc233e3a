//! One page about an image, that loads nothing: maps of its bytes, what is said of it, its layers and largest files. What it shows is
//! plain data ([`Page`]), so whoever knows an image can have one. It is bounded whatever the image holds, and a browser runs in it
//! nothing but the script of this program, which its policy names by its digest.

mod draw;
pub(crate) mod plot;
pub(crate) mod text;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::inspect::table::plain;
use text::{escaped, shortened, size};
use whittle_image::map::{Region, RegionKind};
use whittle_image::{bounded, digest_of};

/// Parts of one map.
pub(crate) const PARTS: usize = 900;
/// Characters of a name in a map.
const NAME: usize = 80;
/// Characters of a path and of an instruction in a table.
const PATH: usize = 240;
/// Characters of a fact and of a note.
const FACT: usize = 1000;
/// Rows of a table.
const ROWS: usize = 120;
/// Colors of layers: one after the other, then again from the first on.
const COLORS: usize = 8;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What a page shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// The image's name.
    pub(crate) image: String,
    /// Its digest and platform, as one line.
    pub(crate) subtitle: String,
    /// What is said of it: a name and a text each.
    pub(crate) facts: Vec<(String, String)>,
    /// Rules, what they came to, and why.
    pub(crate) rules: Vec<Judged>,
    /// Its maps.
    pub(crate) maps: Vec<Map>,
    /// What is to be known of what the program reaches; empty where that is not known.
    pub(crate) reached: String,
    /// Its layers, in their order.
    pub(crate) layers: Vec<Layer>,
    /// Its largest files.
    pub(crate) largest: Vec<Large>,
    /// What was not read.
    pub(crate) notes: Vec<String>,
}

/// One rule.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) rule: String,
    pub(crate) state: State,
    pub(crate) message: String,
}

/// What a rule came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Kept,
    Broken,
    Unknown,
}

/// A map, with its title.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub(crate) title: &'static str,
    pub(crate) root: Region,
}

/// One layer.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) stored: u64,
    pub(crate) content: u64,
    pub(crate) hidden: u64,
    pub(crate) made_by: String,
}

/// A large file.
#[derive(Clone, Debug)]
pub(crate) struct Large {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// From 0.
    pub(crate) layer: u16,
    pub(crate) reached: Option<bool>,
}

impl Page {
    /// The page as HTML.
    pub(crate) fn html(&self) -> String {
        let name = escaped(&shortened(&self.image, PATH));
        let mut page =
            String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        let _ = writeln!(
            page,
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '{}'; script-src '{}'; \
             base-uri 'none'; form-action 'none'\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n<title>{name}: what is in the image</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<header><h1>{name}</h1>\n<p class=\"sub\">{}</p></header>",
            source(STYLE),
            source(SCRIPT),
            escaped(&self.subtitle)
        );
        self.notes(&mut page);
        self.maps(&mut page);
        page.push_str("<div class=\"columns\">\n");
        self.facts(&mut page);
        self.rules(&mut page);
        page.push_str("</div>\n");
        self.layers(&mut page);
        self.largest(&mut page);
        let _ = writeln!(
            page,
            "<script type=\"application/json\" id=\"data\">{}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>",
            self.data()
        );
        page
    }

    fn notes(&self, page: &mut String) {
        for note in self.notes.iter().take(ROWS) {
            let _ = writeln!(
                page,
                "<p class=\"note\">{}</p>",
                escaped(&shortened(note, FACT))
            );
        }
    }

    /// The maps, drawn for whom no script runs; the script draws them again, as large as the window is.
    fn maps(&self, page: &mut String) {
        for (index, map) in self.maps.iter().enumerate() {
            let _ = writeln!(
                page,
                "<section class=\"map\" data-map=\"{index}\">\n<h2>{}</h2>\n<div class=\"view\">",
                escaped(map.title)
            );
            draw::draw(page, &map.root, map.title);
            page.push_str("</div>\n</section>\n");
        }
        if !self.reached.is_empty() {
            let _ = writeln!(
                page,
                "<p class=\"legend\" hidden><span class=\"box reached\"></span>reached by the program \
                 <span class=\"box left\"></span>not reached. {}</p>",
                escaped(&self.reached)
            );
        }
    }

    fn facts(&self, page: &mut String) {
        page.push_str("<section>\n<h2>Contents</h2>\n<table class=\"facts\">\n");
        for (name, text) in self.facts.iter().take(ROWS) {
            let _ = writeln!(
                page,
                "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
                escaped(&shortened(name, NAME)),
                escaped(&shortened(text, FACT))
            );
        }
        page.push_str("</table>\n</section>\n");
    }

    fn rules(&self, page: &mut String) {
        if self.rules.is_empty() {
            return;
        }
        page.push_str("<section>\n<h2>Rules</h2>\n<table class=\"facts\">\n");
        for judged in self.rules.iter().take(ROWS) {
            let (class, word) = match judged.state {
                State::Kept => ("kept", "kept"),
                State::Broken => ("broken", "broken"),
                State::Unknown => ("unknown", "unknown"),
            };
            let _ = writeln!(
                page,
                "<tr><th scope=\"row\">{}</th><td><span class=\"{class}\">{word}</span> {}</td></tr>",
                escaped(&judged.rule),
                escaped(&shortened(&judged.message, FACT))
            );
        }
        page.push_str("</table>\n</section>\n");
    }

    fn layers(&self, page: &mut String) {
        page.push_str(
            "<section>\n<h2>Layers</h2>\n<div class=\"wide\"><table class=\"list\">\n<tr><th>layer</th><th>stored</th><th>file bytes</th>\
             <th>hidden</th><th>made by</th></tr>\n",
        );
        for (index, layer) in self.layers.iter().enumerate().take(ROWS) {
            let hidden = match layer.hidden {
                0 => "–".into(),
                bytes => size(bytes),
            };
            let _ = writeln!(
                page,
                "<tr><td>{}{}</td><td>{}</td><td>{}</td><td>{hidden}</td><td><code>{}</code></td></tr>",
                swatch(index),
                index + 1,
                size(layer.stored),
                size(layer.content),
                escaped(&shortened(&layer.made_by, PATH))
            );
        }
        page.push_str("</table></div>\n");
        more(page, self.layers.len());
        page.push_str("</section>\n");
    }

    fn largest(&self, page: &mut String) {
        if self.largest.is_empty() {
            return;
        }
        let known = self.largest.iter().any(|file| file.reached.is_some());
        let head = if known { "<th>reached</th>" } else { "" };
        let _ = writeln!(
            page,
            "<section>\n<h2>Largest files</h2>\n<div class=\"wide\"><table class=\"list\">\n<tr><th>layer</th><th>bytes</th>{head}\
             <th>path</th><th>brought by</th></tr>"
        );
        for file in self.largest.iter().take(ROWS) {
            let index = usize::from(file.layer);
            let reached = match (known, file.reached) {
                (false, _) => "",
                (_, Some(true)) => "<td>yes</td>",
                (_, Some(false)) => "<td>no</td>",
                (_, None) => "<td>?</td>",
            };
            let made_by = self.layers.get(index).map(|layer| layer.made_by.as_str());
            let _ = writeln!(
                page,
                "<tr><td>{}{}</td><td>{}</td>{reached}<td><code>{}</code></td><td><code>{}</code></td></tr>",
                swatch(index),
                index + 1,
                size(file.bytes),
                escaped(&shortened(&file.path, PATH)),
                escaped(&shortened(made_by.unwrap_or_default(), NAME))
            );
        }
        page.push_str("</table></div>\n</section>\n");
    }

    /// What the script draws: names, as text, and numbers.
    fn data(&self) -> String {
        let layers = self.layers.iter().take(ROWS);
        let layers: Vec<String> = layers.map(|layer| shown(&layer.made_by, PATH)).collect();
        let maps = self.maps.iter();
        let maps: Vec<Value> = maps
            .map(|map| json!({"title": map.title, "root": node(&map.root)}))
            .collect();
        let data = json!({
            "maps": maps, "layers": layers, "colors": COLORS, "reached": !self.reached.is_empty(),
        });
        // Within an element of the page nothing may end that element.
        let text = data.to_string();
        text.replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026")
    }
}

/// `[name, bytes, files, layer, reached, kind, parts]`
fn node(region: &Region) -> Value {
    let kind = match region.kind {
        RegionKind::Folder => 0,
        RegionKind::File => 1,
        RegionKind::Others => 2,
        RegionKind::Layer => 3,
        RegionKind::Hidden => 4,
    };
    let layer = region.layer.map_or(-1, i32::from);
    let reached = region.reached.map_or(Value::Null, Value::from);
    let parts: Vec<Value> = region.parts.iter().map(node).collect();
    json!([
        shown(&region.name, NAME),
        region.bytes,
        region.files,
        layer,
        reached,
        kind,
        parts
    ])
}

/// A text of the image as text, control characters escaped.
fn shown(text: &str, most: usize) -> String {
    shortened(&plain(&bounded(text.to_owned(), most * 4)), most)
}

fn swatch(layer: usize) -> String {
    format!("<span class=\"box c{}\"></span>", layer % COLORS)
}

fn more(page: &mut String, all: usize) {
    if all > ROWS {
        let _ = writeln!(page, "<p>… and {} more</p>", all - ROWS);
    }
}

/// By what a policy of a page names a script or a style
/// (<https://www.w3.org/TR/CSP3/#grammardef-hash-source>).
fn source(text: &str) -> String {
    let digest = digest_of(text.as_bytes());
    let digits = digest.trim_start_matches("sha256:");
    let bytes: Vec<u8> = (0..digits.len() / 2)
        .filter_map(|at| u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).ok())
        .collect();
    format!("sha256-{}", STANDARD.encode(bytes))
}

#[cfg(test)]
mod browser;
#[cfg(test)]
mod tests;
