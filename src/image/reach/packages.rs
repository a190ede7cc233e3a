//! What the package managers of Debian and Alpine know: which package has which file, and which needs which other
//! (deb-control(5), <https://wiki.alpinelinux.org/wiki/Apk_spec>).

use std::collections::{HashMap, HashSet};

use super::installed::is_for_running;
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
    /// Somebody has asked for it, and not for building.
    asked: bool,
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

    /// Packages that somebody has asked for, in the base or on it, and that are of use while a program runs.
    pub(super) fn asked(&self) -> Vec<u32> {
        let all = (0_u32..).zip(&self.all);
        all.filter(|(_, package)| package.asked)
            .map(|(index, _)| index)
            .collect()
    }

    /// The packages that one needs, and those in turn; itself first. Installers are left out.
    pub(super) fn closure(&self, package: u32) -> Vec<u32> {
        self.closure_beside(package, &mut HashSet::new())
    }

    /// The same without those that are known, which become so: many of these cost no more than there are packages.
    pub(super) fn closure_beside(&self, package: u32, known: &mut HashSet<u32>) -> Vec<u32> {
        if !known.insert(package) {
            return Vec::new();
        }
        let mut order = vec![package];
        let mut next = 0;
        while next < order.len() {
            for found in self.needs(order[next]) {
                if known.insert(found) {
                    order.push(found);
                }
            }
            next += 1;
        }
        order
    }

    /// The packages that one names as needed. Installers are left out.
    pub(super) fn needs(&self, package: u32) -> impl Iterator<Item = u32> + '_ {
        let names = self.all[package as usize].needs.iter();
        names
            .filter(|name| !INSTALLERS.contains(&name.as_str()))
            .filter_map(|name| self.provided.get(name).copied())
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
        let automatic = automatic(image);
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
            // Nobody asks for what every installation of the distribution has.
            let always = matches!(&field("Priority")[..], "required" | "important")
                || field("Essential") == "yes";
            let asked = !always
                && !INSTALLERS.contains(&&name[..])
                && !automatic.contains(&name)
                && is_for_running(&name, &field("Section"));
            let index = self.add(
                Package {
                    name: name.clone(),
                    asked,
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
        let world = world(image);
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
            package.asked = world.contains(&package.name) && is_for_running(&package.name, "");
            let index = self.add(package, &provides);
            for path in files {
                self.owns(image, index, path.as_bytes());
            }
        }
    }
}

/// What apt has installed for others' sake (apt-mark(8)). Without the file, nothing was.
fn automatic(image: &Image) -> HashSet<String> {
    let text = whole(image, "/var/lib/apt/extended_states");
    let mut found = HashSet::new();
    for paragraph in text.split("\n\n").take(MOST) {
        let field = |name: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        if let (Some(name), Some("1")) = (field("Package"), field("Auto-Installed").map(str::trim))
        {
            found.insert(name.trim().to_owned());
        }
    }
    found
}

/// What somebody has asked apk for (<https://wiki.alpinelinux.org/wiki/Alpine_Package_Keeper#World>).
fn world(image: &Image) -> HashSet<String> {
    let text = whole(image, "/etc/apk/world");
    text.split_whitespace().take(MOST).map(bare).collect()
}

/// A name of apk without version and repository.
fn bare(text: &str) -> String {
    let end = text.find(['=', '<', '>', '~', '@']).unwrap_or(text.len());
    text[..end].to_owned()
}

fn whole(image: &Image, path: &str) -> String {
    let id = image.tree.find(path).ok();
    let told = id.and_then(|id| image.mentions.get(&id)?.text.as_deref());
    String::from_utf8_lossy(told.unwrap_or_default()).into_owned()
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
