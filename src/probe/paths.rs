//! Paths inside an image: made plain, with the links of its report followed.

use std::cell::Cell;
use std::collections::HashMap;

use whittle_image::{FolderLink, Listed};

/// Links that are followed for one path, as Linux does (MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// Bytes of paths that are compared for one report: thousands of programs take a hundredth of it, and what is
/// made to take long ends here.
const WORK: usize = 16 << 20;

/// Why a path cannot be told from a report.
pub(super) const DOTS: &str = "it contains .., which is unsupported";

/// Without doubled slashes, `.` and a slash at the end; absolute. `..` stays.
pub(super) fn clean(path: &str) -> String {
    let mut text = String::with_capacity(path.len() + 1);
    for part in parts(path) {
        text.push('/');
        text.push_str(part);
    }
    if text.is_empty() {
        text.push('/');
    }
    text
}

fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

/// True where `path` is `folder` or lies below it; both plain.
pub(super) fn within(path: &str, folder: &str) -> bool {
    folder == "/"
        || path == folder
        || path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// The folder of a plain path.
pub(super) fn folder(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((folder, _)) => folder,
    }
}

/// The last part of a path.
pub(super) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Folder links of a report.
pub(super) struct Links<'a> {
    known: HashMap<&'a str, &'a str>,
    /// The last that is listed, where some are left out: its depth and its path.
    last: Option<(usize, &'a str)>,
    omitted: bool,
    /// Bytes of the longest link: no longer path is one.
    longest: usize,
    work: Cell<usize>,
}

impl<'a> Links<'a> {
    pub(super) fn new(links: &'a Listed<FolderLink>) -> Self {
        Self {
            known: links
                .items
                .iter()
                .map(|link| (link.path.as_str(), link.folder.as_str()))
                .collect(),
            last: links.items.last().map(|link| order(&link.path)),
            omitted: links.omitted > 0,
            longest: links
                .items
                .iter()
                .map(|link| link.path.len())
                .max()
                .unwrap_or(0),
            work: Cell::new(0),
        }
    }

    fn takes(&self, bytes: usize) -> Result<(), String> {
        self.work.set(self.work.get().saturating_add(bytes));
        match self.work.get() > WORK {
            true => Err("too many links to follow".into()),
            false => Ok(()),
        }
    }

    /// The same place without links in its folders; the last part is not followed where it is a file.
    /// Fails with the reason where `..`, a loop of links or too much work keep it from being told.
    pub(super) fn follow(&self, path: &str) -> Result<String, String> {
        self.takes(path.len())?;
        let mut open: Vec<&str> = parts(path).rev().collect();
        let mut at = String::new();
        let mut steps = 0;
        while let Some(part) = open.pop() {
            if part == ".." {
                return Err(DOTS.into());
            }
            at.push('/');
            at.push_str(part);
            if at.len() > self.longest {
                continue;
            }
            self.takes(at.len())?;
            if let Some(target) = self.known.get(at.as_str()) {
                steps += 1;
                if steps > MAX_LINKS {
                    return Err("symbolic link loop".into());
                }
                self.takes(target.len())?;
                open.extend(parts(target).rev());
                at.clear();
            }
        }
        if at.is_empty() {
            at.push('/');
        }
        Ok(at)
    }

    /// True where a link that the report leaves out may stand in the folders of a path: it lists them
    /// from the root outwards.
    pub(super) fn may_lead_elsewhere(&self, path: &str) -> bool {
        let mut at = folder(path);
        while self.omitted && at != "/" {
            if self.last.is_none_or(|last| order(at) > last) {
                return true;
            }
            at = folder(at);
        }
        false
    }
}

fn order(path: &str) -> (usize, &str) {
    (path.matches('/').count(), path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::folder_links as links;

    #[test]
    fn links_in_a_path_are_followed() {
        let listed = links(&[("/bin", "/usr/bin"), ("/a", "/b"), ("/b/c", "/bin")], 0);
        let links = Links::new(&listed);
        for (path, place) in [
            ("/bin/sh", "/usr/bin/sh"),
            ("//bin/./sh/", "/usr/bin/sh"),
            ("/a/c/x", "/usr/bin/x"),
            ("/", "/"),
            ("/opt/bin/sh", "/opt/bin/sh"),
        ] {
            assert_eq!(links.follow(path).as_deref(), Ok(place), "{path}");
        }
        assert!(links.follow("/bin/../sh").is_err());
    }

    #[test]
    fn a_circle_of_links_ends() {
        let listed = links(&[("/a", "/b"), ("/b", "/a")], 0);
        assert!(Links::new(&listed).follow("/a/x").is_err());
    }

    #[test]
    fn links_that_take_too_much_work_end_with_the_reason() {
        let deep = "/d".repeat(1000);
        let pairs: Vec<(String, String)> = (0..40)
            .map(|number| (format!("{deep}{number}"), format!("{deep}{}", number + 1)))
            .collect();
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        let listed = links(&pairs, 0);
        let links = Links::new(&listed);
        let begun = std::time::Instant::now();
        let told: Vec<_> = (0..1000)
            .map(|_| links.follow(&format!("{deep}0/x")))
            .collect();
        let why = told.into_iter().find_map(Result::err).unwrap();
        assert!(why.contains("too many links"), "{why}");
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_link_that_is_left_out_leaves_doubt_only_below_those_that_are_listed() {
        let listed = links(&[("/bin", "/usr/bin"), ("/usr/m", "/x")], 3);
        let links = Links::new(&listed);
        assert!(!links.may_lead_elsewhere("/usr/bin/sh"));
        assert!(links.may_lead_elsewhere("/usr/sbin/sh"));
        assert!(links.may_lead_elsewhere("/usr/bin/deep/sh"));
        assert!(!links.may_lead_elsewhere("/app"));
    }
}
