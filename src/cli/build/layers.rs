//! How files are put into layers: so that one that changes takes few others along, and the same files make the same layers.
//!
//! The first layer holds directories and links. Each large file has a layer of its own. The others are cut, in the order of
//! their paths, where the sum of a path says so: a file that comes or goes moves no cut but its own
//! (content-defined chunking, <https://www.usenix.org/system/files/conference/atc16/atc16-paper-xia.pdf>, over paths).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::walk::{Entry, Kind};

/// Layers of one source.
const LAYERS: usize = 64;
/// Bytes that a layer has on average, at the least.
const LEAST: u64 = 256 << 10;

/// The layers, each the entries of its own.
pub(super) fn split(entries: &[Entry]) -> Vec<Vec<Entry>> {
    let is_file = |entry: &&Entry| matches!(entry.kind, Kind::File { .. });
    let (files, others): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(is_file);
    let mut layers: Vec<Vec<Entry>> = vec![];
    if !others.is_empty() {
        layers.push(others.into_iter().cloned().collect());
    }
    let room = LAYERS - 1;
    let mut step = LEAST;
    let cut = loop {
        let cut = cut(&files, step);
        // One step more than all bytes have is one layer.
        if cut.len() <= room {
            break cut;
        }
        step *= 2;
    };
    let own = |group: Vec<&Entry>| group.into_iter().cloned().collect();
    layers.extend(cut.into_iter().map(own));
    layers
}

/// Cuts into groups of about `step` bytes.
fn cut<'a>(files: &[&'a Entry], step: u64) -> Vec<Vec<&'a Entry>> {
    let mut groups = vec![];
    let mut group: Vec<&Entry> = vec![];
    let mut bytes = 0;
    for file in files {
        if file.size() >= step {
            groups.push(vec![*file]);
            continue;
        }
        group.push(file);
        // An empty file has its place in the archive, too.
        bytes += weight(file);
        if bytes >= 4 * step || bytes >= step / 4 && is_cut(&file.path, weight(file), step) {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

fn weight(file: &Entry) -> u64 {
    file.size() + 512
}

/// True with a chance of `bytes` to `step`, the same for the same path. The size counts in steps of doubling, so that a line
/// more moves no cut.
fn is_cut(path: &Path, bytes: u64, step: u64) -> bool {
    let chance = bytes.next_power_of_two().saturating_mul(1 << 16) / step;
    (sum(path) & 0xffff) < chance
}

/// FNV-1a, mixed once more (<http://www.isthe.com/chongo/tech/comp/fnv/>): the same on each machine.
fn sum(path: &Path) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in path.as_os_str().as_bytes() {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    sum ^ sum >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64) -> Entry {
        Entry {
            path: path.into(),
            kind: Kind::File { size, runs: false },
        }
    }

    fn many(count: usize, size: impl Fn(usize) -> u64) -> Vec<Entry> {
        (0..count)
            .map(|n| file(&format!("src/m{:03}/f{n:05}.rs", n / 20), size(n)))
            .collect()
    }

    fn new_bytes(before: &[Entry], after: &[Entry]) -> u64 {
        let old = split(before);
        split(after)
            .iter()
            .filter(|layer| !old.contains(layer))
            .flatten()
            .map(Entry::size)
            .sum()
    }

    #[test]
    fn every_entry_is_in_one_layer_and_there_are_never_too_many() {
        for (count, size) in [
            (0, 0),
            (1, 0),
            (9, 10),
            (5_000, 0),
            (5_000, 40_000),
            (300, 64 << 20),
        ] {
            let files = many(count, |n| size * (n as u64 % 3));
            let layers = split(&files);
            assert!(layers.len() <= LAYERS, "{count} {size}: {}", layers.len());
            let mut back: Vec<Entry> = layers.concat();
            back.sort_by(|a, b| a.path.cmp(&b.path));
            assert_eq!(back, files);
        }
        let huge = [file("a", u64::MAX >> 12), file("b", 1)];
        assert_eq!(split(&huge).len(), 2);
    }

    #[test]
    fn directories_and_links_come_first_in_a_layer_of_their_own() {
        let mut entries = many(3, |_| 7);
        entries.insert(
            0,
            Entry {
                path: "src".into(),
                kind: Kind::Directory,
            },
        );
        entries.push(Entry {
            path: "z".into(),
            kind: Kind::Link("away".into()),
        });
        let layers = split(&entries);
        assert_eq!(layers.len(), 2);
        assert_eq!(layers[0], [entries[0].clone(), entries[4].clone()]);
    }

    #[test]
    fn a_change_in_a_large_folder_takes_few_other_bytes_along() {
        let before = many(10_000, |n| 1_000 + (n as u64 * 7919) % 38_000);
        let all: u64 = before.iter().map(Entry::size).sum();
        assert!(all > 190 << 20, "{all}");
        // A line more.
        for at in (0..before.len()).step_by(997) {
            let mut after = before.clone();
            let size = after[at].size() + 40;
            after[at].kind = Kind::File { size, runs: false };
            assert!(new_bytes(&before, &after) < 24 << 20);
        }
        // A file more, and one less.
        let mut after = before.clone();
        after.insert(5_000, file("src/m249/f04999a.rs", 5_000));
        assert!(new_bytes(&before, &after) < 24 << 20);
        after.remove(200);
        assert!(new_bytes(&before, &after) < 40 << 20);
    }

    #[test]
    fn a_large_file_has_a_layer_of_its_own() {
        let mut files = many(10, |_| 100);
        files.push(file("src/model.bin", 50 << 20));
        let layers = split(&files);
        assert!(layers.contains(&vec![file("src/model.bin", 50 << 20)]));
    }
}
