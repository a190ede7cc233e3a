//! The file tree of an image, as a runtime would unpack it: one compact record an entry, so that a
//! million files fit into tens of megabytes. Names are bytes, as Linux has them.
//!
//! Layers follow the OCI image specification
//! (<https://github.com/opencontainers/image-spec/blob/main/layer.md>).

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Symbolic links that are followed for one path; Linux follows 40 (path_resolution(7)).
const MAX_LINKS: u32 = 40;
/// Parts of paths that are walked for one image. Large images take a few million; links that lead to
/// links would else cost hours.
const MAX_STEPS: u64 = 100_000_000;
/// Bytes of one name, at most; NAME_MAX of Linux.
pub(super) const MAX_NAME: usize = 255;

const NONE: u32 = u32::MAX;
/// Sizes from here on lie in `Tree::large`.
const LARGE: u32 = u32::MAX;

/// One entry of a `Tree`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// Its place among all entries that the tree has ever had: less than how many there ever were.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file; hard links are regular files that share their bytes.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device or a named pipe.
    Special,
}

/// What is known of an entry besides its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky: 12 bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a regular file's contents; 0 for all else.
    pub size: u64,
    /// The layer that it comes from, from 0.
    pub layer: u16,
    /// True for a hard link: its bytes count where it was first.
    pub hard_link: bool,
}

impl Meta {
    /// A directory that no layer has an entry for: as runtimes make it.
    pub(super) fn implied(layer: u16) -> Self {
        Self {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            layer,
            hard_link: false,
        }
    }
}

/// Why a path leads nowhere.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No such entry.
    #[error("{0} not found")]
    Missing(String),
    /// A part of the path that is no directory.
    #[error("{0} is not a directory")]
    NotADirectory(String),
    /// More symbolic links than Linux follows.
    #[error("{0} is a symbolic link loop")]
    Loop(String),
    /// A path longer than Linux takes.
    #[error("{0}… is too long for a path")]
    TooLong(String),
    /// The image's links took too many steps.
    #[error("too many symbolic links: more than {MAX_STEPS} steps")]
    Exhausted,
}

#[derive(Clone, Copy)]
struct Node {
    parent: u32,
    /// Where the name begins in `names`: its length, then its bytes.
    name: u32,
    attributes: u32,
    /// Of a file: its size. Of a directory: its first child. Of a link: where its target begins in `names`.
    data: u32,
    /// The next entry of the same directory.
    next: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Attributes {
    uid: u32,
    gid: u32,
    mode: u16,
    layer: u16,
    kind: Kind,
    hard_link: bool,
}

/// The file tree of an image.
pub struct Tree {
    nodes: Vec<Node>,
    names: Vec<u8>,
    attributes: Vec<Attributes>,
    known: HashMap<Attributes, u32>,
    /// (parent, name) → entry; the keys lie in `nodes`.
    index: HashTable<u32>,
    /// Sizes that do not fit.
    large: HashMap<u32, u64>,
    hasher: RandomState,
    live: usize,
    steps: Cell<u64>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// A tree with a root and nothing else.
    pub fn new() -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            names: vec![0],
            attributes: Vec::new(),
            known: HashMap::new(),
            index: HashTable::new(),
            large: HashMap::new(),
            hasher: RandomState::new(),
            live: 1,
            steps: Cell::new(0),
        };
        let attributes = tree.intern(&Meta::implied(0));
        tree.nodes.push(Node {
            parent: 0,
            name: 0,
            attributes,
            data: NONE,
            next: NONE,
        });
        tree
    }

    /// `/`.
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// Entries, the root among them.
    pub fn len(&self) -> usize {
        self.live
    }

    /// How many entries there ever were, those that are gone among them.
    pub(super) fn ever(&self) -> usize {
        self.nodes.len()
    }

    /// True where there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.live == 1
    }

    /// True once paths took so many steps that no more are walked: what is not found may be there.
    pub fn is_exhausted(&self) -> bool {
        self.steps.get() > MAX_STEPS
    }

    /// Counts a step of a path.
    pub(super) fn step(&self) -> Result<(), Lookup> {
        self.steps.set(self.steps.get() + 1);
        if self.is_exhausted() {
            return Err(Lookup::Exhausted);
        }
        Ok(())
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>()
            + self.names.len()
            + self.index.allocation_size()
            + self.attributes.len() * (3 * size_of::<Attributes>() + 8)
            + self.large.len() * 32
    }

    /// What is known of an entry.
    pub fn meta(&self, id: NodeId) -> Meta {
        let node = &self.nodes[id.0 as usize];
        let attributes = self.attributes[node.attributes as usize];
        Meta {
            kind: attributes.kind,
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            size: match attributes.kind {
                Kind::File if node.data == LARGE => self.large.get(&id.0).copied().unwrap_or(0),
                Kind::File => u64::from(node.data),
                _ => 0,
            },
            layer: attributes.layer,
            hard_link: attributes.hard_link,
        }
    }

    /// False once the entry was removed.
    pub fn is_live(&self, id: NodeId) -> bool {
        self.nodes[id.0 as usize].attributes != NONE
    }

    /// The target of a symbolic link, as written.
    pub fn target(&self, id: NodeId) -> Option<&[u8]> {
        if self.meta(id).kind != Kind::Symlink {
            return None;
        }
        let at = self.nodes[id.0 as usize].data as usize;
        let length = usize::from(u16::from_le_bytes([self.names[at], self.names[at + 1]]));
        Some(&self.names[at + 2..at + 2 + length])
    }

    /// The entry's own name; empty for the root.
    pub fn name(&self, id: NodeId) -> &[u8] {
        self.name_at(self.nodes[id.0 as usize].name)
    }

    fn name_at(&self, at: u32) -> &[u8] {
        let at = at as usize;
        &self.names[at + 1..at + 1 + usize::from(self.names[at])]
    }

    /// The directory that holds the entry; the root holds itself.
    pub fn parent(&self, id: NodeId) -> NodeId {
        NodeId(self.nodes[id.0 as usize].parent)
    }

    /// The entry and all directories above it, up to the root.
    pub fn up(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let above = |at: &NodeId| (*at != self.root()).then(|| self.parent(*at));
        std::iter::successors(Some(id), above)
    }

    /// The path from the root, with a leading slash; bytes that are no UTF-8 are replaced.
    pub fn path(&self, id: NodeId) -> String {
        let mut parts = Vec::new();
        let mut at = id;
        while at != self.root() {
            parts.push(at);
            at = self.parent(at);
        }
        if parts.is_empty() {
            return "/".into();
        }
        let mut path = Vec::new();
        for part in parts.into_iter().rev() {
            path.push(b'/');
            path.extend_from_slice(self.name(part));
        }
        String::from_utf8_lossy(&path).into_owned()
    }

    /// An entry of a directory.
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        self.index
            .find(self.hash(parent.0, name), |&id| self.is(id, parent, name))
            .map(|&id| NodeId(id))
    }

    /// The entries of a directory, newest first.
    pub fn children(&self, parent: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let mut next = if self.meta(parent).kind == Kind::Directory {
            self.nodes[parent.0 as usize].data
        } else {
            NONE
        };
        std::iter::from_fn(move || {
            while next != NONE {
                let id = NodeId(next);
                next = self.nodes[next as usize].next;
                if self.is_live(id) {
                    return Some(id);
                }
            }
            None
        })
    }

    /// All entries but the root, in no order.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + '_ {
        (1..self.nodes.len())
            .map(|id| NodeId(u32::try_from(id).unwrap_or(NONE)))
            .filter(|id| self.is_live(*id))
    }

    /// All entries below `top`, in no order.
    pub fn below(&self, top: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let mut open = vec![top];
        let mut found: Vec<NodeId> = Vec::new();
        std::iter::from_fn(move || {
            loop {
                if let Some(id) = found.pop() {
                    if self.meta(id).kind == Kind::Directory {
                        open.push(id);
                    }
                    return Some(id);
                }
                found.extend(self.children(open.pop()?));
            }
        })
    }

    /// The entry that `path` leads to from `start`, symbolic links followed, never out of the root.
    pub fn resolve(&self, start: NodeId, path: &[u8]) -> Result<NodeId, Lookup> {
        self.walk(start, path, true, &mut |_| {})
    }

    /// As `resolve`, and the symbolic links that were followed.
    pub(super) fn trail(
        &self,
        start: NodeId,
        path: &[u8],
    ) -> (Vec<NodeId>, Result<NodeId, Lookup>) {
        let mut links = Vec::new();
        let end = self.walk(start, path, true, &mut |link| links.push(link));
        (links, end)
    }

    /// As `resolve`, but where the last part is a symbolic link, that link.
    pub fn resolve_link(&self, start: NodeId, path: &[u8]) -> Result<NodeId, Lookup> {
        self.walk(start, path, false, &mut |_| {})
    }

    /// The entry at an absolute path.
    pub fn find(&self, path: &str) -> Result<NodeId, Lookup> {
        self.resolve(self.root(), path.as_bytes())
    }

    fn walk(
        &self,
        start: NodeId,
        path: &[u8],
        last: bool,
        seen: &mut dyn FnMut(NodeId),
    ) -> Result<NodeId, Lookup> {
        let shown = || String::from_utf8_lossy(&path[..path.len().min(256)]).into_owned();
        if path.len() > 4096 {
            return Err(Lookup::TooLong(shown()));
        }
        let mut at = if path.first() == Some(&b'/') {
            self.root()
        } else {
            start
        };
        let mut links = 0;
        // The rest of each path, the innermost last.
        let mut rest: Vec<&[u8]> = vec![path];
        while let Some(text) = rest.pop() {
            let Some((part, after)) = first_part(text) else {
                continue;
            };
            self.step()?;
            if !after.is_empty() {
                rest.push(after);
            }
            if self.meta(at).kind != Kind::Directory {
                return Err(Lookup::NotADirectory(self.path(at)));
            }
            match part {
                b"." => continue,
                b".." => {
                    at = self.parent(at);
                    continue;
                }
                _ => {}
            }
            let Some(next) = self.child(at, part) else {
                let mut missing = self.path(at);
                if missing != "/" {
                    missing.push('/');
                }
                missing.push_str(&String::from_utf8_lossy(part));
                return Err(Lookup::Missing(missing));
            };
            // The last part has nothing but slashes behind it.
            let ends = || rest.iter().all(|text| first_part(text).is_none());
            match self.target(next) {
                Some(target) if last || !ends() => {
                    links += 1;
                    seen(next);
                    if links > MAX_LINKS {
                        return Err(Lookup::Loop(shown()));
                    }
                    if target.first() == Some(&b'/') {
                        at = self.root();
                    }
                    rest.push(target);
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    /// Puts an entry into a directory, in place of what has its name; a directory on a directory only
    /// changes its attributes. `target` is that of a symbolic link.
    pub(super) fn insert(
        &mut self,
        parent: NodeId,
        name: &[u8],
        meta: Meta,
        target: &[u8],
    ) -> NodeId {
        if let Some(old) = self.child(parent, name) {
            if meta.kind == Kind::Directory && self.meta(old).kind == Kind::Directory {
                self.set(old, meta);
                return old;
            }
            self.remove(old);
        }
        let id = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        let at = self.names.len() as u32;
        let name = &name[..name.len().min(MAX_NAME)];
        self.names.push(name.len() as u8);
        self.names.extend_from_slice(name);
        let data = match meta.kind {
            Kind::File => match u32::try_from(meta.size) {
                Ok(size) if size < LARGE => size,
                _ => {
                    self.large.insert(id, meta.size);
                    LARGE
                }
            },
            Kind::Symlink => {
                let target = &target[..target.len().min(4096)];
                let at = self.names.len() as u32;
                self.names
                    .extend_from_slice(&(target.len() as u16).to_le_bytes());
                self.names.extend_from_slice(target);
                at
            }
            Kind::Directory | Kind::Special => NONE,
        };
        let attributes = self.intern(&meta);
        let next = self.nodes[parent.0 as usize].data;
        self.nodes[parent.0 as usize].data = id;
        self.nodes.push(Node {
            parent: parent.0,
            name: at,
            attributes,
            data,
            next,
        });
        let hash = self.hash(parent.0, name);
        let (nodes, names, hasher) = (&self.nodes, &self.names, &self.hasher);
        self.index.insert_unique(hash, id, |&id| {
            let node = &nodes[id as usize];
            let at = node.name as usize;
            let name = &names[at + 1..at + 1 + usize::from(names[at])];
            hasher.hash_one((node.parent, name))
        });
        self.live += 1;
        NodeId(id)
    }

    /// Changes what is known of an entry that keeps its kind.
    pub(super) fn set(&mut self, id: NodeId, meta: Meta) {
        self.nodes[id.0 as usize].attributes = self.intern(&meta);
    }

    /// Removes an entry and all below it; of the root, all below it.
    pub(super) fn remove(&mut self, id: NodeId) {
        self.purge(id, u16::MAX, &mut |_, _| {});
    }

    /// Removes what comes from a layer before `layer`, at `top` and below; directories that still hold
    /// something stay. The root itself always stays.
    /// `gone`: told of each entry that goes.
    pub(super) fn purge(&mut self, top: NodeId, layer: u16, gone: &mut dyn FnMut(NodeId, Meta)) {
        // Parents stand before their children: backwards, children go first.
        let mut order = vec![top];
        let mut done = 0;
        while done < order.len() {
            let id = order[done];
            done += 1;
            order.extend(self.children(id));
        }
        for id in order.into_iter().rev() {
            let meta = self.meta(id);
            let old = layer == u16::MAX || meta.layer < layer;
            if meta.kind == Kind::Directory {
                self.unlink_dead(id);
            }
            let holds = meta.kind == Kind::Directory && self.nodes[id.0 as usize].data != NONE;
            if old && !holds && id != self.root() {
                gone(id, meta);
                self.drop_entry(id);
            }
        }
    }

    /// Takes removed entries out of a directory's list.
    fn unlink_dead(&mut self, directory: NodeId) {
        let live: Vec<NodeId> = self.children(directory).collect();
        let mut next = NONE;
        for id in live.into_iter().rev() {
            self.nodes[id.0 as usize].next = next;
            next = id.0;
        }
        self.nodes[directory.0 as usize].data = next;
    }

    fn drop_entry(&mut self, id: NodeId) {
        let node = self.nodes[id.0 as usize];
        let hash = self.hash(node.parent, self.name_at(node.name));
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == id.0) {
            entry.remove();
            self.live -= 1;
        }
        self.large.remove(&id.0);
        self.nodes[id.0 as usize].attributes = NONE;
    }

    fn intern(&mut self, meta: &Meta) -> u32 {
        let attributes = Attributes {
            uid: meta.uid,
            gid: meta.gid,
            mode: meta.mode,
            layer: meta.layer,
            kind: meta.kind,
            hard_link: meta.hard_link,
        };
        if let Some(known) = self.known.get(&attributes) {
            return *known;
        }
        let id = u32::try_from(self.attributes.len()).unwrap_or(NONE);
        self.attributes.push(attributes);
        self.known.insert(attributes, id);
        id
    }

    fn hash(&self, parent: u32, name: &[u8]) -> u64 {
        self.hasher.hash_one((parent, name))
    }

    fn is(&self, id: u32, parent: NodeId, name: &[u8]) -> bool {
        let node = &self.nodes[id as usize];
        node.parent == parent.0 && self.name_at(node.name) == name
    }
}

/// The first part of a path without its slashes, and what follows; `None` where there is none.
fn first_part(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = path.iter().position(|&byte| byte != b'/')?;
    let path = &path[start..];
    let end = path
        .iter()
        .position(|&byte| byte == b'/')
        .unwrap_or(path.len());
    Some((&path[..end], &path[end..]))
}

/// The parts of a path in a tar, `.` left out and `..` worked off; `None` where it leads out of the root.
pub(super) fn parts(path: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64, layer: u16) -> Meta {
        Meta {
            kind: Kind::File,
            mode: 0o644,
            size,
            ..Meta::implied(layer)
        }
    }

    fn link() -> Meta {
        Meta {
            kind: Kind::Symlink,
            mode: 0o777,
            ..Meta::implied(0)
        }
    }

    fn tree() -> Tree {
        let mut tree = Tree::new();
        let usr = tree.insert(tree.root(), b"usr", Meta::implied(0), b"");
        let lib = tree.insert(usr, b"lib", Meta::implied(0), b"");
        tree.insert(lib, b"libc.so.6", file(7, 0), b"");
        tree.insert(tree.root(), b"lib", link(), b"usr/lib");
        tree.insert(lib, b"up", link(), b"../../../../usr/lib/libc.so.6");
        tree.insert(tree.root(), b"a", link(), b"/b");
        tree.insert(tree.root(), b"b", link(), b"a");
        tree
    }

    #[test]
    fn links_are_followed_within_the_root() {
        let tree = tree();
        let libc = tree.find("/usr/lib/libc.so.6").unwrap();
        for path in [
            "/lib/libc.so.6",
            "lib/./libc.so.6/",
            "/../../lib/up",
            "/usr/../lib/up",
        ] {
            let found = tree.find(path);
            assert_eq!(found, Ok(libc), "{path}");
        }
        assert_eq!(tree.path(libc), "/usr/lib/libc.so.6");
        assert_eq!(tree.meta(libc).size, 7);
        let lib = tree.resolve_link(tree.root(), b"/lib").unwrap();
        assert_eq!(tree.target(lib), Some(&b"usr/lib"[..]));
    }

    #[test]
    fn a_path_that_leads_nowhere_says_where_it_ends() {
        let tree = tree();
        assert_eq!(
            tree.find("/lib/x/y").unwrap_err().to_string(),
            "/usr/lib/x not found"
        );
        assert_eq!(
            tree.find("/lib/libc.so.6/x").unwrap_err().to_string(),
            "/usr/lib/libc.so.6 is not a directory"
        );
    }

    #[test]
    fn a_loop_of_links_ends() {
        let tree = tree();
        assert_eq!(tree.find("/a/x").unwrap_err(), Lookup::Loop("/a/x".into()));
    }

    #[test]
    fn paths_that_take_too_many_steps_end() {
        let mut tree = Tree::new();
        tree.insert(tree.root(), b"d", Meta::implied(0), b"");
        let mut target = "./".repeat(2000);
        target.push('d');
        for index in 0..39 {
            let name = format!("l{index}");
            tree.insert(tree.root(), name.as_bytes(), link(), target.as_bytes());
            target = format!("{}{name}", "./".repeat(2000));
        }
        assert!(tree.find("/l38").is_ok());
        tree.steps.set(MAX_STEPS);
        assert_eq!(tree.find("/l38"), Err(Lookup::Exhausted));
        assert!(tree.is_exhausted());
    }

    #[test]
    fn a_file_in_place_of_a_directory_removes_what_was_below() {
        let mut tree = tree();
        let before = tree.len();
        tree.insert(tree.root(), b"usr", file(1, 1), b"");
        assert!(tree.find("/usr/lib").is_err());
        assert_eq!(tree.len(), before - 3);
    }

    #[test]
    fn only_lower_layers_are_purged_and_directories_that_hold_something_stay() {
        let mut tree = tree();
        let lib = tree.find("/usr/lib").unwrap();
        tree.insert(lib, b"new", file(1, 1), b"");
        let usr = tree.find("/usr").unwrap();
        tree.purge(usr, 1, &mut |_, _| {});
        assert!(tree.find("/usr/lib/new").is_ok());
        assert!(tree.find("/usr/lib/libc.so.6").is_err());
        tree.purge(tree.root(), 2, &mut |_, _| {});
        assert_eq!(tree.len(), 1);
        assert!(tree.is_empty());
    }

    #[test]
    fn files_over_four_gibibytes_keep_their_size() {
        let mut tree = Tree::new();
        for size in [u64::from(u32::MAX) - 1, u64::from(u32::MAX), 1 << 40] {
            let id = tree.insert(tree.root(), b"x", file(size, 0), b"");
            assert_eq!(tree.meta(id).size, size);
        }
    }

    #[test]
    fn an_entry_costs_tens_of_bytes() {
        let mut tree = Tree::new();
        for index in 0..200_000 {
            tree.insert(
                tree.root(),
                format!("file-{index:09}").as_bytes(),
                file(1, 0),
                b"",
            );
        }
        assert!(tree.bytes() < 200_000 * 56, "{}", tree.bytes());
    }

    #[test]
    fn a_path_in_a_tar_leads_nowhere_but_into_the_root() {
        assert_eq!(parts(b"./a//b/../c").unwrap(), [&b"a"[..], b"c"]);
        assert_eq!(parts(b"/").unwrap().len(), 0);
        assert_eq!(parts(b"a/../../b"), None);
    }
}
