//! Where a loader finds a program's libraries: glibc's and musl's search, within the image.
//!
//! Sources: ld.so(8), elf/dl-load.c of glibc 2.41, ldso/dynlink.c of musl 1.2.5.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use super::elf::{Elf, Form, Machine};
use super::facts::Fact;
use super::layer::Image;
use super::tree::{Kind, NodeId};
use super::user::{Identity, text};

/// Libraries of one program that are followed.
const MAX_LIBRARIES: usize = 2000;
/// Missing libraries that are named.
const MAX_MISSING: usize = 20;
/// Places that are looked at for the libraries of all programs. A thousand programs of a distribution take
/// some hundred thousand.
const MAX_LOOKUPS: u64 = 5_000_000;
/// Directories of one search.
const MAX_FOLDERS: usize = 64;

/// A C library, by its loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// ld-linux*.so, ld64.so, ld.so.1
    Glibc,
    /// ld-musl-*.so.1
    Musl,
    /// Another loader.
    Other,
}

impl Libc {
    /// By the loader's path.
    pub fn of(interpreter: &str) -> Self {
        let name = interpreter.rsplit('/').next().unwrap_or_default();
        if name.starts_with("ld-musl-") {
            Self::Musl
        } else if name.starts_with("ld-linux") || name.starts_with("ld64.so") || name == "ld.so.1" {
            Self::Glibc
        } else {
            Self::Other
        }
    }
}

/// A library that a loader would not find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingLibrary {
    /// As DT_NEEDED names it.
    pub name: String,
    /// The file that needs it.
    pub needed_by: String,
    /// Where one lies that cannot be used, and why; none where there is none at all.
    pub unusable: Option<String>,
    /// True where the library is there, and lacks a version of its symbols.
    pub old: bool,
}

/// What a program's libraries came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Libraries {
    /// Those that are missing; the first of them.
    pub missing: Vec<MissingLibrary>,
    /// How many more are missing.
    pub omitted: usize,
    /// Why it is not known whether all are there.
    pub unknown: Option<String>,
}

/// What all programs of an image share.
pub(super) struct Loader<'a> {
    image: &'a Image,
    /// As whom libraries are read.
    identity: Identity,
    /// LD_LIBRARY_PATH of the image's config.
    library_path: Vec<String>,
    directory: String,
    /// ld.so.cache: name → paths.
    cache: HashMap<String, Vec<String>>,
    /// Directories that ld.so.conf names: ldconfig reads them, the loader does not.
    configured: Vec<String>,
    /// Places that were looked at.
    lookups: Cell<u64>,
}

/// One object that was loaded.
pub(super) struct Loaded<'a> {
    pub(super) id: NodeId,
    elf: &'a Elf,
    /// Where it was found; empty of the program itself.
    pub(super) path: String,
    /// The object that needed it.
    loader: Option<usize>,
}

/// What a search for one name found.
enum Found {
    /// The file, and the path by which it was found.
    Library(NodeId, String),
    /// A file of that name that cannot be used, and why.
    Unusable(String),
    Unknown(String),
    Nothing,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        image: &'a Image,
        identity: Identity,
        library_path: &str,
        directory: &str,
    ) -> Self {
        let split = |paths: &str| {
            paths
                .split([':', ';'])
                .filter(|path| !path.is_empty())
                .take(MAX_FOLDERS)
                .map(str::to_owned)
                .collect()
        };
        let cache = match image
            .tree
            .find("/etc/ld.so.cache")
            .ok()
            .and_then(|id| image.fact(id))
        {
            Some(Fact::Text(bytes)) => read_cache(bytes),
            _ => HashMap::new(),
        };
        Self {
            image,
            identity,
            library_path: split(library_path),
            directory: directory.to_owned(),
            cache,
            configured: configured(image),
            lookups: Cell::new(0),
        }
    }

    /// Which libraries of a program would not be found. `interpreter`: the loader, where it is there.
    pub(super) fn missing(&self, program: NodeId, interpreter: Option<NodeId>) -> Libraries {
        self.load(program, interpreter).1
    }

    /// What a loader loads for a program or a library, that itself first, and what it does not find.
    pub(super) fn load(
        &self,
        program: NodeId,
        interpreter: Option<NodeId>,
    ) -> (Vec<Loaded<'a>>, Libraries) {
        let mut found = Libraries::default();
        let Some(Fact::Elf(elf)) = self.image.fact(program) else {
            return (Vec::new(), found);
        };
        // A library has no loader of its own: it is that of the program that loads it.
        let named = elf.interpreter.clone().or_else(|| {
            let loader = interpreter.filter(|_| elf.form == Form::Library);
            loader.map(|id| self.image.tree.path(id))
        });
        let libc = Libc::of(named.as_deref().unwrap_or_default());
        let loader = interpreter.and_then(|id| match self.image.fact(id) {
            Some(Fact::Elf(elf)) => Some(elf),
            _ => None,
        });
        let system = self.system(libc, elf.machine, loader, interpreter);
        let mut loaded = vec![Loaded {
            id: program,
            elf,
            path: String::new(),
            loader: None,
        }];
        // Names that are there already: what was found, and the loader itself.
        let mut known: HashSet<&str> = HashSet::new();
        if let Some(name) = elf
            .interpreter
            .as_deref()
            .and_then(|path| path.rsplit('/').next())
        {
            known.insert(name);
        }
        known.extend(loader.and_then(|elf| elf.soname.as_deref()));
        let mut ids: HashSet<NodeId> = HashSet::from([program]);
        let mut next = 0;
        while next < loaded.len() {
            let elf = loaded[next].elf;
            for name in &elf.needed {
                self.lookups.set(self.lookups.get() + 1);
                if known.contains(name.as_str()) || libc == Libc::Musl && is_musl_itself(name) {
                    continue;
                }
                known.insert(name);
                match self.search(name, &loaded, next, libc, &system) {
                    Found::Library(id, path) => {
                        if !ids.insert(id) {
                            continue;
                        }
                        if let Some(Fact::Elf(elf)) = self.image.fact(id) {
                            known.extend(elf.soname.as_deref());
                            loaded.push(Loaded {
                                id,
                                elf,
                                path,
                                loader: Some(next),
                            });
                        }
                    }
                    Found::Unknown(why) => found.unknown = Some(why),
                    Found::Unusable(_) | Found::Nothing if found.missing.len() >= MAX_MISSING => {
                        found.omitted += 1;
                    }
                    Found::Unusable(why) => found.missing.push(MissingLibrary {
                        name: name.clone(),
                        needed_by: self.image.tree.path(loaded[next].id),
                        unusable: Some(why),
                        old: false,
                    }),
                    Found::Nothing => found.missing.push(MissingLibrary {
                        name: name.clone(),
                        needed_by: self.image.tree.path(loaded[next].id),
                        unusable: self.elsewhere(name, elf.machine),
                        old: false,
                    }),
                }
            }
            next += 1;
            if loaded.len() > MAX_LIBRARIES {
                found.unknown = Some(format!(
                    "it loads too many libraries: more than {MAX_LIBRARIES}"
                ));
                break;
            }
            if self.lookups.get() > MAX_LOOKUPS {
                found.unknown = Some("too many library lookups".into());
                break;
            }
        }
        if libc != Libc::Musl && found.missing.is_empty() {
            self.versions(&loaded, &mut found);
        }
        (loaded, found)
    }

    /// Where a library of this name is found that the object `by` opens by its name (dlopen(3)).
    pub(super) fn open(
        &self,
        name: &str,
        by: NodeId,
        interpreter: Option<NodeId>,
    ) -> Option<String> {
        let Some(Fact::Elf(elf)) = self.image.fact(by) else {
            return None;
        };
        let path = interpreter.map(|id| self.image.tree.path(id));
        let libc = Libc::of(path.as_deref().unwrap_or_default());
        let loader = interpreter.and_then(|id| match self.image.fact(id) {
            Some(Fact::Elf(elf)) => Some(elf),
            _ => None,
        });
        let system = self.system(libc, elf.machine, loader, interpreter);
        let loaded = [Loaded {
            id: by,
            elf,
            path: String::new(),
            loader: None,
        }];
        match self.search(name, &loaded, 0, libc, &system) {
            Found::Library(_, path) => Some(path),
            _ => None,
        }
    }

    /// Versions of symbols that the libraries found do not have: glibc's loader checks them before a
    /// program starts (elf/dl-version.c), musl's does not.
    fn versions(&self, loaded: &[Loaded<'_>], found: &mut Libraries) {
        let mut named: HashMap<&str, &Loaded<'_>> = HashMap::new();
        for object in loaded {
            named
                .entry(object.elf.soname.as_deref().unwrap_or_default())
                .or_insert(object);
        }
        for object in loaded {
            for (library, version) in &object.elf.versions_needed {
                let Some(provider) = named.get(library.as_str()) else {
                    continue;
                };
                // Without any versions, the loader only complains.
                let versions = &provider.elf.versions;
                if versions.is_empty() || versions.contains(version) {
                    continue;
                }
                if found.missing.len() >= MAX_MISSING {
                    found.omitted += 1;
                    continue;
                }
                found.missing.push(MissingLibrary {
                    name: format!("{version} of {library}"),
                    needed_by: self.image.tree.path(object.id),
                    unusable: Some(format!(
                        "{} does not have that version",
                        self.image.tree.path(provider.id)
                    )),
                    old: true,
                });
            }
        }
    }

    /// The directories that a loader searches last.
    fn system(
        &self,
        libc: Libc,
        machine: Machine,
        loader: Option<&Elf>,
        interpreter: Option<NodeId>,
    ) -> Vec<String> {
        if libc == Libc::Musl {
            let name = match machine.architecture() {
                Some("amd64") => "x86_64",
                Some("arm64") => "aarch64",
                Some("386") => "i386",
                Some("arm") => "armhf",
                Some("ppc64le") => "powerpc64le",
                Some(other) => other,
                None => "",
            };
            let paths = text(self.image, &format!("/etc/ld-musl-{name}.path"));
            let paths: Vec<String> = paths
                .split([':', '\n'])
                .filter(|path| !path.is_empty())
                .take(MAX_FOLDERS)
                .map(str::to_owned)
                .collect();
            if !paths.is_empty() {
                return paths;
            }
            return ["/lib", "/usr/local/lib", "/usr/lib"]
                .map(str::to_owned)
                .into();
        }
        if let Some(loader) = loader
            && !loader.system_paths.is_empty()
        {
            return loader.system_paths.clone();
        }
        let mut paths: Vec<String> = Vec::new();
        if let Some(triplet) = triplet(machine) {
            paths.push(format!("/lib/{triplet}"));
            paths.push(format!("/usr/lib/{triplet}"));
        }
        if machine.wide {
            paths.extend(["/lib64", "/usr/lib64"].map(str::to_owned));
        }
        paths.extend(["/lib", "/usr/lib"].map(str::to_owned));
        // A loader of its own prefix searches there.
        if let Some(id) = interpreter {
            let folder = self.image.tree.path(self.image.tree.parent(id));
            if !paths.contains(&folder) {
                paths.push(folder);
            }
        }
        paths
    }

    fn search(
        &self,
        name: &str,
        loaded: &[Loaded<'_>],
        by: usize,
        libc: Libc,
        system: &[String],
    ) -> Found {
        let object = &loaded[by];
        let machine = object.elf.machine;
        let secure = self.identity.gains_rights(self.image, loaded[0].id);
        if name.contains('/') {
            let paths = self.expand(name, object.id, system);
            return self.first(paths.iter().map(String::as_str), None, machine);
        }
        let mut unusable = None;
        let mut attempt = |found: Found| match found {
            Found::Nothing => None,
            Found::Unusable(why) => {
                unusable.get_or_insert(why);
                None
            }
            found => Some(found),
        };
        let library_path = || {
            let paths = self.library_path.iter().map(String::as_str);
            match self.first(paths, Some(name), machine) {
                // Whoever calls such a program does not choose what code it runs (ld.so(8)).
                Found::Library(id, _) if secure => Found::Unusable(format!(
                    "{} is in LD_LIBRARY_PATH, which is ignored for setuid programs and those \
                        with file capabilities",
                    self.image.tree.path(id)
                )),
                found => found,
            }
        };
        // musl has LD_LIBRARY_PATH first, and knows no difference between RPATH and RUNPATH.
        if libc == Libc::Musl
            && let Some(found) = attempt(library_path())
        {
            return found;
        }
        if libc == Libc::Musl || object.elf.runpath.is_none() {
            let mut at = Some(by);
            while let Some(index) = at {
                let object = &loaded[index];
                let path = match (libc, &object.elf.runpath, &object.elf.rpath) {
                    (Libc::Musl, Some(path), _) | (_, None, Some(path)) => Some(path),
                    _ => None,
                };
                if let Some(path) = path {
                    let paths = self.expand(path, object.id, system);
                    if let Some(found) =
                        attempt(self.first(paths.iter().map(String::as_str), Some(name), machine))
                    {
                        return found;
                    }
                }
                at = object.loader;
            }
        }
        if libc != Libc::Musl {
            if let Some(found) = attempt(library_path()) {
                return found;
            }
            if let Some(path) = &object.elf.runpath {
                let paths = self.expand(path, object.id, system);
                if let Some(found) =
                    attempt(self.first(paths.iter().map(String::as_str), Some(name), machine))
                {
                    return found;
                }
            }
            if !object.elf.no_default_paths
                && let Some(paths) = self.cache.get(name)
                && let Some(found) =
                    attempt(self.first(paths.iter().map(String::as_str), None, machine))
            {
                return found;
            }
        }
        if libc == Libc::Musl || !object.elf.no_default_paths {
            let paths = system.iter().map(String::as_str);
            if let Some(found) = attempt(self.first(paths, Some(name), machine)) {
                return found;
            }
        }
        match unusable {
            Some(why) => Found::Unusable(why),
            None => Found::Nothing,
        }
    }

    /// The first usable file: `name` in one of the folders, or, without a name, one of the paths.
    fn first<'p>(
        &self,
        paths: impl Iterator<Item = &'p str>,
        name: Option<&str>,
        machine: Machine,
    ) -> Found {
        let mut unusable = None;
        for path in paths.take(MAX_FOLDERS) {
            self.lookups.set(self.lookups.get() + 1);
            if self.lookups.get() > MAX_LOOKUPS || self.image.tree.is_exhausted() {
                return Found::Unknown("too many library lookups".into());
            }
            let full = match name {
                Some(name) => format!("{}/{name}", path.trim_end_matches('/')),
                None => path.to_owned(),
            };
            let full = if full.starts_with('/') {
                full
            } else {
                format!("{}/{full}", self.directory)
            };
            let Ok(id) = self.image.tree.find(&full) else {
                continue;
            };
            match self.image.fact(id) {
                _ if self.image.tree.meta(id).kind != Kind::File => {}
                _ if !self.identity.reads(self.image, id) => {
                    unusable.get_or_insert(format!(
                        "the image's user may not read {full} (permission denied): set mode 644, and 755 for \
                         its directories"
                    ));
                }
                Some(Fact::Elf(elf)) if elf.machine == machine => {
                    return Found::Library(id, full);
                }
                Some(Fact::Elf(elf)) => {
                    unusable.get_or_insert(format!("{full} is for {}", elf.machine.display()));
                }
                Some(Fact::BadElf(fault @ super::elf::ElfFault::TooLarge)) => {
                    return Found::Unknown(format!("{full} cannot be judged: {fault}"));
                }
                Some(Fact::BadElf(fault)) => {
                    unusable.get_or_insert(format!("{full} cannot be loaded: {fault}"));
                }
                _ if self.image.is_unexamined(id) => {
                    return Found::Unknown(format!("{full} was not read"));
                }
                _ => {
                    unusable.get_or_insert(format!("{full} is not a library"));
                }
            }
        }
        unusable.map_or(Found::Nothing, Found::Unusable)
    }

    /// Where a library lies that only ldconfig knows of.
    fn elsewhere(&self, name: &str, machine: Machine) -> Option<String> {
        let folders = self.configured.iter().map(String::as_str);
        match self.first(folders, Some(name), machine) {
            Found::Library(id, _) => Some(format!(
                "{} exists, but is missing from /etc/ld.so.cache: run ldconfig in the Dockerfile",
                self.image.tree.path(id)
            )),
            _ => None,
        }
    }

    /// The paths of a RPATH, with `$ORIGIN`, `$LIB` and `$PLATFORM` put in (ld.so(8)).
    fn expand(&self, paths: &str, object: NodeId, system: &[String]) -> Vec<String> {
        let origin = self.image.tree.path(self.image.tree.parent(object));
        let origin = origin.trim_end_matches('/');
        let lib = system
            .first()
            .map_or("lib", |path| path.trim_start_matches('/'));
        let mut found = Vec::new();
        for path in paths
            .split(':')
            .filter(|path| !path.is_empty())
            .take(MAX_FOLDERS)
        {
            let path = path
                .replace("${ORIGIN}", origin)
                .replace("$ORIGIN", origin)
                .replace("${LIB}", lib)
                .replace("$LIB", lib);
            // Nothing that a path of Linux could be.
            if path.len() <= 4096 && !path.contains("$PLATFORM") && !path.contains("${PLATFORM}") {
                found.push(if path.is_empty() { "/".into() } else { path });
            }
        }
        found
    }
}

/// Names that musl answers itself (`load_library` in ldso/dynlink.c).
fn is_musl_itself(name: &str) -> bool {
    name.strip_prefix("lib").is_some_and(|rest| {
        ["c.", "pthread.", "rt.", "m.", "dl.", "util.", "xnet."]
            .iter()
            .any(|reserved| rest.starts_with(reserved))
    })
}

/// Debian's name of a machine (multiarch).
fn triplet(machine: Machine) -> Option<&'static str> {
    Some(match machine.architecture()? {
        "amd64" => "x86_64-linux-gnu",
        "arm64" => "aarch64-linux-gnu",
        "arm" => "arm-linux-gnueabihf",
        "386" => "i386-linux-gnu",
        "ppc64le" => "powerpc64le-linux-gnu",
        "s390x" => "s390x-linux-gnu",
        "riscv64" => "riscv64-linux-gnu",
        "loong64" => "loongarch64-linux-gnu",
        "mips64le" => "mips64el-linux-gnuabi64",
        _ => return None,
    })
}

/// The directories of /etc/ld.so.conf and of the files that it includes (ldconfig(8)).
fn configured(image: &Image) -> Vec<String> {
    let mut texts = vec![text(image, "/etc/ld.so.conf")];
    if let Ok(folder) = image.tree.find("/etc/ld.so.conf.d") {
        for id in image.tree.children(folder).take(MAX_FOLDERS) {
            texts.push(text(image, &image.tree.path(id)));
        }
    }
    let mut found = Vec::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        let path = line.split(['#', '=']).next().unwrap_or_default().trim();
        if path.starts_with('/') && found.len() < MAX_FOLDERS {
            found.push(path.to_owned());
        }
    }
    found
}

/// Reads /etc/ld.so.cache: name → paths. What does not fit is passed over. Only the form that glibc has
/// written since 2.32, also behind the old one (sysdeps/generic/dl-cache.h).
fn read_cache(bytes: &[u8]) -> HashMap<String, Vec<String>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    let Some(start) = bytes
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)
    else {
        return found;
    };
    let bytes = &bytes[start..];
    // The cache is in the byte order of its machine: that which gives a number that fits.
    let number = |at: usize, big: bool| -> Option<usize> {
        let word = bytes.get(at..at + 4)?.try_into().ok()?;
        let word = if big {
            u32::from_be_bytes(word)
        } else {
            u32::from_le_bytes(word)
        };
        usize::try_from(word).ok()
    };
    let fits = |count: &usize| *count <= bytes.len() / ENTRY;
    let (big, count) = match (
        number(20, false).filter(fits),
        number(20, true).filter(fits),
    ) {
        (Some(count), _) => (false, count),
        (None, Some(count)) => (true, count),
        (None, None) => return found,
    };
    let string = |at: usize| -> Option<String> {
        let rest = bytes.get(at..)?;
        let end = rest.iter().take(4096).position(|&byte| byte == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    for index in 0..count {
        let at = HEADER + index * ENTRY;
        let (Some(key), Some(value)) = (number(at + 4, big), number(at + 8, big)) else {
            break;
        };
        if let (Some(name), Some(path)) = (string(key), string(value)) {
            found.entry(name).or_default().push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_read_and_a_damaged_one_panics_nowhere() {
        let mut bytes = b"ld.so-1.7.0\0\0\0\0\0glibc-ld.so.cache1.1".to_vec();
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.resize(16 + 48, 0);
        let strings = 48 + 24;
        for word in [0x303_u32, strings, strings + 10, 0, 0, 0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(b"libx.so.1\0/opt/lib/libx.so.1\0");
        let found = read_cache(&bytes);
        assert_eq!(found["libx.so.1"], ["/opt/lib/libx.so.1"]);
        for length in 0..bytes.len() {
            read_cache(&bytes[..length]);
        }
        for at in 16..bytes.len() {
            let mut lying = bytes.clone();
            lying[at] = 0xff;
            read_cache(&lying);
        }
    }

    #[test]
    fn musl_answers_its_own_names_itself() {
        for (name, own) in [
            ("libc.musl-x86_64.so.1", true),
            ("libc.so", true),
            ("libpthread.so.0", true),
            ("libcrypto.so.3", false),
            ("libmagic.so.1", false),
        ] {
            assert_eq!(is_musl_itself(name), own, "{name}");
        }
    }
}
