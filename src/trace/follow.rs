//! Follows a program, and all that it starts, from stop to stop.

use std::collections::HashMap;
use std::io;

use libc::{c_int, pid_t};

use crate::notes::{How, Notes};
use crate::sys::{self, At, PTRACE_EVENT_STOP};
use crate::{calls, paths};

/// A call that has begun: what it asks for.
struct Begun {
    path: String,
    how: How,
}

/// Who is followed.
pub struct Follower {
    pub notes: Notes,
    /// Processes that were started here, and whether they have passed the stop before their program.
    own: HashMap<pid_t, bool>,
    /// Whether processes stop at calls that take a path alone, by the filter.
    filtered: bool,
    /// Whether a program was executed.
    pub started: bool,
    begun: HashMap<pid_t, Begun>,
}

impl Follower {
    pub fn new(notes: Notes, first: pid_t, filtered: bool) -> Self {
        Self {
            notes,
            own: [(first, false)].into(),
            filtered,
            started: false,
            begun: HashMap::new(),
        }
    }

    /// Another one was started here, like the first.
    pub fn add(&mut self, pid: pid_t, filtered: bool) {
        self.own.insert(pid, false);
        self.filtered &= filtered;
    }

    /// Deals with what has happened; those started here that have ended, with their exit codes. Nobody goes on before all
    /// changes are known, so that each gets its turn where some never cease to stop, and so do signals.
    pub fn catch_up(&mut self) -> io::Result<Vec<(pid_t, u8)>> {
        let mut changes = Vec::new();
        while let Some(change) = sys::changed()? {
            changes.push(change);
        }
        let mut ended = Vec::new();
        for (pid, status) in changes {
            if libc::WIFSTOPPED(status) {
                self.stopped(pid, status);
                continue;
            }
            self.begun.remove(&pid);
            if self.own.remove(&pid).is_some() {
                ended.push((pid, exit_code(status)));
            }
        }
        Ok(ended)
    }

    fn stopped(&mut self, pid: pid_t, status: c_int) {
        const CALL: c_int = libc::SIGTRAP | 0x80;
        let mut signal = 0;
        match (status >> 16, libc::WSTOPSIG(status)) {
            (libc::PTRACE_EVENT_SECCOMP, _) | (0, CALL) => self.call(pid),
            (libc::PTRACE_EVENT_EXEC, _) => self.executed(pid),
            (PTRACE_EVENT_STOP, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) => {
                return sys::leave_stopped(pid);
            }
            (0, libc::SIGSTOP) if self.own.get(&pid) == Some(&false) => {
                self.own.insert(pid, true);
            }
            (0, delivered) => signal = delivered,
            // A new process or thread, which is followed already.
            _ => {}
        }
        let calls = !self.filtered || self.begun.contains_key(&pid);
        sys::resume(pid, signal, calls);
    }

    /// A call begins or ends.
    fn call(&mut self, pid: pid_t) {
        let Ok(stop) = sys::stop(pid) else { return };
        match stop.at {
            At::Call { number, arguments } if stop.arch == calls::NATIVE => {
                if let Some(begun) = self.asked(pid, number, &arguments) {
                    self.begun.insert(pid, begun);
                }
            }
            At::Return(value) => {
                if let Some(begun) = self.begun.remove(&pid)
                    && let Some(found) = found(value, begun.how)
                {
                    self.notes.add(&begun.path, begun.how, found);
                }
            }
            _ => {}
        }
    }

    /// What a call asks for, where that is news.
    fn asked(&mut self, pid: pid_t, number: u64, arguments: &[u64; 6]) -> Option<Begun> {
        let call = calls::find(number)?;
        let text = match sys::text(pid, arguments[call.path]) {
            Ok(text) => text,
            Err(error) => {
                // A process that others may not look into; else the address is wrong, and the call fails.
                if error.raw_os_error() == Some(libc::EPERM) {
                    self.notes.unread(paths::program(pid));
                }
                return None;
            }
        };
        // Nothing, but for the descriptor: what it stands for was opened before.
        if text.is_empty() {
            return None;
        }
        let base = match call.folder.map(|at| arguments[at] as i32) {
            _ if text.starts_with(b"/") => Vec::new(),
            Some(libc::AT_FDCWD) | None => paths::directory(pid, None)?,
            descriptor => paths::directory(pid, descriptor)?,
        };
        let path = paths::absolute(&base, &text);
        let path = String::from_utf8_lossy(&path).into_owned();
        let how = call.how;
        (!paths::is_kernels(&path) && !self.notes.knows(&path, how)).then_some(Begun { path, how })
    }

    /// A program runs now: what was asked for, and what the kernel has opened for it, a script's interpreter and the loader.
    fn executed(&mut self, pid: pid_t) {
        self.started = true;
        // By a thread that was not the first, all others have ended, and it has the number of the first.
        let caller = sys::event_message(pid).unwrap_or(pid);
        if let Some(begun) = self.begun.remove(&caller) {
            self.notes.add(&begun.path, begun.how, true);
        }
        self.begun.remove(&pid);
        match std::fs::read(format!("/proc/{pid}/maps")) {
            Ok(maps) => {
                for path in paths::mapped(&String::from_utf8_lossy(&maps)) {
                    self.notes.add(path, How::Executed, true);
                }
            }
            Err(_) => self.notes.unread(paths::program(pid)),
        }
        if sys::stop(pid).is_ok_and(|stop| stop.arch != calls::NATIVE) {
            self.notes.unread(paths::program(pid));
        }
    }
}

/// Whether a call that ended found something, by what it gave; None where it did not end, but is made again.
fn found(value: i64, how: How) -> Option<bool> {
    let error = match i32::try_from(value.wrapping_neg()) {
        // ERESTARTSYS and its kin: a signal came in between.
        Ok(512..=516) => return None,
        Ok(error @ 1..) => error,
        _ => return Some(true),
    };
    Some(match error {
        // Not a link, but there.
        libc::EINVAL => how == How::ReadLink,
        // There, and not as it was asked for, or not for this user.
        libc::EACCES | libc::EPERM | libc::EEXIST | libc::EISDIR | libc::ELOOP => true,
        libc::ENOEXEC | libc::ETXTBSY | libc::ENOTEMPTY | libc::EROFS => true,
        _ => false,
    })
}

/// As shells have it: 128 and the number of the signal that ended it.
fn exit_code(status: c_int) -> u8 {
    let code = match libc::WIFSIGNALED(status) {
        true => 128 + libc::WTERMSIG(status),
        false => libc::WEXITSTATUS(status),
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_gives_says_whether_something_was_there() {
        let gives = |error: i32, how| found(-i64::from(error), how);
        assert_eq!(found(3, How::Opened), Some(true));
        assert_eq!(gives(libc::ENOENT, How::Opened), Some(false));
        assert_eq!(gives(libc::EACCES, How::Opened), Some(true));
        assert_eq!(gives(libc::EINVAL, How::ReadLink), Some(true));
        assert_eq!(gives(libc::EINVAL, How::LookedUp), Some(false));
        // ERESTARTSYS: the call is made again.
        assert_eq!(gives(512, How::Opened), None);
    }
}
