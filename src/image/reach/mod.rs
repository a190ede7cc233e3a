//! What of an image its program reaches, from what is known without running it: the files of the program, of what that names, loads
//! or starts, and what the application itself brought. All else can be left out.
//!
//! In doubt a file stays: a minimized image that works is worth more than one that is smaller by a few files.
//!
//! The arrows: `globs`, `packages`, `folders` <- `walk` <- `names`, `roots`, `runtimes` <- here.

mod folders;
mod globs;
mod names;
mod packages;
mod roots;
mod runtimes;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use globs::{GlobError, Globs};

use super::config::ImageConfig;
use super::layer::Image;
use super::tree::{Kind, Meta, NodeId};
use walk::Walk;

/// Paths of an explanation, at most.
const CHAIN: usize = 12;

/// What a person wants besides.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Always kept, with what these files need in turn.
    pub keep: Globs,
    /// Never kept.
    pub drop: Globs,
    /// Commands that are run in the image besides its own: those of exec health checks.
    pub commands: Vec<Vec<String>>,
    /// Paths that the image was seen to ask for while it ran.
    pub traced: Vec<String>,
    /// How many of the layers, from the first on, are those of the base image; none where that is not known.
    pub base_layers: Option<usize>,
}

/// Why an entry is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is what the image starts.
    Start,
    /// A health check runs it.
    Check,
    /// A pattern of `keep` has it.
    Asked,
    /// The image was seen to ask for it while it ran.
    Traced,
    /// The image's own COPY or ADD brought it.
    Copied,
    /// An own RUN made it, and no package manager knows it.
    Made,
    /// Every image has it: users, names of hosts, the release, folders for temporary files.
    Common,
    /// It is the working directory, a volume or the home of the user.
    Place,
    /// A link leads to it.
    Link,
    /// The loader of a program.
    Loader,
    /// The interpreter of a script.
    Interpreter,
    /// A library that a header lists.
    Library,
    /// A library that is opened by its name.
    Opened,
    /// The bytes of a file name its path.
    Named,
    /// A script or a quoted word names the program.
    Called,
    /// A part of a language's runtime, which is whole or absent.
    Runtime,
    /// A package on which a kept package depends.
    Package,
    /// What scanners read about packages.
    Metadata,
}

impl Why {
    /// For people: what stands behind a path, before the path that it comes from.
    pub fn text(self) -> &'static str {
        match self {
            Self::Start => "is what the image starts",
            Self::Check => "is run by the health check",
            Self::Asked => "is asked for by keep",
            Self::Traced => "was asked for while the image was tried",
            Self::Copied => "was brought by COPY or ADD of the Dockerfile",
            Self::Made => "was made by RUN of the Dockerfile, and belongs to no package",
            Self::Common => "is kept in every image that has it",
            Self::Place => "is the working directory, a volume or the user's home",
            Self::Link => "is where a link leads to",
            Self::Loader => "is the loader",
            Self::Interpreter => "is the interpreter",
            Self::Library => "is a library",
            Self::Opened => "is a library that is opened by name",
            Self::Named => "is named",
            Self::Called => "is a program that is called",
            Self::Runtime => "is a part of the language's runtime",
            Self::Package => "is in a package that is needed",
            Self::Metadata => "says which packages there are",
        }
    }
}

/// One step of an explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because {
    /// What is kept.
    pub path: String,
    /// Why.
    pub why: Why,
}

/// What is reached.
pub struct Reach {
    kept: Vec<bool>,
    because: HashMap<NodeId, (Why, Option<NodeId>)>,
    /// Files whose contents are another in the smaller image: what package managers know of packages that are gone.
    pub(super) replaced: HashMap<NodeId, Vec<u8>>,
    /// Entries that came from the application and not from the base or its packages.
    own: Vec<bool>,
    /// Why nothing should be left out, where that is so.
    pub unsure: Option<String>,
}

/// A number of files, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Regular files by their names.
    pub files: u64,
    /// Bytes, hard links counted once.
    pub bytes: u64,
}

/// Something that would go, or stays: a folder or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Where it is.
    pub path: String,
    /// Bytes of its files that do.
    pub bytes: u64,
}

/// How many layers count as the base's where that is not known: the first, unless the application brought that, too.
pub fn assumed_base(config: &ImageConfig) -> usize {
    let first = config.instructions.first().map(String::as_str);
    let copied = first.is_some_and(|text| text.starts_with("COPY"));
    usize::from(!copied)
}

impl Reach {
    /// Finds out what is reached. The layers must have been read with `Limits::reach`.
    pub fn of(image: &Image, config: &ImageConfig, wanted: &Wanted) -> Self {
        let mut walk = Walk::new(image, config, wanted);
        roots::all(&mut walk);
        walk.finish()
    }

    /// True where an entry stays.
    pub fn keeps(&self, id: NodeId) -> bool {
        self.kept.get(id.index()).copied().unwrap_or_default()
    }

    /// True for what belongs to the application, and not to the base or its packages.
    pub fn is_own(&self, id: NodeId) -> bool {
        self.own.get(id.index()).copied().unwrap_or_default()
    }

    /// What stays and what would go.
    pub fn tally(&self, image: &Image) -> (Tally, Tally) {
        let (mut kept, mut gone) = (Tally::default(), Tally::default());
        for id in image.tree.all() {
            let meta = image.tree.meta(id);
            if meta.kind != Kind::File {
                continue;
            }
            let tally = match self.keeps(id) {
                true => &mut kept,
                false => &mut gone,
            };
            tally.files += 1;
            if !meta.hard_link {
                tally.bytes += self.size(id, &meta);
            }
        }
        (kept, gone)
    }

    fn size(&self, id: NodeId, meta: &Meta) -> u64 {
        self.replaced
            .get(&id)
            .map_or(meta.size, |bytes| bytes.len() as u64)
    }

    /// The `most` largest folders and files that would go, or those that stay: each the topmost that holds little else.
    pub fn largest(&self, image: &Image, most: usize, stay: bool) -> Vec<Gone> {
        let tree = &image.tree;
        let mut gone = vec![0_u64; tree.ever()];
        let mut all = vec![0_u64; tree.ever()];
        for id in tree.all() {
            let meta = tree.meta(id);
            if meta.kind != Kind::File || meta.hard_link {
                continue;
            }
            let mut at = id;
            let bytes = self.size(id, &meta);
            loop {
                all[at.index()] += bytes;
                if self.keeps(id) == stay {
                    gone[at.index()] += bytes;
                }
                if at == tree.root() {
                    break;
                }
                at = tree.parent(at);
            }
        }
        // From the root down, a folder is named where nearly all of it goes and it is no mixture of large things.
        let mut found = Vec::new();
        let mut open = vec![(tree.root(), 0)];
        while let Some((id, depth)) = open.pop() {
            let bytes = gone[id.index()];
            if bytes == 0 {
                continue;
            }
            let folder = tree.meta(id).kind == Kind::Directory;
            let most = tree.children(id).map(|child| gone[child.index()]).max();
            let whole = depth >= 2 && bytes * 10 >= all[id.index()] * 9;
            let one = most.unwrap_or(0) * 10 >= bytes * 9;
            if !folder || whole && !one {
                found.push(Gone {
                    path: tree.path(id),
                    bytes,
                });
                continue;
            }
            open.extend(tree.children(id).map(|child| (child, depth + 1)));
        }
        found.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
        found.truncate(most);
        found
    }

    /// Why a path stays: itself first, then what leads to it, up to a root. Empty where it does not stay.
    pub fn explain(&self, image: &Image, path: &str) -> Vec<Because> {
        let tree = &image.tree;
        let Ok(mut at) = tree.resolve_link(tree.root(), path.as_bytes()) else {
            return Vec::new();
        };
        let mut chain = Vec::new();
        if !self.keeps(at) {
            return chain;
        }
        while chain.len() < CHAIN {
            // What is kept as a part of a folder says so of the folder.
            let mut reason = self.because.get(&at);
            let shown = at;
            while reason.is_none() && at != tree.root() {
                at = tree.parent(at);
                reason = self.because.get(&at);
            }
            let Some((why, from)) = reason else { break };
            chain.push(Because {
                path: tree.path(shown),
                why: *why,
            });
            match from {
                Some(from) => at = *from,
                None => break,
            }
        }
        chain
    }
}
