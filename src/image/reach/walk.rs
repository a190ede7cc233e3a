//! From what is kept to what that needs, until nothing new is found.

use std::collections::{HashMap, HashSet};

use memchr::memmem;

use super::folders::{
    BUILDERS, is_about_one_thing, is_leftover, is_prose, is_source, is_toolchain,
};
use super::packages::Packages;
use super::runtimes;
use super::{Reach, Wanted, Why, assumed_base};
use crate::config::ImageConfig;
use crate::elf::Form;
use crate::facts::Fact;
use crate::layer::Image;
use crate::libraries::{Libc, Loader};
use crate::mentions::ICONV;
use crate::resolve::Resolver;
use crate::shell::{base_name, outline};
use crate::tree::{Kind, NodeId, Tree};

/// Programs that only start another one, which a script's reader passes over.
const STARTERS: [&str; 17] = [
    "chroot",
    "dumb-init",
    "env",
    "flock",
    "gosu",
    "ionice",
    "nice",
    "nohup",
    "runuser",
    "setpriv",
    "stdbuf",
    "su",
    "su-exec",
    "sudo",
    "timeout",
    "tini",
    "xargs",
];

/// Bytes that stay, at most: a file with holes may state any size.
const MOST_BYTES: u64 = 64 << 30;
/// Paths that files name and that are looked up; real images have some tens of thousands.
const MOST_NAMED: usize = 500_000;
/// Files with applets whose other names are looked for.
const MOST_BOXES: usize = 4;

pub(super) struct Walk<'a> {
    pub(super) image: &'a Image,
    pub(super) tree: &'a Tree,
    pub(super) config: &'a ImageConfig,
    pub(super) wanted: &'a Wanted,
    /// How many layers are the base's.
    base: usize,
    pub(super) resolver: Resolver<'a>,
    pub(super) packages: Packages,
    loader: Loader<'a>,
    kept: Vec<bool>,
    because: HashMap<NodeId, (Why, Option<NodeId>)>,
    /// Files whose needs were not looked at yet.
    open: Vec<NodeId>,
    /// The loader of the first dynamic program: that of libraries which are opened by others.
    interpreter: Option<NodeId>,
    /// Folders that are kept whole because they are named.
    pub(super) walked: HashSet<NodeId>,
    /// Runtimes that are kept.
    pub(super) runtimes: HashSet<NodeId>,
    glibc: bool,
    converts: bool,
    /// Not all libraries could be looked for.
    lost: bool,
    /// What the image starts builds others.
    builds: Option<String>,
    named: usize,
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
    fn keep_folder(&mut self, id: NodeId, why: Why, from: Option<NodeId>) {
        let path = self.tree.path(id);
        if !is_about_one_thing(path.trim_start_matches('/')) {
            return;
        }
        // What was walked once is whole already.
        if !self.walked.insert(id) {
            return;
        }
        self.keep_tree(id, why, from, &|parts| is_leftover(parts));
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

    fn script(&mut self, id: NodeId, line: &str) {
        let line = line.trim();
        let mut words = line.split_whitespace();
        if let Some(interpreter) = words.next() {
            self.keep_path(interpreter, Why::Interpreter, Some(id));
            if interpreter.ends_with("/env")
                && let Some(program) =
                    words.find(|word| !word.starts_with('-') && !word.contains('='))
            {
                self.keep_program(program, Why::Interpreter, Some(id));
            }
        }
        let image = self.image;
        let told = image
            .mentions
            .get(&id)
            .and_then(|told| told.text.as_deref());
        let shell = line
            .split_whitespace()
            .any(|word| crate::shell::is_shell(base_name(word)));
        if let Some(text) = told.filter(|_| shell) {
            self.shell_text(&String::from_utf8_lossy(text), Some(id));
        }
    }

    /// A text that a shell reads without it being a program: by its first line or by its name.
    fn sourced(&mut self, id: NodeId) {
        let image = self.image;
        let told = image.mentions.get(&id);
        let Some(text) = told.and_then(|told| told.text.as_deref()) else {
            return;
        };
        let text = String::from_utf8_lossy(text);
        let first = text.lines().next().unwrap_or_default();
        let shell = match first.strip_prefix("#!") {
            Some(line) => line
                .split_whitespace()
                .any(|word| crate::shell::is_shell(base_name(word))),
            None => self.tree.name(id).ends_with(b".sh"),
        };
        if shell {
            self.shell_text(&text, Some(id));
        }
    }

    /// Programs that a shell's text calls.
    pub(super) fn shell_text(&mut self, text: &str, from: Option<NodeId>) {
        for command in outline(text).commands {
            self.keep_program(command.program(), Why::Called, from);
        }
        for line in text.lines() {
            let line = line.split(" #").next().unwrap_or_default();
            for word in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_') {
                if STARTERS.contains(&word) {
                    self.keep_program(word, Why::Called, from);
                }
            }
        }
    }

    /// All that a file names and the image has.
    fn names(&mut self, id: NodeId) {
        let image = self.image;
        let Some(told) = image.mentions.get(&id) else {
            return;
        };
        let own_name = self.tree.name(id);
        // The C library names a shell for system(3), and converters for iconv(3); who calls these has their names.
        let is_libc = own_name.starts_with(b"libc.so") || own_name.starts_with(b"ld-");
        for name in told.names() {
            if name.starts_with(b"/") {
                let only_for_others =
                    name.starts_with(b"/bin/") || memmem::find(name, b"/gconv").is_some();
                if !(is_libc && only_for_others) {
                    self.named(name, Some(id));
                }
            } else if name == ICONV {
                // These convert from the locale's set, which is UTF-8 or ASCII: the C library does that itself.
                let of_names =
                    own_name.starts_with(b"libidn2.") || own_name.starts_with(b"libunistring.");
                if !is_libc && !of_names {
                    self.converters(id);
                }
            } else if memmem::find(name, b".so").is_some() {
                self.open_library(&String::from_utf8_lossy(name), id);
            } else {
                self.word(&String::from_utf8_lossy(name), id);
            }
        }
    }

    /// What iconv(3) opens: the converters of the C library that is used.
    fn converters(&mut self, from: NodeId) {
        if std::mem::replace(&mut self.converts, true) {
            return;
        }
        let image = self.image;
        // Of several always the same one.
        let libc = image
            .mentions
            .keys()
            .filter(|id| self.is_kept(**id) && self.tree.name(**id).starts_with(b"libc.so"))
            .min()
            .copied();
        let Some(told) = libc.and_then(|id| image.mentions.get(&id)) else {
            return;
        };
        for name in told
            .names()
            .filter(|name| memmem::find(name, b"/gconv").is_some())
        {
            self.named(name, Some(from));
        }
    }

    /// A quoted word of the application that is the name of a program which its own Dockerfile installed.
    fn word(&mut self, name: &str, from: NodeId) {
        if name == "sh" || name == "bash" {
            self.keep_program(name, Why::Called, Some(from));
            return;
        }
        let Some(file) = self.resolver.called(name).file else {
            return;
        };
        if usize::from(self.tree.meta(file).layer) >= self.base {
            self.keep_program(name, Why::Called, Some(from));
        }
    }

    /// The longest beginning of a name that the image has.
    fn named(&mut self, name: &[u8], from: Option<NodeId>) {
        self.named += 1;
        if self.named > MOST_NAMED {
            return;
        }
        let mut at = self.tree.root();
        let mut path = String::new();
        let mut depth = 0;
        for part in name
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
        {
            if self.tree.meta(at).kind != Kind::Directory || part == b"." || part == b".." {
                break;
            }
            let lengths = (1..=part.len()).rev();
            let found = lengths
                .take(160)
                .find(|length| self.tree.child(at, &part[..*length]).is_some());
            let Some(length) = found else { break };
            let Ok(next) = self.tree.resolve(at, &part[..length]) else {
                break;
            };
            path.push('/');
            path.push_str(&String::from_utf8_lossy(&part[..length]));
            at = next;
            depth += 1;
            if length < part.len() {
                break;
            }
        }
        if depth < 2 {
            return;
        }
        match self.tree.meta(at).kind {
            Kind::Directory => {
                // That it is there may be enough: for a log, a lock, a socket.
                self.keep_path(&path, Why::Named, from);
                if !self.is_certificates_of_go(&self.tree.path(at), from) {
                    self.keep_folder(at, Why::Named, from);
                }
            }
            // A compiler writes down where its sources were.
            _ if is_prose(&self.parts(at)) || is_source(&self.parts(at)) => {}
            _ => {
                self.keep_path(&path, Why::Named, from);
            }
        }
    }

    /// Go looks into folders only where it has found no file with all certificates (crypto/x509/root_unix.go).
    fn is_certificates_of_go(&self, path: &str, from: Option<NodeId>) -> bool {
        let fact = from.and_then(|from| self.image.fact(from));
        let go = matches!(fact, Some(Fact::Elf(elf)) if elf.go || elf.is_static());
        go && matches!(path, "/etc/ssl/certs" | "/etc/pki/tls/certs")
            && self.tree.find("/etc/ssl/certs/ca-certificates.crt").is_ok()
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

    /// A library that is opened by its name, by a program or by the text that a runtime reads.
    pub(super) fn open_library(&mut self, name: &str, from: NodeId) {
        let is_elf = matches!(self.image.fact(from), Some(Fact::Elf(_)));
        let Some(by) = is_elf.then_some(from).or(self.interpreter) else {
            return;
        };
        if let Some(path) = self.loader.open(name, by, self.interpreter) {
            self.keep_path(&path, Why::Opened, Some(from));
        }
    }

    /// What a variable of the image's config names.
    pub(super) fn variable(&mut self, value: &str, from: Option<NodeId>) {
        for part in value.split([':', ' ', ';', ',']).take(64) {
            match (part.starts_with('/'), from) {
                (true, _) => self.named(part.as_bytes(), from),
                (false, Some(from)) if part.contains(".so") => self.open_library(part, from),
                _ => {}
            }
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
        } else if self.image.unheard || self.lost || self.named > MOST_NAMED {
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
