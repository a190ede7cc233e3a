//! The bytes of an image as a map: its largest folders and files, each with its layer, and with what of it the program reaches where that
//! is known. However many files there are, a map has no more parts than are asked for: small ones are gathered.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::config::ImageConfig;
use super::layer::Image;
use super::opened::opened;
use super::reach::Reach;
use super::tree::{Kind, NodeId};

/// Parts of one folder that are shown by themselves.
const CHILDREN: usize = 60;
/// Layers that are shown by themselves.
const LAYERS: usize = 40;

/// What a part of a map is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegionKind {
    /// A directory; the whole image, too.
    #[default]
    Folder,
    /// A file.
    File,
    /// What is left of a folder beside its largest parts, or of the layers.
    Others,
    /// A layer.
    Layer,
    /// Files of a layer that later layers remove or replace.
    Hidden,
}

/// A part of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Its own name: the last part of its path. Empty for the whole.
    pub name: String,
    /// What it is.
    pub kind: RegionKind,
    /// Bytes of its files, hard links counted once.
    pub bytes: u64,
    /// Regular files.
    pub files: u64,
    /// Bytes of files that the program reaches; none where that is not known.
    pub reached: Option<u64>,
    /// The layer, from 0, that most of its bytes come from.
    pub layer: Option<u16>,
    /// Its parts, the largest first.
    pub parts: Vec<Self>,
}

impl Region {
    /// All parts, itself among them.
    pub fn count(&self) -> usize {
        1 + self.parts.iter().map(Self::count).sum::<usize>()
    }
}

/// A large file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeFile {
    /// Where it is.
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
    /// Its layer, from 0.
    pub layer: u16,
    /// Whether the program reaches it; none where that is not known.
    pub reached: Option<bool>,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    files: u64,
    bytes: u64,
    reached: u64,
    /// The layer with the most bytes, as far as one pass can tell (Boyer and Moore's vote), and its lead.
    layer: u16,
    lead: u64,
}

impl Sum {
    fn add(&mut self, bytes: u64, reached: bool, layer: u16) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.reached = self.reached.saturating_add(if reached { bytes } else { 0 });
        if self.layer == layer {
            self.lead = self.lead.saturating_add(bytes);
        } else if self.lead >= bytes {
            self.lead -= bytes;
        } else {
            (self.layer, self.lead) = (layer, bytes - self.lead);
        }
    }
}

/// Makes maps of an image.
pub struct Mapper<'a> {
    /// The image.
    pub image: &'a Image,
    /// What its program reaches, where that is known.
    pub reach: Option<&'a Reach>,
}

impl Mapper<'_> {
    /// The whole image by its folders, in about `most` parts.
    pub fn by_folder(&self, most: usize) -> Region {
        self.region(None, most)
    }

    /// By its layers, those that made no bytes left out, and within each by its folders, in about `most` parts.
    pub fn by_layer(&self, config: &ImageConfig, most: usize) -> Region {
        let tree = &self.image.tree;
        let mut live = vec![0_u64; self.image.layers.len()];
        for id in tree.all() {
            let meta = tree.meta(id);
            if let Some(sum) = live.get_mut(usize::from(meta.layer))
                && meta.kind == Kind::File
                && !meta.hard_link
            {
                *sum = sum.saturating_add(meta.size);
            }
        }
        // What was not kept cannot be told from what was hidden.
        let hidden = |index: usize| match self.image.left_out {
            0 => (self.image.layers[index].content).saturating_sub(live[index]),
            _ => 0,
        };
        let all = |index: usize| live[index].saturating_add(hidden(index));
        let mut order: Vec<usize> = (0..live.len()).filter(|index| all(*index) > 0).collect();
        let total: u64 = order.iter().map(|index| all(*index)).sum();
        order.sort_by_key(|index| (Reverse(all(*index)), *index));
        let mut whole = Region {
            reached: self.reach.map(|_| 0),
            ..Region::default()
        };
        for (rank, index) in order.iter().enumerate() {
            let number = u16::try_from(*index).unwrap_or(u16::MAX);
            let share = most as f64 * all(*index) as f64 / total.max(1) as f64;
            let mut region = match rank < LAYERS {
                true => self.region(Some(number), share as usize),
                false => self.region(Some(number), 0),
            };
            region.kind = RegionKind::Layer;
            region.layer = Some(number);
            let made_by = config.instructions.get(*index);
            region.name = made_by
                .filter(|text| !text.is_empty())
                .cloned()
                .unwrap_or_default();
            let gone = hidden(*index);
            if gone > 0 {
                if region.parts.is_empty() && region.bytes > 0 {
                    region.parts.push(Region {
                        kind: RegionKind::Others,
                        bytes: region.bytes,
                        files: region.files,
                        reached: region.reached,
                        layer: Some(number),
                        ..Region::default()
                    });
                }
                region.bytes = region.bytes.saturating_add(gone);
                region.parts.push(Region {
                    kind: RegionKind::Hidden,
                    bytes: gone,
                    reached: self.reach.map(|_| 0),
                    layer: Some(number),
                    ..Region::default()
                });
                region.parts.sort_by_key(|part| Reverse(part.bytes));
            }
            whole.files += region.files;
            whole.bytes = whole.bytes.saturating_add(region.bytes);
            whole.reached = add(whole.reached, region.reached);
            if rank < LAYERS {
                whole.parts.push(region);
                continue;
            }
            if rank == LAYERS {
                whole.parts.push(Region {
                    kind: RegionKind::Others,
                    reached: self.reach.map(|_| 0),
                    ..Region::default()
                });
            }
            if let Some(others) = whole.parts.last_mut() {
                others.files += region.files;
                others.bytes = others.bytes.saturating_add(region.bytes);
                others.reached = add(others.reached, region.reached);
            }
        }
        whole.parts.sort_by_key(|part| Reverse(part.bytes));
        whole
    }

    /// The largest files.
    pub fn largest(&self, most: usize) -> Vec<LargeFile> {
        let tree = &self.image.tree;
        let mut heap = BinaryHeap::new();
        for id in tree.all() {
            let meta = tree.meta(id);
            if meta.kind == Kind::File && !meta.hard_link && meta.size > 0 {
                heap.push(Reverse((meta.size, Reverse(id))));
                if heap.len() > most {
                    heap.pop();
                }
            }
        }
        let found = heap.into_sorted_vec().into_iter();
        found
            .map(|Reverse((bytes, Reverse(id)))| LargeFile {
                path: tree.path(id),
                bytes,
                layer: tree.meta(id).layer,
                reached: self.reach.map(|reach| reach.keeps(id)),
            })
            .collect()
    }

    /// The files of all layers, or of one.
    fn region(&self, layer: Option<u16>, most: usize) -> Region {
        let tree = &self.image.tree;
        let mut sums = vec![Sum::default(); tree.ever()];
        for id in tree.all() {
            let meta = tree.meta(id);
            if meta.kind != Kind::File || layer.is_some_and(|layer| layer != meta.layer) {
                continue;
            }
            let bytes = if meta.hard_link { 0 } else { meta.size };
            let reached = self.reach.is_some_and(|reach| reach.keeps(id));
            for at in tree.up(id) {
                sums[at.index()].add(bytes, reached, meta.layer);
            }
        }
        let bytes = |id: NodeId| sums[id.index()].bytes;
        let opened = opened(tree, bytes, most, CHILDREN);
        self.part(tree.root(), &sums, &opened)
    }

    fn part(&self, id: NodeId, sums: &[Sum], opened: &BTreeMap<NodeId, Vec<NodeId>>) -> Region {
        let tree = &self.image.tree;
        let sum = sums[id.index()];
        let mut region = Region {
            name: String::from_utf8_lossy(tree.name(id)).into_owned(),
            kind: match tree.meta(id).kind {
                Kind::Directory => RegionKind::Folder,
                _ => RegionKind::File,
            },
            bytes: sum.bytes,
            files: sum.files,
            reached: self.reach.map(|_| sum.reached),
            layer: (sum.bytes > 0).then_some(sum.layer),
            parts: Vec::new(),
        };
        let mut rest = sum;
        for child in opened.get(&id).into_iter().flatten() {
            let sum = sums[child.index()];
            rest.files -= sum.files;
            rest.bytes = rest.bytes.saturating_sub(sum.bytes);
            rest.reached = rest.reached.saturating_sub(sum.reached);
            region.parts.push(self.part(*child, sums, opened));
        }
        if !region.parts.is_empty() && rest.bytes > 0 {
            region.parts.push(Region {
                kind: RegionKind::Others,
                bytes: rest.bytes,
                files: rest.files,
                reached: self.reach.map(|_| rest.reached),
                layer: region.layer,
                ..Region::default()
            });
            region.parts.sort_by_key(|part| Reverse(part.bytes));
        }
        region
    }
}

fn add(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    Some(one?.saturating_add(other?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{ElfFile, Tar};
    use crate::reach::Wanted;
    use crate::{LayerSource, Limits};

    fn read(layers: Vec<Tar>) -> (Image, ImageConfig) {
        let mut image = Image::new(Limits {
            reach: Some(0),
            ..Limits::default()
        });
        for tar in layers {
            let bytes = tar.bytes();
            image
                .add_layer(&bytes[..], &LayerSource::default())
                .unwrap();
        }
        let config = ImageConfig {
            entrypoint: vec!["/srv/run".into()],
            instructions: vec!["COPY base /".into(), "RUN make".into()],
            ..ImageConfig::default()
        };
        (image, config)
    }

    fn layers() -> Vec<Tar> {
        vec![
            Tar::new()
                .file("srv/run", 0o755, &ElfFile::default().bytes())
                .file("usr/big", 0o644, &[1; 9000]),
            Tar::new()
                .file("usr/small", 0o644, &[2; 90])
                .file("usr/big", 0o644, &[2; 5000])
                .hard_link("usr/again", "usr/big"),
        ]
    }

    fn check(region: &Region) {
        let sum: u64 = region.parts.iter().map(|part| part.bytes).sum();
        assert!(region.parts.is_empty() || sum == region.bytes, "{region:?}");
        assert!(region.parts.is_sorted_by_key(|part| Reverse(part.bytes)));
        region.parts.iter().for_each(check);
    }

    #[test]
    fn folders_have_the_bytes_of_their_files_and_the_layer_that_brought_most() {
        let (image, _) = read(layers());
        let mapper = Mapper {
            image: &image,
            reach: None,
        };
        let map = mapper.by_folder(100);
        check(&map);
        let run = ElfFile::default().bytes().len() as u64;
        assert_eq!((map.bytes, map.files), (run + 5090, 4));
        let usr = &map.parts[0];
        assert_eq!(
            (&usr.name[..], usr.bytes, usr.layer),
            ("usr", 5090, Some(1))
        );
        assert_eq!(usr.parts[0].kind, RegionKind::File);
        assert_eq!(map.reached, None);
    }

    #[test]
    fn layers_have_what_later_ones_hide_too() {
        let (image, config) = read(layers());
        let mapper = Mapper {
            image: &image,
            reach: None,
        };
        let map = mapper.by_layer(&config, 100);
        check(&map);
        let names: Vec<_> = map.parts.iter().map(|part| &part.name[..]).collect();
        assert_eq!(names, ["COPY base /", "RUN make"]);
        let hidden = &map.parts[0].parts[0];
        assert_eq!((hidden.kind, hidden.bytes), (RegionKind::Hidden, 9000));
    }

    #[test]
    fn what_is_reached_is_told_where_it_is_known() {
        let (image, config) = read(layers());
        let wanted = Wanted {
            base_layers: Some(2),
            ..Wanted::default()
        };
        let reach = Reach::of(&image, &config, &wanted);
        let mapper = Mapper {
            image: &image,
            reach: Some(&reach),
        };
        let map = mapper.by_folder(100);
        assert_eq!(map.reached, Some(reach.tally(&image).0.bytes));
        let largest = mapper.largest(1);
        assert_eq!(
            (&largest[0].path[..], largest[0].layer, largest[0].reached),
            ("/usr/big", 1, Some(false))
        );
    }

    #[test]
    fn maps_are_bounded_however_many_files_and_layers_there_are() {
        let mut all = layers();
        for layer in 0..60 {
            let mut tar = Tar::new();
            for file in 0..100 {
                tar = tar.file(&format!("opt/{}/{layer}-{file}", file % 7), 0o644, &[3; 10]);
            }
            all.push(tar);
        }
        let (image, config) = read(all);
        let mapper = Mapper {
            image: &image,
            reach: None,
        };
        for most in [1, 10, 300] {
            for map in [mapper.by_folder(most), mapper.by_layer(&config, most)] {
                check(&map);
                // Each folder has one rest at most, and each layer is there.
                assert!(map.count() <= most * 2 + 2 * LAYERS + 2, "{}", map.count());
            }
        }
        assert_eq!(mapper.by_layer(&config, 300).parts.len(), LAYERS + 1);
        assert_eq!(mapper.largest(5).len(), 5);
    }
}
