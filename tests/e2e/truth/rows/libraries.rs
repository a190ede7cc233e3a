//! Where a loader looks for libraries, and one missing piece at a time.

use whittle_image::Fault::*;

use super::Claim::*;
use super::{Row, app, row};

const BASE: &str = "gcr.io/distroless/base-debian12";
const DEBIAN: &str = "debian:12-slim";
const BUSYBOX: &str = "busybox:1.36";
const ALPINE: &str = "alpine:3.22";
const NO_GREET: &str = "libgreet.so.1: cannot open shared object file";
const NO_LIBC: &str = "libc.so.6: cannot open shared object file";

/// A stage with `/app` of the programs that need libgreet, and lines before it.
fn greeted(program: &str, lines: &str) -> String {
    lines.to_owned() + &app("lib", program)
}

/// A stage with a dynamic program of C and what these lines copy for it.
fn bare(lines: &str) -> String {
    lines.to_owned() + &app("c", "dynamic")
}

const LOADER: &str = "COPY --from=c /out/glibc/ld-linux-x86-64.so.2 /lib64/\n";

#[rustfmt::skip]
pub fn rows() -> Vec<Row> {
    let loader_and = |lines: &str| bare(&format!("{LOADER}{lines}"));
    vec![
        // One piece at a time.
        row("libc-missing", "scratch", "C, glibc", bare(LOADER), Fails(MissingLibraries, NO_LIBC)),
        row("loader-and-libc", "scratch", "C, glibc", loader_and("COPY --from=c /out/glibc/libc.so.6 /lib/\n"), Starts),
        // Debian's loader does not search /lib64, where it lies itself; Fedora's does.
        row("libc-beside-loader", "scratch", "C, glibc", loader_and("COPY --from=c /out/glibc/libc.so.6 /lib64/\n"), Fails(MissingLibraries, NO_LIBC)),
        row("loader-missing", "scratch", "C, glibc", bare("COPY --from=c /out/glibc/libc.so.6 /lib/\n"), Fails(MissingLoader, "exec /app: no such file or directory")),
        row("loader-not-executable", "scratch", "C, glibc",
            bare("COPY --from=c --chmod=644 /out/glibc/ld-linux-x86-64.so.2 /lib64/\nCOPY --from=c /out/glibc/libc.so.6 /lib/\n"), Fails(MissingLoader, "exec /app: permission denied")),
        row("libc-link-dangles", "scratch", "C, glibc", loader_and("COPY --from=links /glibc/ /lib/\n"), Fails(MissingLibraries, NO_LIBC)),
        row("one-library-missing", "scratch", "C, glibc",
            greeted("plain", &format!("{LOADER}COPY --from=c /out/glibc/libc.so.6 /lib/\n")), Fails(MissingLibraries, NO_GREET)),
        row("loader-as-program", BASE, "C, glibc", "COPY --from=c /out/dynamic /app\nENTRYPOINT [\"/lib64/ld-linux-x86-64.so.2\", \"/app\"]\n", Starts),
        // A library of one's own.
        row("library-in-usr-lib", BASE, "C, own library", greeted("plain", "COPY --from=lib /out/libgreet.so.1 /usr/lib/\n"), Starts),
        row("library-in-opt", BASE, "C, own library", greeted("plain", "COPY --from=lib /out/libgreet.so.1 /opt/greet/\n"), Fails(MissingLibraries, NO_GREET)),
        row("rpath", BASE, "C, RPATH", greeted("rpath", "COPY --from=lib /out/libgreet.so.1 /opt/greet/\n"), Starts),
        row("runpath-origin", BASE, "C, RUNPATH $ORIGIN", greeted("origin", "COPY --from=lib /out/libgreet.so.1 /\n"), Starts),
        row("runpath-origin-by-link", BUSYBOX, "C, RUNPATH $ORIGIN",
            "COPY --from=lib /out/origin /out/libgreet.so.1 /opt/greet/\nRUN ln -s /opt/greet/origin /app\nENTRYPOINT [\"/app\"]\n", Starts),
        row("chain-rpath", BASE, "C, RPATH, two libraries", greeted("chain-rpath", "COPY --from=lib /out/chain/ /opt/chain/\n"), Starts),
        row("chain-runpath", BASE, "C, RUNPATH, two libraries", greeted("chain-runpath", "COPY --from=lib /out/chain/ /opt/chain/\n"),
            Fails(MissingLibraries, "libdeep.so.1: cannot open shared object file")),
        row("library-path", BASE, "C, LD_LIBRARY_PATH", greeted("plain", "COPY --from=lib /out/libgreet.so.1 /opt/greet/\nENV LD_LIBRARY_PATH=/opt/greet\n"), Starts),
        row("library-path-of-setuid", BASE, "C, LD_LIBRARY_PATH, setuid",
            "COPY --from=lib /out/libgreet.so.1 /opt/greet/\nENV LD_LIBRARY_PATH=/opt/greet\nCOPY --from=lib --chmod=4755 /out/plain /app\nUSER 65532\nENTRYPOINT [\"/app\"]\n",
            Fails(MissingLibraries, NO_GREET)),
        row("ldconfig", DEBIAN, "C, ld.so.conf.d", greeted("plain", "COPY --from=lib /out/libgreet.so.1 /opt/greet/\nRUN echo /opt/greet >/etc/ld.so.conf.d/greet.conf && ldconfig\n"), Starts),
        row("ldconfig-forgotten", DEBIAN, "C, ld.so.conf.d", greeted("plain", "COPY --from=lib /out/libgreet.so.1 /opt/greet/\nRUN echo /opt/greet >/etc/ld.so.conf.d/greet.conf\n"),
            Fails(MissingLibraries, NO_GREET)),
        row("library-removed-after-ldconfig", DEBIAN, "C, ld.so.conf.d",
            greeted("plain", "COPY --from=lib /out/libgreet.so.1 /opt/greet/\nRUN echo /opt/greet >/etc/ld.so.conf.d/greet.conf && ldconfig\nRUN rm /opt/greet/libgreet.so.1\n"),
            Fails(MissingLibraries, NO_GREET)),
        row("library-unreadable", BASE, "C, own library", greeted("plain", "COPY --from=lib --chmod=600 /out/libgreet.so.1 /usr/lib/\n"),
            Fails(MissingLibraries, "libgreet.so.1: cannot open shared object file: Permission denied")),
        row("library-in-closed-folder", BUSYBOX, "C, RPATH", greeted("rpath", "COPY --from=lib /out/libgreet.so.1 /opt/greet/\nRUN chmod 700 /opt/greet\nUSER 65532\n"),
            Fails(MissingLibraries, NO_GREET)),
        // Kubernetes passes over the group of USER: here it is that of /etc/passwd, and 0 where that has no such user.
        row("library-for-group-of-user", BASE, "C, own library", greeted("plain", "COPY --from=lib --chmod=640 --chown=0:50 /out/libgreet.so.1 /usr/lib/\nUSER 65532:50\n"),
            Fails(MissingLibraries, "libgreet.so.1: cannot open shared object file: Permission denied")),
        row("library-for-group-of-root", BUSYBOX, "C, own library", greeted("plain", "COPY --from=lib --chmod=640 /out/libgreet.so.1 /lib/\nUSER 65532:65532\n"), Starts),
        row("library-of-other-machine", BASE, "C, own library", greeted("plain", "COPY --from=go /out/other-machine /usr/lib/libgreet.so.1\n"), Fails(MissingLibraries, NO_GREET)),
        row("library-is-text", BASE, "C, own library", greeted("plain", "COPY --from=lib /out/greet.c /usr/lib/libgreet.so.1\n"), Fails(MissingLibraries, "invalid ELF header")),
        row("library-too-old", BASE, "C, own library", greeted("needs-newer-greet", "COPY --from=lib /out/later/libgreet.so.1 /usr/lib/\n"),
            Fails(OldLibraries, "version `GREET_2' not found")),
        row("glibc-too-old", BASE, "C, a later glibc", app("lib", "needs-newer-libc"), Fails(OldLibraries, "version `GLIBC_2.99' not found")),
        row("musl-library", ALPINE, "C, musl, own library", "COPY --from=musl /out/libgreet.so.1 /usr/local/lib/\n".to_owned() + &app("musl", "greeted"), Starts),
        row("musl-library-missing", ALPINE, "C, musl, own library", app("musl", "greeted"), Fails(MissingLibraries, "Error loading shared library libgreet.so.1")),
    ]
}
