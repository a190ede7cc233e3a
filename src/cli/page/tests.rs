use super::*;

fn file(name: &str, bytes: u64, layer: u16) -> Region {
    Region {
        name: name.into(),
        kind: RegionKind::File,
        bytes,
        files: 1,
        reached: Some(if layer == 0 { 0 } else { bytes }),
        layer: Some(layer),
        parts: Vec::new(),
    }
}

fn folder(name: &str, parts: Vec<Region>) -> Region {
    Region {
        name: name.into(),
        kind: RegionKind::Folder,
        bytes: parts.iter().map(|part| part.bytes).sum(),
        files: parts.iter().map(|part| part.files).sum(),
        reached: parts.iter().map(|part| part.reached).sum(),
        layer: parts[0].layer,
        parts,
    }
}

/// What somebody may call a file who wants to be more than a name.
pub(super) const HOSTILE: &str =
    "</script><img src=http://127.0.0.1:9/x onerror=title=1>\"'&\u{202e}\u{1b}[31m";

/// A page as an image makes it, with hostile names.
pub(super) fn page() -> Page {
    let library = folder(
        "usr",
        vec![
            folder(
                "lib",
                vec![
                    file("libcrypto.so.3", 4_700_000, 0),
                    file("libc.so.6", 1_900_000, 0),
                    file(HOSTILE, 900_000, 1),
                    Region {
                        kind: RegionKind::Others,
                        ..file("", 420_000, 0)
                    },
                ],
            ),
            folder("share", vec![file("zoneinfo", 600_000, 0)]),
        ],
    );
    let app = folder(
        "srv",
        vec![
            file("server", 12_400_000, 2),
            file("site.tar", 2_100_000, 2),
        ],
    );
    let root = folder("", vec![app.clone(), library.clone()]);
    let mut hidden = file("", 3_000_000, 0);
    hidden.kind = RegionKind::Hidden;
    hidden.reached = Some(0);
    let layer = |number: u16, name: &str, parts: Vec<Region>| Region {
        kind: RegionKind::Layer,
        layer: Some(number),
        ..folder(name, parts)
    };
    let layers = folder(
        "",
        vec![
            layer(2, "COPY --from=build /out /", vec![app]),
            layer(0, "FROM debian", vec![library, hidden]),
        ],
    );
    Page {
        image: format!("registry.example.com/team/app:1.2 {HOSTILE}"),
        subtitle:
            "linux/amd64 · sha256:0cb6a9b404fb772c22f4a403cd77c7158066ed62211ab153cd2d3e25c4ee9f91"
                .into(),
        facts: vec![
            (
                "Size".into(),
                "9.1 MiB compressed; 22.0 MiB unpacked".into(),
            ),
            ("Starts".into(), format!("[\"/srv/server\", {HOSTILE:?}]")),
            ("User".into(), "65532 (uid 65532, gid 65532)".into()),
            ("Shells".into(), "none".into()),
        ],
        rules: vec![
            Judged {
                rule: "RunnableEntrypoint".into(),
                state: State::Kept,
                message: String::new(),
            },
            Judged {
                rule: "NoShell".into(),
                state: State::Broken,
                message: format!("{HOSTILE} is a shell"),
            },
        ],
        maps: vec![
            Map {
                title: "by folder",
                root,
            },
            Map {
                title: "by layer",
                root: layers,
            },
        ],
        reached: "The first layer counts as the base's.".into(),
        layers: ["FROM debian", "RUN make", HOSTILE]
            .map(|made_by| Layer {
                stored: 1_000_000,
                content: 2_000_000,
                hidden: 0,
                made_by: made_by.into(),
            })
            .into(),
        largest: vec![Large {
            path: format!("/usr/lib/{HOSTILE}"),
            bytes: 900_000,
            layer: 1,
            reached: Some(true),
        }],
        notes: vec!["layer 2: a note".into()],
    }
}

#[test]
fn nothing_of_an_image_becomes_a_part_of_the_page_itself() {
    let html = page().html();
    assert_eq!(
        html.matches("<script").count(),
        2,
        "the data and the script"
    );
    assert_eq!(html.matches("</script>").count(), 2);
    assert!(!html.contains("<img"));
    assert!(!html.contains('\u{1b}') && !html.contains('\u{202e}'));
    assert!(html.contains("&lt;img src="));
    for outside in ["src=\"", "href=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn the_policy_names_this_script_and_this_style_and_nothing_else() {
    let html = page().html();
    let policy = html.split("content=\"").nth(1).unwrap();
    let policy = policy.split('"').next().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    // What sha256sum and base64 make of nothing.
    assert_eq!(
        source(""),
        "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    );
}

#[test]
fn the_data_is_json_with_the_names_as_they_are_shown() {
    let data: Value = serde_json::from_str(&page().data()).unwrap();
    let lib = &data["maps"][0]["root"][6][1][6][0];
    assert_eq!((&lib[0], &lib[5]), (&json!("lib"), &json!(0)));
    let hostile = lib[6][2][0].as_str().unwrap();
    assert!(hostile.starts_with("</script><img"), "{hostile}");
    assert!(hostile.contains("\\u{202e}"), "{hostile}");
    assert_eq!(data["reached"], true);
}

#[test]
fn a_page_is_bounded_whatever_the_image_holds() {
    let long = "<".repeat(4000);
    let parts: Vec<Region> = (0..PARTS as u64)
        .rev()
        .map(|number| file(&long, 1_000_000 + number, (number % 500) as u16))
        .collect();
    let map = |title| Map {
        title,
        root: folder(&long, parts.clone()),
    };
    let row = |text: &str| (text.to_owned(), text.to_owned());
    let html = Page {
        image: long.clone(),
        maps: vec![map("by folder"), map("by layer")],
        facts: vec![row(&long); 20],
        layers: vec![
            Layer {
                stored: u64::MAX,
                content: u64::MAX,
                hidden: u64::MAX,
                made_by: long.clone()
            };
            500
        ],
        largest: vec![
            Large {
                path: long.clone(),
                bytes: u64::MAX,
                layer: 499,
                reached: None
            };
            500
        ],
        notes: vec![long.clone(); 20],
        ..Page::default()
    }
    .html();
    assert!(html.len() < 5 << 19, "{}", html.len());
}
