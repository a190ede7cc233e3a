//! What of a repository is looked for, and which of its refs that is.

use crate::versions::version;
use crate::{Error, Kind, Range};

/// What of a repository is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What the remote's HEAD points to.
    Head,
    /// A branch.
    Branch(String),
    /// A tag.
    Tag(String),
    /// A commit: it stays what it is, and nobody is asked.
    Commit(String),
    /// The tag with the newest version in a range.
    Versions(Range),
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Head => f.write_str("HEAD"),
            Self::Branch(name) => write!(f, "branch \"{name}\""),
            Self::Tag(name) => write!(f, "tag \"{name}\""),
            Self::Commit(commit) => write!(f, "commit {commit}"),
            Self::Versions(range) => write!(f, "tag in the range \"{range}\""),
        }
    }
}

/// One ref of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ref {
    /// Its whole name.
    pub name: String,
    /// The object that it names.
    pub object: String,
    /// Of an annotated tag, the commit behind it.
    pub peeled: Option<String>,
    /// The ref that it stands for, where it is HEAD.
    pub target: Option<String>,
}

/// The revision that `wanted` stands for among `refs`, as `status.revision` names it.
pub fn resolve<'a>(
    wanted: &Wanted,
    refs: impl IntoIterator<Item = &'a Ref>,
) -> Result<String, Error> {
    let mut search = Search::new(wanted);
    refs.into_iter().for_each(|found| search.see(found));
    search.end()
}

/// A look through refs, one after the other; it keeps the best.
pub(crate) struct Search<'a> {
    wanted: &'a Wanted,
    found: Option<(String, String)>,
    version: Option<semver::Version>,
    versions: usize,
}

impl<'a> Search<'a> {
    pub(crate) fn new(wanted: &'a Wanted) -> Self {
        Self {
            wanted,
            found: None,
            version: None,
            versions: 0,
        }
    }

    /// What the names begin with that are of interest.
    pub(crate) fn prefix(&self) -> String {
        match self.wanted {
            Wanted::Head | Wanted::Commit(_) => "HEAD".into(),
            Wanted::Branch(name) => format!("refs/heads/{name}"),
            Wanted::Tag(name) => format!("refs/tags/{name}"),
            Wanted::Versions(_) => "refs/tags/".into(),
        }
    }

    pub(crate) fn see(&mut self, found: &Ref) {
        let commit = || found.peeled.as_ref().unwrap_or(&found.object).clone();
        let name = match self.wanted {
            Wanted::Commit(_) => return,
            Wanted::Head if found.name == "HEAD" => {
                let target = found.target.as_deref().unwrap_or("HEAD");
                target.trim_start_matches("refs/heads/")
            }
            Wanted::Branch(name) if found.name.strip_prefix("refs/heads/") == Some(name) => name,
            Wanted::Tag(name) if found.name.strip_prefix("refs/tags/") == Some(name) => name,
            Wanted::Versions(range) => {
                let Some(tag) = found.name.strip_prefix("refs/tags/") else {
                    return;
                };
                let Some(version) = version(tag) else { return };
                self.versions += 1;
                // Of two tags for one version (`1.2.3` and `v1.2.3`), the first by name: always the same.
                let better = self.version.as_ref().is_none_or(|best| version > *best);
                if !better || !range.allows(&version) {
                    return;
                }
                self.version = Some(version);
                tag
            }
            _ => return,
        };
        self.found = Some((name.to_owned(), commit()));
    }

    pub(crate) fn end(self) -> Result<String, Error> {
        match (self.found, self.wanted) {
            (Some((name, commit)), _) => Ok(revision(Some(&name), &commit)),
            (None, Wanted::Commit(commit)) => Ok(revision(None, commit)),
            (None, Wanted::Head) => Err(Error::new(
                Kind::NoRef,
                "it is empty, or its HEAD points to a missing branch",
            )),
            (None, wanted @ Wanted::Versions(_)) => {
                let said = match self.versions {
                    0 => format!("no {wanted}: none of its tags is a version like v1.2.3"),
                    1 => format!("no {wanted}: its only tag with a version is outside"),
                    all => {
                        format!("no {wanted}: all its {all} tags with a version are outside")
                    }
                };
                Err(Error::new(Kind::NoMatch, said))
            }
            (None, wanted) => Err(Error::new(Kind::NoRef, format!("{wanted} not found"))),
        }
    }
}

/// `main@sha1:…`, or `sha1:…` of a commit alone.
pub(crate) fn revision(name: Option<&str>, commit: &str) -> String {
    let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
    match name {
        Some(name) => format!("{name}@{algorithm}:{commit}"),
        None => format!("{algorithm}:{commit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, digit: &str) -> Ref {
        Ref {
            name: name.into(),
            object: digit.repeat(40),
            peeled: None,
            target: None,
        }
    }

    fn found(wanted: Wanted, refs: &[Ref]) -> Result<String, Kind> {
        resolve(&wanted, refs).map_err(|error| error.kind)
    }

    #[test]
    fn a_branch_is_found_by_its_whole_name() {
        let refs = [
            at("refs/heads/main-2", "1"),
            at("refs/heads/main", "2"),
            at("refs/tags/main", "3"),
        ];
        let main = format!("main@sha1:{}", "2".repeat(40));
        assert_eq!(found(Wanted::Branch("main".into()), &refs), Ok(main));
        assert_eq!(found(Wanted::Branch("mai".into()), &refs), Err(Kind::NoRef));
    }

    #[test]
    fn an_annotated_tag_is_the_commit_behind_it() {
        let mut tag = at("refs/tags/v1", "1");
        tag.peeled = Some("2".repeat(40));
        let expected = format!("v1@sha1:{}", "2".repeat(40));
        assert_eq!(found(Wanted::Tag("v1".into()), &[tag]), Ok(expected));
    }

    #[test]
    fn head_has_the_name_of_its_branch_where_the_server_says_it() {
        let mut head = at("HEAD", "1");
        let detached = format!("HEAD@sha1:{}", "1".repeat(40));
        assert_eq!(found(Wanted::Head, &[head.clone()]), Ok(detached));
        head.target = Some("refs/heads/trunk".into());
        let trunk = format!("trunk@sha1:{}", "1".repeat(40));
        assert_eq!(found(Wanted::Head, &[head]), Ok(trunk));
        assert_eq!(found(Wanted::Head, &[]), Err(Kind::NoRef));
    }

    #[test]
    fn a_commit_is_its_own_revision_and_may_be_sha256() {
        let commit = "a".repeat(64);
        let expected = format!("sha256:{commit}");
        assert_eq!(found(Wanted::Commit(commit), &[]), Ok(expected));
    }

    #[test]
    fn of_a_range_the_newest_tag_is_taken_and_others_are_no_versions() {
        let refs = [
            at("refs/tags/v1.9.0", "1"),
            at("refs/tags/1.10.0", "2"),
            at("refs/tags/v2.0.0", "3"),
            at("refs/tags/v1.11.0-rc.1", "4"),
            at("refs/tags/latest", "5"),
            at("refs/heads/v1.20.0", "6"),
        ];
        let range = |text: &str| Wanted::Versions(Range::parse(text).unwrap());
        let expected = format!("1.10.0@sha1:{}", "2".repeat(40));
        assert_eq!(found(range("^1.2"), &refs), Ok(expected));
        assert_eq!(found(range(">=3"), &refs), Err(Kind::NoMatch));
    }
}
