//! Folders of repositories that count for a source: at each new revision it is asked once what its tree is.

use std::collections::{BTreeMap, VecDeque};

use crate::outbox::Sight;
use crate::wire::{Outcome, Watched, What};

/// Trees that are asked for at a time.
const AT_ONCE: usize = 4;

/// What is known of them, by the id of their source.
#[derive(Default)]
pub(crate) struct Folders {
    known: BTreeMap<String, Folder>,
    /// Sources with a new revision, each once.
    waiting: VecDeque<(What, Sight)>,
    running: usize,
}

struct Folder {
    path: String,
    /// The last revision of which it was asked, and its tree.
    last: Option<(String, Option<String>)>,
}

impl Folders {
    /// Forgets what is not watched any more, or stands for something else.
    pub(crate) fn keep(&mut self, sources: &[Watched], fresh: &[String]) {
        let mut before = std::mem::take(&mut self.known);
        for source in sources {
            let Some(path) = &source.folder else { continue };
            let known = before
                .remove(&source.id)
                .filter(|known| known.path == *path);
            let last = known.and_then(|known| known.last);
            let path = path.clone();
            let last = last.filter(|_| !fresh.contains(&source.id));
            self.known.insert(source.id.clone(), Folder { path, last });
        }
        let known = &self.known;
        self.waiting
            .retain(|(_, sight)| known.contains_key(&sight.seen.id));
    }

    /// What was seen, with its tree where that is known or does not count; none where it is to be asked for first.
    pub(crate) fn look(&mut self, what: &What, mut sight: Sight) -> Option<Sight> {
        let seen = &mut sight.seen;
        let (Some(folder), Outcome::Found { revision }) = (self.known.get(&seen.id), &seen.outcome)
        else {
            return Some(sight);
        };
        if let Some((last, tree)) = &folder.last
            && last == revision
        {
            seen.tree.clone_from(tree);
            return Some(sight);
        }
        self.waiting.retain(|(_, waits)| waits.seen.id != seen.id);
        self.waiting.push_back((what.clone(), sight));
        None
    }

    /// The next that is to be asked for, and its folder. To be followed by [`Self::found`].
    pub(crate) fn next(&mut self) -> Option<(What, Sight, String)> {
        if self.running >= AT_ONCE {
            return None;
        }
        let (what, sight) = self.waiting.pop_front()?;
        let path = self.known.get(&sight.seen.id)?.path.clone();
        self.running += 1;
        Some((what, sight, path))
    }

    /// What was seen, with the tree that was found; none where it is not watched any more.
    pub(crate) fn found(&mut self, mut sight: Sight, tree: Option<String>) -> Option<Sight> {
        self.running = self.running.saturating_sub(1);
        let seen = &mut sight.seen;
        let folder = self.known.get_mut(&seen.id)?;
        if let Outcome::Found { revision } = &seen.outcome {
            folder.last = Some((revision.clone(), tree.clone()));
        }
        seen.tree = tree;
        Some(sight)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::Seen;

    fn what() -> What {
        What::Git {
            url: "https://h/x".into(),
            reference: None,
            secret: None,
        }
    }

    fn source(id: &str, folder: Option<&str>) -> Watched {
        Watched {
            id: id.into(),
            interval_seconds: 60,
            what: what(),
            folder: folder.map(str::to_owned),
        }
    }

    fn seen(id: &str, revision: &str) -> Sight {
        Sight {
            seen: Seen {
                id: id.into(),
                wanted: false,
                age_seconds: 0,
                begun_millis: None,
                outcome: Outcome::Found {
                    revision: revision.into(),
                },
                tree: None,
            },
            begun: Duration::from_secs(1),
            ended: Duration::from_secs(2),
        }
    }

    #[test]
    fn the_tree_of_each_revision_is_asked_for_once_and_told_with_it() {
        let mut folders = Folders::default();
        folders.keep(&[source("a", Some("cmd")), source("b", None)], &[]);
        assert_eq!(folders.look(&what(), seen("b", "1")), Some(seen("b", "1")));
        assert_eq!(folders.look(&what(), seen("a", "1")), None);
        // Seen again before it was asked for: once.
        assert_eq!(folders.look(&what(), seen("a", "1")), None);
        let (_, asked, path) = folders.next().unwrap();
        assert_eq!(path, "cmd");
        assert!(folders.next().is_none());
        let mut with_tree = seen("a", "1");
        with_tree.seen.tree = Some("t".into());
        assert_eq!(
            folders.found(asked, Some("t".into())),
            Some(with_tree.clone())
        );
        assert_eq!(folders.look(&what(), seen("a", "1")), Some(with_tree));
        assert_eq!(folders.look(&what(), seen("a", "2")), None);
    }

    #[test]
    fn another_folder_is_asked_for_anew_and_one_that_went_is_told_no_more() {
        let mut folders = Folders::default();
        folders.keep(&[source("a", Some("cmd"))], &[]);
        assert_eq!(folders.look(&what(), seen("a", "1")), None);
        let (_, asked, _) = folders.next().unwrap();
        folders.keep(&[source("a", Some("lib"))], &[]);
        assert_eq!(folders.look(&what(), seen("a", "1")), None);
        folders.keep(&[], &[]);
        assert!(folders.next().is_none());
        assert_eq!(folders.found(asked, None), None);
    }

    #[test]
    fn a_few_are_asked_for_at_a_time() {
        let mut folders = Folders::default();
        let ids: Vec<String> = (0..AT_ONCE + 2).map(|at| at.to_string()).collect();
        let sources: Vec<Watched> = ids.iter().map(|id| source(id, Some("a"))).collect();
        folders.keep(&sources, &[]);
        for id in &ids {
            assert_eq!(folders.look(&what(), seen(id, "1")), None);
        }
        let first = std::iter::from_fn(|| folders.next()).collect::<Vec<_>>();
        assert_eq!(first.len(), AT_ONCE);
        let _ = folders.found(first[0].1.clone(), None);
        assert!(folders.next().is_some() && folders.next().is_none());
    }
}
