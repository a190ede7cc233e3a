//! By which names the folders of an image are reached: links to folders give them more, and some links give
//! them names without end.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{self, Links};
use whittle_image::{FolderLink, Listed};

/// Links of a report: no report lists more.
pub(super) const MAX_LINKS: usize = 100;
/// Names of all folders of an image.
const MAX_NAMES: usize = 4096;
/// Bytes of all of them.
const MAX_BYTES: usize = 512 << 10;
/// Bytes of a path that Linux takes (PATH_MAX): none that is longer leads to a program.
const MAX_PATH: usize = 4096;

/// The names of an image's folders.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Each name, and the folder that it leads to.
    pub(super) folders: BTreeMap<String, String>,
    /// Links below which not every name is listed: those that lead to a place above themselves, or round in a
    /// circle, and those to places without programs.
    pub(super) open: BTreeSet<String>,
}

/// Why the names are not known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unnamed {
    /// A link cannot be followed: why.
    Lost(String),
    /// Links give the folders more names than are kept.
    TooMany,
}

/// A link, and where it leads in the end.
struct Link<'a> {
    path: &'a str,
    target: String,
}

/// All names of these folders. Each link is resolved once; a name through several links is found from the name
/// that its rest has. Links by which a walk comes back to themselves are not walked, and nor are those to
/// nothing: their names are `open`.
pub(super) fn names(
    folders: &BTreeSet<String>,
    listed: &Listed<FolderLink>,
    links: &Links<'_>,
) -> Result<Names, Unnamed> {
    if listed.items.len() > MAX_LINKS {
        return Err(Unnamed::TooMany);
    }
    let mut all: Vec<Link<'_>> = Vec::new();
    for link in &listed.items {
        let target = links.follow(&link.folder).map_err(Unnamed::Lost)?;
        // One below another link is never come to: what lies there has its own path.
        let above = paths::folder(&link.path);
        if links.follow(above).map_err(Unnamed::Lost)? == above {
            let path = link.path.as_str();
            all.push(Link { path, target });
        }
    }
    let walked = walked(folders, &all);
    let mut names = Names::default();
    let mut found: Vec<(String, Option<String>)> = folders
        .iter()
        .map(|folder| (folder.clone(), Some(folder.clone())))
        .collect();
    let open = all.iter().zip(&walked).filter(|(_, walked)| !**walked);
    found.extend(open.map(|(link, _)| (link.path.to_owned(), None)));
    let mut bytes = 0;
    while let Some((name, folder)) = found.pop() {
        let known = match &folder {
            Some(_) => names.folders.contains_key(&name),
            None => names.open.contains(&name),
        };
        if known {
            continue;
        }
        bytes += name.len();
        if names.folders.len() + names.open.len() >= MAX_NAMES || bytes > MAX_BYTES {
            return Err(Unnamed::TooMany);
        }
        for (link, _) in all.iter().zip(&walked).filter(|(_, walked)| **walked) {
            if paths::within(&name, &link.target) {
                let rest = name[link.target.len()..].trim_end_matches('/');
                if link.path.len() + rest.len() < MAX_PATH {
                    found.push((format!("{}{rest}", link.path), folder.clone()));
                }
            }
        }
        // A stack that outgrows what is kept would only come to the same end.
        if found.len() > MAX_NAMES * 2 {
            return Err(Unnamed::TooMany);
        }
        match folder {
            Some(folder) => drop(names.folders.insert(name, folder)),
            None => drop(names.open.insert(name)),
        }
    }
    Ok(names)
}

/// Which links are walked: those that lead to programs, or to links, and by which no walk comes back to them.
fn walked(folders: &BTreeSet<String>, all: &[Link<'_>]) -> Vec<bool> {
    let mut reach: Vec<u128> = all
        .iter()
        .map(|from| {
            let met = all.iter().enumerate();
            met.filter(|(_, to)| paths::within(to.path, &from.target))
                .fold(0, |met, (number, _)| met | 1 << number)
        })
        .collect();
    let leads: Vec<bool> = all
        .iter()
        .zip(&reach)
        .map(|(link, met)| {
            *met != 0
                || folders
                    .iter()
                    .any(|folder| paths::within(folder, &link.target))
        })
        .collect();
    for by in 0..all.len() {
        for from in 0..all.len() {
            if reach[from] & 1 << by != 0 {
                reach[from] |= reach[by];
            }
        }
    }
    let circles = reach
        .iter()
        .enumerate()
        .map(|(number, met)| met & 1 << number != 0);
    leads
        .into_iter()
        .zip(circles)
        .map(|(leads, circle)| leads && !circle)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::folder_links;

    fn of(folders: &[&str], pairs: &[(&str, &str)]) -> Result<Names, Unnamed> {
        let listed = folder_links(pairs, 0);
        let folders = folders.iter().map(|folder| (*folder).to_owned()).collect();
        names(&folders, &listed, &Links::new(&listed))
    }

    fn listed(names: &Names) -> Vec<&str> {
        names.folders.keys().map(String::as_str).collect()
    }

    fn open(names: &Names) -> Vec<&str> {
        names.open.iter().map(String::as_str).collect()
    }

    #[test]
    fn a_name_through_several_links_is_found() {
        let all = of(
            &["/usr/bin", "/opt/v2/bin"],
            &[
                ("/bin", "/usr/bin"),
                ("/opt/now", "/opt/v2"),
                ("/tools", "/opt"),
                ("/usr/bin/own", "/opt/now/bin"),
            ],
        )
        .unwrap();
        assert_eq!(
            listed(&all),
            [
                "/bin",
                "/bin/own",
                "/opt/now/bin",
                "/opt/v2/bin",
                "/tools/now/bin",
                "/tools/v2/bin",
                "/usr/bin",
                "/usr/bin/own"
            ]
        );
        assert_eq!(open(&all), [""; 0]);
        assert_eq!(all.folders["/tools/now/bin"], "/opt/v2/bin");
    }

    #[test]
    fn a_link_to_what_lies_above_itself_is_open_under_each_of_its_names() {
        let all = of(
            &["/usr/bin"],
            &[("/bin", "/usr/bin"), ("/usr/bin/X11", "/usr/bin")],
        )
        .unwrap();
        assert_eq!(listed(&all), ["/bin", "/usr/bin"]);
        assert_eq!(open(&all), ["/bin/X11", "/usr/bin/X11"]);
    }

    #[test]
    fn links_to_the_root_multiply_nothing() {
        let pairs: Vec<(String, &str)> =
            (0..40).map(|number| (format!("/l{number}"), "/")).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (a.as_str(), *b)).collect();
        let all = of(&["/", "/bin"], &pairs).unwrap();
        assert_eq!(listed(&all), ["/", "/bin"]);
        assert_eq!(all.open.len(), 40);
    }

    #[test]
    fn two_links_that_lead_into_each_other_are_open() {
        let all = of(&["/a", "/b"], &[("/a/x", "/b"), ("/b/y", "/a")]).unwrap();
        assert_eq!(listed(&all), ["/a", "/b"]);
        assert_eq!(open(&all), ["/a/x", "/b/y"]);
    }

    #[test]
    fn a_ladder_of_links_with_two_to_the_fortieth_names_is_too_many() {
        let mut pairs = vec![];
        for rung in 0..40 {
            for side in ["x", "y"] {
                pairs.push((format!("/d{rung}/{side}"), format!("/d{}", rung + 1)));
            }
        }
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        assert_eq!(of(&["/d40"], &pairs), Err(Unnamed::TooMany));
    }

    #[test]
    fn a_link_to_a_place_without_programs_is_open() {
        let all = of(&["/bin"], &[("/var/run", "/run")]).unwrap();
        assert_eq!((listed(&all), open(&all)), (vec!["/bin"], vec!["/var/run"]));
    }
}
