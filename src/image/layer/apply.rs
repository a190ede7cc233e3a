//! The entries of one layer, on the tree of those below it.

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Read};
use std::sync::Arc;

use super::archive::{Archive, ArchiveError, Entry, Wanted};
use super::prints::{Deed, Step, Tee};
use super::stream::Unpacked;
use super::{ALWAYS_KEPT, AUFS, Digests, Image, OPAQUE, WHITEOUT, rest};
use crate::elf::Form;
use crate::facts::{Fact, FileCapabilities, examine};
use crate::installed::{is_database, parse};
use crate::limits::{Exceeded, size};
use crate::mentions::{Mentions, Scan};
use crate::tree::{Kind, Lookup, MAX_NAME, Meta, NodeId, parts};

/// Packages that are kept of all databases of an image.
const PACKAGES: usize = 60_000;

impl Image {
    /// Applies one layer. The digests of what was read; `None` where a limit ended it. Where it is no tar, the rest is
    /// read all the same, and `read` has the digests.
    pub(super) fn apply<R: Read>(
        &mut self,
        stream: Unpacked<R>,
        number: usize,
        read: &mut Option<Digests>,
    ) -> Result<Option<Digests>, ArchiveError> {
        let mut archive = Archive::new(BufReader::with_capacity(64 << 10, stream));
        let mut applying = Applying {
            layer: u16::try_from(number - 1).unwrap_or(u16::MAX - 1),
            number: u32::try_from(number).ok(),
            folder: None,
            purged: HashSet::new(),
            opaque: HashSet::new(),
            firsts: HashMap::new(),
            shared: HashMap::new(),
        };
        loop {
            let entry = match archive.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error @ ArchiveError::Read(_)) => return Err(error),
                Err(error) => {
                    *read = Some(rest(archive)?);
                    return Err(error);
                }
            };
            self.entries += 1;
            let over = if self.entries > self.limits.entries {
                Some(Exceeded::Entries(self.limits.entries))
            } else if self.tree.bytes() + applying.bytes() > self.limits.tree_bytes {
                Some(Exceeded::Tree(self.limits.tree_bytes))
            } else if self.tree.is_exhausted() {
                Some(Exceeded::Steps)
            } else {
                None
            };
            if let Some(over) = over {
                self.exceeded(number, over);
                return Ok(None);
            }
            if let Some(facts) = self.layers.last_mut() {
                facts.entries += 1;
                facts.content = facts.content.saturating_add(entry.size);
            }
            self.entry(&entry, &mut archive, &mut applying)?;
        }
        self.share(&applying);
        Ok(Some(rest(archive)?))
    }

    fn entry<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        applying: &mut Applying,
    ) -> Result<(), ArchiveError> {
        let (layer, number) = (applying.layer, applying.number);
        let refuse = |image: &mut Self, why: &str| {
            let shown =
                String::from_utf8_lossy(&entry.path[..entry.path.len().min(256)]).into_owned();
            image.partial = true;
            image.notes.add(number, format!("{shown} {why}: skipped"));
            Ok(())
        };
        if entry.path.len() > self.limits.path_bytes || entry.link.len() > self.limits.path_bytes {
            return refuse(self, "has a path that is too long");
        }
        let Some(path) = parts(&entry.path) else {
            return refuse(self, "escapes the image (path traversal)");
        };
        if path.iter().any(|part| part.len() > MAX_NAME) {
            return refuse(self, "has a name that is too long");
        }
        let meta = |kind| Meta {
            kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            layer,
            hard_link: false,
        };
        let Some((name, folder)) = path.split_last() else {
            if entry.wanted == Wanted::Own(Kind::Directory) {
                self.tree.set(self.tree.root(), meta(Kind::Directory));
                self.originates(self.tree.root());
            }
            return Ok(());
        };
        if name.starts_with(WHITEOUT) {
            self.whiteout(name, folder, applying);
            return Ok(());
        }
        if entry.wanted == Wanted::Nothing {
            return refuse(self, "has an unsupported type");
        }
        let parent = match self.folder(folder, applying) {
            Ok(parent) => parent,
            Err(lookup) => return refuse(self, &format!("cannot be unpacked: {lookup}")),
        };
        match entry.wanted {
            Wanted::HardLink => match self.hard_link(entry, parent, name, applying) {
                Ok(()) => Ok(()),
                Err(lookup) => refuse(self, &format!("is a broken hard link ({lookup})")),
            },
            Wanted::Own(Kind::File) => {
                self.file(entry, archive, parent, &path, meta(Kind::File), applying)
            }
            Wanted::Own(kind) => {
                applying.folder = None;
                let old = self.standing(parent, name, kind, applying.layer);
                let id = self.tree.insert(parent, name, meta(kind), &entry.link);
                self.facts.remove(&id);
                self.brought(id, old, applying);
                Ok(())
            }
            Wanted::Nothing => Ok(()),
        }
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        parent: NodeId,
        path: &[&[u8]],
        meta: Meta,
        applying: &mut Applying,
    ) -> Result<(), ArchiveError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        // The holes of a file cost nothing to write, and would take hours to sum up.
        let prints = self.limits.prints;
        let mut bytes = archive.content(entry);
        let mut content = Tee::new(
            &mut bytes,
            prints && !entry.has_holes(),
            prints && is_database(path) && !entry.has_holes(),
        );
        self.unsummed |= prints && entry.has_holes();
        let mut told = None;
        let fact = match self.limits.reach {
            None => examine(
                path,
                entry.mode,
                entry.size,
                &mut content,
                &self.limits,
                &mut scratch,
            ),
            Some(base) => {
                let own = meta.layer >= base;
                let holes = entry.has_holes();
                let mut scan = Scan::new(path, entry.size, own, holes, &mut content);
                let fact = examine(
                    path,
                    entry.mode,
                    entry.size,
                    &mut scan,
                    &self.limits,
                    &mut scratch,
                );
                told = Some(scan.finish()?);
                fact
            }
        };
        self.scratch = scratch;
        let fact = fact?;
        let (print, kept) = content.finish()?;
        if bytes.cut_short {
            return Err(ArchiveError::CutShort);
        }
        let capability = entry.capabilities();
        let name = path.last().copied().unwrap_or_default();
        let old = self.standing(parent, name, meta.kind, applying.layer);
        if let Some(old) = self.tree.child(parent, name) {
            applying.folder = None;
            self.tree.remove(old);
        }
        let plain = fact.is_none() && capability.is_none() && entry.mode & 0o6111 == 0;
        if plain && entry.size < ALWAYS_KEPT && self.tree.bytes() > self.limits.tree_bytes / 4 * 3 {
            self.left_out += 1;
            self.left_out_bytes = self.left_out_bytes.saturating_add(entry.size);
            return Ok(());
        }
        let id = self.tree.insert(parent, name, meta, b"");
        self.brought(id, old, applying);
        if prints {
            self.prints.set(id, print);
        }
        if let Some(kept) = kept {
            let found = parse(&kept);
            self.package_count += found.len();
            if self.package_count > PACKAGES {
                self.unsummed = true;
            } else {
                self.packages.insert(id, Arc::new(found));
            }
        }
        if let Some(told) = told {
            self.tell(id, told);
        }
        if let Some(found) = capability {
            self.capabilities.insert(id, found);
        }
        // Object files are many, and of no interest.
        let other = matches!(&fact, Some(Fact::Elf(elf)) if elf.form == Form::Other);
        if let Some(fact) = fact.filter(|_| !other || entry.mode & 0o111 != 0) {
            self.keep(id, Arc::new(fact));
        }
        Ok(())
    }

    /// Keeps what a file names, unless that is too much.
    fn tell(&mut self, id: NodeId, told: Mentions) {
        self.unheard |= told.cut;
        if told.is_empty() {
            return;
        }
        let bytes = told.bytes();
        if self.mention_bytes + bytes > self.limits.mention_bytes {
            self.unheard = true;
            return;
        }
        self.mention_bytes += bytes;
        self.mentions.insert(id, told);
    }

    /// Keeps what is known of a file, unless that is too much.
    fn keep(&mut self, id: NodeId, fact: Arc<Fact>) {
        let bytes = fact.bytes();
        if self.fact_bytes + bytes <= self.limits.fact_bytes {
            self.fact_bytes += bytes;
            self.facts.insert(id, fact);
            return;
        }
        self.partial = true;
        self.unexamined = true;
        self.notes.add(
            None,
            format!(
                "too many programs, libraries and certificates for {}: not all were read",
                size(self.limits.fact_bytes as u64)
            ),
        );
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        parent: NodeId,
        name: &[u8],
        applying: &mut Applying,
    ) -> Result<(), Lookup> {
        applying.folder = None;
        let target = self.tree.resolve_link(self.tree.root(), &entry.link)?;
        let mut meta = self.tree.meta(target);
        if meta.kind == Kind::Directory {
            return Err(Lookup::Missing(self.tree.path(target)));
        }
        // A link to itself changes nothing.
        if self.tree.child(parent, name) == Some(target) {
            return Ok(());
        }
        // The directory that it takes the place of would take the file away before.
        if let Some(old) = self.tree.child(parent, name)
            && self.tree.up(target).any(|at| at == old)
        {
            return Err(Lookup::Missing(self.tree.path(target)));
        }
        // Who unpacks it gives the file what stands at the link: an owner, by which Linux takes capabilities away, the mode, and those
        // of this entry (createTarFile of containerd). So a link makes another one's program setuid.
        let given = Given {
            mode: match meta.kind {
                Kind::Symlink => meta.mode,
                _ => entry.mode,
            },
            uid: entry.uid,
            gid: entry.gid,
            capabilities: entry.capabilities(),
        };
        let first = applying.firsts.get(&target).copied().unwrap_or(target);
        let had = Given {
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            capabilities: self.capabilities.get(&target).copied(),
        };
        if given != had || applying.shared.contains_key(&first) {
            applying.shared.insert(first, given);
        }
        meta.layer = applying.layer;
        meta.hard_link = true;
        let link = self.tree.target(target).unwrap_or_default().to_vec();
        let old = self.standing(parent, name, meta.kind, applying.layer);
        let id = self.tree.insert(parent, name, meta, &link);
        applying.firsts.insert(id, first);
        self.brought(id, old, applying);
        if let Some(print) = self.prints.get(target) {
            self.prints.set(id, print);
        }
        if let Some(found) = self.packages.get(&target).cloned() {
            self.packages.insert(id, found);
        }
        if self.limits.reach.is_some() {
            let origin = (target, self.tree.meta(target).layer);
            let first = self.hard_links.get(&target).copied().unwrap_or(origin);
            self.hard_links.insert(id, first);
        }
        if let Some(fact) = self.facts.get(&target).cloned() {
            self.keep(id, fact);
        }
        if let Some(found) = self.capabilities.get(&target).copied() {
            self.capabilities.insert(id, found);
        }
        Ok(())
    }

    /// Gives all names of a file what a link of this layer gave it.
    fn share(&mut self, applying: &Applying) {
        if applying.shared.is_empty() {
            return;
        }
        let mut unread = false;
        let links = applying.firsts.iter().map(|(id, first)| (*id, *first));
        let firsts = applying.shared.keys().map(|first| (*first, *first));
        for (id, first) in links.chain(firsts) {
            let given = applying.shared.get(&first);
            let Some(given) = given.filter(|_| self.tree.is_live(id)) else {
                continue;
            };
            let old = self.tree.meta(id);
            // Of what was not executable no first line was read.
            unread |= old.kind == Kind::File
                && old.size > 0
                && old.mode & 0o111 == 0
                && given.mode & 0o111 != 0
                && !self.facts.contains_key(&id);
            let meta = Meta {
                mode: given.mode,
                uid: given.uid,
                gid: given.gid,
                ..old
            };
            self.tree.set(id, meta);
            match given.capabilities {
                Some(found) => self.capabilities.insert(id, found),
                None => self.capabilities.remove(&id),
            };
        }
        if unread {
            (self.unexamined, self.partial) = (true, true);
            let note = "files that hard links make executable were not read";
            self.notes.add(applying.number, note.into());
        }
    }

    /// A whiteout hides what lower layers have, whatever its place among the layer's entries.
    fn whiteout(&mut self, name: &[u8], folder: &[&[u8]], applying: &mut Applying) {
        if name.starts_with(AUFS) && name != OPAQUE {
            return;
        }
        applying.folder = None;
        let mut at = self.tree.root();
        for part in folder {
            match self.tree.resolve(at, part) {
                Ok(next) => at = next,
                Err(_) => return,
            }
        }
        let hidden = if name == OPAQUE {
            // The directory itself stays.
            if !applying.opaque.insert(at) {
                return;
            }
            for child in self.tree.children(at).collect::<Vec<_>>() {
                if applying.purged.insert(child) {
                    self.hide(child, applying.layer);
                }
            }
            return;
        } else {
            self.tree.child(at, &name[WHITEOUT.len()..])
        };
        if let Some(hidden) = hidden
            && applying.purged.insert(hidden)
        {
            self.hide(hidden, applying.layer);
        }
    }

    /// What stands at a place that something is about to take, where that is noted: its layer, and its bytes. What stood below a
    /// directory goes.
    fn standing(
        &mut self,
        parent: NodeId,
        name: &[u8],
        kind: Kind,
        layer: u16,
    ) -> Option<(Kind, u16, u64)> {
        if !self.journal.is_kept() {
            return None;
        }
        let old = self.tree.child(parent, name)?;
        let meta = self.tree.meta(old);
        if meta.kind == Kind::Directory && kind != Kind::Directory {
            for child in self.tree.children(old).collect::<Vec<_>>() {
                self.hide(child, layer);
            }
        }
        let bytes = if meta.hard_link { 0 } else { meta.size };
        Some((meta.kind, meta.layer, bytes))
    }

    /// Notes an entry that a layer brought, and what stood there before.
    fn brought(&mut self, id: NodeId, old: Option<(Kind, u16, u64)>, applying: &Applying) {
        self.originates(id);
        if !self.journal.is_kept() {
            return;
        }
        let meta = self.tree.meta(id);
        let folder = meta.kind == Kind::Directory;
        let (deed, hides) = match old {
            // Layers bring the directories above each file once more.
            Some((Kind::Directory, ..)) if folder => return,
            Some((_, layer, bytes)) if layer < applying.layer => (Deed::Replaced, bytes),
            _ => (Deed::Added, 0),
        };
        self.journal.note(Step {
            id,
            layer: applying.layer,
            deed,
            folder,
            bytes: if meta.hard_link { 0 } else { meta.size },
            hides,
        });
    }

    /// Notes that the entry which is read now brought this: who writes it again must not take another entry of the same path, or of
    /// one that came to lead there later.
    fn originates(&mut self, id: NodeId) {
        if self.limits.reach.is_some() {
            self.origins.resize(self.tree.ever(), 0);
            self.origins[id.index()] = u32::try_from(self.entries).unwrap_or(u32::MAX);
        }
    }

    /// Hides what lower layers have at a place, and below.
    fn hide(&mut self, top: NodeId, layer: u16) {
        let journal = &mut self.journal;
        self.tree.purge(top, layer, &mut |id, meta| {
            journal.note(Step {
                id,
                layer,
                deed: Deed::Removed,
                folder: meta.kind == Kind::Directory,
                bytes: 0,
                hides: if meta.hard_link { 0 } else { meta.size },
            });
        });
    }

    /// The directory at a path, made where it is not there; links are followed within the root.
    fn folder(&mut self, folder: &[&[u8]], applying: &mut Applying) -> Result<NodeId, Lookup> {
        if let Some((known, id)) = &applying.folder
            && known.iter().map(Vec::as_slice).eq(folder.iter().copied())
        {
            return Ok(*id);
        }
        let mut at = self.tree.root();
        for part in folder {
            self.tree.step()?;
            at = match self.tree.child(at, part) {
                None => self
                    .tree
                    .insert(at, part, Meta::implied(applying.layer), b""),
                Some(next) => match self.tree.meta(next).kind {
                    Kind::Directory => next,
                    Kind::Symlink => self.tree.resolve(at, part)?,
                    Kind::File | Kind::Special => {
                        return Err(Lookup::NotADirectory(self.tree.path(next)));
                    }
                },
            };
            if self.tree.meta(at).kind != Kind::Directory {
                return Err(Lookup::NotADirectory(self.tree.path(at)));
            }
        }
        applying.folder = Some((folder.iter().map(|part| part.to_vec()).collect(), at));
        Ok(at)
    }
}

/// Where the application of one layer stands.
struct Applying {
    /// From 0.
    layer: u16,
    /// From 1, for people.
    number: Option<u32>,
    /// The directory of the entry before.
    folder: Option<(Vec<Vec<u8>>, NodeId)>,
    /// What was already freed of lower layers.
    purged: HashSet<NodeId>,
    /// Directories whose lower contents were already hidden.
    opaque: HashSet<NodeId>,
    /// Of each hard link that it brought: the first name of its file.
    firsts: HashMap<NodeId, NodeId>,
    /// What files have to which a link gave something else, by their first name.
    shared: HashMap<NodeId, Given>,
}

impl Applying {
    /// Bytes of memory, about, with the attributes that [`Image::share`] makes of it.
    fn bytes(&self) -> usize {
        self.firsts.capacity() * 9 + self.shared.capacity() * 49 + self.shared.len() * 56
    }
}

/// What all names of a file share.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Given {
    mode: u16,
    uid: u32,
    gid: u32,
    capabilities: Option<FileCapabilities>,
}
