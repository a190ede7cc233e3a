//! Words that tools print when a step fails, and what fixes that most often. Few and sure: where the
//! words leave a doubt, there is no hint.

use super::{Script, starts};
use whittle_api::FailureReason;

/// Words of an output, and the fix. Each group of words must be found, in one and the same line.
struct Known {
    words: &'static [&'static str],
    fix: &'static str,
}

const FULL: &str = "the builder's volume was not full: it is most likely a file system of the step's own, for example its \
                    tmpfs mount (size=…), or one that the step asked for more than the volume has left (cache.size of \
                    the Builder)";
const MEMORY: &str = "out of memory: a process of the step was killed (OOMKilled): raise spec.resources.limits.memory \
    of the Builder, or let the step do less at once";

const KNOWN: &[Known] = &[
    Known {
        words: &["exec: \"/bin/sh\"", "no such file or directory"],
        fix: "this stage has no shell, and RUN in its shell form needs one: do the step in an earlier stage \
               and COPY its result, or write RUN as a JSON array",
    },
    Known {
        words: &["exec /bin/sh:", "no such file or directory"],
        fix: "this stage has no shell, and RUN in its shell form needs one: do the step in an earlier stage \
               and COPY its result, or write RUN as a JSON array",
    },
    Known {
        words: &["o space left on device", "/dev/shm"],
        fix: "/dev/shm of the step is full (64 MB), not the builder's volume: write elsewhere, for \
            example to a mount of its own (RUN --mount=type=tmpfs,target=…)",
    },
    Known {
        words: &["o space left on device"],
        fix: FULL,
    },
    Known {
        words: &["isk quota exceeded"],
        fix: FULL,
    },
    Known {
        words: &["ead-only file system"],
        fix: "the mount is read-only: a bind mount accepts writes with rw (and discards them after \
            the step), /proc and /sys never do",
    },
    Known {
        words: &["/run/secrets/", "o such file or directory"],
        fix: "the secret is missing, most often because it is not in spec.secrets, which is not an error \
            without `required`: add it to spec.secrets, with the id of the mount",
    },
    Known {
        words: &["argument list too long"],
        fix: "the step's command or environment is too large (the kernel's limit is 128 KiB for each \
            argument): put it into a file and COPY that",
    },
    Known {
        words: &["Killed signal terminated program"],
        fix: MEMORY,
    },
    Known {
        words: &["signal: killed"],
        fix: MEMORY,
    },
    Known {
        words: &["signal: 9, SIGKILL"],
        fix: MEMORY,
    },
    Known {
        words: &["make", "***", "Killed"],
        fix: MEMORY,
    },
    Known {
        words: &["JavaScript heap out of memory"],
        fix: "Node.js exceeded its own heap limit: set ENV NODE_OPTIONS=--max-old-space-size=4096, \
            and a memory limit of the Builder that is larger than that",
    },
    Known {
        words: &["annot allocate memory"],
        fix: MEMORY,
    },
    Known {
        words: &["error obtaining VCS status"],
        fix: "Go looks for git's state, which is not in the context: build with -buildvcs=false",
    },
    Known {
        words: &["go: updates to go.mod needed"],
        fix: "go.mod is out of date: run `go mod tidy` and commit go.mod and go.sum",
    },
    Known {
        words: &["missing go.sum entry"],
        fix: "go.sum is missing a module: run `go mod tidy`, commit go.sum, and COPY it beside go.mod",
    },
    Known {
        words: &["go.mod file not found"],
        fix: "go.mod not found in the working directory: check WORKDIR, and that go.mod is copied before",
    },
    Known {
        words: &["go: go.mod requires go >="],
        fix: "go.mod requires a newer Go than the base image has: use a newer golang image",
    },
    Known {
        words: &["cgo: C compiler", "not found"],
        fix: "the base image has no C compiler: build with CGO_ENABLED=0, or install one",
    },
    Known {
        words: &["could not read Username for"],
        fix: "a private module or repository requires credentials: pass them as a build secret \
            (spec.secrets and RUN --mount=type=secret)",
    },
    Known {
        words: &["certificate signed by unknown authority"],
        fix: "the step does not trust the server's certificate: install ca-certificates in this \
            stage, and the server's own CA if it has one",
    },
    Known {
        words: &["unable to get local issuer certificate"],
        fix: "the step does not trust the server's certificate: install ca-certificates in this \
            stage, and the server's own CA if it has one",
    },
    Known {
        words: &[
            "npm ci",
            "can only install with an existing package-lock.json",
        ],
        fix: "npm ci needs package-lock.json: commit it and COPY it beside package.json",
    },
    Known {
        words: &["npm", "package.json and package-lock.json", "are in sync"],
        fix: "package-lock.json and package.json are out of sync: run `npm install` and commit both",
    },
    Known {
        words: &["externally-managed-environment"],
        fix: "this Python is managed by the distribution (externally-managed-environment): install \
            into a virtual environment (python3 -m venv), or use a python image",
    },
    Known {
        words: &["E: Unable to locate package"],
        fix: "package not found by apt, or its lists are missing: run `apt-get update` in the same \
            RUN before `apt-get install`",
    },
    Known {
        words: &["Temporary failure in name resolution"],
        fix: "the step cannot resolve a host name (DNS): check that builders may reach it, and \
            whether a proxy is required (proxy.httpProxy of the Builder)",
    },
    Known {
        words: &["Could not resolve host"],
        fix: "the step cannot resolve a host name (DNS): check that builders may reach it, and \
            whether a proxy is required (proxy.httpProxy of the Builder)",
    },
    Known {
        words: &["dial tcp", "no such host"],
        fix: "the step cannot resolve a host name (DNS): check that builders may reach it, and \
            whether a proxy is required (proxy.httpProxy of the Builder)",
    },
];

/// What most often fixes a failure whose step printed `log`. `scripts`: those of the context that are known.
pub(super) fn hint(
    reason: FailureReason,
    step: Option<&str>,
    log: Option<&str>,
    scripts: &[Script],
) -> Option<String> {
    if !matches!(
        reason,
        FailureReason::StepFailed | FailureReason::BuildFailed
    ) {
        return None;
    }
    let log = log?;
    if let Some(fix) = starts::hint(step.unwrap_or_default(), log, scripts) {
        return Some(fix);
    }
    let known = log.lines().find_map(|line| {
        KNOWN
            .iter()
            .find(|known| known.words.iter().all(|words| line.contains(words)))
    });
    if let Some(known) = known {
        return Some(known.fix.to_owned());
    }
    // A shell's word for it, alone in its line.
    if log.lines().any(|line| line.trim() == "Killed") {
        return Some(MEMORY.to_owned());
    }
    missing_program(step, log)
}

/// `/bin/sh: 1: make: not found`, or busybox's `/bin/sh: make: not found`, or bash's
/// `make: command not found`.
fn missing_program(step: Option<&str>, log: &str) -> Option<String> {
    let name = log.lines().rev().find_map(|line| {
        let line = line.trim_end();
        let rest = line.strip_suffix(": command not found").or_else(|| {
            line.strip_suffix(": not found")
                .filter(|l| l.contains("sh: "))
        })?;
        rest.rsplit(": ").next()
    })?;
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.+".contains(&b));
    // Only what the step itself names: a script may look for programs that it can do without.
    let asked = step.is_some_and(|step| {
        step.split(|c: char| c.is_whitespace() || ";&|()".contains(c))
            .any(|word| word == name)
    });
    (plain && asked).then(|| {
        format!(
            "program {name} not found in this stage's image: install it in this stage, or use an \
            image that has it"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(step: &str, log: &str) -> Option<String> {
        hint(FailureReason::StepFailed, Some(step), Some(log), &[])
    }

    #[test]
    fn a_program_that_the_step_names_and_the_image_lacks_is_named() {
        for log in [
            "/bin/sh: 1: make: not found",
            "/bin/sh: make: not found",
            "/bin/bash: line 1: make: command not found",
        ] {
            let hint = given("RUN cd /src && make all", log).unwrap();
            assert!(hint.contains("program make not found"), "{hint}");
        }
        assert_eq!(
            given("RUN ./configure", "/bin/sh: 1: fig2dev: not found"),
            None
        );
        assert_eq!(given("RUN make", "main.c:3: make: not found"), None);
    }

    #[test]
    fn well_known_words_have_their_cure() {
        for (log, fix) in [
            (
                "error obtaining VCS status: exit status 128",
                "-buildvcs=false",
            ),
            ("go: updates to go.mod needed; to update it:", "go mod tidy"),
            (
                "x509: certificate signed by unknown authority",
                "ca-certificates",
            ),
            ("E: Unable to locate package curl", "apt-get update"),
            ("Killed", "limits.memory"),
            (
                "cc1plus: fatal error: Killed signal terminated program cc1plus",
                "limits.memory",
            ),
            (
                "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
                "NODE_OPTIONS",
            ),
            (
                "tar: /dev/shm/x: Cannot write: No space left on device",
                "64 MB",
            ),
            ("cp: can't create '/x': Read-only file system", "rw"),
            ("error: externally-managed-environment", "venv"),
            (
                "dial tcp: lookup proxy.golang.org on 10.96.0.10:53: no such host",
                "proxy.httpProxy",
            ),
        ] {
            let hint = given("RUN x", &format!("first\n{log}\nlast")).unwrap();
            assert!(hint.contains(fix), "{log}: {hint}");
        }
    }

    #[test]
    fn what_is_not_known_has_no_hint() {
        assert_eq!(
            given("RUN go test ./...", "--- FAIL: TestAdd (0.00s)"),
            None
        );
        assert_eq!(given("RUN x", "Killed 3 of 5 mutants"), None);
        assert_eq!(
            hint(
                FailureReason::PushDenied,
                None,
                Some("no such host dial tcp"),
                &[]
            ),
            None
        );
        assert_eq!(
            hint(FailureReason::StepFailed, Some("RUN x"), None, &[]),
            None
        );
    }
}
