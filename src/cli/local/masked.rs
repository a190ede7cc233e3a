//! Whether a step can have a `/proc` of its own.
//!
//! The kernel mounts none in a user namespace where a part of the one that is there is covered, as container runtimes cover it
//! (`mount_too_revealing` in <https://github.com/torvalds/linux/blob/v6.12/fs/namespace.c>): it would show what is hidden.

/// Mounts below `/proc` on directories that are empty: they hide nothing.
const EMPTY: [&str; 2] = ["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd"];

/// True in a container whose `/proc` is covered in part.
pub fn is_masked() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    covers(&mounts)
}

/// True where something is mounted below `/proc` (proc_pid_mountinfo(5)).
fn covers(mounts: &str) -> bool {
    let points = mounts
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(4));
    points
        .filter(|point| point.starts_with("/proc/"))
        .any(|point| !EMPTY.contains(&point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_covers_parts_of_proc_and_a_machine_does_not() {
        let machine = "24 1 0:22 / /proc rw,nosuid - proc proc rw\n30 24 0:29 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n31 1 8:1 / /process rw - ext4 /dev/sda rw\n";
        assert!(!covers(machine));
        for point in ["/proc/kcore", "/proc/sys", "/proc/acpi", "/proc/cpuinfo"] {
            let container = format!("{machine}99 24 0:50 / {point} ro,relatime - tmpfs tmpfs ro\n");
            assert!(covers(&container), "{point}");
        }
    }
}
