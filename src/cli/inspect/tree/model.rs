//! What can be walked through: the layers of an image, the files that each of them brought, replaced or removed, and the whole.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use crate::inspect::table::plain;
use whittle_image::{Deed, Image, ImageConfig, Kind, NodeId, Step, Tree};

/// Rows of a tree that is shown, at most.
pub(super) const ROWS: usize = 20_000;
/// Directories within directories that are shown.
const DEPTH: usize = 256;

/// An image to walk through.
pub(super) struct Model {
    /// Its name and platform.
    pub(super) title: String,
    /// Its layers, the lowest first.
    pub(super) layers: Vec<LayerRow>,
    /// Bytes of its files, and of those that later layers hide.
    pub(super) bytes: u64,
    pub(super) wasted: u64,
    /// What is to be known besides: empty, or that not all is shown.
    pub(super) note: String,
    image: Image,
    whole: Vec<u64>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerRow {
    /// What made it, or its digest.
    pub(super) made_by: String,
    /// Bytes of its files.
    pub(super) bytes: u64,
    /// Bytes of its files that later layers remove or replace.
    pub(super) wasted: u64,
}

/// What is shown of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It is there.
    Plain,
    Added,
    Changed,
    Removed,
}

/// One entry of a shown tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: NodeId,
    pub(super) depth: usize,
    pub(super) mark: Mark,
    pub(super) folder: bool,
    pub(super) open: bool,
    /// Bytes of it and of all below; of what a layer removed, those that it hides.
    pub(super) bytes: u64,
}

/// Rows, and whether there were more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) rows: Vec<Row>,
    pub(super) cut: bool,
}

/// The tree that is shown.
pub(super) enum Shown {
    /// The files of the image as a container sees them.
    Whole,
    /// What one layer did.
    Layer(LayerTree),
}

/// What one layer did, as a tree.
#[derive(Default)]
pub(super) struct LayerTree {
    entries: HashMap<NodeId, Entry>,
    children: HashMap<NodeId, Vec<NodeId>>,
}

#[derive(Clone, Copy)]
struct Entry {
    mark: Mark,
    folder: bool,
    bytes: u64,
}

impl Model {
    /// An image that was read with [`whittle_image::Limits::steps`].
    pub(super) fn new(name: &str, image: Image, config: &ImageConfig) -> Self {
        let tree = &image.tree;
        let mut whole = Vec::new();
        let mut live = vec![0_u64; image.layers.len()];
        for id in tree.all() {
            let meta = tree.meta(id);
            if meta.kind != Kind::File || meta.hard_link {
                continue;
            }
            if let Some(bytes) = live.get_mut(usize::from(meta.layer)) {
                *bytes = bytes.saturating_add(meta.size);
            }
            add(tree, &mut whole, id, meta.size);
        }
        let layers: Vec<LayerRow> = (image.layers.iter().zip(&live).enumerate())
            .map(|(index, (layer, live))| {
                let made_by = config.instructions.get(index);
                let made_by = made_by.filter(|text| !text.is_empty());
                LayerRow {
                    made_by: plain(made_by.or(layer.digest.as_ref()).map_or("", String::as_str)),
                    bytes: layer.content,
                    wasted: match image.left_out {
                        0 => layer.content.saturating_sub(*live),
                        // What was not kept cannot be told from what was hidden.
                        _ => 0,
                    },
                }
            })
            .collect();
        let partial = image.partial || image.left_out > 0 || image.journal.omitted > 0;
        Self {
            title: format!("{} ({})", plain(name), plain(&config.platform())),
            bytes: live.iter().sum(),
            wasted: layers.iter().map(|layer| layer.wasted).sum(),
            layers,
            note: match partial {
                true => "INCOMPLETE: not all of the image is shown".into(),
                false => String::new(),
            },
            whole,
            image,
        }
    }

    /// The tree of a layer, from 1; 0: the whole image.
    pub(super) fn shown(&self, layer: usize) -> Shown {
        if layer == 0 {
            return Shown::Whole;
        }
        let steps = self.image.journal.steps.iter();
        let steps = steps.filter(|step| usize::from(step.layer) + 1 == layer);
        let mut tree = LayerTree::default();
        for step in steps {
            tree.take(&self.image.tree, step);
        }
        Shown::Layer(tree)
    }

    pub(super) fn root(&self) -> NodeId {
        self.image.tree.root()
    }

    /// The entry's own name, fit for a terminal.
    pub(super) fn name(&self, id: NodeId) -> String {
        match id == self.root() {
            true => "/".into(),
            false => plain(&String::from_utf8_lossy(self.image.tree.name(id))),
        }
    }

    /// All that is known of an entry, in one line.
    pub(super) fn detail(&self, id: NodeId) -> String {
        let tree = &self.image.tree;
        let path = plain(&tree.path(id));
        if !tree.is_live(id) {
            return format!("{path}  not in the image: a later layer has removed or replaced it");
        }
        let meta = tree.meta(id);
        let target = tree
            .target(id)
            .map(|target| format!(" -> {}", plain(&String::from_utf8_lossy(target))));
        format!(
            "{path}{}  mode {:04o}, owner {}:{}, layer {}",
            target.unwrap_or_default(),
            meta.mode,
            meta.uid,
            meta.gid,
            meta.layer + 1
        )
    }

    /// The layer of an entry that is in the image, from 1.
    pub(super) fn layer(&self, id: NodeId) -> Option<usize> {
        let tree = &self.image.tree;
        tree.is_live(id)
            .then(|| usize::from(tree.meta(id).layer) + 1)
    }

    /// The rows of a tree with these directories open. With a filter: the entries whose names have it, and the directories above.
    pub(super) fn rows(&self, shown: &Shown, open: &HashSet<NodeId>, filter: &str) -> Rows {
        let matching = (!filter.is_empty()).then(|| self.matching(shown, &filter.to_lowercase()));
        let mut rows = Rows::default();
        let mut stack: Vec<(NodeId, usize)> = vec![(self.root(), 0)];
        while let Some((id, depth)) = stack.pop() {
            if let Some(found) = &matching
                && !found.contains(&id)
            {
                continue;
            }
            if rows.rows.len() >= ROWS {
                rows.cut = true;
                break;
            }
            let (mark, folder, bytes) = self.entry(shown, id);
            let is_open = folder && (depth == 0 || open.contains(&id) || matching.is_some());
            rows.rows.push(Row {
                id,
                depth,
                mark,
                folder,
                open: is_open,
                bytes,
            });
            if is_open && depth < DEPTH {
                let mut children = self.children(shown, id);
                children.sort_by_cached_key(|id| {
                    (Reverse(self.entry(shown, *id).2), self.image.tree.name(*id))
                });
                stack.extend(children.into_iter().rev().map(|child| (child, depth + 1)));
            }
        }
        rows
    }

    fn entry(&self, shown: &Shown, id: NodeId) -> (Mark, bool, u64) {
        match shown {
            Shown::Whole => (
                Mark::Plain,
                self.image.tree.meta(id).kind == Kind::Directory,
                sum(&self.whole, id),
            ),
            Shown::Layer(tree) => match tree.entries.get(&id) {
                Some(entry) => (entry.mark, entry.folder, entry.bytes),
                None => (Mark::Plain, true, 0),
            },
        }
    }

    fn children(&self, shown: &Shown, id: NodeId) -> Vec<NodeId> {
        match shown {
            Shown::Whole => self.image.tree.children(id).collect(),
            Shown::Layer(tree) => tree.children.get(&id).cloned().unwrap_or_default(),
        }
    }

    /// What a filter finds, and what is above it.
    fn matching(&self, shown: &Shown, filter: &str) -> HashSet<NodeId> {
        let tree = &self.image.tree;
        let mut found = HashSet::from([self.root()]);
        let mut look = |id: NodeId| {
            let name = String::from_utf8_lossy(tree.name(id)).to_lowercase();
            if !name.contains(filter) || found.len() > ROWS * 2 {
                return;
            }
            let mut at = id;
            while found.insert(at) {
                at = tree.parent(at);
            }
        };
        match shown {
            Shown::Whole => tree.all().for_each(&mut look),
            Shown::Layer(layer) => layer.entries.keys().copied().for_each(&mut look),
        }
        found
    }
}

impl LayerTree {
    fn take(&mut self, tree: &Tree, step: &Step) {
        let mark = match step.deed {
            Deed::Added => Mark::Added,
            Deed::Replaced => Mark::Changed,
            Deed::Removed => Mark::Removed,
        };
        let bytes = match step.deed {
            Deed::Removed => step.hides,
            _ => step.bytes,
        };
        let mut child = step.id;
        let known = self.entries.get(&child).map_or(0, |entry| entry.bytes);
        let entry = Entry {
            mark,
            folder: step.folder,
            bytes: known.saturating_add(bytes),
        };
        let mut new = self.entries.insert(child, entry).is_none();
        while child != tree.root() {
            let parent = tree.parent(child);
            if new {
                self.children.entry(parent).or_default().push(child);
            }
            new = !self.entries.contains_key(&parent);
            let entry = self.entries.entry(parent).or_insert(Entry {
                mark: Mark::Plain,
                folder: true,
                bytes: 0,
            });
            entry.bytes = entry.bytes.saturating_add(bytes);
            child = parent;
        }
    }
}

/// Adds bytes to an entry and to all directories above it.
fn add(tree: &Tree, sums: &mut Vec<u64>, id: NodeId, bytes: u64) {
    for at in tree.up(id) {
        let index = at.index();
        if sums.len() <= index {
            sums.resize(index + 1, 0);
        }
        sums[index] = sums[index].saturating_add(bytes);
    }
}

fn sum(sums: &[u64], id: NodeId) -> u64 {
    sums.get(id.index()).copied().unwrap_or_default()
}
