//! What the guard's policies need of one image, made from its reports one platform at a time, so that no more
//! than one of them is unpacked at any moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::names::{Unnamed, names};
use super::pack::unpack;
use super::paths::{self, Links};
use whittle_api::{ProbeProfileSpec, ProfileImage, Reason};
use whittle_image::packed::{deflate_quickly, inflate};
use whittle_image::{Contents, DEFAULT_PATH, Executable, Fault, ProgramKind, Runs, digest_of};

/// Bytes of what is known of one image, as JSON: a thousand programs have a quarter of it.
const MAX_BYTES: usize = 192 << 10;
/// Programs of a report: no report lists more.
const MAX_PROGRAMS: usize = 1000;
/// Directories of PATH.
const MAX_FOLDERS: usize = 64;
/// Platforms of an image.
const MAX_PLATFORMS: usize = 16;

/// Programs of one directory: true where one is known to start on each platform. Kept deflated, as there are thousands of
/// sets and each is read only where a profile is written.
#[derive(Debug, PartialEq, Eq)]
pub struct Set {
    /// The same for the same programs.
    pub id: Box<str>,
    packed: Box<[u8]>,
    /// As JSON.
    pub(super) bytes: usize,
}

impl Set {
    /// From programs as JSON.
    fn new(json: &str) -> Arc<Self> {
        Arc::new(Self {
            id: id(json).into(),
            packed: deflate_quickly(json.as_bytes()).into(),
            bytes: json.len(),
        })
    }

    /// By name.
    pub(super) fn programs(&self) -> Programs {
        let json = inflate(&self.packed, self.bytes as u64).unwrap_or_default();
        serde_json::from_slice(&json).unwrap_or_default()
    }
}

/// What is known of one image.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// As it stands in a profile, as JSON; the ImageBuild and its `fix` are not in it.
    pub(super) json: Box<str>,
    /// The sets that it names.
    pub sets: Box<[Arc<Set>]>,
}

/// Why the guard knows nothing of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotKnown {
    /// As in the condition `ProbeProfile`.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

impl NotKnown {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

impl Entry {
    /// From packed reports, one a platform; each is unpacked, taken in and dropped.
    ///
    /// # Errors
    /// Where they do not tell all, or are more than the guard keeps.
    pub fn of_packed<'a>(
        packed: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Result<Self, NotKnown> {
        let mut gathered = Gathered::default();
        for packed in packed {
            let contents = packed.and_then(unpack).ok_or_else(|| {
                NotKnown::new(
                    Reason::NoReport,
                    "report of the image's programs missing: there are too many, or the runner's callback did not \
                     arrive, and they are too large for its termination message. Build again (change \
                     spec.rebuild); if that does not help, check that the runner's Pod can reach the controller",
                )
            })?;
            gathered.add(&contents)?;
        }
        gathered.finish()
    }

    /// From reports, one a platform.
    ///
    /// # Errors
    /// As those of [`Entry::of_packed`].
    pub fn of(contents: &[Contents]) -> Result<Self, NotKnown> {
        let mut gathered = Gathered::default();
        for contents in contents {
            gathered.add(contents)?;
        }
        gathered.finish()
    }

    fn whole(image: &ProfileImage, mut sets: Vec<Arc<Set>>) -> Self {
        sets.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        Self {
            json: serde_json::to_string(image).unwrap_or_default().into(),
            sets: sets.into(),
        }
    }

    /// As it stands in a profile, but for the ImageBuild and its `fix`.
    pub(super) fn image(&self) -> ProfileImage {
        serde_json::from_str(&self.json).unwrap_or_default()
    }
}

/// What a profile says of an image by its digest.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// `sha256:…`
    pub digest: String,
    /// What is known of it.
    pub entry: Entry,
    /// The ImageBuild that said it, `namespace/name`.
    pub image_build: String,
    /// Its `fix`.
    pub fix: Option<String>,
}

/// What a profile says of images by their digests, each once however often it is named: those that are `wanted`, by
/// ImageBuild and digest. It may be large, and takes as long: nothing for an event loop.
pub fn read_back(profile: &ProbeProfileSpec, wanted: impl Fn(&str, &str) -> bool) -> Vec<ReadBack> {
    let mut sets: HashMap<&str, Arc<Set>> = HashMap::new();
    let by_digest = profile.references.iter().filter_map(|(reference, said)| {
        let (_, digest) = reference.split_once('@')?;
        Some(said.values().map(move |id| (digest, id.as_str())))
    });
    let named: BTreeSet<(&str, &str)> = by_digest.flatten().collect();
    let all = named.into_iter().filter_map(|(digest, id)| {
        let image = profile.images.get(id)?;
        if !wanted(&image.image_build, digest) {
            return None;
        }
        let mut image = image.clone();
        let image_build = std::mem::take(&mut image.image_build);
        let fix = image.fix.take();
        let mut own = vec![];
        for id in BTreeSet::from_iter(image.folders.values()) {
            if !sets.contains_key(id.as_str()) {
                let (id, programs) = profile.programs.get_key_value(id)?;
                sets.insert(id, Set::new(&json(programs)));
            }
            let set = &sets[id.as_str()];
            if *set.id != **id {
                return None;
            }
            own.push(set.clone());
        }
        Some(ReadBack {
            digest: digest.to_owned(),
            entry: Entry::whole(&image, own),
            image_build,
            fix,
        })
    });
    all.collect()
}

fn json(programs: &Programs) -> String {
    serde_json::to_string(programs).unwrap_or_default()
}

/// 80 bits of the SHA-256 sum: whoever may choose a text must not find one with another's id.
pub(super) fn id(text: &str) -> String {
    digest_of(text.as_bytes())["sha256:".len()..][..20].to_owned()
}

/// Programs of a folder; true where one is known to start.
type Programs = BTreeMap<String, bool>;

/// What is taken in of one platform.
struct Platform {
    /// Names of folders, and which of `programs` each has.
    folders: BTreeMap<String, usize>,
    programs: Vec<Programs>,
}

#[derive(Default)]
struct Gathered {
    env_path: Option<Option<String>>,
    path: Vec<String>,
    platforms: Vec<Platform>,
    open: BTreeSet<String>,
    applets: bool,
    lacks_libraries: bool,
}

impl Gathered {
    fn add(&mut self, contents: &Contents) -> Result<(), NotKnown> {
        let lost = |why: String| {
            NotKnown::new(
                Reason::LinksNotFollowed,
                format!("a path of the image cannot be followed: {why}"),
            )
        };
        if contents.partial {
            let why = "not all of the image could be read when it was built";
            return Err(NotKnown::new(Reason::NotRead, why));
        }
        if contents.executables.omitted > 0 || contents.executables.items.len() > MAX_PROGRAMS {
            return Err(NotKnown::new(
                Reason::TooManyPrograms,
                format!("too many programs: the report lists at most {MAX_PROGRAMS}"),
            ));
        }
        if contents.links.omitted > 0 {
            return Err(too_many_links());
        }
        let same = self
            .env_path
            .get_or_insert_with(|| contents.env_path.clone())
            == &contents.env_path;
        if !same || self.platforms.len() == MAX_PLATFORMS {
            return Err(NotKnown::new(
                Reason::PlatformsDiffer,
                format!("its platforms differ in PATH, or are more than {MAX_PLATFORMS}"),
            ));
        }
        let links = Links::new(&contents.links);
        let mut own: BTreeMap<String, Programs> = BTreeMap::new();
        for program in &contents.executables.items {
            let path = links.follow(&program.path).map_err(lost)?;
            let file = program.file.as_deref().unwrap_or(&path);
            // A file of its own that is called sh may be busybox, copied: links lead to another name.
            let name = paths::name(file);
            self.applets |= name.starts_with("busybox") || matches!(name, "sh" | "ash");
            self.lacks_libraries |= matches!(
                program.fault,
                Some(Fault::MissingLibraries | Fault::OldLibraries)
            );
            let programs = own.entry(paths::folder(&path).to_owned()).or_default();
            // What a file's capabilities come to, the container decides; and as whom it runs.
            let depends = match program.fault {
                Some(Fault::Capabilities) => true,
                Some(Fault::NotPermitted) => contents.user.uid != Some(0),
                _ => false,
            };
            if program.runs == Runs::No && !depends {
                // What it lacks may come with a volume there: the guard leaves such containers alone.
                for folder in lacked(program) {
                    own.entry(folder).or_default();
                }
            } else {
                programs.insert(paths::name(&path).to_owned(), program.runs == Runs::Yes);
            }
        }
        if own.keys().map(String::len).sum::<usize>() > MAX_BYTES {
            return Err(too_large());
        }
        let found = names(&own.keys().cloned().collect(), &contents.links, &links);
        let mut found = found.map_err(|unnamed| match unnamed {
            Unnamed::Lost(why) => lost(why),
            Unnamed::TooMany => too_many_links(),
        })?;
        let path = contents.env_path.as_deref().unwrap_or(DEFAULT_PATH);
        let path = path.split(':').filter(|folder| folder.starts_with('/'));
        self.path = path.map(paths::clean).collect();
        if self.path.len() > MAX_FOLDERS {
            let why = format!("its PATH has more than {MAX_FOLDERS} directories");
            return Err(NotKnown::new(Reason::PathTooLong, why));
        }
        // A directory of PATH is looked up by the name that it has there, also behind a link that is open.
        for folder in &self.path {
            let place = links.follow(folder).map_err(lost)?;
            if own.contains_key(&place) {
                found.folders.insert(folder.clone(), place);
            }
        }
        let numbers: HashMap<&String, usize> = own
            .keys()
            .enumerate()
            .map(|(number, folder)| (folder, number))
            .collect();
        self.platforms.push(Platform {
            folders: found
                .folders
                .into_iter()
                .map(|(name, folder)| (name, numbers[&folder]))
                .collect(),
            programs: own.into_values().collect(),
        });
        self.open.extend(found.open);
        Ok(())
    }

    fn finish(self) -> Result<Entry, NotKnown> {
        if self.platforms.is_empty() {
            return Err(NotKnown::new(
                Reason::NoReport,
                "the status has no platforms",
            ));
        }
        let all: BTreeSet<&String> = self
            .platforms
            .iter()
            .flat_map(|platform| platform.folders.keys())
            .collect();
        // Names of the same folder share its set, which is made once.
        let mut made: HashMap<Vec<Option<usize>>, Box<str>> = HashMap::new();
        let mut sets: Vec<Arc<Set>> = vec![];
        let mut folders = BTreeMap::new();
        let mut bytes = self.open.iter().map(String::len).sum::<usize>();
        for name in all {
            let of: Vec<Option<usize>> = self
                .platforms
                .iter()
                .map(|platform| platform.folders.get(name).copied())
                .collect();
            let set = match made.get(&of) {
                Some(set) => set.clone(),
                None => {
                    let json = json(&self.merged(&of));
                    bytes += json.len();
                    if bytes > MAX_BYTES {
                        return Err(too_large());
                    }
                    let set = Set::new(&json);
                    let id = set.id.clone();
                    made.insert(of, id.clone());
                    // Two folders may hold the same.
                    if sets.iter().all(|known| known.id != id) {
                        sets.push(set);
                    }
                    id
                }
            };
            bytes += name.len() + set.len();
            if bytes > MAX_BYTES {
                return Err(too_large());
            }
            folders.insert(name.clone(), set.into());
        }
        let entry = Entry::whole(
            &ProfileImage {
                path: self.path,
                folders,
                open: self.open.into_iter().collect(),
                applets: self.applets,
                lacks_libraries: self.lacks_libraries,
                ..ProfileImage::default()
            },
            sets,
        );
        match entry.json.len() > MAX_BYTES {
            true => Err(too_large()),
            false => Ok(entry),
        }
    }

    /// The programs of one folder on all platforms; true where one is known to start on each.
    fn merged(&self, of: &[Option<usize>]) -> Programs {
        let mut starts: BTreeMap<&String, usize> = BTreeMap::new();
        for (platform, number) in self.platforms.iter().zip(of) {
            for (name, certain) in number.iter().flat_map(|number| &platform.programs[*number]) {
                *starts.entry(name).or_default() += usize::from(*certain);
            }
        }
        starts
            .into_iter()
            .map(|(name, starts)| (name.clone(), starts == self.platforms.len()))
            .collect()
    }
}

fn too_large() -> NotKnown {
    NotKnown::new(
        Reason::TooLarge,
        format!(
            "too large: the paths of its programs take more than the {} KiB that the probe guard \
                keeps of one image",
            MAX_BYTES >> 10
        ),
    )
}

fn too_many_links() -> NotKnown {
    NotKnown::new(
        Reason::TooManyLinks,
        "too many links to directories: the programs have more names than the probe guard keeps",
    )
}

/// Directories from which a program that does not start may get what it lacks.
fn lacked(program: &Executable) -> Vec<String> {
    let interpreter = program.interpreter.as_deref().map(paths::folder);
    let libraries: &[&str] = match program.kind {
        ProgramKind::Dynamic => &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"],
        _ => &[],
    };
    let all = interpreter.into_iter().chain(libraries.iter().copied());
    all.map(str::to_owned).collect()
}
