//! The fewest sources of COPY that bring what a last stage needs.

use std::collections::{BTreeMap, BTreeSet};

use super::needs::Needs;
use crate::reach::Reach;
use crate::tree::{Kind as Entry, NodeId, Tree};

/// One source of a COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) path: String,
    pub(super) folder: bool,
    /// Who owns it, where that is not root.
    pub(super) owner: Option<(u32, u32)>,
}

/// Folders that belong to many: what is in them is copied by itself.
const SHARED: [&str; 12] = [
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/local/lib",
    "/usr/local/share",
    "/usr/local/etc",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/share",
    "/usr/local",
    "/opt",
    "/root",
];

/// The fewest folders and files that bring what is needed and nothing else; none where their owners are several.
pub(super) fn copies(tree: &Tree, reach: &Reach, needs: &Needs) -> Option<Vec<Copy>> {
    // Of each folder: its files, and those of them that are needed.
    let mut counts: BTreeMap<NodeId, (u32, u32)> = BTreeMap::new();
    for id in tree.all() {
        if tree.meta(id).kind == Entry::Directory {
            continue;
        }
        let needed = u32::from(needs.own.contains(&id));
        let mut at = id;
        while at != tree.root() {
            at = tree.parent(at);
            let count = counts.entry(at).or_default();
            count.0 += 1;
            count.1 += needed;
        }
    }
    let mut found = Vec::new();
    let mut open = vec![tree.root()];
    while let Some(folder) = open.pop() {
        for id in tree.children(folder) {
            let meta = tree.meta(id);
            if meta.kind != Entry::Directory {
                if needs.own.contains(&id) {
                    found.push(one(tree, id)?);
                }
                continue;
            }
            let path = tree.path(id);
            let (all, needed) = counts.get(&id).copied().unwrap_or_default();
            let shared = SHARED.contains(&&path[..]) || is_standard(&path);
            if needed > 1 && all == needed && !shared {
                found.push(one(tree, id)?);
            } else if all == 0 && meta.uid != 0 && reach.is_own(id) && reach.keeps(id) {
                // Made for somebody to write into.
                found.push(one(tree, id)?);
            } else {
                open.push(id);
            }
        }
    }
    for id in &needs.others {
        found.push(one(tree, *id)?);
    }
    // Files of one folder side by side: they go into one line.
    found.sort_by_cached_key(|copy| {
        let parent = copy
            .path
            .rsplit_once('/')
            .map(|(parent, _)| parent.to_owned());
        (parent, copy.folder, copy.path.clone())
    });
    found.dedup();
    // What is in a folder that is copied comes with it.
    let folders: Vec<String> = found
        .iter()
        .filter(|copy| copy.folder)
        .map(|copy| format!("{}/", copy.path))
        .collect();
    found.retain(|copy| !folders.iter().any(|folder| copy.path.starts_with(folder)));
    Some(found)
}

fn is_standard(path: &str) -> bool {
    let name = path.trim_start_matches('/');
    let standard = [
        "bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root",
        "run", "sbin", "srv", "sys", "tmp", "usr", "var",
    ];
    standard.contains(&name)
}

fn one(tree: &Tree, id: NodeId) -> Option<Copy> {
    let folder = tree.meta(id).kind == Entry::Directory;
    let below = folder.then(|| tree.below(id)).into_iter().flatten();
    let mut owners: BTreeSet<(u32, u32)> = BTreeSet::new();
    let mut folders = BTreeSet::new();
    for at in below.chain([id]) {
        let meta = tree.meta(at);
        match meta.kind {
            Entry::Directory => folders.insert((meta.uid, meta.gid)),
            _ => owners.insert((meta.uid, meta.gid)),
        };
    }
    if owners.is_empty() {
        owners.insert((tree.meta(id).uid, tree.meta(id).gid));
    }
    // COPY has one owner for all; a folder of root becomes that of the files in it.
    folders.remove(&(0, 0));
    let mut all = owners.iter();
    let (Some(&owner), None) = (all.next(), all.next()) else {
        return None;
    };
    if folders.iter().any(|folder| *folder != owner) {
        return None;
    }
    // There is nothing to follow it to.
    let link = tree.meta(id).kind == Entry::Symlink;
    if link && tree.resolve(tree.parent(id), tree.name(id)).is_err() {
        return None;
    }
    let path = tree.path(id);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+@/~,=%:".contains(c);
    path.chars().all(plain).then_some(Copy {
        path,
        folder,
        owner: (owner != (0, 0)).then_some(owner),
    })
}
