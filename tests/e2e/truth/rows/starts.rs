//! What ENTRYPOINT and CMD name: scripts, shells, paths, links, users and their permissions.

use whittle_image::Fault::*;

use super::Claim::*;
use super::{Row, app, row};

const STATIC: &str = "gcr.io/distroless/static-debian12";
const DEBIAN: &str = "debian:12-slim";
const BUSYBOX: &str = "busybox:1.36";
const ALPINE: &str = "alpine:3.22";

/// A stage that starts a script of these bytes (as printf takes them), with this mode.
fn script(text: &str, mode: &str) -> String {
    format!("RUN printf '{text}' >/run.sh && chmod {mode} /run.sh\nENTRYPOINT [\"/run.sh\"]\n")
}

/// A stage with the static program at a path, and further lines.
fn at(path: &str, lines: &str) -> String {
    format!("COPY --from=go /out/static {path}\n{lines}")
}

#[rustfmt::skip]
/// The stage of a program with a file capability, by its number.
fn capable(number: &str, bits: &str) -> String {
    app("go", "static")
        + &format!("RUN --mount=from=doctor,target=/d [\"/d/doctor\", \"capability\", \"/app\", \"{number}\", \"{bits}\"]\n")
}

pub fn rows() -> Vec<Row> {
    vec![
        // Scripts.
        row(
            "script",
            BUSYBOX,
            "sh",
            script("#!/bin/sh\\necho it ran\\n", "755"),
            Starts,
        ),
        row(
            "script-without-interpreter",
            BUSYBOX,
            "bash",
            script("#!/bin/bash\\necho it ran\\n", "755"),
            Fails(
                MissingInterpreter,
                "exec /run.sh: no such file or directory",
            ),
        ),
        row(
            "script-from-windows",
            BUSYBOX,
            "sh, CRLF",
            script("#!/bin/sh\\r\\necho it ran\\r\\n", "755"),
            Fails(
                MissingInterpreter,
                "exec /run.sh: no such file or directory",
            ),
        ),
        row(
            "script-not-executable",
            BUSYBOX,
            "sh, mode 644",
            script("#!/bin/sh\\necho it ran\\n", "644"),
            Fails(NotPermitted, "permission denied"),
        ),
        row(
            "script-not-readable",
            BUSYBOX,
            "sh, mode 711",
            script("#!/bin/sh\\necho it ran\\n", "711") + "USER 65532\n",
            Fails(NotPermitted, "Permission denied"),
        ),
        row(
            "script-without-first-line",
            BUSYBOX,
            "sh, no #!",
            script("echo it ran\\n", "755"),
            Fails(NotExecutable, "exec format error"),
        ),
        row(
            "script-of-script",
            BUSYBOX,
            "sh, twice",
            "RUN printf '#!/bin/sh\\nexec sh \"$@\"\\n' >/outer && chmod 755 /outer\n".to_owned()
                + &script("#!/outer\\necho it ran\\n", "755"),
            Starts,
        ),
        row(
            "env-python",
            "python:3.11-slim",
            "Python, env",
            script("#!/usr/bin/env python3\\nprint(\"it ran\")\\n", "755"),
            Starts,
        ),
        row(
            "env-python-missing",
            DEBIAN,
            "Python, env",
            script("#!/usr/bin/env python3\\nprint(\"it ran\")\\n", "755"),
            Fails(MissingInterpreter, "exit code 127"),
        ),
        row(
            "env-split",
            DEBIAN,
            "sh, env -S",
            script("#!/usr/bin/env -S sh -e\\necho it ran\\n", "755"),
            Starts,
        ),
        row(
            "env-two-words",
            DEBIAN,
            "sh, env",
            script("#!/usr/bin/env sh -e\\necho it ran\\n", "755"),
            Fails(MissingInterpreter, "exit code 127"),
        ),
        row(
            "node",
            "node:18-slim",
            "Node.js",
            "WORKDIR /srv\nRUN echo \"console.log(\\\"it ran\\\")\" >app.js\nCMD [\"node\", \"app.js\"]\n",
            Starts,
        ),
        row(
            "node-missing",
            DEBIAN,
            "Node.js",
            "WORKDIR /srv\nRUN echo \"console.log(\\\"it ran\\\")\" >app.js\nCMD [\"node\", \"app.js\"]\n",
            Fails(NotFound, "executable file not found in $PATH"),
        ),
        row(
            "python",
            "python:3.11-slim",
            "Python",
            "RUN echo \"print(\\\"it ran\\\")\" >/app.py\nENTRYPOINT [\"python3\"]\nCMD [\"/app.py\"]\n",
            Starts,
        ),
        // The shell form.
        row(
            "shell-form-scratch",
            "scratch",
            "Go, static",
            at("/app", "ENTRYPOINT /app\n"),
            Fails(NotFound, "/bin/sh: no such file or directory"),
        ),
        row(
            "shell-form-busybox",
            BUSYBOX,
            "Go, static",
            at("/app", "ENTRYPOINT /app\n"),
            Starts,
        ),
        row(
            "shell-form-without-program",
            BUSYBOX,
            "none",
            "ENTRYPOINT /app\n",
            Fails(NotFound, "exit code 127"),
        ),
        row(
            "shell-form-not-executable",
            BUSYBOX,
            "Go, static",
            "COPY --from=go --chmod=644 /out/static /app\nENTRYPOINT exec /app\n",
            Fails(NotPermitted, "exit code 126"),
        ),
        // Paths.
        row(
            "no-such-file",
            "scratch",
            "Go, static",
            at("/app", "ENTRYPOINT [\"/server\"]\n"),
            Fails(NotFound, "/server: no such file or directory"),
        ),
        row(
            "a-folder",
            BUSYBOX,
            "none",
            "RUN mkdir /app\nENTRYPOINT [\"/app\"]\n",
            Fails(NotExecutable, "is a directory"),
        ),
        row(
            "relative",
            "scratch",
            "Go, static",
            at("/srv/app", "WORKDIR /srv\nENTRYPOINT [\"./app\"]\n"),
            Starts,
        ),
        row(
            "in-path",
            STATIC,
            "Go, static",
            at("/usr/local/bin/app", "ENTRYPOINT [\"app\"]\n"),
            Starts,
        ),
        row(
            "not-in-path",
            "scratch",
            "Go, static",
            at("/srv/app", "ENTRYPOINT [\"app\"]\n"),
            Fails(NotFound, "executable file not found in $PATH"),
        ),
        row(
            "path-emptied",
            "scratch",
            "Go, static",
            at("/app", "ENV PATH=\nENTRYPOINT [\"app\"]\n"),
            Fails(NotFound, "executable file not found in $PATH"),
        ),
        row(
            "path-with-empty-entry",
            "scratch",
            "Go, static",
            at("/app", "ENV PATH=/bin::/sbin\nENTRYPOINT [\"app\"]\n"),
            Fails(
                NotFound,
                "cannot run executable found relative to current directory",
            ),
        ),
        row(
            "nothing-to-start",
            "scratch",
            "none",
            "COPY --from=go /out/static /app\n",
            Fails(NoCommand, "no command specified"),
        ),
        row(
            "arguments-in-one-word",
            "scratch",
            "Go, static",
            at("/app", "ENTRYPOINT [\"/app --port 8080\"]\n"),
            Fails(NotFound, "no such file or directory"),
        ),
        row(
            "not-executable",
            "scratch",
            "Go, static",
            "COPY --from=go --chmod=644 /out/static /app\nENTRYPOINT [\"/app\"]\n",
            Fails(NotPermitted, "permission denied"),
        ),
        row(
            "removed-later",
            BUSYBOX,
            "Go, static",
            at("/app", "RUN rm /app\nENTRYPOINT [\"/app\"]\n"),
            Fails(NotFound, "/app: no such file or directory"),
        ),
        // Links.
        row(
            "link-absolute",
            BUSYBOX,
            "Go, static",
            at(
                "/srv/app",
                "RUN ln -s /srv/app /app\nENTRYPOINT [\"/app\"]\n",
            ),
            Starts,
        ),
        row(
            "link-to-nothing",
            BUSYBOX,
            "Go, static",
            at(
                "/srv/app",
                "RUN ln -s /srv/server /app\nENTRYPOINT [\"/app\"]\n",
            ),
            Fails(NotFound, "/app: no such file or directory"),
        ),
        row(
            "link-loop",
            BUSYBOX,
            "none",
            "RUN ln -s /app /again && ln -s /again /app\nENTRYPOINT [\"/app\"]\n",
            Fails(NotFound, "too many levels of symbolic links"),
        ),
        // File capabilities: BusyBox's layers are unpacked, and the attribute with them.
        row(
            "capability-of-no-container",
            BUSYBOX,
            "Go, static",
            capable("14", "effective"),
            Fails(Capabilities, "operation not permitted"),
        ),
        row(
            "capability-of-most-containers",
            BUSYBOX,
            "Go, static",
            capable("10", "effective"),
            Depends("operation not permitted"),
        ),
        row(
            "capability-without-effective-bit",
            BUSYBOX,
            "Go, static",
            capable("14", "permitted"),
            Starts,
        ),
        row(
            "capability-lost-by-a-copy",
            BUSYBOX,
            "Go, static",
            capable("14", "effective") + "RUN cp /app /copy && mv /copy /app\n",
            Starts,
        ),
        // WORKDIR.
        row(
            "workdir-is-a-file",
            BUSYBOX,
            "Go, static",
            app("go", "static") + "WORKDIR /work\nRUN rmdir /work && touch /work\n",
            Fails(WorkingDirectory, "not a directory"),
        ),
        row(
            "workdir-leads-to-nothing",
            BUSYBOX,
            "Go, static",
            app("go", "static") + "WORKDIR /work\nRUN rmdir /work && ln -s /none /work\n",
            Fails(WorkingDirectory, "file exists"),
        ),
        // Text for a shell.
        row(
            "list-is-no-json",
            BUSYBOX,
            "Go, static",
            at("/app", "ENTRYPOINT [\"/app\"] # it\n"),
            Fails(ShellText, "not found"),
        ),
        row(
            "list-with-single-quotes",
            BUSYBOX,
            "Go, static",
            at("/app", "CMD ['/app']\n"),
            Fails(ShellText, "not found"),
        ),
        row(
            "shell-form-of-nothing",
            BUSYBOX,
            "none",
            "ENTRYPOINT server --port 80\n",
            Fails(NotFound, "server: not found"),
        ),
        // Users.
        row(
            "user-by-name",
            ALPINE,
            "Go, static",
            app("go", "static") + "USER nobody\n",
            Starts,
        ),
        row(
            "user-missing",
            BUSYBOX,
            "Go, static",
            app("go", "static") + "USER app\n",
            Fails(UnknownUser, "no users found"),
        ),
        row(
            "group-missing",
            BUSYBOX,
            "Go, static",
            app("go", "static") + "USER 65532:web\n",
            Starts,
        ),
        row(
            "user-may-not-run",
            "scratch",
            "Go, static",
            "COPY --from=go --chmod=700 /out/static /app\nENTRYPOINT [\"/app\"]\nUSER 65532\n",
            Depends("permission denied"),
        ),
        row(
            "user-owns-it",
            "scratch",
            "Go, static",
            "COPY --from=go --chmod=700 --chown=65532 /out/static /app\nENTRYPOINT [\"/app\"]\nUSER 65532\n",
            Starts,
        ),
        row(
            "user-may-not-enter",
            BUSYBOX,
            "Go, static",
            at(
                "/srv/app",
                "RUN chmod 700 /srv\nENTRYPOINT [\"/srv/app\"]\nUSER 65532\n",
            ),
            Depends("permission denied"),
        ),
        row(
            "user-may-not-run-in-shell-form",
            BUSYBOX,
            "Go, static",
            "COPY --from=go --chmod=700 /out/static /app\nENTRYPOINT /app\nUSER 65532\n",
            Fails(NotPermitted, "exit code 126"),
        ),
        row(
            "user-of-group-may-not-run",
            BUSYBOX,
            "Go, static",
            "COPY --from=go --chmod=750 --chown=0:50 /out/static /app\nENTRYPOINT [\"/app\"]\nUSER 65532:50\n",
            Depends("permission denied"),
        ),
    ]
}
