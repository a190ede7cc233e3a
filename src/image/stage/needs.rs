//! What a last stage has to copy: all that is kept, but for what its base has.

use std::collections::{BTreeSet, HashSet};

use super::bases::{Kind, Libraries, has_path, is_default, library};
use crate::facts::Fact;
use crate::layer::Image;
use crate::mentions::{SPAWNS, TEMPORARY};
use crate::reach::{Reach, Why};
use crate::tree::{Kind as Entry, NodeId};

/// Steps from one file to that which needs it.
const STEPS: usize = 64;

/// What is to be copied.
#[derive(Default)]
pub(super) struct Needs {
    /// What the application brought.
    pub(super) own: BTreeSet<NodeId>,
    /// What it needs of the image's base, and the new base lacks.
    pub(super) others: BTreeSet<NodeId>,
    /// The packages of Python that the application brought.
    pub(super) packages: Option<String>,
    pub(super) libraries: Option<Libraries>,
    /// Some of that are libraries.
    pub(super) foreign: bool,
    /// The application has programs or libraries of its own.
    pub(super) binaries: bool,
}

/// Who looks.
pub(super) struct Look<'a> {
    pub(super) image: &'a Image,
    pub(super) reach: &'a Reach,
    pub(super) kind: Kind,
    /// The interpreter, and what starts it: the new base has its like.
    pub(super) roots: HashSet<NodeId>,
    /// A variable or the program's header says where else libraries are.
    pub(super) told: bool,
}

/// What becomes of a file of the old base.
enum Side {
    /// The new base has it, or needs none.
    There,
    /// It is copied: itself, or the folder that it is a part of.
    Copied(NodeId),
    /// No base has it, and it is no data either.
    Nowhere,
}

impl Look<'_> {
    /// None where some of it cannot be brought into a new stage.
    pub(super) fn needs(&self) -> Option<Needs> {
        let mut needs = Needs::default();
        let tree = &self.image.tree;
        for id in tree.all() {
            if !self.reach.keeps(id) || tree.meta(id).kind == Entry::Directory {
                continue;
            }
            match self.reach.is_own(id) {
                true => self.own(id, &mut needs)?,
                false => match self.side(id) {
                    Side::There => self.note_library(id, &mut needs),
                    Side::Copied(top) => {
                        needs.foreign |= matches!(self.image.fact(id), Some(Fact::Elf(_)));
                        needs.others.insert(top);
                    }
                    Side::Nowhere => return None,
                },
            }
        }
        // COPY follows links: of a link and what it leads to, the link alone brings the bytes under the name that is asked for.
        let doubled: Vec<NodeId> = needs
            .others
            .iter()
            .filter(|id| tree.meta(**id).kind == Entry::Symlink)
            .filter_map(|id| {
                let parent = tree.parent(*id);
                let target = tree.resolve(parent, tree.name(*id)).ok()?;
                (tree.parent(target) == parent).then_some(target)
            })
            .collect();
        for target in doubled {
            needs.others.remove(&target);
        }
        Some(needs)
    }

    fn note_library(&self, id: NodeId, needs: &mut Needs) {
        let tree = &self.image.tree;
        let found = library(&tree.path(id));
        // What the C library itself may open is opened for who calls the functions that need it, and these name it.
        let from = self.reach.reason(tree, id).and_then(|(_, _, from)| from);
        let of_others = from.is_some_and(|from| self.comes_from_there(from));
        if self.kind == Kind::Dynamic && !of_others {
            needs.libraries = needs.libraries.max(found);
        }
    }

    fn own(&self, id: NodeId, needs: &mut Needs) -> Option<()> {
        let tree = &self.image.tree;
        let path = tree.path(id);
        let why = self.reach.reason(tree, id).map(|(_, why, _)| why);
        if why != Some(Why::Copied) && is_left_by_tools(&path) {
            return Some(());
        }
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        if self.kind.is_compiled() && is_source(&parts) {
            return Some(());
        }
        let elf = matches!(self.image.fact(id), Some(Fact::Elf(_)));
        if let Kind::Python(minor) = self.kind {
            let lib = format!("/usr/local/lib/python3.{minor}/");
            if let Some(rest) = path.strip_prefix(&lib) {
                if rest.starts_with("site-packages/") {
                    needs.binaries |= elf;
                    needs.packages.get_or_insert(format!("{lib}site-packages"));
                }
                return Some(());
            }
            // What pip puts there starts the old interpreter, and nothing here starts it.
            if path.starts_with("/usr/local/bin/") && !elf {
                return Some(());
            }
        }
        let meta = tree.meta(id);
        let plain = matches!(meta.kind, Entry::File | Entry::Symlink)
            && meta.mode & 0o6000 == 0
            && self.image.capability(id).is_none()
            && self.image.demands(id) == 0;
        // COPY makes a link into what it leads to.
        let linked = meta.kind == Entry::Symlink
            && tree
                .resolve(tree.parent(id), tree.name(id))
                .is_ok_and(|target| !self.reach.is_own(target));
        let lost = elf
            && matches!(why, Some(Why::Library | Why::Opened))
            && !is_default(&path)
            && !self.told;
        if !plain || linked || lost || self.needs_shell(id, &parts) {
            return None;
        }
        needs.binaries |= elf;
        needs.own.insert(id);
        Some(())
    }

    /// Scripts have no shell there, nor has what starts other programs through one.
    fn needs_shell(&self, id: NodeId, parts: &[&str]) -> bool {
        if let Some(Fact::Script(line)) = self.image.fact(id) {
            let interpreter = match self.kind {
                Kind::Python(_) => "python",
                Kind::Node(_) => "node",
                Kind::Static | Kind::Dynamic => return true,
            };
            // Of packages, examples and helpers are many, and what starts the application is known.
            if !line.contains(interpreter) && !is_package(parts) {
                return true;
            }
        }
        !is_package(parts) && self.mentions(id, SPAWNS)
    }

    /// True where a file names what begins like that.
    fn mentions(&self, id: NodeId, start: &[u8]) -> bool {
        let told = self.image.mentions.get(&id);
        told.is_some_and(|told| told.names().any(|name| name.starts_with(start)))
    }

    /// True where something of the application names what begins like that.
    pub(super) fn named(&self, needs: &Needs, start: &str) -> bool {
        needs
            .own
            .iter()
            .any(|id| self.mentions(*id, start.as_bytes()))
    }

    /// True where something of the application may write temporary files.
    pub(super) fn writes_temporary(&self, needs: &Needs) -> bool {
        needs.own.iter().any(|id| self.mentions(*id, TEMPORARY))
    }

    fn side(&self, id: NodeId) -> Side {
        let tree = &self.image.tree;
        if self.is_there(id) {
            return Side::There;
        }
        if self.is_package_of_base(id) {
            return Side::Nowhere;
        }
        let Some((holder, why, from)) = self.reach.reason(tree, id) else {
            return Side::Nowhere;
        };
        let there = from.is_some_and(|from| self.comes_from_there(from));
        match why {
            Why::Common | Why::Metadata | Why::Made => Side::There,
            _ if there || self.is_idle(id) => Side::There,
            // On the way to what is started: that is called by where it is.
            Why::Link if from.is_none() => Side::There,
            // A folder of the root that is somebody's, too.
            Why::Copied | Why::Asked | Why::Place => Side::Copied(holder),
            Why::Start | Why::Check | Why::Called | Why::Interpreter => Side::Nowhere,
            Why::Runtime | Why::Package => Side::Nowhere,
            Why::Loader | Why::Library | Why::Opened => match is_default(&tree.path(id)) {
                true if self.kind != Kind::Static => Side::Copied(id),
                _ => Side::Nowhere,
            },
            Why::Named | Why::Link | Why::Installed | Why::Traced => match self.image.fact(id) {
                Some(Fact::Elf(_)) if is_default(&tree.path(id)) && self.kind != Kind::Static => {
                    Side::Copied(id)
                }
                Some(Fact::Elf(_) | Fact::Script(_)) => Side::Nowhere,
                _ if tree.meta(id).kind == Entry::Special => Side::Nowhere,
                _ => Side::Copied(holder),
            },
        }
    }

    /// True for what the new base has in the same place, or in another one.
    fn is_there(&self, id: NodeId) -> bool {
        let tree = &self.image.tree;
        let path = tree.path(id);
        let libraries = self.kind != Kind::Static && library(&path).is_some();
        let link = tree.meta(id).kind == Entry::Symlink;
        let target = link.then(|| tree.resolve(tree.parent(id), tree.name(id)));
        let root = target.unwrap_or(Ok(id));
        let root = root.is_ok_and(|id| self.roots.contains(&id));
        // The modules of the language itself.
        let modules = match self.kind {
            Kind::Python(minor) => {
                path.starts_with(&format!("/usr/local/lib/python3.{minor}/"))
                    && !self.reach.is_own(id)
                    && !self.is_package_of_base(id)
            }
            _ => false,
        };
        root || has_path(&path) || libraries || modules
    }

    /// True for a package of Python that the old base brought, and the new one does not.
    fn is_package_of_base(&self, id: NodeId) -> bool {
        let Kind::Python(minor) = self.kind else {
            return false;
        };
        let path = self.image.tree.path(id);
        let packages = format!("/usr/local/lib/python3.{minor}/site-packages/");
        let name = path.strip_prefix(&packages);
        let name = name.and_then(|rest| rest.split('/').next());
        let known = [
            "pip",
            "setuptools",
            "wheel",
            "_distutils_hack",
            "pkg_resources",
            "distutils-precedence",
            "README",
            "__pycache__",
        ];
        name.is_some_and(|name| !known.iter().any(|known| name.starts_with(known)))
    }

    /// True for what scripts of packages have for their interpreter, and call: the application is started in another way. Scripts
    /// of its own were judged by themselves.
    fn is_idle(&self, id: NodeId) -> bool {
        let tree = &self.image.tree;
        let reason = self.reach.reason(tree, id);
        let Some((_, Why::Interpreter | Why::Called, Some(from))) = reason else {
            return false;
        };
        let path = tree.path(from);
        let parts: Vec<&str> = path.split('/').collect();
        let script = matches!(self.image.fact(from), Some(Fact::Script(_)));
        self.reach.is_own(from) && (script || is_package(&parts))
    }

    /// True where something is needed by a part of the base alone, which has it, too.
    fn comes_from_there(&self, id: NodeId) -> bool {
        let mut at = id;
        for _ in 0..STEPS {
            if self.is_there(at) || self.is_idle(at) {
                return true;
            }
            if self.reach.is_own(at) {
                return false;
            }
            match self.reach.reason(&self.image.tree, at) {
                Some((_, _, Some(from))) => at = from,
                _ => return false,
            }
        }
        false
    }
}

/// A part of what a package manager of the language brought.
fn is_package(parts: &[&str]) -> bool {
    parts
        .iter()
        .any(|part| matches!(*part, "node_modules" | "site-packages"))
}

/// What package managers and their like leave in an image, and nothing reads that was copied out of it.
fn is_left_by_tools(path: &str) -> bool {
    let folders = [
        "/etc/ssl/certs/",
        "/etc/ca-certificates",
        "/etc/apk/",
        "/etc/apt/",
        "/etc/alternatives/",
        "/lib/apk/",
        "/usr/share/ca-certificates/",
        "/usr/share/mime/",
        "/var/lib/dpkg/",
        "/var/lib/apt/",
        "/var/cache/",
        "/var/log/",
    ];
    let files = [
        "/etc/ld.so.cache",
        "/etc/passwd",
        "/etc/passwd-",
        "/etc/group",
        "/etc/group-",
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/gshadow",
        "/etc/gshadow-",
        "/etc/subuid",
        "/etc/subuid-",
        "/etc/subgid",
        "/etc/subgid-",
        "/etc/.pwd.lock",
        "/etc/machine-id",
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/etc/shells",
    ];
    folders.iter().any(|folder| path.starts_with(folder)) || files.contains(&path)
}

/// What a compiler has read, or people.
fn is_source(parts: &[&str]) -> bool {
    let name = parts.last().copied().unwrap_or_default();
    let ends = [
        ".go", ".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".hh", ".rs", ".o", ".a", ".md", ".mod",
        ".sum", ".work",
    ];
    let names = [
        "Makefile",
        "CMakeLists.txt",
        "Cargo.toml",
        "Cargo.lock",
        "Dockerfile",
        ".dockerignore",
        ".gitignore",
        ".gitattributes",
        "LICENSE",
        "README",
    ];
    let folders = parts.iter().rev().skip(1);
    ends.iter().any(|end| name.ends_with(end))
        || names.contains(&name)
        || folders
            .into_iter()
            .any(|part| matches!(*part, ".git" | ".github" | "vendor"))
}
