//! The tree of a directory at a commit: what a build of that directory is made of, whatever else a commit changes. Fetched
//! are the commit and the trees above the directory, without files and without history.

use crate::pack::{Kind, hex, objects};
use crate::pkt::{DELIMITER, FLUSH, Line, Lines, Talk, data, text};
use crate::refs::refused;
use crate::{AGENT, Error};

/// The most that is read of a server's answers, in bytes.
const LIMIT: usize = 8 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    /// It tells what it is capable of.
    Capabilities,
    /// It did; nothing has been asked.
    Capable,
    /// It tells what comes before the pack.
    Answer,
    Pack,
    End,
}

/// Reads what a server says, in pieces.
pub(crate) struct Fetching<'a> {
    commit: &'a str,
    path: Vec<&'a str>,
    lines: Lines,
    state: State,
    filters: bool,
    pack: Vec<u8>,
}

impl<'a> Fetching<'a> {
    pub(crate) fn new(commit: &'a str, path: &'a str) -> Self {
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        Self {
            commit,
            path: parts.collect(),
            lines: Lines::of("the trees of the commit are", LIMIT),
            state: State::Start,
            filters: false,
            pack: vec![],
        }
    }

    /// The id of what is at the path; none where nothing is.
    pub(crate) fn end(self) -> Result<Option<String>, Error> {
        if self.state != State::End {
            return Err(Error::unreachable("the server's answer is incomplete"));
        }
        let digits = self.commit.len();
        let objects = objects(&self.pack, digits == 64)?;
        let missing =
            || Error::protocol("the server's answer is invalid: an object is missing in its pack");
        let Some((Kind::Commit, commit)) = objects.get(self.commit) else {
            return Err(missing());
        };
        // The first line of a commit.
        let root = commit
            .strip_prefix(b"tree ")
            .and_then(|rest| rest.get(..digits));
        let mut found = String::from_utf8_lossy(root.ok_or_else(missing)?).into_owned();
        let mut is_tree = true;
        for part in self.path {
            if !is_tree {
                return Ok(None);
            }
            let Some((Kind::Tree, tree)) = objects.get(&found) else {
                return Err(missing());
            };
            match entry(tree, part.as_bytes(), digits / 2) {
                Some(entry) => (is_tree, found) = entry,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    fn line(&mut self, line: Line) -> Result<(), Error> {
        let unsupported = |what: &str| {
            Err(Error::protocol(&format!(
                "the server does not support {what}"
            )))
        };
        let line = match (line, self.state) {
            (Line::Data(line), _) => line,
            (Line::Flush, State::Capabilities) if self.filters => {
                self.state = State::Capable;
                return Ok(());
            }
            // Without, it would send all files.
            (Line::Flush, State::Capabilities) => {
                return unsupported("partial fetches (uploadpack.allowFilter)");
            }
            (Line::Flush, State::Pack) => {
                self.state = State::End;
                return Ok(());
            }
            _ => return Ok(()),
        };
        if self.state == State::Pack {
            match line.split_first() {
                Some((1, piece)) => self.pack.extend_from_slice(piece),
                // Progress, for people.
                Some((2, _)) => {}
                _ => return Err(Error::protocol("the server failed to make the pack")),
            }
            return Ok(());
        }
        let text = text(&line);
        if let Some(said) = text.strip_prefix("ERR ") {
            return Err(refused(said));
        }
        match (self.state, text.as_ref()) {
            (State::Start, "version 2") => self.state = State::Capabilities,
            (State::Start, other) if other.starts_with("# service=") => {}
            (State::Start, _) => return unsupported("version 2 of git's protocol"),
            (State::Capabilities, other) => {
                let fetch = other.strip_prefix("fetch=").unwrap_or_default();
                self.filters |= fetch.split(' ').any(|word| word == "filter");
            }
            (_, "packfile") => self.state = State::Pack,
            _ => {}
        }
        Ok(())
    }
}

impl Talk for Fetching<'_> {
    fn take(&mut self, piece: &[u8]) -> Result<bool, Error> {
        self.lines.push(piece)?;
        while !matches!(self.state, State::Capable | State::End)
            && let Some(line) = self.lines.next()?
        {
            self.line(line)?;
        }
        Ok(matches!(self.state, State::Capable | State::End))
    }

    fn question(&mut self) -> Option<String> {
        if self.state != State::Capable {
            return None;
        }
        self.state = State::Answer;
        let mut question = data("command=fetch") + &data(&format!("agent={AGENT}"));
        if self.commit.len() == 64 {
            question += &data("object-format=sha256");
        }
        question += DELIMITER;
        let (want, filter) = (
            format!("want {}", self.commit),
            format!("filter tree:{}", self.path.len()),
        );
        for line in [
            "ofs-delta",
            "no-progress",
            &want,
            "deepen 1",
            &filter,
            "done",
        ] {
            question += &data(line);
        }
        Some(question + FLUSH)
    }
}

/// What a tree has under a name: whether it is a tree itself, and its id.
fn entry(tree: &[u8], name: &[u8], length: usize) -> Option<(bool, String)> {
    let mut rest = tree;
    while !rest.is_empty() {
        let blank = rest.iter().position(|byte| *byte == b' ')?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let id = rest.get(end + 1..end + 1 + length)?;
        if rest.get(blank + 1..end)? == name {
            return Some((rest.starts_with(b"40000 "), hex(id)));
        }
        rest = &rest[end + 1 + length..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::objects;
    use crate::fixtures::{Repository, Server};
    use crate::{Auth, Error, Http, Kind, Remote, folder_tree};

    async fn tree(
        server: &Server,
        kind: &str,
        commit: &str,
        path: &str,
    ) -> Result<Option<String>, Error> {
        let remote = Remote::parse(&format!(
            "http://127.0.0.1:{}/{kind}/team/hello.git",
            server.port
        ))?;
        folder_tree(&Http::new()?, &remote, &Auth::None, commit, path).await
    }

    #[tokio::test]
    async fn the_tree_of_a_directory_is_what_git_says() {
        for format in ["sha1", "sha256"] {
            let repository = Repository::new(format);
            let commit =
                repository.commit(&[("a/b/c.txt", "1"), ("a/d.txt", "2"), ("top.txt", "3")]);
            let server = Server::start(&repository).await;
            for path in ["", ".", "a", "a/", "a/b", "./a//b", "a/b/c.txt", "top.txt"] {
                let trimmed = path.replace("./", "").replace("//", "/");
                let trimmed = trimmed.trim_matches(['/', '.']);
                let expected = repository.git(&["rev-parse", &format!("{commit}:{trimmed}")]);
                assert_eq!(
                    tree(&server, "open", &commit, path).await,
                    Ok(Some(expected)),
                    "{path}"
                );
            }
            for path in ["nope", "a/nope", "a/b/c.txt/d", "top.txt/x"] {
                assert_eq!(
                    tree(&server, "open", &commit, path).await,
                    Ok(None),
                    "{path}"
                );
            }
        }
    }

    #[tokio::test]
    async fn trees_that_git_writes_as_differences_are_read_and_others_changes_leave_them() {
        let repository = Repository::new("sha1");
        let commit = |other: &str| {
            let names = (0..300).flat_map(|n| [format!("a/f{n}"), format!("b/f{n}")]);
            let mut files: Vec<_> = names.map(|name| (name, "same")).collect();
            files.push(("b/x".into(), other));
            let files: Vec<_> = files
                .iter()
                .map(|(name, text)| (name.as_str(), *text))
                .collect();
            repository.commit(&files)
        };
        let (first, second) = (commit("1"), commit("2"));
        repository.git(&["repack", "-adfq"]);
        let index = repository.git(&["rev-parse", "--git-path", "objects/pack"]);
        let index = std::fs::read_dir(repository.folder.path().join("team/hello.git").join(index));
        let mut index = index.unwrap().map(|entry| entry.unwrap().path());
        let index = index
            .find(|path| path.extension().is_some_and(|end| end == "idx"))
            .unwrap();
        let told = repository.git(&["verify-pack", "-v", index.to_str().unwrap()]);
        assert!(told.contains("chain length = 1"), "{told}");
        let server = Server::start(&repository).await;
        let of =
            async |commit: &str, path| tree(&server, "open", commit, path).await.unwrap().unwrap();
        assert_eq!(of(&first, "a").await, of(&second, "a").await);
        assert_ne!(of(&first, "b").await, of(&second, "b").await);
        for (commit, path) in [(&first, "a/f1"), (&first, "b/x"), (&second, "b/x")] {
            let expected = repository.git(&["rev-parse", &format!("{commit}:{path}")]);
            assert_eq!(of(commit, path).await, expected, "{path}");
        }
    }

    #[test]
    fn a_damaged_pack_is_an_error_or_has_other_objects() {
        let repository = Repository::new("sha1");
        let commit = repository.commit(&[("a/b", "1"), ("c/b", "1")]);
        repository.git(&["repack", "-adq"]);
        let folder = repository.folder.path().join("team/hello.git/objects/pack");
        let packs = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let pack = packs.filter(|path| path.extension().is_some_and(|end| end == "pack"));
        let pack = std::fs::read(pack.last().unwrap()).unwrap();
        let whole = objects(&pack, false).unwrap();
        assert!(whole.contains_key(&commit));
        // The last 20 bytes are a checksum, which is not looked at: each object has its own.
        for at in 0..pack.len() - 20 {
            for bit in [1, 0x10, 0x80] {
                let mut damaged = pack.clone();
                damaged[at] ^= bit;
                for (id, object) in objects(&damaged, false).unwrap_or_default() {
                    assert!(whole.get(&id).is_none_or(|known| *known == object), "{at}");
                }
            }
            assert!(objects(&pack[..at], false).is_err(), "{at}");
        }
    }

    #[tokio::test]
    async fn what_a_server_cannot_give_is_told() {
        let repository = Repository::new("sha1");
        let commit = repository.commit(&[("a/b", "1")]);
        let server = Server::start(&repository).await;
        let missing = tree(&server, "open", &"a".repeat(40), "a")
            .await
            .unwrap_err();
        assert_eq!(missing.kind, Kind::NotFound);
        let old = tree(&server, "old", &commit, "a").await.unwrap_err();
        assert!(old.said.contains("version 2"), "{old}");
        repository.git(&["config", "uploadpack.allowFilter", "false"]);
        let whole = tree(&server, "open", &commit, "a").await.unwrap_err();
        assert!(whole.said.contains("allowFilter"), "{whole}");
    }
}
