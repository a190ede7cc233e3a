//! WORKDIR: whether a container can start there.

use super::config::ImageConfig;
use super::layer::Image;
use super::tree::{Kind, Lookup};

/// Where the runtime mounts something of its own before it goes to the working directory.
const MOUNTED: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Why no container starts in the image's WORKDIR; true where that is beyond doubt.
///
/// runc makes what is missing (os.MkdirAll, rootfs_linux.go), which fails where a part of the path is no directory:
/// a file, or a link that leads to nothing. It takes absolute paths alone (validateProcessSpec).
pub(super) fn trouble(image: &Image, config: &ImageConfig) -> Option<(String, bool)> {
    let written = config.directory();
    let certain = !image.partial && !image.tree.is_exhausted();
    if !written.starts_with('/') {
        let why = format!("WORKDIR is {written}: the runtime accepts absolute paths only");
        return Some((why, true));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts
        .first()
        .is_some_and(|first| MOUNTED.iter().any(|folder| folder[1..] == **first))
    {
        return None;
    }
    let tree = &image.tree;
    let (mut at, mut path) = (tree.root(), String::new());
    for part in parts {
        path = format!("{path}/{part}");
        // What is not there is made.
        let next = tree.child(at, part.as_bytes())?;
        let link = tree.meta(next).kind == Kind::Symlink;
        let what = match tree.resolve(at, part.as_bytes()) {
            Ok(found) if tree.meta(found).kind == Kind::Directory => {
                at = found;
                continue;
            }
            Ok(found) if link => format!("leads to {}, which is not a directory", tree.path(found)),
            Ok(_) => "is a file, not a directory".to_owned(),
            Err(Lookup::Exhausted) => {
                return Some((format!("WORKDIR {written} was not followed"), false));
            }
            Err(Lookup::Missing(target)) => format!("is a broken link: {target} not found"),
            Err(other) => format!("is a link that cannot be followed: {other}"),
        };
        let place = match path.trim_start_matches('/') == written.trim_matches('/') {
            true => String::new(),
            false => format!("{path} "),
        };
        return Some((
            format!(
                "invalid WORKDIR {written}: {}{what}",
                if place.is_empty() {
                    "it ".to_owned()
                } else {
                    place
                }
            ),
            certain,
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{Tar, image};

    fn of(folder: &str) -> Option<(String, bool)> {
        let image = image(&[Tar::new()
            .folder("srv", 0o755)
            .file("srv/app", 0o755, b"x")
            .symlink("to-folder", "srv")
            .symlink("to-file", "/srv/app")
            .symlink("to-nothing", "/data/none")
            .symlink("round", "round")
            .bytes()]);
        let config = ImageConfig {
            working_dir: folder.into(),
            ..ImageConfig::default()
        };
        trouble(&image, &config)
    }

    #[test]
    fn a_container_starts_in_a_directory_and_in_one_that_the_runtime_can_make() {
        for folder in [
            "",
            "/",
            "/srv",
            "/srv/",
            "/to-folder",
            "/new/below",
            "/srv/new",
            "/to-folder/new",
            "/srv/app/..",
            "/dev/x",
            "/proc/self/fd/9",
        ] {
            assert_eq!(of(folder), None, "{folder}");
        }
    }

    #[test]
    fn a_container_starts_in_no_file_and_behind_no_link_to_nothing() {
        for (folder, word) in [
            ("/srv/app", "it is a file"),
            ("/srv/app/below", "/srv/app is a file"),
            ("/to-file", "leads to /srv/app"),
            ("/to-nothing", "it is a broken link: /data not found"),
            (
                "/to-nothing/below",
                "/to-nothing is a broken link: /data not found",
            ),
            ("/to-folder/app", "is a file"),
            ("/round", "loop"),
            ("srv", "absolute paths only"),
        ] {
            let (why, certain) = of(folder).unwrap_or_else(|| panic!("{folder}"));
            assert!(certain && why.contains(word), "{folder}: {why}");
        }
    }
}
