//! The daemon, or the connection to it, went away.

use std::time::Duration;

use super::registry::{Fault, before_answer, fault};
use super::{Again, Case, Finding, plain};
use whittle_api::{Failure, FailureReason};

/// Words of gRPC, which nothing but the daemon and buildctl speak with each other, and of BuildKit's sessions, which lie
/// within it. They stand anywhere, since BuildKit wraps them.
const GRPC: [&str; 25] = [
    "client connection is closing",
    "transport is closing",
    "forwarder is closing",
    "transport: error while dialing",
    "error reading from server",
    "error reading server preface",
    "received prior goaway",
    "server closed the stream without sending trailers",
    "stream terminated by rst_stream",
    "closing transport due to",
    "connection error: desc =",
    "keepalive ping",
    "keepalive watchdog",
    "code = unavailable",
    "code = canceled",
    "no active session",
    "session not found",
    "session is closed",
    "session healthcheck",
    "failed to receive status",
    "graceful_stop",
    "graceful stop",
    "server is stopping",
    // Of a daemon that has begun anew, or is about to end.
    "no such job ",
    "database not open",
];

/// The start of an error that the connection itself has.
const STARTS: [&str; 6] = [
    "listing workers for Build: ",
    "failed to list workers: ",
    "Unavailable: ",
    "Canceled: ",
    "failed to receive status: ",
    "failed to get session",
];

/// Those of gRPC, which BuildKit puts before what it wraps: a registry's "503 Service Unavailable" is none.
const CODES: [&str; 2] = ["Unavailable: ", "Canceled: "];

/// Who else has connections that break: a registry, a server of files, git.
const OTHERS: [&str; 9] = [
    "failed to do request",
    "httpreadseeker",
    "unexpected status",
    "git stderr",
    "get \"http",
    "head \"http",
    "put \"http",
    "post \"http",
    "patch \"http",
];

/// Words of any connection, which are about the daemon where nobody else is named.
const CONNECTION: [&str; 6] = [
    "connection reset by peer",
    "broken pipe",
    "use of closed network connection",
    "goaway",
    "client connection lost",
    "connection timed out",
];

/// Begins what is said of the platforms of a part that failed.
const PART: &str = " (platform ";
/// Begins the name of their own daemon.
const ON: &str = ", on Builder ";

/// The end of a message on the failure of one of several daemons: its platforms, and its Builder where that is a platform's own.
pub fn of_part(platforms: &str, native: Option<&str>) -> String {
    let on = native.map(|name| format!("{ON}{name}"));
    format!("{PART}{platforms}{})", on.unwrap_or_default())
}

/// Which daemon a message is about, where several have built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// It may be any.
    Any,
    /// The Builder's ordinary one.
    Ordinary,
    /// That of a platform: the Builder that it is.
    Native(&'a str),
}

impl Whose<'_> {
    /// True where it may be the ordinary one.
    pub fn is_ordinary(&self) -> bool {
        !matches!(self, Self::Native(_))
    }

    /// True where it may be this Builder of a platform.
    pub fn is_of(&self, builder: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Ordinary => false,
            Self::Native(name) => *name == builder,
        }
    }
}

/// Which daemon this message is about, as [`of_part`] ends it.
pub fn whose(message: &str) -> Whose<'_> {
    let Some((_, of)) = message.rsplit_once(PART) else {
        return Whose::Any;
    };
    let of = of.split_once(')').map_or(of, |(of, _)| of);
    match of.split_once(ON) {
        Some((_, name)) => Whose::Native(name),
        None => Whose::Ordinary,
    }
}

/// Begins the message where the daemon hangs: the controller restarts it for that.
pub const HANGS: &str = "the builder hangs";

/// The daemon has not answered for so long.
pub(crate) fn hangs(silent: Duration) -> Failure {
    let message = format!(
        "{HANGS}: it has given no answer for {} s; it is restarted once no build runs on it",
        silent.as_secs()
    );
    plain(FailureReason::BuilderLost, message)
}

impl Case<'_> {
    /// The connection to the daemon broke, for certain: whatever else BuildKit says is about what it did then.
    pub(super) fn connection(&self, exit: Option<i32>) -> Option<Finding> {
        let others = others(&unquoted(&self.daemon().to_lowercase()));
        // Servers have backends of their own that go away, and say so in the same words.
        let said = before_answer(self.daemon());
        let said = said.split("git stderr:").next().unwrap_or(said);
        let lower = unquoted(&said.to_lowercase());
        let code = |start: &&str| {
            said.starts_with(*start)
                || CODES.contains(start) && said.contains(&format!(": {start}"))
        };
        let starts = self.ended.is_none() && STARTS.iter().any(code) && !others;
        // A step that ended by itself: its exit code is all there is.
        let grpc = GRPC.iter().any(|words| lower.contains(words));
        // Nobody but the daemon itself ends what it does: buildctl is never told to.
        let canceled = match self.ended {
            Some(_) => lower.contains("context canceled") && !lower.contains("allocate memory"),
            None => lower.ends_with("context canceled") && !others,
        };
        (exit.is_some() && (starts || grpc || canceled)).then(|| self.broken())
    }

    /// Words of a connection where no other one is known than that to the daemon.
    pub(super) fn lost(&self, exit: Option<i32>) -> Option<Finding> {
        let lower = self.daemon().to_lowercase();
        let broken = CONNECTION.iter().any(|words| lower.contains(words))
            || matches!(lower.as_str(), "eof" | "unexpected eof");
        (exit.is_some() && self.ended.is_none() && broken && !others(&lower)).then(|| self.broken())
    }

    fn broken(&self) -> Finding {
        let error = self.daemon();
        // Before anything has begun, the builder may just be coming up.
        let never_there =
            error.starts_with("listing workers for Build: ") || error.starts_with(STARTS[1]);
        let said = error.lines().next().unwrap_or_default();
        let said = said.rsplit_once("desc = ").map_or(said, |(_, said)| said);
        let said = said.strip_prefix("Unavailable: ").unwrap_or(said);
        let (what, again) = match (never_there, fault(error)) {
            (true, Fault::Untrusted) => ("the builder is unreachable", Again::No),
            (true, _) => ("the builder is unreachable", Again::Later),
            (false, _) => ("the connection to the builder was lost", Again::No),
        };
        (
            FailureReason::BuilderLost,
            format!("{what}: {}", said.trim_matches('"')),
            again,
        )
    }
}

fn others(lower: &str) -> bool {
    OTHERS.iter().any(|words| lower.contains(words))
}

/// A text without what stands in it between quotes that begin with a path: names of files, which may be anything.
fn unquoted(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\"/") {
        out.push_str(before);
        rest = after.split_once('"').map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}
