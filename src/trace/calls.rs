//! Which system calls take a path, and the filter that stops a process at these alone.

use libc::{c_long, sock_filter};

use crate::notes::How;

/// What the kernel calls the architecture that this program is built for; calls of another have other numbers.
#[cfg(target_arch = "x86_64")]
pub const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub const NATIVE: u32 = 0xC000_00B7;

/// A system call that takes a path.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    number: c_long,
    pub how: How,
    /// Which argument is the descriptor that a relative path starts from; the current directory where there is none.
    pub folder: Option<usize>,
    /// Which argument is the path.
    pub path: usize,
}

const fn at(number: c_long, how: How) -> Call {
    Call {
        number,
        how,
        folder: Some(0),
        path: 1,
    }
}

const fn plain(number: c_long, how: How) -> Call {
    Call {
        number,
        how,
        folder: None,
        path: 0,
    }
}

/// Those that every architecture has.
const CALLS: &[Call] = &[
    at(libc::SYS_openat, How::Opened),
    at(libc::SYS_openat2, How::Opened),
    plain(libc::SYS_execve, How::Executed),
    at(libc::SYS_execveat, How::Executed),
    at(libc::SYS_newfstatat, How::LookedUp),
    at(libc::SYS_statx, How::LookedUp),
    at(libc::SYS_faccessat, How::LookedUp),
    at(libc::SYS_faccessat2, How::LookedUp),
    at(libc::SYS_readlinkat, How::ReadLink),
    plain(libc::SYS_chdir, How::LookedUp),
    plain(libc::SYS_statfs, How::LookedUp),
    plain(libc::SYS_truncate, How::Opened),
    plain(libc::SYS_getxattr, How::LookedUp),
    plain(libc::SYS_lgetxattr, How::LookedUp),
    // Where something is made, renamed or deleted, what is above it has to be there.
    at(libc::SYS_mkdirat, How::LookedUp),
    at(libc::SYS_unlinkat, How::LookedUp),
    at(libc::SYS_renameat2, How::LookedUp),
    at(libc::SYS_linkat, How::LookedUp),
    at(libc::SYS_fchmodat, How::LookedUp),
    at(libc::SYS_fchownat, How::LookedUp),
    at(libc::SYS_utimensat, How::LookedUp),
    // A watched directory has to be there; its first argument is a watch, and no directory.
    Call {
        folder: None,
        ..at(libc::SYS_inotify_add_watch, How::LookedUp)
    },
];

/// Those that only one architecture still has.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[Call] = &[
    at(libc::SYS_renameat, How::LookedUp),
    plain(libc::SYS_open, How::Opened),
    plain(libc::SYS_creat, How::Opened),
    plain(libc::SYS_stat, How::LookedUp),
    plain(libc::SYS_lstat, How::LookedUp),
    plain(libc::SYS_access, How::LookedUp),
    plain(libc::SYS_readlink, How::ReadLink),
    plain(libc::SYS_mkdir, How::LookedUp),
    plain(libc::SYS_rmdir, How::LookedUp),
    plain(libc::SYS_unlink, How::LookedUp),
    plain(libc::SYS_rename, How::LookedUp),
    plain(libc::SYS_link, How::LookedUp),
    plain(libc::SYS_chmod, How::LookedUp),
    plain(libc::SYS_chown, How::LookedUp),
    plain(libc::SYS_lchown, How::LookedUp),
    plain(libc::SYS_utime, How::LookedUp),
    plain(libc::SYS_utimes, How::LookedUp),
];
/// renameat, which libc's list for arm64 lacks, and glibc calls there.
#[cfg(target_arch = "aarch64")]
const OLD_CALLS: &[Call] = &[at(38, How::LookedUp)];

fn all() -> impl Iterator<Item = &'static Call> {
    CALLS.iter().chain(OLD_CALLS)
}

/// The call by its number, where it takes a path.
pub fn find(number: u64) -> Option<&'static Call> {
    all().find(|call| u64::try_from(call.number) == Ok(number))
}

/// The program for seccomp: a stop at calls that take a path, none at others. io_uring, whose calls nobody sees, is denied
/// as containerd's default profile denies it; programs have another way then.
pub fn filter() -> Vec<sock_filter> {
    let load = |offset| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equal = |value, then, or| {
        let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        instruction(code, then, or, value)
    };
    let answer = |value| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let number = |number: c_long| u32::try_from(number).expect("numbers of calls are small");
    // struct seccomp_data: the number at 0, the architecture at 4.
    let mut program = vec![
        load(4),
        equal(NATIVE, 1, 0),
        answer(libc::SECCOMP_RET_ALLOW),
        load(0),
    ];
    let calls: Vec<u32> = all().map(|call| number(call.number)).collect();
    for (at, call) in calls.iter().enumerate() {
        // Over the calls that follow, io_uring and "allow".
        let over = u8::try_from(calls.len() - at + 1).expect("fewer than 250 calls");
        program.push(equal(*call, over, 0));
    }
    program.push(equal(number(libc::SYS_io_uring_setup), 2, 0));
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program.push(answer(libc::SECCOMP_RET_TRACE));
    let denied = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).expect("positive");
    program.push(answer(denied));
    program
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    let code = u16::try_from(code).expect("codes have sixteen bits");
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer, of the instructions that are used.
    fn answer(program: &[sock_filter], arch: u32, number: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            match u32::from(step.code) & 7 {
                libc::BPF_LD => loaded = if step.k == 4 { arch } else { number },
                libc::BPF_JMP => {
                    at += usize::from(if loaded == step.k { step.jt } else { step.jf });
                }
                _ => return step.k,
            }
        }
    }

    #[test]
    fn the_filter_stops_at_calls_that_take_a_path_and_at_no_others() {
        let program = filter();
        for number in 0..600 {
            let expected = match find(number.into()) {
                Some(_) => libc::SECCOMP_RET_TRACE,
                None if libc::c_long::from(number) == libc::SYS_io_uring_setup => {
                    libc::SECCOMP_RET_ERRNO | 1
                }
                None => libc::SECCOMP_RET_ALLOW,
            };
            assert_eq!(answer(&program, NATIVE, number), expected, "{number}");
            // The same numbers mean other calls to another architecture.
            assert_eq!(answer(&program, 3, number), libc::SECCOMP_RET_ALLOW);
        }
        assert!(find(libc::SYS_read.try_into().unwrap()).is_none());
    }
}
