//! Paths as a process sees them.

use std::os::unix::ffi::OsStringExt;

/// The absolute path that `path` stands for in the directory `base`, which the kernel has told, without `.` and doubled
/// slashes. `..` goes where it comes before any name, as nothing there is a link; behind a name, it may lead elsewhere and stays.
pub fn absolute(base: &[u8], path: &[u8]) -> Vec<u8> {
    let base: &[u8] = if path.starts_with(b"/") { b"" } else { base };
    let words = |text| <[u8]>::split(text, |byte| *byte == b'/').filter(|word| !word.is_empty());
    let mut names: Vec<&[u8]> = words(base).collect();
    let mut named = false;
    for word in words(path) {
        match word {
            b"." => {}
            b".." if !named => {
                names.pop();
            }
            name => {
                named = true;
                names.push(name);
            }
        }
    }
    let mut text = vec![b'/'];
    text.extend(names.join(&b'/'));
    text
}

/// Whether it is the kernel's, and not an image's.
pub fn is_kernels(path: &str) -> bool {
    matches!(path.split('/').nth(1), Some("proc" | "sys" | "dev"))
}

/// Where a process has a directory: its current one, or that of a descriptor.
pub fn directory(pid: i32, descriptor: Option<i32>) -> Option<Vec<u8>> {
    let link = match descriptor {
        Some(number) => format!("/proc/{pid}/fd/{number}"),
        None => format!("/proc/{pid}/cwd"),
    };
    let path = std::fs::read_link(link).ok()?.into_os_string().into_vec();
    // Pipes and sockets have other names: a call that starts from one of them fails.
    path.starts_with(b"/").then_some(path)
}

/// The program that a process runs: its path or, where the process lets nobody look, its short name.
pub fn program(pid: i32) -> String {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).map(|path| path.into_os_string());
    let name = || std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let text = path.map_or_else(|_| name(), OsStringExt::into_vec);
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

/// The files in `/proc/PID/maps`, each once.
pub fn mapped(maps: &str) -> Vec<&str> {
    let files = maps.lines().filter_map(|line| {
        let path = line.find('/').map(|at| &line[at..])?;
        (!path.ends_with(" (deleted)")).then_some(path)
    });
    let mut files: Vec<&str> = files.collect();
    files.dedup();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_joined_and_cleaned_but_never_past_a_name_that_may_be_a_link() {
        for (base, path, expected) in [
            ("/app", "x", "/app/x"),
            ("/app", "./a//b/.", "/app/a/b"),
            ("/app/src", "../lib/x", "/app/lib/x"),
            ("/app", "../../../x", "/x"),
            ("/app", "link/../x", "/app/link/../x"),
            ("/app", "/etc//passwd", "/etc/passwd"),
            ("/app", "/../etc/", "/etc"),
            ("/", "x", "/x"),
            ("/app", "/", "/"),
            ("/app", ".", "/app"),
        ] {
            let found = absolute(base.as_bytes(), path.as_bytes());
            assert_eq!(String::from_utf8(found).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_the_kernels_is_told_by_its_first_directory() {
        assert!(is_kernels("/proc/self/maps") && is_kernels("/dev") && is_kernels("/sys/x"));
        assert!(!is_kernels("/devices") && !is_kernels("/usr/sys") && !is_kernels("/"));
    }

    #[test]
    fn files_are_read_out_of_maps_and_what_is_no_file_is_not() {
        let maps = "55d0-55d1 r--p 00000000 fe:00 12   /usr/bin/my program\n\
            55d1-55d2 r-xp 00001000 fe:00 12   /usr/bin/my program\n\
            7f00-7f01 rw-p 00000000 00:00 0\n\
            7f01-7f02 r--p 00000000 fe:00 13   /usr/lib/ld.so\n\
            7f02-7f03 r--p 00000000 00:01 14   /memfd:x (deleted)\n\
            7ffd-7ffe rw-p 00000000 00:00 0    [stack]\n";
        assert_eq!(mapped(maps), ["/usr/bin/my program", "/usr/lib/ld.so"]);
    }
}
