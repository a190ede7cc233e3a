//! From what is kept to what that needs, until nothing new is found.

use std::collections::{HashMap, HashSet};

use super::folders::{BUILDERS, is_about_one_thing, is_for_hands, is_leftover, is_toolchain};
use super::packages::Packages;
use super::runtimes;
use super::{Reach, Wanted, Why, assumed_base};
use crate::config::ImageConfig;
use crate::elf::Form;
use crate::facts::Fact;
use crate::layer::Image;
use crate::libraries::{Libc, Loader};
use crate::resolve::Resolver;
use crate::tree::{Kind, NodeId, Tree};

/// Bytes that stay, at most: a file with holes may state any size.
const MOST_BYTES: u64 = 64 << 30;
/// Files with applets whose other names are looked for.
const MOST_BOXES: usize = 4;

pub(super) struct Walk<'a> {
    pub(super) image: &'a Image,
    pub(super) tree: &'a Tree,
    pub(super) config: &'a ImageConfig,
    pub(super) wanted: &'a Wanted,
    /// How many layers are the base's.
    pub(super) base: usize,
    pub(super) resolver: Resolver<'a>,
    pub(super) packages: Packages,
    pub(super) loader: Loader<'a>,
    kept: Vec<bool>,
    because: HashMap<NodeId, (Why, Option<NodeId>)>,
    /// Files whose needs were not looked at yet.
    open: Vec<NodeId>,
    /// The loader of the first dynamic program: that of libraries which are opened by others.
    pub(super) interpreter: Option<NodeId>,
    /// Folders that are kept whole because they are named.
    pub(super) walked: HashSet<NodeId>,
    /// Runtimes that are kept.
    pub(super) runtimes: HashSet<NodeId>,
    pub(super) glibc: bool,
    pub(super) converts: bool,
    /// Not all libraries could be looked for.
    lost: bool,
    /// What the image starts builds others.
    builds: Option<String>,
    pub(super) named: usize,
    boxes: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(image: &'a Image, config: &'a ImageConfig, wanted: &'a Wanted) -> Self {
        let resolver = Resolver::new(image, config);
        let library_path = config.variable("LD_LIBRARY_PATH").unwrap_or_default();
        Self {
            loader: Loader::new(
                image,
                resolver.identity().clone(),
                library_path,
                config.directory(),
            ),
            packages: Packages::of(image),
            kept: vec![false; image.tree.ever()],
            because: HashMap::new(),
            open: Vec::new(),
            interpreter: None,
            walked: HashSet::new(),
            runtimes: HashSet::new(),
            glibc: false,
            converts: false,
            lost: false,
            builds: None,
            named: 0,
            boxes: 0,
            base: wanted.base_layers.unwrap_or_else(|| assumed_base(config)),
            tree: &image.tree,
            image,
            config,
            wanted,
            resolver,
        }
    }

    /// The names of a path, from the root.
    pub(super) fn parts(&self, id: NodeId) -> Vec<&'a [u8]> {
        let mut parts = Vec::new();
        let mut at = id;
        while at != self.tree.root() {
            parts.push(self.tree.name(at));
            at = self.tree.parent(at);
        }
        parts.reverse();
        parts
    }

    pub(super) fn is_kept(&self, id: NodeId) -> bool {
        self.kept[id.index()]
    }

    /// Keeps an entry, the folders above it, and, of a link, what it leads to.
    pub(super) fn keep(&mut self, id: NodeId, why: Why, from: Option<NodeId>) {
        if self.is_kept(id) {
            return;
        }
        if !self.wanted.drop.is_empty() && self.wanted.drop.has(&self.parts(id)) {
            return;
        }
        self.kept[id.index()] = true;
        if id != self.tree.root() {
            self.because
                .insert(id, (why, from.filter(|from| *from != id)));
        }
        let mut above = self.tree.parent(id);
        while !self.kept[above.index()] {
            self.kept[above.index()] = true;
            above = self.tree.parent(above);
        }
        self.kept[self.tree.root().index()] = true;
        match self.tree.meta(id).kind {
            Kind::File => self.open.push(id),
            Kind::Symlink => {
                let target = self.tree.target(id).unwrap_or_default();
                let parent = self.tree.parent(id);
                self.follow_path(parent, target, Why::Link, Some(id));
            }
            Kind::Directory | Kind::Special => {}
        }
    }

    /// Keeps what lies at a path, and the links on the way.
    pub(super) fn keep_path(
        &mut self,
        path: &str,
        why: Why,
        from: Option<NodeId>,
    ) -> Option<NodeId> {
        self.follow_path(self.tree.root(), path.as_bytes(), why, from)
    }

    fn follow_path(
        &mut self,
        start: NodeId,
        path: &[u8],
        why: Why,
        from: Option<NodeId>,
    ) -> Option<NodeId> {
        let (links, end) = self.tree.trail(start, path);
        let end = end.ok()?;
        for link in &links {
            // Not by `keep`: its own target is on this way already.
            if !self.is_kept(*link) {
                self.kept[link.index()] = true;
                self.because.insert(*link, (Why::Link, from));
                let mut above = self.tree.parent(*link);
                while !self.kept[above.index()] {
                    self.kept[above.index()] = true;
                    above = self.tree.parent(above);
                }
            }
        }
        self.keep(end, why, from);
        Some(end)
    }

    /// Keeps a folder with all that it holds, but for what `skip` says of a path's names.
    pub(super) fn keep_tree(
        &mut self,
        top: NodeId,
        why: Why,
        from: Option<NodeId>,
        skip: &dyn Fn(&[&[u8]]) -> bool,
    ) {
        self.keep(top, why, from);
        let mut open = vec![top];
        while let Some(folder) = open.pop() {
            for id in self.tree.children(folder).collect::<Vec<_>>() {
                if skip(&self.parts(id)) {
                    continue;
                }
                let kind = self.tree.meta(id).kind;
                self.keep_quietly(id);
                if kind == Kind::Directory && !self.walked.contains(&id) {
                    open.push(id);
                } else if kind == Kind::Symlink {
                    self.keep_linked_folder(id);
                }
            }
        }
    }

    /// As a part of the folder above, which says why.
    fn keep_quietly(&mut self, id: NodeId) {
        let known = self.because.contains_key(&id);
        self.keep(id, Why::Link, None);
        if !known {
            self.because.remove(&id);
        }
    }

    /// The folder that a link leads to is meant with its contents, where it is about one thing.
    fn keep_linked_folder(&mut self, link: NodeId) {
        let target = self
            .tree
            .resolve(self.tree.parent(link), self.tree.name(link));
        if let Ok(target) = target
            && self.tree.meta(target).kind == Kind::Directory
        {
            self.keep_folder(target, Why::Link, Some(link));
        }
    }

    /// A folder that is named: whole where it is about one thing.
    pub(super) fn keep_folder(&mut self, id: NodeId, why: Why, from: Option<NodeId>) {
        let path = self.tree.path(id);
        if !is_about_one_thing(path.trim_start_matches('/')) {
            return;
        }
        // What was walked once is whole already.
        if !self.walked.insert(id) {
            return;
        }
        self.keep_tree(id, why, from, &|parts| {
            is_leftover(parts) || is_for_hands(parts)
        });
        self.because.insert(id, (why, from));
    }

    /// Keeps what is found under a program's name in PATH.
    pub(super) fn keep_program(
        &mut self,
        name: &str,
        why: Why,
        from: Option<NodeId>,
    ) -> Option<NodeId> {
        let program = self.resolver.called(name);
        program.file?;
        let path = program.path.clone();
        let directory = self.config.directory().trim_end_matches('/').to_owned();
        let path = match path.starts_with('/') {
            true => path,
            false => format!("{directory}/{path}"),
        };
        self.keep_path(&path, why, from)
    }

    /// Looks at what is kept until nothing new is found.
    pub(super) fn settle(&mut self) {
        while let Some(id) = self.open.pop() {
            self.needs(id);
        }
    }

    fn needs(&mut self, id: NodeId) {
        // A file with several names stays under that which came first, too: it costs nothing.
        if let Some(&(first, _)) = self.image.hard_links.get(&id)
            && self.tree.is_live(first)
        {
            self.keep(first, Why::Link, Some(id));
        }
        match self.image.fact(id) {
            Some(Fact::Elf(elf)) => {
                let interpreter = elf.interpreter.clone();
                if elf.form != Form::Other {
                    self.libraries(id, interpreter.as_deref());
                }
            }
            Some(Fact::Script(line)) => self.script(id, &line.clone()),
            _ => self.sourced(id),
        }
        self.names(id);
        runtimes::keep(self, id);
        let name = String::from_utf8_lossy(self.tree.name(id));
        let started = matches!(
            self.because.get(&id),
            Some((Why::Start | Why::Check | Why::Called, _))
        );
        if started && BUILDERS.contains(&name.as_ref()) {
            self.builds.get_or_insert(name.into_owned());
        }
        // All applets, so that a shell finds what its scripts call.
        let name = self.tree.name(id);
        if name.starts_with(b"busybox") || name == b"toybox" {
            self.applets(id);
        }
    }

    fn libraries(&mut self, id: NodeId, interpreter: Option<&str>) {
        let mut loader = None;
        if let Some(path) = interpreter {
            loader = self.keep_path(path, Why::Loader, Some(id));
            self.interpreter = self.interpreter.or(loader);
            if Libc::of(path) == Libc::Glibc && !self.glibc {
                self.glibc = true;
                for path in ["/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"] {
                    if let Ok(found) = self.tree.find(path) {
                        self.keep_tree(found, Why::Loader, loader, &|_| false);
                    }
                }
            }
        }
        let (loaded, others) = self.loader.load(id, loader.or(self.interpreter));
        self.lost |= others.unknown.is_some();
        let found: Vec<(String, NodeId)> = loaded
            .iter()
            .skip(1)
            .map(|object| (object.path.clone(), object.id))
            .collect();
        for (path, file) in found {
            self.keep_path(&path, Why::Library, Some(id));
            // Where a path is odd, the file itself is what counts.
            self.keep(file, Why::Library, Some(id));
        }
    }

    fn applets(&mut self, id: NodeId) {
        self.boxes += 1;
        if self.boxes > MOST_BOXES {
            return;
        }
        let links: Vec<NodeId> = self
            .tree
            .all()
            .filter(|link| match self.tree.meta(*link).kind {
                Kind::Symlink => {
                    self.tree
                        .resolve(self.tree.parent(*link), self.tree.name(*link))
                        == Ok(id)
                }
                Kind::File => self
                    .image
                    .hard_links
                    .get(link)
                    .is_some_and(|(first, _)| *first == id),
                _ => false,
            })
            .collect();
        for link in links {
            self.keep(link, Why::Link, Some(id));
        }
    }

    /// A library that the C library itself opens by name.
    pub(super) fn keep_service(&mut self, name: &str) {
        let Some(loader) = self.interpreter.filter(|_| self.glibc) else {
            return;
        };
        if let Some(path) = self.loader.open(name, loader, Some(loader)) {
            self.keep_path(&path, Why::Opened, Some(loader));
        }
    }

    /// True for what an own layer brought or made.
    pub(super) fn is_own(&self, id: NodeId) -> bool {
        usize::from(self.tree.meta(id).layer) >= self.base
    }

    /// Why what an own layer has stays, where it does.
    pub(super) fn own_reason(&self, id: NodeId) -> Option<Why> {
        let layer = usize::from(self.tree.meta(id).layer);
        let instruction = self.config.instructions.get(layer).map(String::as_str);
        let word = instruction.unwrap_or_default();
        let copied = word.starts_with("COPY") || word.starts_with("ADD");
        let known = self.wanted.base_layers.is_some();
        if copied && known {
            return Some(Why::Copied);
        }
        let parts = self.parts(id);
        // A folder or a link for logs or caches is made for a reason.
        let place = self.tree.meta(id).kind != Kind::File && parts.first() == Some(&&b"var"[..]);
        if place {
            return Some(Why::Made);
        }
        if self.packages.owner(id).is_some() || is_leftover(&parts) || is_toolchain(&parts) {
            return None;
        }
        Some(if copied { Why::Copied } else { Why::Made })
    }

    pub(super) fn finish(mut self) -> Reach {
        self.settle();
        let mut replaced = HashMap::new();
        let kept = |id: NodeId| self.kept[id.index()];
        if let Some((id, bytes)) = self.packages.shortened(self.image, kept)
            && self.kept[id.index()]
        {
            replaced.insert(id, bytes);
        }
        let mut own = vec![false; self.tree.ever()];
        for id in self.tree.all() {
            own[id.index()] = self.is_own(id) && self.packages.owner(id).is_none();
        }
        let kept: u64 = self
            .tree
            .all()
            .filter(|id| self.kept[id.index()])
            .map(|id| self.tree.meta(id).size)
            .fold(0, u64::saturating_add);
        let unsure = if kept > MOST_BYTES {
            Some(format!("its files have more than {} bytes", MOST_BYTES))
        } else if self.image.partial || self.tree.is_exhausted() || self.image.left_out > 0 {
            Some("the image could not be read as a whole".to_owned())
        } else if let Some(name) = &self.builds {
            Some(format!(
                "it calls {name}, which builds other programs: what that needs is not known. Start what was built instead"
            ))
        } else if self.image.unheard || self.lost || self.names_too_many() {
            Some("its files name too many others for all to be followed".to_owned())
        } else {
            None
        };
        Reach {
            kept: self.kept,
            because: self.because,
            replaced,
            own,
            unsure,
        }
    }
}
