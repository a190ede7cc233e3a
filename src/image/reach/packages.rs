//! What the package managers of Debian and Alpine know: which package has which file, and which needs which other
//! (deb-control(5), <https://wiki.alpinelinux.org/wiki/Apk_spec>).

use std::collections::{HashMap, HashSet};

use crate::layer::Image;
use crate::tree::NodeId;

/// Packages whose work is done once something is installed. Those that depend on them do so for their installation.
const INSTALLERS: [&str; 14] = [
    "apk-tools",
    "apt",
    "base-files",
    "base-passwd",
    "debconf",
    "debconf-2.0",
    "dpkg",
    "init-system-helpers",
    "install-info",
    "libc-dev-bin",
    "perl-base",
    "perl",
    "sensible-utils",
    "ucf",
];

/// Packages that are read; a distribution installs a few thousand.
const MOST: usize = 20_000;

/// One package.
#[derive(Clone, Debug, Default)]
struct Package {
    name: String,
    needs: Vec<String>,
    /// Its paragraph in the database.
    at: std::ops::Range<usize>,
}

/// All packages of an image.
#[derive(Default)]
pub(super) struct Packages {
    all: Vec<Package>,
    owner: HashMap<NodeId, u32>,
    files: HashMap<u32, Vec<NodeId>>,
    provided: HashMap<String, u32>,
    database: Option<NodeId>,
}

impl Packages {
    pub(super) fn of(image: &Image) -> Self {
        let mut found = Self::default();
        found.dpkg(image);
        if found.all.is_empty() {
            found.apk(image);
        }
        found
    }

    /// The package that has a file.
    pub(super) fn owner(&self, id: NodeId) -> Option<u32> {
        self.owner.get(&id).copied()
    }

    /// The files of a package.
    pub(super) fn files(&self, package: u32) -> &[NodeId] {
        self.files.get(&package).map_or(&[], Vec::as_slice)
    }

    /// The packages that one needs, and those in turn; itself first. Installers are left out.
    pub(super) fn closure(&self, package: u32) -> Vec<u32> {
        let mut known = HashSet::from([package]);
        let mut order = vec![package];
        let mut next = 0;
        while next < order.len() {
            for name in &self.all[order[next] as usize].needs {
                if INSTALLERS.contains(&name.as_str()) {
                    continue;
                }
                if let Some(&found) = self.provided.get(name)
                    && known.insert(found)
                {
                    order.push(found);
                }
            }
            next += 1;
        }
        order
    }

    /// The database with just the packages of which something is kept: what a scanner is to find.
    pub(super) fn shortened(
        &self,
        image: &Image,
        kept: impl Fn(NodeId) -> bool,
    ) -> Option<(NodeId, Vec<u8>)> {
        let id = self.database?;
        let text = image.mentions.get(&id)?.text.as_deref()?;
        let mut bytes = Vec::new();
        for (index, package) in self.all.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            if !self.files(index).iter().any(|id| kept(*id)) {
                continue;
            }
            bytes.extend_from_slice(&text[package.at.clone()]);
            if !bytes.ends_with(b"\n\n") {
                bytes.extend_from_slice(b"\n");
            }
        }
        Some((id, bytes))
    }

    fn add(&mut self, package: Package, provides: &[String]) -> u32 {
        let index = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        // A package of that name goes before one that provides it.
        self.provided.insert(package.name.clone(), index);
        for name in provides {
            self.provided.entry(name.clone()).or_insert(index);
        }
        self.all.push(package);
        index
    }

    fn owns(&mut self, image: &Image, package: u32, path: &[u8]) {
        let tree = &image.tree;
        if let Ok(id) = tree.resolve_link(tree.root(), path)
            && tree.meta(id).kind != crate::Kind::Directory
            && !self.owner.contains_key(&id)
        {
            self.owner.insert(id, package);
            self.files.entry(package).or_default().push(id);
        }
    }

    fn dpkg(&mut self, image: &Image) {
        let Ok(id) = image.tree.find("/var/lib/dpkg/status") else {
            return;
        };
        let Some(text) = image
            .mentions
            .get(&id)
            .and_then(|told| told.text.as_deref())
        else {
            return;
        };
        self.database = Some(id);
        let mut read = HashSet::new();
        for at in paragraphs(text).into_iter().take(MOST) {
            let paragraph = String::from_utf8_lossy(&text[at.clone()]);
            let field = |name: &str| {
                let mut lines = paragraph.lines();
                let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                found.map(str::trim).unwrap_or_default().to_owned()
            };
            let name = field("Package");
            if name.is_empty()
                || !field("Status").ends_with(" installed")
                || !read.insert(format!("{name}:{}", field("Architecture")))
                || image.tree.is_exhausted()
            {
                continue;
            }
            let needs = [field("Pre-Depends"), field("Depends")]
                .iter()
                .flat_map(|text| dependencies(text))
                .collect();
            let provides: Vec<String> = dependencies(&field("Provides")).collect();
            let index = self.add(
                Package {
                    name: name.clone(),
                    needs,
                    at,
                },
                &provides,
            );
            let architecture = field("Architecture");
            for list in [
                format!("{name}.list"),
                format!("{name}:{architecture}.list"),
            ] {
                let path = format!("/var/lib/dpkg/info/{list}");
                let list = image.tree.find(&path).ok();
                let told = list.and_then(|id| image.mentions.get(&id)?.text.as_deref());
                for line in told.unwrap_or_default().split(|&byte| byte == b'\n') {
                    if line.len() > 2 {
                        self.owns(image, index, line);
                    }
                }
            }
        }
    }

    fn apk(&mut self, image: &Image) {
        let paths = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];
        let Some(id) = paths.iter().find_map(|path| image.tree.find(path).ok()) else {
            return;
        };
        let Some(text) = image
            .mentions
            .get(&id)
            .and_then(|told| told.text.as_deref())
        else {
            return;
        };
        self.database = Some(id);
        for at in paragraphs(text).into_iter().take(MOST) {
            let paragraph = String::from_utf8_lossy(&text[at.clone()]);
            let mut package = Package {
                at,
                ..Package::default()
            };
            let (mut provides, mut files, mut folder) = (Vec::new(), Vec::new(), "");
            for line in paragraph.lines() {
                let Some((key, value)) = line.split_once(':') else {
                    continue;
                };
                let bare = |text: &str| {
                    let end = text.find(['=', '<', '>', '~']).unwrap_or(text.len());
                    text[..end].to_owned()
                };
                match key {
                    "P" => package.name = value.to_owned(),
                    "D" => package.needs.extend(value.split_whitespace().map(bare)),
                    "p" => provides.extend(value.split_whitespace().map(bare)),
                    "F" => folder = value,
                    "R" => files.push(format!("/{folder}/{value}")),
                    _ => {}
                }
            }
            if package.name.is_empty() {
                continue;
            }
            let index = self.add(package, &provides);
            for path in files {
                self.owns(image, index, path.as_bytes());
            }
        }
    }
}

/// Parts of a text with an empty line behind each.
fn paragraphs(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for end in memchr::memmem::find_iter(text, b"\n\n") {
        if end + 2 > start {
            found.push(start..end + 2);
            start = end + 2;
        }
    }
    if start < text.len() {
        found.push(start..text.len());
    }
    found
}

/// Names of `a (>= 1) | b, c:any`: of alternatives all, as any of them may be what is installed.
fn dependencies(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split([',', '|']).filter_map(|one| {
        let name = one.split(['(', ':', '[']).next()?.trim();
        (!name.is_empty()).then(|| name.to_owned())
    })
}
