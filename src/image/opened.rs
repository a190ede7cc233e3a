//! Which folders of an image a map of it opens: the largest first, until there are parts enough.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::tree::{Kind, NodeId, Tree};

/// Folders within folders that are opened.
const DEPTH: usize = 40;

/// The folders that are opened, each with its largest entries, at most `most_children` of them; about `most` parts in all. `bytes`: those of an
/// entry with all below it; what has none is left out.
pub(crate) fn opened(
    tree: &Tree,
    bytes: impl Fn(NodeId) -> u64,
    most: usize,
    most_children: usize,
) -> BTreeMap<NodeId, Vec<NodeId>> {
    let mut opened: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    let mut heap = BinaryHeap::from([(bytes(tree.root()), Reverse(tree.root()), 0)]);
    let mut count = 1;
    while let Some((_, Reverse(folder), depth)) = heap.pop() {
        if count >= most {
            break;
        }
        let mut children: Vec<NodeId> = tree.children(folder).collect();
        children.retain(|child| bytes(*child) > 0);
        children.sort_unstable_by_key(|child| (Reverse(bytes(*child)), *child));
        children.truncate(most_children.min(most - count));
        count += children.len();
        for child in &children {
            if tree.meta(*child).kind == Kind::Directory && depth < DEPTH {
                heap.push((bytes(*child), Reverse(*child), depth + 1));
            }
        }
        opened.insert(folder, children);
    }
    opened
}
