//! From two images to what differs between their files and packages. Times of files do not count: each build has others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use schemars::JsonSchema;
use serde::Serialize;

use super::config::ImageConfig;
use super::contents::Listed;
use super::layer::Image;
use super::limits::short;
use super::tree::{Kind, Meta, NodeId, Tree};

/// Files that are listed, the largest first.
const FILES: usize = 1000;
/// Packages that are listed.
const PACKAGES: usize = 1000;
/// Bytes of an instruction, and of the versions of a package.
const TEXT: usize = 300;

/// One of the images that are compared: read with [`super::Limits::prints`].
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// Its files.
    pub image: &'a Image,
    /// Its config.
    pub config: &'a ImageConfig,
}

/// What differs.
#[derive(Serialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Layers, from the first on, that both have.
    pub shared_layers: i64,
    /// How many files, and bytes.
    pub totals: Totals,
    /// Files, links and empty directories, those with the most bytes first.
    pub files: Listed<Change>,
    /// Packages, by their names.
    pub packages: Listed<PackageChange>,
    /// Databases of packages that are not read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread_packages: Vec<String>,
    /// What each layer of the second image added and replaced, but for those that both have.
    pub layers: Listed<LayerShare>,
    /// True where not all of the images was read: more may differ, or less.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Files and their bytes.
#[derive(Serialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct Sum {
    /// How many.
    pub files: i64,
    /// Bytes of all.
    pub bytes: i64,
}

/// Sums of what differs.
#[derive(Serialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Only in the second.
    pub added: Sum,
    /// Only in the first.
    pub removed: Sum,
    /// In both, and not the same; the bytes are those in the second.
    pub changed: Sum,
    /// Bytes of all files of the first, unpacked.
    pub before: i64,
    /// Of the second.
    pub after: i64,
}

/// How an entry differs.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub enum Changed {
    /// Only in the second image.
    Added,
    /// Only in the first.
    Removed,
    /// In both, and not the same.
    Changed,
}

/// One entry that differs.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Where it is.
    pub path: String,
    /// How it differs.
    pub change: Changed,
    /// What of it: `content`, `type`, `target`, `mode`, `owner`; for what is in both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<&'static str>,
    /// Bytes in the first image; absent where it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Bytes in the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// The layer that it comes from, from 1: of the second image; of the first where it was removed.
    pub layer: i32,
    /// What made that layer, where the history says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
}

/// A package that differs.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// Its version in the first image; absent where it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// In the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What one layer of the second image has to do with it.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LayerShare {
    /// Which, from 1.
    pub layer: i32,
    /// What made it, where the history says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// What of it is new.
    pub added: Sum,
    /// What of it is in both and not the same.
    pub changed: Sum,
}

impl Difference {
    /// True where files and packages are the same.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.packages.is_empty()
    }
}

impl Sum {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(number(bytes));
    }
}

fn number(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What differs from one image to the other.
pub fn compare(before: Side<'_>, after: Side<'_>) -> Difference {
    let mut found = Finder {
        before,
        after,
        totals: Totals::default(),
        layers: BTreeMap::new(),
        largest: BinaryHeap::new(),
        count: 0,
    };
    found.walk();
    let (ids, others) = (&before.config.diff_ids, &after.config.diff_ids);
    let shared = ids.iter().zip(others).take_while(|(a, b)| a == b).count();
    found.totals.before = bytes(before.image);
    found.totals.after = bytes(after.image);
    let sides = [before.image, after.image];
    let unread = sides.iter().filter_map(|image| image.unread_database());
    let mut unread: Vec<String> = unread.map(str::to_owned).collect();
    unread.dedup();
    Difference {
        shared_layers: shared as i64,
        totals: found.totals,
        packages: Listed::first(packages(before.image, after.image), PACKAGES),
        unread_packages: unread,
        layers: Listed::first(found.shares(), PACKAGES),
        partial: sides.iter().any(|image| {
            image.partial || image.unsummed || image.left_out > 0 || image.tree.is_exhausted()
        }),
        files: found.files(),
    }
}

fn bytes(image: &Image) -> i64 {
    let all = image.tree.all().map(|id| own(&image.tree.meta(id)));
    number(all.fold(image.left_out_bytes, u64::saturating_add))
}

/// The bytes that an entry brings: those of a hard link count where the file was first.
fn own(meta: &Meta) -> u64 {
    if meta.hard_link { 0 } else { meta.size }
}

fn packages(before: &Image, after: &Image) -> Vec<PackageChange> {
    let (old, new) = (before.installed(), after.installed());
    let shown =
        |versions: Option<&Vec<&str>>| versions.map(|versions| short(&versions.join(", "), TEXT));
    let mut names: Vec<&str> = old.keys().chain(new.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| old.get(name) != new.get(name))
        .map(|name| PackageChange {
            name: name.to_owned(),
            before: shown(old.get(name)),
            after: shown(new.get(name)),
        })
        .collect()
}

/// One that was found: the smallest goes first where there are too many, and of the same size the later one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    weight: u64,
    order: Reverse<(Option<NodeId>, Option<NodeId>)>,
}

struct Finder<'a> {
    before: Side<'a>,
    after: Side<'a>,
    totals: Totals,
    layers: BTreeMap<u16, (Sum, Sum)>,
    largest: BinaryHeap<Reverse<Candidate>>,
    count: i64,
}

impl Finder<'_> {
    fn walk(&mut self) {
        let (old, new) = (&self.before.image.tree, &self.after.image.tree);
        let folder = |tree: &Tree, id: Option<NodeId>| {
            id.filter(|id| tree.meta(*id).kind == Kind::Directory)
        };
        let mut open = vec![(Some(old.root()), Some(new.root()))];
        while let Some((a, b)) = open.pop() {
            self.pair(a, b);
            let (a, b) = (folder(old, a), folder(new, b));
            for child in a.iter().flat_map(|id| old.children(*id)) {
                let other = b.and_then(|folder| new.child(folder, old.name(child)));
                open.push((Some(child), other));
            }
            for child in b.iter().flat_map(|id| new.children(*id)) {
                if a.and_then(|folder| old.child(folder, new.name(child)))
                    .is_none()
                {
                    open.push((None, Some(child)));
                }
            }
        }
    }

    /// Counts what stands at one path.
    fn pair(&mut self, a: Option<NodeId>, b: Option<NodeId>) {
        let (old, new) = (&self.before.image.tree, &self.after.image.tree);
        // Of directories that come or go, what they hold is told.
        let bare = |tree: &Tree, id: NodeId| {
            tree.meta(id).kind != Kind::Directory || tree.children(id).next().is_none()
        };
        let weight = match (a, b) {
            (Some(a), Some(b)) => {
                if self.what(a, b).is_empty() {
                    return;
                }
                let meta = new.meta(b);
                self.totals.changed.add(own(&meta));
                self.layers.entry(meta.layer).or_default().1.add(own(&meta));
                old.meta(a).size.max(meta.size)
            }
            (Some(a), None) if bare(old, a) => {
                let bytes = own(&old.meta(a));
                self.totals.removed.add(bytes);
                bytes
            }
            (None, Some(b)) if bare(new, b) => {
                let meta = new.meta(b);
                self.totals.added.add(own(&meta));
                self.layers.entry(meta.layer).or_default().0.add(own(&meta));
                own(&meta)
            }
            _ => return,
        };
        self.count += 1;
        self.largest.push(Reverse(Candidate {
            weight,
            order: Reverse((b, a)),
        }));
        if self.largest.len() > FILES {
            self.largest.pop();
        }
    }

    /// In what two entries differ.
    fn what(&self, a: NodeId, b: NodeId) -> Vec<&'static str> {
        let (old, new) = (self.before.image, self.after.image);
        let (was, is) = (old.tree.meta(a), new.tree.meta(b));
        let mut what = Vec::new();
        if was.kind != is.kind {
            what.push("type");
        } else if old.tree.target(a) != new.tree.target(b) {
            what.push("target");
        } else if was.kind == Kind::File && (was.size != is.size || self.differs(a, b)) {
            what.push("content");
        }
        // The mode of a link means nothing.
        if was.mode != is.mode && is.kind != Kind::Symlink {
            what.push("mode");
        }
        if (was.uid, was.gid) != (is.uid, is.gid) {
            what.push("owner");
        }
        if old.capability(a) != new.capability(b) {
            what.push("capabilities");
        }
        what
    }

    /// Of files of the same size. Where the bytes of one are not known, as those of a file with holes, they count as the same.
    fn differs(&self, a: NodeId, b: NodeId) -> bool {
        let prints = (
            self.before.image.prints.get(a),
            self.after.image.prints.get(b),
        );
        matches!(prints, (Some(a), Some(b)) if a != b)
    }

    fn shares(&self) -> Vec<LayerShare> {
        let shares = self.layers.iter();
        shares
            .map(|(layer, (added, changed))| LayerShare {
                layer: i32::from(*layer) + 1,
                instruction: instruction(self.after.config, *layer),
                added: *added,
                changed: *changed,
            })
            .collect()
    }

    fn files(mut self) -> Listed<Change> {
        let found = std::mem::take(&mut self.largest);
        let mut items: Vec<(u64, Change)> = found
            .into_iter()
            .filter_map(|Reverse(found)| {
                let Reverse((b, a)) = found.order;
                Some((found.weight, self.change(a, b)?))
            })
            .collect();
        items.sort_by(|(weight, one), (other, two)| {
            (Reverse(weight), &one.path).cmp(&(Reverse(other), &two.path))
        });
        Listed {
            omitted: self.count - items.len() as i64,
            items: items.into_iter().map(|(_, change)| change).collect(),
        }
    }

    fn change(&self, a: Option<NodeId>, b: Option<NodeId>) -> Option<Change> {
        let (old, new) = (&self.before.image.tree, &self.after.image.tree);
        let (side, tree, id) = match (a, b) {
            (_, Some(id)) => (self.after, new, id),
            (Some(id), None) => (self.before, old, id),
            (None, None) => return None,
        };
        let layer = tree.meta(id).layer;
        Some(Change {
            path: tree.path(id),
            change: match (a, b) {
                (Some(_), Some(_)) => Changed::Changed,
                (None, _) => Changed::Added,
                (_, None) => Changed::Removed,
            },
            what: match (a, b) {
                (Some(a), Some(b)) => self.what(a, b),
                _ => Vec::new(),
            },
            before: a.map(|id| number(old.meta(id).size)),
            after: b.map(|id| number(new.meta(id).size)),
            layer: i32::from(layer) + 1,
            instruction: instruction(side.config, layer),
        })
    }
}

fn instruction(config: &ImageConfig, layer: u16) -> Option<String> {
    let found = config.instructions.get(usize::from(layer));
    let found = found.filter(|text| !text.is_empty());
    found.map(|text| short(text, TEXT))
}

#[cfg(test)]
#[path = "difference_tests.rs"]
mod tests;
