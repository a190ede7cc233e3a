//! What is asked of the kernel: the one module with unsafe code. No crate in the tree has ptrace as it is needed here: rustix
//! has none, and nix fails at a stop by a real-time signal, which Go, Java and glibc send.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr::{null, null_mut};

use libc::{c_int, c_long, c_uint, c_void, iovec, pid_t, sigset_t, sock_filter};

/// Not in libc for glibc.
pub const PTRACE_EVENT_STOP: c_int = 128;
/// The longest path that the kernel takes.
const PATH_MAX: usize = 4096;
const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_EXITKILL;

/// Which signals were blocked.
#[derive(Clone, Copy)]
pub struct Mask(sigset_t);

/// The signals of this process, one after the other.
pub struct Signals(File);

fn checked(result: c_int) -> io::Result<c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Blocks all signals of this thread and reads them instead; also gives what was blocked before. Orphans become children of
/// this process, also where it is not the first of its container.
pub fn take_signals() -> io::Result<(Signals, Mask)> {
    // SAFETY: a sigset_t of zeros is valid, and filled by sigfillset; the pointers are to locals that live on. The default of
    // SIGCHLD replaces at most "ignore", with which no child could be waited for, and no handler. The descriptor is new.
    unsafe {
        let (mut every, mut before) = (zeroed::<sigset_t>(), zeroed::<sigset_t>());
        libc::sigfillset(&raw mut every);
        let error = libc::pthread_sigmask(libc::SIG_SETMASK, &raw const every, &raw mut before);
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        checked(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))?;
        let file = checked(libc::signalfd(-1, &raw const every, libc::SFD_CLOEXEC))?;
        let file = File::from(OwnedFd::from_raw_fd(file));
        Ok((Signals(file), Mask(before)))
    }
}

/// Has SIGALRM come again and again after so long.
pub fn wake_every(time: std::time::Duration) -> io::Result<()> {
    let every = libc::timeval {
        tv_sec: time.as_secs().cast_signed(),
        tv_usec: time.subsec_micros().into(),
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: the pointer is to a local, and no old value is asked for.
    checked(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, null_mut()) }).map(drop)
}

impl Signals {
    /// The next one, its number and its `si_code`: one that is there, or after a wait.
    pub fn next(&mut self, wait: bool) -> io::Result<Option<(c_int, c_int)>> {
        let mut ready = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the pointer is to one local struct, and one is what is said.
        let found = unsafe { libc::poll(&raw mut ready, 1, if wait { -1 } else { 0 }) };
        if checked(found)? == 0 {
            return Ok(None);
        }
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        self.0.read_exact(&mut info)?;
        // Laid out as signalfd_siginfo: ssi_signo, ssi_errno, ssi_code.
        let word = |at: usize| c_int::from_ne_bytes(info[at..at + 4].try_into().expect("four"));
        Ok(Some((word(0), word(8))))
    }
}

/// What is started.
pub struct Start {
    /// The paths to try, as of PATH.
    pub programs: Vec<CString>,
    pub arguments: Vec<CString>,
    /// Empty: none.
    pub filter: Vec<sock_filter>,
    pub mask: Mask,
}

/// Starts the program, followed from its first instruction, and stopped once by SIGSTOP before it is executed; whether the
/// filter is in place. Where nothing can be executed, it ends with 127 (not found) or 126.
pub fn start(start: &Start) -> io::Result<(pid_t, bool)> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut arguments: Vec<_> = start.arguments.iter().map(|text| text.as_ptr()).collect();
    arguments.push(null());
    // SAFETY: the child calls `child` alone, which neither allocates nor takes a lock, and never returns.
    let pid = checked(unsafe { libc::fork() })?;
    if pid == 0 {
        // SAFETY: this is the child of a fork; `arguments` ends with a null, and all of it lives on.
        unsafe { child(start, &arguments, theirs.as_raw_fd()) }
    }
    drop(theirs);
    let options = usize::try_from(OPTIONS).expect("positive");
    let mut filtered = [0];
    let followed = ptrace(libc::PTRACE_SEIZE, pid, 0, options)
        .and_then(|_| ours.write_all(&[1]))
        .and_then(|()| ours.read_exact(&mut filtered));
    if let Err(error) = followed {
        kill(pid, libc::SIGKILL);
        return Err(error);
    }
    Ok((pid, filtered == [1]))
}

/// SAFETY: only for the child of a fork, with a null at the end of `arguments`.
unsafe fn child(start: &Start, arguments: &[*const libc::c_char], parent: RawFd) -> ! {
    // SAFETY: only calls that are safe between fork and exec, with pointers to what the parent has laid out before.
    unsafe {
        let mut byte = 0_u8;
        // Until the parent follows.
        if libc::read(parent, (&raw mut byte).cast(), 1) != 1 {
            libc::_exit(125);
        }
        let program = libc::sock_fprog {
            len: start.filter.len() as u16,
            filter: start.filter.as_ptr().cast_mut(),
        };
        let mode = libc::SECCOMP_MODE_FILTER;
        byte = u8::from(
            program.len > 0
                && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) == 0,
        );
        libc::write(parent, (&raw const byte).cast(), 1);
        libc::raise(libc::SIGSTOP);
        // Rust ignores it, other programs expect the default.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const start.mask.0, null_mut());
        let mut code = 127;
        for path in &start.programs {
            libc::execv(path.as_ptr(), arguments.as_ptr());
            match *libc::__errno_location() {
                libc::ENOENT | libc::ENOTDIR => {}
                // PATH may have another; the first reason is what counts.
                libc::EACCES => code = 126,
                _ => libc::_exit(126),
            }
        }
        libc::_exit(code)
    }
}

/// A child or followed process that has changed, if one has.
pub fn changed() -> io::Result<Option<(pid_t, c_int)>> {
    let mut status = 0;
    // SAFETY: the pointer is to a local.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    match checked(pid) {
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some((pid, status))),
        // That was the last.
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends a signal; who is gone by now needs none.
pub fn kill(pid: pid_t, signal: c_int) {
    // SAFETY: takes numbers alone.
    unsafe { libc::kill(pid, signal) };
}

/// For requests whose arguments are numbers.
fn ptrace(request: c_uint, pid: pid_t, address: usize, data: usize) -> io::Result<c_long> {
    // SAFETY: of the requests in this module, those that come here have the kernel write nothing.
    match unsafe { libc::ptrace(request, pid, address, data) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Lets a stopped process go on, with a signal (0: none), and stop again at the next begin or end of a call where `calls`. It
/// may have been killed in the meantime: then the next wait tells.
pub fn resume(pid: pid_t, signal: c_int, calls: bool) {
    let request = match calls {
        true => libc::PTRACE_SYSCALL,
        false => libc::PTRACE_CONT,
    };
    let _ = ptrace(request, pid, 0, usize::try_from(signal).unwrap_or(0));
}

/// Leaves a process stopped by job control stopped, until SIGCONT.
pub fn leave_stopped(pid: pid_t) {
    let _ = ptrace(libc::PTRACE_LISTEN, pid, 0, 0);
}

/// What a stop by an event carries: at an exec, the thread that called it.
pub fn event_message(pid: pid_t) -> Option<pid_t> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes one unsigned long, for which the pointer is.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid, 0, &raw mut message) };
    checked(result as c_int).ok()?;
    pid_t::try_from(message).ok()
}

/// Where a process stopped.
pub struct Stop {
    pub arch: u32,
    pub at: At,
}

pub enum At {
    /// Before a call.
    Call {
        number: u64,
        arguments: [u64; 6],
    },
    /// After it, with what it gives or, below zero, its error.
    Return(i64),
    Other,
}

/// Where a process stopped; an error where it was killed in the meantime.
pub fn stop(pid: pid_t) -> io::Result<Stop> {
    // SAFETY: a struct of numbers may be zeros; the kernel writes no more than the size that is given. Which member of the
    // union is written, `op` says.
    unsafe {
        let mut info = zeroed::<libc::ptrace_syscall_info>();
        let (request, size) = (libc::PTRACE_GET_SYSCALL_INFO, size_of_val(&info));
        checked(libc::ptrace(request, pid, size, (&raw mut info).cast::<c_void>()) as c_int)?;
        let at = match info.op {
            libc::PTRACE_SYSCALL_INFO_ENTRY => At::Call {
                number: info.u.entry.nr,
                arguments: info.u.entry.args,
            },
            libc::PTRACE_SYSCALL_INFO_SECCOMP => At::Call {
                number: info.u.seccomp.nr,
                arguments: info.u.seccomp.args,
            },
            libc::PTRACE_SYSCALL_INFO_EXIT => At::Return(info.u.exit.sval),
            _ => At::Other,
        };
        let arch = info.arch;
        Ok(Stop { arch, at })
    }
}

/// The text at an address of a stopped process, up to its null and to the longest path.
pub fn text(pid: pid_t, address: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0_u8; PATH_MAX];
    let address = usize::try_from(address).map_err(io::Error::other)?;
    let part = |from: usize, length| iovec {
        iov_base: address.wrapping_add(from) as *mut c_void,
        iov_len: length,
    };
    // Apart at a page's end, behind which there may be nothing.
    let first = PATH_MAX - address % PATH_MAX;
    let theirs = [part(0, first), part(first, PATH_MAX - first)];
    let ours = iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: the kernel writes no more than `ours` has room for, and checks the addresses of the other process.
    let read = unsafe { libc::process_vm_readv(pid, &raw const ours, 1, theirs.as_ptr(), 2, 0) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    bytes.truncate(read);
    match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => {
            bytes.truncate(end);
            Ok(bytes)
        }
        None => Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG)),
    }
}

/// Unblocks all signals of this thread: the test harness is started with all of them blocked.
#[cfg(test)]
pub fn unblock_signals() {
    // SAFETY: a sigset_t of zeros is the empty one.
    unsafe {
        let none = zeroed::<sigset_t>();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, null_mut());
    }
}
