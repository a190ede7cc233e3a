//! Mistakes in Dockerfiles, each as buildctl and a rootless buildkitd 0.33.1 really answered it, hosts changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::tests::request;
use super::*;

use FailureReason as R;

const REAL: &str = include_str!("../testdata/mistakes.jsonl");

/// One Dockerfile, and what came of it.
#[derive(Deserialize)]
struct Mistake {
    name: String,
    dockerfile: String,
    /// What buildctl printed at its end.
    text: String,
    /// Name, error and output of the vertex that failed first.
    vertex: Option<(String, String, String)>,
    #[serde(default)]
    warnings: Vec<(String, i32)>,
    #[serde(default)]
    scripts: std::collections::BTreeMap<String, String>,
}

impl Mistake {
    fn verdict(&self) -> Verdict {
        let mut state = State::default();
        if let Some((name, error, log)) = &self.vertex {
            let time = "2026-11-21T01:00:00Z";
            for line in [
                serde_json::json!({"vertexes": [{"digest": "v", "name": name, "started": time}]}),
                serde_json::json!({"logs": [{"vertex": "v", "data": STANDARD.encode(log)}]}),
                serde_json::json!({"vertexes": [{"digest": "v", "name": name, "started": time, "completed": time, "error": error}]}),
            ] {
                state.line(&line.to_string(), &str::to_owned);
            }
        }
        for (short, line) in &self.warnings {
            let warning = serde_json::json!({"short": STANDARD.encode(short), "range": [{"start": {"line": line}}]});
            state.line(
                &serde_json::json!({"warnings": [warning]}).to_string(),
                &str::to_owned,
            );
        }
        for line in self.text.lines() {
            state.line(line, &str::to_owned);
        }
        let scripts = self.scripts.iter().map(|(path, first_line)| Script {
            path: path.clone(),
            first_line: first_line.clone(),
        });
        let facts = Facts {
            dockerfile: Some(self.dockerfile.clone()),
            scripts: scripts.collect(),
            ..Facts::default()
        };
        verdict(&state, Some(1), &request(), &facts)
    }
}

fn mistakes() -> Vec<Mistake> {
    let read = |line| serde_json::from_str(line).unwrap();
    REAL.lines().map(read).collect()
}

/// Name, reason, line (0 for none), and how message (after the line) and hint begin.
type Row = (&'static str, R, i32, &'static str, &'static str);

#[rustfmt::skip]
const RIGHT: &[Row] = &[
    ("noshebang", R::StepFailed, 3, "RUN [\"/run.sh\"] failed with exit code 255", "begin the script with `#!`: the first line o"),
    ("noshebang-empty", R::StepFailed, 3, "RUN [\"/run.sh\"] failed with exit code 255", "begin the script with `#!`: the first line o"),
    ("noshebang-entry", R::StepFailed, 4, "RUN x failed with exit code 255", "begin the script with `#!`: the first line o"),
    ("crlf", R::StepFailed, 3, "RUN /run.sh failed with exit code 127", "/run.sh has Windows line endings (CRLF), so its i"),
    ("crlf-json", R::StepFailed, 3, "RUN [\"/run.sh\"] failed with exit code 255", "/run.sh has Windows line endings (CRLF), so its i"),
    ("crlf-env", R::StepFailed, 3, "RUN /run.sh failed with exit code 127", "/run.sh has Windows line endings (CRLF), so its i"),
    ("crlf-sh", R::StepFailed, 3, "RUN sh /run.sh failed with exit code 2", "a script has Windows line endings (CRLF): save it"),
    ("crlf-bash", R::StepFailed, 3, "RUN /run.sh failed with exit code 127", "/run.sh has Windows line endings (CRLF), so its i"),
    ("crlf-bash2", R::StepFailed, 4, "RUN /run.sh failed with exit code 127", "/run.sh has Windows line endings (CRLF), so its i"),
    ("crlf-bash3", R::StepFailed, 3, "RUN bash /run.sh failed with exit code 2", "a script has Windows line endings (CRLF): save it"),
    ("crlf-env2", R::StepFailed, 3, "RUN /run.sh failed with exit code 127", "a script has Windows line endings (CRLF): save it"),
    ("interp", R::StepFailed, 3, "RUN /run.sh failed with exit code 127", "the first line of /run.sh names the interpre"),
    ("interp-json", R::StepFailed, 3, "RUN [\"/run.sh\"] failed with exit code 255", "the first line of /run.sh names the interpre"),
    ("interp-env", R::StepFailed, 3, "RUN /run.sh failed with exit code 127", "the first line of /run.sh names the interpre"),
    ("loader", R::StepFailed, 3, "RUN /g x failed with exit code 127", "library libpcre2-8.so.0 not found in this stag"),
    ("loader-json", R::StepFailed, 3, "RUN [\"/g\",\"x\"] failed with exit code 127", "library libpcre2-8.so.0 not found in this stag"),
    ("noexec", R::StepFailed, 3, "RUN /run.sh failed with exit code 126", "permission denied: /run.sh is not executable, or is"),
    ("noexec-rel", R::StepFailed, 4, "RUN ./run.sh failed with exit code 126", "permission denied: ./run.sh is not executable, or is"),
    ("noexec-json", R::StepFailed, 3, "RUN [\"/run.sh\"] failed with exit code 1", "permission denied: /run.sh is not executable, or is"),
    ("noexec-deb", R::StepFailed, 3, "RUN /run.sh failed with exit code 126", "permission denied: /run.sh is not executable, or is"),
    ("isdir", R::StepFailed, 2, "RUN /etc failed with exit code 126", "permission denied: /etc is not executable, or is"),
    ("isdir-json", R::StepFailed, 2, "RUN [\"/etc\"] failed with exit code 1", "/etc is a directory, not a program: name the"),
    ("noprog-json", R::StepFailed, 2, "RUN [\"make\",\"x\"] failed with exit code 1", "program make not found in"),
    ("nofile-json", R::StepFailed, 2, "RUN [\"/nosuch\"] failed with exit code 1", "program /nosuch not found in"),
    ("noshell", R::StepFailed, 3, "RUN echo hi failed with exit code 1", "this stage has no shell, and RUN in its shel"),
    ("noshell-bash", R::StepFailed, 3, "RUN echo hi failed with exit code 1", "program /bin/bash not found in"),
    ("foreign2", R::BuildRejected, 3, "RUN echo starts a program for another platform than the builder's", ""),
    ("foreign-json", R::StepFailed, 3, "RUN [\"/app\"] failed with exit code 255", "if /app is a script, begin the script with `"),
    ("foreign-sh", R::StepFailed, 3, "RUN /app failed with exit code 127", "exec format error: the program is for another"),
    ("foreign-deb", R::StepFailed, 3, "RUN /app failed with exit code 126", "if /app is a script, begin the script with `"),
    ("uid-copy", R::BuildRejected, 2, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (--chown): use", ""),
    ("gid-copy", R::BuildRejected, 2, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (--chown): use", ""),
    ("uid-add", R::BuildRejected, 2, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (--chown): use", ""),
    ("uid-add-url", R::BuildRejected, 2, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (--chown): use", ""),
    ("uid-copy-65536", R::BuildRejected, 2, "user ID too large: the builder supports IDs up to 65535, and this is 65536 (--chown): use", ""),
    ("uid-run", R::BuildRejected, 3, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (USER on li", ""),
    ("gid-run", R::BuildRejected, 3, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (USER on li", ""),
    ("uid-workdir", R::BuildRejected, 3, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (USER on li", ""),
    ("uid-workdir2", R::BuildRejected, 3, "user ID too large: the builder supports IDs up to 65535, and this is 70000 (USER on line 2)", ""),
    ("uid-name", R::BuildRejected, 4, "user ID too large: the builder supports IDs up to 65535, and that of USER app on line 3 is ", ""),
    ("uid-name-copy", R::BuildRejected, 3, "user ID too large: the builder supports IDs up to 65535, and that of app in the stage's /et", ""),
    ("uid-run-chown", R::StepFailed, 2, "RUN touch /x; chown 1000740000 /x failed with exit code 1", ""),
    ("uid-mount-cache", R::BuildRejected, 2, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (--mount on", ""),
    ("uid-mount-secret", R::StepFailed, 2, "RUN ls -ln /run/secrets failed with exit code 1", ""),
    ("uid-mount-ssh", R::BuildRejected, 2, "SSH key missing: --mount=type=ssh needs one, but the build has none: use", ""),
    ("uid-onbuild", R::BuildRejected, 3, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (--chown): use", ""),
    ("uid-big", R::BuildRejected, 3, "user ID too large: the builder supports IDs up to 65535, and this is 4294967296 (USER on li", ""),
    ("uid-copy-from-chown", R::BuildRejected, 4, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (--chown): use", ""),
    ("uid-copy-var", R::BuildRejected, 3, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (--chown): use", ""),
    ("chown-scratch", R::BuildRejected, 2, "--chown=app:app: invalid user or group: this stage starts from scratch, so", ""),
    ("chown-scratch-add", R::BuildRejected, 2, "--chown=app:app: invalid user or group: this stage starts from scratch, so", ""),
    ("chown-scratch-group", R::BuildRejected, 2, "--chown=1:app: invalid user or group: this stage starts from scratch, so", ""),
    ("chown-link", R::BuildRejected, 2, "--chown=nobody:nogroup: invalid user or group: with --link the stage's", ""),
    ("user-noname", R::StepFailed, 3, "RUN id cannot start: unable to find user nosuch: no matching entries i", ""),
    ("user-nogroup", R::StepFailed, 3, "RUN id cannot start: unable to find group nosuch: no matching entries ", ""),
    ("user-scratch", R::StepFailed, 4, "RUN echo cannot start: unable to find user app: no matching entries in", ""),
    ("check-error", R::BuildRejected, 2, "`# check=` of the Dockerfile (line 1, error=true) turns warnings into", ""),
    ("check-error2", R::BuildRejected, 2, "`# check=` of the Dockerfile (line 1, error=true) turns warnings into", ""),
    ("check-bad", R::DockerfileSyntax, 0, "failed to parse check options: invalid check option \"foo\"", ""),
    ("check-error-syn", R::BuildRejected, 2, "`# check=` of the Dockerfile (line 1, error=true) turns warnings into", ""),
    ("mount-ssh", R::BuildRejected, 2, "SSH key missing: --mount=type=ssh needs one, but the build has none: use", ""),
    ("mount-ssh-id", R::BuildRejected, 2, "SSH key missing: --mount=type=ssh needs one \"gh\", but the build has at", ""),
    ("mount-secret", R::BuildRejected, 2, "secret \"tok\" missing: the Dockerfile requires it, but spec.secrets has none", ""),
    ("mount-secret-env", R::BuildRejected, 2, "secret \"tok\" missing: the Dockerfile requires it, but spec.secrets has none", ""),
    ("mount-secret-opt", R::StepFailed, 2, "RUN cat /run/secrets/tok failed with exit code 1", "the secret is missing, most often because it"),
    ("mount-bind-missing", R::CopySourceNotFound, 2, "/nosuch not found among the inline files (Dockerfile): the path is", ""),
    ("mount-bind-from", R::StageNotFound, 2, "stage \"biuld\" not found in the Dockerfile; an image of that name is not found", ""),
    ("mount-cache-from", R::StageNotFound, 3, "stage \"biuld\" not found in the Dockerfile; did you mean build? It has bui", ""),
    ("mount-bind-from2", R::StageNotFound, 3, "stage \"biuld\" not found in the Dockerfile; did you mean build? It has bui", ""),
    ("mount-bind-path", R::CopySourceNotFound, 3, "/nosuch not found in build: check the path of --mount", ""),
    ("mount-type", R::DockerfileSyntax, 2, "unsupported mount type \"foo\"", ""),
    ("mount-notarget", R::DockerfileSyntax, 2, "invalid mount target \"/\"", ""),
    ("add-404", R::CopySourceNotFound, 2, "ADD http://files.example.com/404/file.tgz: the server answered 404 Not ", ""),
    ("add-403", R::SourceDenied, 2, "ADD http://files.example.com/403/file.tgz: the server answered 403 Forb", ""),
    ("add-401", R::SourceDenied, 2, "ADD http://files.example.com/401/file.tgz: the server answered 401 Unau", ""),
    ("add-429", R::SourceUnreachable, 2, "ADD http://files.example.com/429/file.tgz: the server answered 429 Too ", ""),
    ("add-500", R::SourceUnreachable, 2, "ADD http://files.example.com/500/file.tgz: the server answered 500 Inte", ""),
    ("add-503", R::SourceUnreachable, 2, "ADD http://files.example.com/503/file.tgz: the server answered 503 Serv", ""),
    ("add-302", R::CopySourceNotFound, 2, "ADD http://files.example.com/302/file.tgz: the server answered 404 Not ", ""),
    ("add-cut", R::SourceUnreachable, 2, "ADD http://files.example.com/cut/file.tgz: connection lost: unexp", ""),
    ("add-nohost", R::SourceUnreachable, 2, "ADD http://nosuch.example.com/file.tgz: unreachable: Get \"htt", "if this cluster reaches the outside only by a proxy"),
    ("add-refused", R::SourceUnreachable, 2, "ADD http://away.example.com/file.tgz: unreachable: dial tcp 1", ""),
    ("add-tls", R::BuildFailed, 2, "ADD https://files.example.com/200/file.tgz: the server does not support TLS: ", ""),
    ("add-sum", R::BuildRejected, 2, "ADD http://files.example.com/200/file.tgz: checksum mismatch: the file has", ""),
    ("add-sum-bad", R::DockerfileSyntax, 2, "invalid checksum digest length: ADD --checksum=sha256:00 http://files.", ""),
    ("add-sum-file", R::DockerfileSyntax, 2, "checksum requires HTTP(S) or Git sources", ""),
    ("add-git", R::CopySourceNotFound, 2, "ADD http://files.example.com/404/x.git: the git repository cannot be r", ""),
    ("add-git-ref", R::CopySourceNotFound, 2, "ADD http://git.example.com/nosuch.git#main: the git repository cannot ", ""),
    ("add-git-ssh", R::SourceDenied, 2, "ADD git@git.example.com:x/y.git: git requires an SSH key, and the buil", ""),
    ("add-missing", R::CopySourceNotFound, 2, "/nosuch not found among the inline files (Dockerfile): the path is", ""),
    ("add-two", R::CopySourceNotFound, 2, "ADD one of http://files.example.com/200/a, http://files.example.com/40", ""),
    ("stage-copy", R::StageNotFound, 3, "stage \"biuld\" not found in the Dockerfile; did you mean build? It has bui", ""),
    ("stage-copy-num", R::StageNotFound, 3, "stage 7 not found: stages count from 0, and the Dockerfile has 2. Name", ""),
    ("stage-copy-path", R::CopySourceNotFound, 3, "/nosuch not found in build: check the path there", ""),
    ("stage-copy-path0", R::CopySourceNotFound, 3, "/nosuch not found in stage 0 (FROM busybox on line 1): check the path the", ""),
    ("stage-copy-path0named", R::CopySourceNotFound, 3, "/nosuch not found in build (stage 0): check the path there", ""),
    ("copy-image-path", R::CopySourceNotFound, 2, "/nosuch not found in image busybox:1.36: check the path there", ""),
    ("copy-self", R::DockerfileSyntax, 2, "circular dependency detected on stage: a", ""),
    ("copy-ignored", R::CopySourceNotFound, 2, "/a not found among the inline files (Dockerfile): .dockerignore excludes", ""),
    ("copy-ignored-all", R::CopySourceNotFound, 2, "/src not found among the inline files (Dockerfile): .dockerignore excludes", ""),
    ("copy-onearg", R::DockerfileSyntax, 2, "COPY requires at least two arguments, but only one was provided. Desti", ""),
    ("copy-onto-dir", R::BuildFailed, 3, "mkdir /etc/passwd: not a directory", ""),
    ("copy-dir-onto-file", R::BuildFailed, 3, "cannot copy to non-directory: /f", ""),
    ("instr", R::DockerfileSyntax, 2, "unknown instruction: CPOY (did you mean COPY?)", ""),
    ("flag", R::DockerfileSyntax, 2, "unknown flag: --chwon (did you mean chown?)", ""),
    ("flag-run", R::DockerfileSyntax, 2, "unknown flag: --mout (did you mean mount?)", ""),
    ("flag-platform", R::DockerfileSyntax, 1, "failed to parse platform foo/bar/baz/x: \"foo/bar/baz/x\": cannot parse ", ""),
    ("from-arg", R::DockerfileSyntax, 2, "failed to parse stage name \"busybox:\": invalid reference format: V is empty there: set it", ""),
    ("from-arg2", R::DockerfileSyntax, 1, "base name ($BASE) should not be blank: BASE is empty there: set it", ""),
    ("from-arg3", R::DockerfileSyntax, 1, "FROM requires either one or three arguments", ""),
    ("env-req", R::DockerfileSyntax, 2, "Syntax error - can't find = in \"Y}\". Must be of the form: name=value", ""),
    ("from-missing", R::BaseImageNotFound, 1, "base image docker.io/library/busybox:nosuch not found in its registry: check", ""),
    ("from-upper", R::DockerfileSyntax, 1, "failed to parse stage name \"BusyBox\": invalid reference format: reposi", ""),
    ("from-bad", R::DockerfileSyntax, 1, "FROM requires either one or three arguments", ""),
    ("from-noas", R::DockerfileSyntax, 1, "FROM requires either one or three arguments", ""),
    ("from-bad-name", R::DockerfileSyntax, 1, "invalid name for build stage: \"1a\", name can't start with a number or ", ""),
    ("run-network", R::BuildRejected, 2, "Dockerfile line 2 requires network.host, which is never allowed", ""),
    ("run-network2", R::DockerfileSyntax, 2, "invalid network mode \"foo\"", ""),
    ("run-security", R::BuildRejected, 2, "Dockerfile line 2 requires security.insecure, which is never allowed", ""),
    ("circular", R::StageNotFound, 1, "stage \"b\" is defined further down, on line 2: FROM can only use stages", ""),
    ("circular2", R::DockerfileSyntax, 4, "circular dependency detected on stage: a", ""),
    ("heredoc", R::DockerfileSyntax, 2, "unterminated heredoc: the closing line E is missing", ""),
    ("heredoc-copy", R::DockerfileSyntax, 2, "unterminated heredoc: the closing line E is missing", ""),
    ("empty", R::DockerfileSyntax, 0, "the Dockerfile cannot be empty", ""),
    ("comment-only", R::DockerfileSyntax, 1, "file with no instructions", ""),
    ("nostage", R::DockerfileSyntax, 1, "no build stage in current context: it is above the first FROM, whe", ""),
    ("arg-only", R::DockerfileSyntax, 0, "dockerfile contains no stages to build", ""),
    ("bom", R::StepFailed, 2, "RUN exit 3 failed with exit code 3", ""),
    ("dir", R::DockerfileNotFound, 0, "Dockerfile is a directory, not a file: set spec.dockerfile to the path of th", ""),
    ("syntax-missing", R::BaseImageNotFound, 1, "the frontend of # syntax=, image docker.io/nosuch/frontend:1 not found in", ""),
    ("syntax-noreg", R::BaseImageUnreachable, 1, "the frontend of # syntax=, image nosuch.example.com/frontend:1: its re", "if this cluster reaches the outside only by a proxy"),
    ("syntax-404", R::BaseImageNotFound, 1, "the frontend of # syntax=, image registry.example.com/nosuch/frontend:", ""),
    ("syntax-notfrontend", R::BuildRejected, 1, "the image of # syntax= is not a working Dockerfile frontend", ""),
    ("escape", R::DockerfileSyntax, 0, "invalid escape token 'x' does not match ` or \\", ""),
    ("env-bad", R::DockerfileSyntax, 2, "ENV must have two arguments: ENV A", ""),
    ("expose-bad", R::DockerfileSyntax, 2, "invalid containerPort: foo", ""),
    ("hc-bad", R::DockerfileSyntax, 2, "Unknown type \"FOO\" in HEALTHCHECK (try CMD)", ""),
    ("hc-bad2", R::DockerfileSyntax, 2, "time: invalid duration \"foo\"", ""),
    ("arg-bad", R::DockerfileSyntax, 3, "failed to process \"${x\": unsupported modifier (�) in substitution", ""),
    ("onbuild-bad", R::DockerfileSyntax, 2, "FROM isn't allowed as an ONBUILD trigger", ""),
    ("onbuild-fail", R::StepFailed, 3, "ONBUILD RUN exit 5 failed with exit code 5", ""),
    ("cmd-json", R::StepFailed, 2, "RUN [\"echo\", \"a\" failed with exit code 127", "RUN looks like a JSON array but is not valid"),
    ("exit137", R::OutOfMemory, 2, "RUN exit 137 was killed (exit code: 137), most likely out of memory, because", ""),
    ("kill9", R::OutOfMemory, 2, "RUN kill -9 $$ was killed (exit code: 137), most likely out of memory, because", ""),
    ("kill15", R::StepFailed, 2, "RUN kill -15 $$ failed with exit code 143 (SIGTERM: a program was terminated)", ""),
    ("segv", R::StepFailed, 2, "RUN kill -11 $$ failed with exit code 139 (SIGSEGV: a program crashed)", ""),
    ("exit255", R::StepFailed, 2, "RUN exit 255 failed with exit code 255", ""),
    ("exit126", R::StepFailed, 2, "RUN exit 126 failed with exit code 126", ""),
    ("tmpfs", R::StepFailed, 2, "RUN dd if=/dev/zero of=/t/x bs=1M count=2 failed with exit code 1", "the builder's volume was not full: it is mos"),
    ("shm", R::StepFailed, 2, "RUN dd if=/dev/zero of=/dev/shm/x bs=1M count=80 failed with exit code ", "/dev/shm of the step is full (64 MB), not th"),
    ("nospace-echo", R::StepFailed, 2, "RUN echo \"write /x: no space left on device\"; exit 1 failed with exit c", "the builder's volume was not full: it is mos"),
    ("chmod-bad", R::DockerfileSyntax, 2, "invalid syntax: COPY --chmod=foo a /a", ""),
    ("workdir-file", R::BuildFailed, 2, "mkdir /etc/passwd: not a directory", ""),
    ("volume-ro", R::StepFailed, 2, "RUN touch /x/y failed with exit code 1", "the mount is read-only: a bind mount accepts"),
    ("entitle-in-mount", R::CopySourceNotFound, 2, "/nosuch.txt not found among the inline files (Dockerfile): the path is", ""),
    ("copy-exclude", R::CopySourceNotFound, 3, "/nosuch/b not found among the inline files (Dockerfile): the path is", ""),
    ("fromgone", R::BaseImageNotFound, 1, "base image registry.example.com/library/nosuch:1 not found in its registry: check", ""),
    ("comma-stage-step", R::StepFailed, 2, "RUN exit 4 failed with exit code 4", ""),
    ("is-not-in-0", R::CopySourceNotFound, 3, "/nosuch not found in build (stage 0): check the path there", ""),
    ("envlong", R::StepFailed, 2, "RUN [\"/bin/sh\",\"-c\",\"exit 3\"] failed with exit code 3", ""),
    ("copyfrom", R::CopySourceNotFound, 3, "/nosuch not found in build (stage 0): check the path there", ""),
    ("copyfrom2", R::CopySourceNotFound, 4, "/nosuch not found in build (stage 0): check the path there", ""),
    ("bindrw", R::CopySourceNotFound, 3, "/nosuch not found in build: check the path of --mount", ""),
    ("moved-loader", R::StepFailed, 3, "RUN mv /lib64 /l 2>/dev/null; mv /lib /l2; g x failed with exit code 12", "program g not found in"),
    ("gitaddhost", R::SourceUnreachable, 2, "ADD https://nosuch.example.com/a/b.git: the git repository cannot be r", "if this cluster reaches the outside only by a proxy"),
    ("heredocfail", R::StepFailed, 2, "RUN <<E set -e echo one false E failed with exit code 1", ""),
    ("addtar", R::DockerfileSyntax, 2, "unsupported digest algorithm: ADD --checksum=md5:00 http://files.examp", ""),
    ("pathspec", R::CopySourceNotFound, 2, "ADD http://git.example.com/nosuch.git?ref=main: the git repository can", ""),
    ("dup", R::CopySourceNotFound, 2, "ADD http://files.example.com/404/x: the server answered 404 Not Found: ", ""),
    ("crlfdf", R::StepFailed, 2, "RUN echo a && exit 3 failed with exit code 3", ""),
    ("shebangspace", R::StepFailed, 3, "RUN /run.sh failed with exit code 4", ""),
    ("script-bom", R::StepFailed, 3, "RUN /run.sh failed with exit code 4", ""),
    ("bomjson", R::StepFailed, 3, "RUN [\"/run.sh\"] failed with exit code 255", "/run.sh has a byte order mark before its #!:"),
    ("python", R::StepFailed, 3, "RUN /run.py failed with exit code 127", "the first line of /run.py names the interpre"),
    ("winheredoc", R::StepFailed, 2, "RUN <<E set -e cd /tmp E failed with exit code 2", "a script has Windows line endings (CRLF): save it"),
    ("workdirnum", R::BuildRejected, 4, "user ID too large: the builder supports IDs up to 65535, and this is 99999 (USER on line 3)", ""),
    ("copydest", R::CopySourceNotFound, 3, "/nosuch2 not found among the inline files (Dockerfile): the path is", ""),
    ("expandbad", R::DockerfileSyntax, 3, "failed to process \"${A:x}\": unsupported modifier (:x) in substitution", ""),
    ("lower", R::BuildRejected, 3, "user ID too large: the builder supports IDs up to 65535, and this is 70000 (USER on line 2)", ""),
    ("addarg2", R::CopySourceNotFound, 5, "ADD http://files.example.com/404/f-404.tgz: the server answered 404 Not", ""),
    ("onbuildadd", R::CopySourceNotFound, 2, "ADD http://files.example.com/404/f.tgz: the server answered 404 Not Fou", ""),
    ("onbuilduser", R::BuildRejected, 4, "user ID too large: the builder supports IDs up to 65535, and this is 70000 (USER on line 2)", ""),
    ("linkuid", R::BuildRejected, 2, "user ID too large: the builder supports IDs up to 65535, and this is 70000 (--chown): use", ""),
    ("copyfromlink", R::CopySourceNotFound, 3, "/nosuch not found in b: check the path there", ""),
    ("user-env", R::BuildRejected, 4, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (USER on li", ""),
    ("user-inherit", R::BuildRejected, 4, "user ID too large: the builder supports IDs up to 65535, and this is 1000740000 (USER on li", ""),
    ("user-back", R::StepFailed, 4, "RUN exit 1 failed with exit code 1", ""),
    ("multi-stagefail", R::StepFailed, 2, "RUN exit 3 failed with exit code 3", ""),
    ("comment-in", R::StepFailed, 2, "RUN echo a && exit 9 failed with exit code 9", ""),
    ("shell", R::StepFailed, 3, "RUN true failed with exit code 1", "program /bin/nosuch not found in"),
    ("mount-from-img", R::BaseImageNotFound, 2, "base image registry.example.com/library/nosuch:1 not found in its registry: check", ""),
    ("copyfrom-img", R::BaseImageNotFound, 2, "base image registry.example.com/library/nosuch:1 not found in its registry: check", ""),
    ("from-platform", R::BaseImageNotFound, 1, "base image docker.io/library/busybox:1.36 not found for platform", ""),
    ("from-platform-var", R::DockerfileSyntax, 1, "empty platform value from expression $NOSUCH", ""),
    ("tmp-enospc", R::StepFailed, 2, "RUN sh -c \"yes > /tmp/x\" failed with exit code 1", "the builder's volume was not full: it is mos"),
    ("bash-nofile", R::StepFailed, 3, "RUN /nosuch/run.sh failed with exit code 127", "if /nosuch/run.sh is there, what it needs to"),
    ("bash-interp", R::StepFailed, 4, "RUN /run.sh failed with exit code 127", "the first line of /run.sh names the interpre"),
    ("crlf-ash-body", R::StepFailed, 3, "RUN sh /run.sh failed with exit code 2", "run.sh has Windows line endings (CRLF): save it"),
    ("device", R::BuildRejected, 2, "Dockerfile line 2 requires device nvidia.com/gpu=all, which is unsupported", ""),
];

#[test]
fn each_mistake_has_its_reason_its_line_its_words_and_its_cure() {
    let mistakes = mistakes();
    let names: Vec<&str> = mistakes.iter().map(|one| one.name.as_str()).collect();
    let right: Vec<&str> = RIGHT.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, right);
    for (mistake, (name, reason, line, words, fix)) in mistakes.iter().zip(RIGHT) {
        let failure = mistake.verdict().failure;
        assert_eq!(failure.reason, *reason, "{name}: {failure:#?}");
        assert_eq!(
            failure.dockerfile_line.unwrap_or(0),
            *line,
            "{name}: {failure:#?}"
        );
        assert!(failure.message.contains(words), "{name}: {failure:#?}");
        let hint = failure.hint.as_deref().unwrap_or_default();
        assert!(hint.starts_with(fix), "{name}: {failure:#?}");
        assert_eq!(hint.is_empty(), fix.is_empty(), "{name}: {failure:#?}");
        let own_paths = failure.message.contains("cachemounts");
        assert!(
            !own_paths,
            "{name} names no path of the builder's: {failure:#?}"
        );
    }
}

#[test]
fn only_servers_that_are_away_are_asked_again() {
    for mistake in mistakes() {
        let Verdict { failure, again } = mistake.verdict();
        let away = matches!(
            failure.reason,
            R::SourceUnreachable | R::BaseImageUnreachable
        );
        assert_eq!(
            again == Again::Later,
            away,
            "{}: {failure:#?}",
            mistake.name
        );
    }
}
