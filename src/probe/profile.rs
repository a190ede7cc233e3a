//! From what images hold to `ProbeProfile` objects: few, large, and the same for the same images.

use std::collections::{BTreeMap, HashMap};

use super::paths::{self, Links};
use crate::api::{ProbeProfileSpec, ProfileImage};
use crate::image::{
    Contents, DEFAULT_PATH, Executable, Fault, ProgramKind, Repository, Runs, digest_of,
};

/// Bytes of one object, about: the API server takes up to 1.5 MB, and an object is split before that.
const SHARD_BYTES: usize = 700_000;
/// Objects at most: each costs time at every admission.
const MAX_SHARDS: usize = 32;

/// One image of an ImageBuild.
#[derive(Clone, Debug, Default)]
pub struct Profiled {
    /// `namespace/name` of the ImageBuild.
    pub image_build: String,
    /// The repository, as written in `spec.output.image`.
    pub repository: String,
    /// `:tag` and `@sha256:…` each.
    pub versions: Vec<String>,
    /// Reports, one a platform.
    pub contents: Vec<Contents>,
    /// `@sha256:…` of earlier builds: what is known of them already stays.
    pub earlier: Vec<String>,
    /// The probe that its `healthCheck` declares, as text.
    pub fix: Option<String>,
}

/// The profiles of all images, by name. `old`: those that there are now. Their number grows where they
/// become too large, and never shrinks, so that one image stays in one place.
pub fn profiles(
    images: &[Profiled],
    old: &BTreeMap<String, ProbeProfileSpec>,
) -> BTreeMap<String, ProbeProfileSpec> {
    let known: HashMap<&str, &ProbeProfileSpec> = old
        .values()
        .flat_map(|profile| {
            let names = profile.references.keys();
            names.map(move |reference| (reference.as_str(), profile))
        })
        .collect();
    let mut count = shards(old.keys().map(String::as_str)).clamp(1, MAX_SHARDS);
    loop {
        let mut all: BTreeMap<String, ProbeProfileSpec> = BTreeMap::new();
        for image in images {
            let shard = shard_of(&image.repository, count);
            let profile = all.entry(shard).or_default();
            add(profile, image);
            keep(profile, image, &known);
        }
        let largest = all.values().map(bytes).max().unwrap_or(0);
        if largest <= SHARD_BYTES || count >= MAX_SHARDS {
            return all;
        }
        count *= 2;
    }
}

/// How many shards there are, by the names of the objects.
fn shards<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names
        .filter_map(|name| name.rsplit_once("-of-")?.1.parse().ok())
        .max()
        .unwrap_or(1)
}

fn shard_of(repository: &str, count: usize) -> String {
    let hash = u16::from_str_radix(&hex(repository)[..4], 16).unwrap_or(0);
    let number = usize::from(hash) % count;
    format!("whittle-{number}-of-{count}")
}

fn bytes(profile: &ProbeProfileSpec) -> usize {
    serde_json::to_vec(profile).map_or(0, |json| json.len())
}

fn add(profile: &mut ProbeProfileSpec, image: &Profiled) {
    let Some(found) = programs_of(&image.contents) else {
        return;
    };
    let mut folders = BTreeMap::new();
    for (folder, programs) in found.folders {
        let certain = |starts: usize| starts == image.contents.len();
        let set: BTreeMap<String, bool> = programs
            .into_iter()
            .map(|(name, starts)| (name, certain(starts)))
            .collect();
        let id = short(&serde_json::to_string(&set).unwrap_or_default());
        profile.programs.insert(id.clone(), set);
        folders.insert(folder, id);
    }
    let entry = ProfileImage {
        image_build: image.image_build.clone(),
        path: found.path,
        folders,
        applets: found.applets,
        lacks_libraries: found.lacks_libraries,
        fix: image.fix.clone(),
    };
    let id = short(&serde_json::to_string(&entry).unwrap_or_default());
    profile.images.insert(id.clone(), entry);
    for name in names_of(&image.repository) {
        for version in &image.versions {
            profile
                .references
                .insert(format!("{name}{version}"), id.clone());
        }
    }
}

/// Keeps what is known of earlier builds of an image.
fn keep(
    profile: &mut ProbeProfileSpec,
    image: &Profiled,
    known: &HashMap<&str, &ProbeProfileSpec>,
) {
    for name in names_of(&image.repository) {
        for version in &image.earlier {
            let reference = format!("{name}{version}");
            let Some(old) = known.get(reference.as_str()) else {
                continue;
            };
            let Some((id, entry)) = old
                .references
                .get_key_value(&reference)
                .and_then(|(_, id)| old.images.get_key_value(id))
            else {
                continue;
            };
            for set in entry.folders.values() {
                if let Some(programs) = old.programs.get(set) {
                    profile.programs.insert(set.clone(), programs.clone());
                }
            }
            profile.images.insert(id.clone(), entry.clone());
            profile
                .references
                .entry(reference)
                .or_insert_with(|| id.clone());
        }
    }
}

fn short(text: &str) -> String {
    hex(text)[..12].to_owned()
}

/// The SHA-256 sum in hexadecimal digits.
fn hex(text: &str) -> String {
    digest_of(text.as_bytes())["sha256:".len()..].to_owned()
}

/// The ways in which Pods may name a repository: those of Docker's registry have several.
fn names_of(repository: &str) -> Vec<String> {
    let Repository { host, path } = Repository::parse(repository);
    if host != "docker.io" {
        return vec![repository.to_owned()];
    }
    let mut names = vec![
        format!("docker.io/{path}"),
        format!("index.docker.io/{path}"),
        path.clone(),
    ];
    if let Some(short) = path.strip_prefix("library/") {
        names.push(short.to_owned());
        names.push(format!("docker.io/{short}"));
    }
    names
}

struct Programs {
    path: Vec<String>,
    /// By folder and name: the number of platforms where it is known to start.
    folders: BTreeMap<String, BTreeMap<String, usize>>,
    applets: bool,
    lacks_libraries: bool,
}

/// The programs that may start on some platform; none where not all of them are known, so that nothing is
/// refused for what a report leaves out.
fn programs_of(contents: &[Contents]) -> Option<Programs> {
    let first = contents.first()?;
    let mut folders: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    let (mut applets, mut lacks_libraries) = (false, false);
    for contents in contents {
        if contents.partial
            || contents.executables.omitted > 0
            || contents.links.omitted > 0
            || contents.env_path != first.env_path
        {
            return None;
        }
        let links = Links::new(&contents.links);
        let mut own: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for program in &contents.executables.items {
            let path = links.follow(&program.path).ok()?;
            let file = program.file.as_deref().unwrap_or(&path);
            // A file of its own that is called sh may be busybox, copied: links lead to another name.
            let name = paths::name(file);
            applets |= name.starts_with("busybox") || matches!(name, "sh" | "ash");
            lacks_libraries |= matches!(
                program.fault,
                Some(Fault::MissingLibraries | Fault::OldLibraries)
            );
            own.entry(paths::folder(&path).to_owned()).or_default();
            if program.runs == Runs::No {
                // What it lacks may come with a volume there: the guard leaves such containers alone.
                for folder in lacked(program) {
                    own.entry(folder).or_default();
                }
            } else {
                let programs = own.entry(paths::folder(&path).to_owned()).or_default();
                let starts = usize::from(program.runs == Runs::Yes);
                programs.insert(paths::name(&path).to_owned(), starts);
            }
        }
        // Links to folders, and to what lies above them, lead to the same programs.
        for link in &contents.links.items {
            let target = links.follow(&link.folder).ok()?;
            let below: Vec<(String, BTreeMap<String, usize>)> = own
                .iter()
                .filter(|(folder, _)| paths::within(folder, &target))
                .map(|(folder, programs)| {
                    let rest = if target == "/" {
                        folder.as_str()
                    } else {
                        &folder[target.len()..]
                    };
                    let alias = format!("{}{}", link.path, rest.trim_end_matches('/'));
                    (alias, programs.clone())
                })
                .collect();
            for (alias, programs) in below {
                own.entry(alias).or_default().extend(programs);
            }
            // A link to a folder without programs: what a volume puts there is found by both names.
            own.entry(link.path.clone()).or_default();
        }
        for (folder, programs) in own {
            let all = folders.entry(folder).or_default();
            for (name, starts) in programs {
                *all.entry(name).or_default() += starts;
            }
        }
    }
    let path = first.env_path.as_deref().unwrap_or(DEFAULT_PATH);
    Some(Programs {
        path: path
            .split(':')
            .filter(|folder| folder.starts_with('/'))
            .map(paths::clean)
            .collect(),
        folders,
        applets,
        lacks_libraries,
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::fixtures;

    fn image(name: &str, contents: Contents) -> Profiled {
        Profiled {
            image_build: format!("team/{name}"),
            repository: format!("registry.example.com/team/{name}"),
            versions: vec![":1".into(), "@sha256:aa".into()],
            contents: vec![contents],
            earlier: vec![],
            fix: None,
        }
    }

    fn none() -> BTreeMap<String, ProbeProfileSpec> {
        BTreeMap::new()
    }

    fn has(profile: &ProbeProfileSpec, reference: &str, path: &str) -> bool {
        let image = &profile.images[&profile.references[reference]];
        image
            .folders
            .get(paths::folder(path))
            .is_some_and(|set| profile.programs[set].contains_key(paths::name(path)))
    }

    #[test]
    fn every_reference_leads_to_the_programs_of_its_image() {
        let all = profiles(&[image("app", fixtures::debian())], &none());
        let profile = &all["whittle-0-of-1"];
        for reference in [
            "registry.example.com/team/app:1",
            "registry.example.com/team/app@sha256:aa",
        ] {
            for (path, expected) in [
                ("/usr/bin/sh", true),
                ("/bin/sh", true),
                ("/app", true),
                ("/usr/bin/curl", false),
                ("/sbin/app", false),
            ] {
                assert_eq!(has(profile, reference, path), expected, "{path}");
            }
        }
    }

    #[test]
    fn images_with_the_same_base_share_its_programs() {
        let one = profiles(&[image("a", fixtures::debian())], &none());
        let two = profiles(
            &[
                image("a", fixtures::debian()),
                image("b", fixtures::debian()),
            ],
            &none(),
        );
        assert_eq!(
            one["whittle-0-of-1"].programs,
            two["whittle-0-of-1"].programs
        );
        assert_eq!(two["whittle-0-of-1"].images.len(), 2);
    }

    #[test]
    fn what_cannot_start_is_not_among_the_programs_and_what_is_not_known_is() {
        let contents = fixtures::contents(&["/bin/a ! needs libz", "/bin/b ? too large"]);
        let all = profiles(&[image("app", contents)], &none());
        let reference = "registry.example.com/team/app:1";
        assert!(!has(&all["whittle-0-of-1"], reference, "/bin/a"));
        let profile = &all["whittle-0-of-1"];
        assert!(profile.images[&profile.references[reference]].lacks_libraries);
        assert!(has(&all["whittle-0-of-1"], reference, "/bin/b"));
    }

    #[test]
    fn a_shell_that_may_be_busybox_may_have_applets() {
        for (programs, applets) in [
            (&["/bin/sh"][..], true),
            (&["/bin/busybox"], true),
            (&["/bin/sh -> /bin/dash", "/bin/dash"], false),
            (&["/bin/bash"], false),
        ] {
            let all = profiles(&[image("app", fixtures::contents(programs))], &none());
            let profile = &all["whittle-0-of-1"];
            let image = &profile.images[&profile.references["registry.example.com/team/app:1"]];
            assert_eq!(image.applets, applets, "{programs:?}");
        }
    }

    #[test]
    fn where_a_program_may_get_what_it_lacks_is_known() {
        let mut contents = fixtures::contents(&["/check # /opt/shell/sh"]);
        contents.executables.items[0].runs = Runs::No;
        let all = profiles(&[image("app", contents)], &none());
        let profile = &all["whittle-0-of-1"];
        let image = &profile.images[&profile.references["registry.example.com/team/app:1"]];
        assert!(image.folders.contains_key("/opt/shell"));
        assert!(!has(profile, "registry.example.com/team/app:1", "/check"));
    }

    #[test]
    fn an_image_that_was_not_read_as_a_whole_is_left_out() {
        let mut contents = fixtures::scratch();
        contents.executables.omitted = 1;
        let all = profiles(&[image("app", contents)], &none());
        assert!(all["whittle-0-of-1"].references.is_empty());
    }

    #[test]
    fn a_program_of_one_platform_counts() {
        let mut both = image("app", fixtures::scratch());
        both.contents.push(fixtures::contents(&["/app", "/other"]));
        let all = profiles(&[both], &none());
        assert!(has(
            &all["whittle-0-of-1"],
            "registry.example.com/team/app:1",
            "/other"
        ));
    }

    #[test]
    fn images_of_dockers_registry_are_known_by_all_their_names() {
        let mut tool = image("tool", fixtures::scratch());
        tool.repository = "tool".into();
        let all = profiles(&[tool], &none());
        for name in [
            "tool:1",
            "library/tool:1",
            "docker.io/library/tool:1",
            "docker.io/tool:1",
        ] {
            assert!(has(&all["whittle-0-of-1"], name, "/app"), "{name}");
        }
    }

    #[test]
    fn thousands_of_images_take_few_objects_of_a_bounded_size() {
        let images: Vec<Profiled> = (0..4000)
            .map(|number| {
                let mut image = image(&format!("app-{number}"), fixtures::debian());
                image.versions = vec![":latest".into(), format!("@sha256:{number:064}")];
                image
            })
            .collect();
        let all = profiles(&images, &none());
        assert!((2..=8).contains(&all.len()), "{}", all.len());
        assert!(all.values().map(bytes).max().unwrap() <= SHARD_BYTES);
        assert_eq!(shards(all.keys().map(String::as_str)), all.len());
        // The number stays where it is, also when most images are gone.
        let few = profiles(&images[..10], &all);
        assert!(few.keys().all(|name| all.contains_key(name)));
    }

    #[test]
    fn an_earlier_digest_keeps_what_was_known_of_it_while_the_tag_moves_on() {
        let old = profiles(&[image("app", fixtures::debian())], &none());
        let mut next = image("app", fixtures::scratch());
        next.versions = vec![":1".into(), "@sha256:bb".into()];
        next.earlier = vec!["@sha256:aa".into(), "@sha256:00".into()];
        let all = profiles(&[next], &old);
        let profile = &all["whittle-0-of-1"];
        let name = |version: &str| format!("registry.example.com/team/app{version}");
        assert!(has(profile, &name("@sha256:aa"), "/usr/bin/sh"));
        assert!(!has(profile, &name(":1"), "/usr/bin/sh"));
        assert!(!has(profile, &name("@sha256:bb"), "/usr/bin/sh"));
        assert_eq!(profile.references.len(), 3);
    }
}
