//! The image as a map: its largest folders and files, each with what of it stays and what goes. However many files there are, it has
//! no more parts than are asked for.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Because, Reach, Tally};
use crate::layer::Image;
use crate::opened::opened;
use crate::tree::{Kind, NodeId};

/// Parts of one folder that are shown by themselves.
const CHILDREN: usize = 48;
/// Steps of an explanation.
const STEPS: usize = 4;

/// A folder, a file, or several small ones of one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Where it is.
    pub path: String,
    /// True for what is left of a folder beside its largest parts.
    pub rest: bool,
    /// What of it stays.
    pub stays: Tally,
    /// What of it goes.
    pub goes: Tally,
    /// Its parts, the largest first. What has none stays or goes whole.
    pub parts: Vec<Self>,
    /// Why it stays: itself first, then what leads to it.
    pub why: Vec<Because>,
}

impl Part {
    /// Bytes of all of it.
    pub fn bytes(&self) -> u64 {
        self.stays.bytes.saturating_add(self.goes.bytes)
    }

    fn add(&mut self, other: (Tally, Tally)) {
        for (to, from) in [(&mut self.stays, other.0), (&mut self.goes, other.1)] {
            to.files += from.files;
            to.bytes = to.bytes.saturating_add(from.bytes);
        }
    }
}

impl Reach {
    /// The image as a map of about `most` parts.
    pub fn map(&self, image: &Image, most: usize) -> Part {
        let tree = &image.tree;
        let mut sums = vec![(Tally::default(), Tally::default()); tree.ever()];
        for id in tree.all() {
            let meta = tree.meta(id);
            if meta.kind != Kind::File {
                continue;
            }
            let bytes = if meta.hard_link {
                0
            } else {
                self.size(id, &meta)
            };
            for at in tree.up(id) {
                let sum = &mut sums[at.index()];
                let tally = if self.keeps(id) {
                    &mut sum.0
                } else {
                    &mut sum.1
                };
                tally.files += 1;
                tally.bytes = tally.bytes.saturating_add(bytes);
            }
        }
        let bytes = |id: NodeId| {
            let (stays, goes) = sums[id.index()];
            stays.bytes.saturating_add(goes.bytes)
        };
        let opened = opened(tree, bytes, most, CHILDREN);
        self.part(image, tree.root(), &sums, &opened)
    }

    fn part(
        &self,
        image: &Image,
        id: NodeId,
        sums: &[(Tally, Tally)],
        opened: &BTreeMap<NodeId, Vec<NodeId>>,
    ) -> Part {
        let mut part = Part {
            path: image.tree.path(id),
            ..Part::default()
        };
        part.add(sums[id.index()]);
        let mut rest = sums[id.index()];
        for child in opened.get(&id).into_iter().flatten() {
            let (stays, goes) = sums[child.index()];
            for (left, taken) in [(&mut rest.0, stays), (&mut rest.1, goes)] {
                left.files -= taken.files;
                left.bytes = left.bytes.saturating_sub(taken.bytes);
            }
            part.parts.push(self.part(image, *child, sums, opened));
        }
        let mixed = part.stays.bytes > 0 && part.goes.bytes > 0;
        if !part.parts.is_empty() || mixed {
            // What is not opened is two things: what of it stays, and what goes.
            let none = Tally::default();
            for (stays, goes) in [(rest.0, none), (none, rest.1)] {
                if stays.bytes > 0 || goes.bytes > 0 {
                    part.parts.push(Part {
                        path: part.path.clone(),
                        rest: true,
                        stays,
                        goes,
                        ..Part::default()
                    });
                }
            }
        } else if part.stays.bytes > 0 {
            part.why = self.explain(image, &part.path);
            part.why.truncate(STEPS);
        }
        part
    }

    /// The bytes that stay, by why: the most first.
    pub fn reasons(&self, image: &Image) -> Vec<(&'static str, Tally)> {
        let tree = &image.tree;
        let mut found: BTreeMap<&'static str, Tally> = BTreeMap::new();
        for id in tree.all() {
            let meta = tree.meta(id);
            if meta.kind != Kind::File || !self.keeps(id) {
                continue;
            }
            let Some((_, why, _)) = self.reason(tree, id) else {
                continue;
            };
            let tally = found.entry(why.text()).or_default();
            tally.files += 1;
            if !meta.hard_link {
                tally.bytes = tally.bytes.saturating_add(self.size(id, &meta));
            }
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_by_key(|(text, tally)| (Reverse(tally.bytes), *text));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Wanted, Why};
    use super::*;
    use crate::fixtures::{ElfFile, Tar};
    use crate::{ImageConfig, LayerSource, Limits};

    fn read(tar: Tar) -> (Image, Reach) {
        let limits = Limits {
            reach: Some(0),
            ..Limits::default()
        };
        let mut image = Image::new(limits);
        let bytes = tar.bytes();
        image
            .add_layer(&bytes[..], &LayerSource::default())
            .unwrap();
        let config = ImageConfig {
            entrypoint: vec!["/srv/run".into()],
            instructions: vec!["RUN x".into()],
            ..ImageConfig::default()
        };
        let wanted = Wanted {
            base_layers: Some(1),
            ..Wanted::default()
        };
        let reach = Reach::of(&image, &config, &wanted);
        (image, reach)
    }

    fn program() -> Tar {
        Tar::new()
            .file("srv/run", 0o755, &ElfFile::default().bytes())
            .file("opt/notes", 0o644, &[1; 50])
            .file("usr/lib/python3/big", 0o644, &[2; 9000])
            .file("usr/lib/python3/small", 0o644, &[2; 90])
    }

    #[test]
    fn each_part_stays_or_goes_and_all_of_them_are_the_image() {
        let (image, reach) = read(program());
        let map = reach.map(&image, 100);
        let (kept, gone) = reach.tally(&image);
        assert_eq!((map.stays, map.goes), (kept, gone));
        let mut leaves = Vec::new();
        let mut open = vec![&map];
        while let Some(part) = open.pop() {
            let sum: u64 = part.parts.iter().map(Part::bytes).sum();
            assert!(part.parts.is_empty() || sum == part.bytes(), "{part:?}");
            if part.parts.is_empty() {
                leaves.push((part.path.as_str(), part.stays.bytes > 0));
                assert!(part.stays.bytes == 0 || part.goes.bytes == 0);
            }
            open.extend(&part.parts);
        }
        leaves.sort_unstable();
        assert_eq!(
            leaves,
            [
                ("/opt/notes", false),
                ("/srv/run", true),
                ("/usr/lib/python3/big", false),
                ("/usr/lib/python3/small", false)
            ]
        );
        let run = map.parts.iter().find(|part| part.path == "/srv").unwrap();
        let run = run.parts.iter().find(|part| part.path == "/srv/run");
        assert_eq!(run.unwrap().why[0].why, Why::Start);
        assert_eq!(reach.reasons(&image), [("is what the image starts", kept)],);
    }

    #[test]
    fn a_map_is_bounded_however_many_files_there_are() {
        let mut tar = program();
        for folder in 0..40 {
            for file in 0..100 {
                tar = tar.file(&format!("usr/share/{folder}/{file}"), 0o644, &[3; 10]);
            }
        }
        let (image, reach) = read(tar);
        for most in [1, 10, 300] {
            let map = reach.map(&image, most);
            let mut count = 0;
            let mut open = vec![&map];
            while let Some(part) = open.pop() {
                count += 1;
                open.extend(&part.parts);
            }
            // Each folder has two rests at most.
            assert!(count <= most * 3, "{count} of {most}");
            assert_eq!(
                map.bytes(),
                reach.tally(&image).0.bytes + reach.tally(&image).1.bytes
            );
        }
    }
}
