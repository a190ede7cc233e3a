//! What is generated is what the program and the chart say: in milliseconds, without helm and without a network.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::*;

const GENERATE: &str = "run `make generate`";

/// The root of the checkout, also from a package within it.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    (here.ancestors())
        .find(|folder| folder.join("charts/whittle").is_dir())
        .expect("a checkout of Whittle")
}

/// Every file below a folder, by its path from there.
fn below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
            all.insert(name.to_owned(), std::fs::read(&path).unwrap());
        }
    }
    all
}

fn texts(folder: &str) -> BTreeMap<String, String> {
    (below(&root().join(folder)).into_iter())
        .map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap()))
        .collect()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_definitions_in_crds_and_in_the_chart_are_those_of_the_program() {
    let mine: BTreeMap<String, String> = files().unwrap().into_iter().collect();
    assert_eq!(mine.len(), whittle_api::crds().len());
    for folder in ["crds", "charts/whittle/files/crds"] {
        let mut there = texts(folder);
        there.remove("kustomization.yaml");
        let names = |of: &BTreeMap<String, String>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&there), names(&mine), "files of {folder}: {GENERATE}");
        for (name, text) in &mine {
            // Without the texts: they are thousands of lines.
            assert!(
                there[name] == *text,
                "{folder}/{name} is out of date: {GENERATE}"
            );
        }
    }
}

#[test]
fn kustomize_installs_every_definition() {
    let text = std::fs::read_to_string(root().join("crds/kustomization.yaml")).unwrap();
    let listed: Vec<&str> = (text.lines())
        .filter_map(|line| line.strip_prefix("  - "))
        .collect();
    let mine = files().unwrap();
    let mut names: Vec<&str> = mine.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(listed, names, "crds/kustomization.yaml: {GENERATE}");
}

/// Rendering needs helm. So the base says of which chart it was rendered, and what it is without those lines:
/// config/generate.sh writes both, and lint renders.
#[test]
fn the_kustomize_base_is_rendered_from_this_chart_and_not_changed_by_hand() {
    let base = std::fs::read_to_string(root().join("config/default/whittle.yaml")).unwrap();
    let (head, body): (Vec<&str>, Vec<&str>) =
        (base.split_inclusive('\n')).partition(|line| line.starts_with("# sha256 of "));
    let sums: String = (below(&root().join("charts/whittle")).into_iter())
        .filter(|(name, _)| !name.starts_with("files/crds/"))
        .map(|(name, bytes)| format!("{}  {name}\n", hex(bytes)))
        .collect();
    let wanted = [
        format!("# sha256 of the chart: {}\n", hex(sums)),
        format!("# sha256 of the rest: {}\n", hex(body.concat())),
    ];
    assert!(
        head == wanted,
        "config/default/whittle.yaml is out of date: {GENERATE}\nthere: {head:#?}\nwanted: {wanted:#?}"
    );
}

#[test]
fn a_folder_that_is_missing_is_made_and_one_that_cannot_be_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("new/crds");
    write(&folder).unwrap();
    let there = below(&folder);
    assert_eq!(there.len(), files().unwrap().len());
    assert!(there.contains_key("whittle.dev_imagebuilds.yaml"));
    let file = folder.join("whittle.dev_imagebuilds.yaml");
    let said = write(&file).unwrap_err().to_string();
    assert!(said.contains("whittle.dev_imagebuilds.yaml"), "{said}");
}
