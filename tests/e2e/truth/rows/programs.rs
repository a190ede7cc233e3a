//! Programs of each toolchain on each base: what they were linked with, and what the base has of it.

use whittle_image::Fault::*;

use super::Claim::*;
use super::{Row, app, row};

const STATIC: &str = "gcr.io/distroless/static-debian12";
const BASE: &str = "gcr.io/distroless/base-debian12";
const DEBIAN: &str = "debian:12-slim";
const ALPINE: &str = "alpine:3.22";
const BUSYBOX: &str = "busybox:1.36";
/// What Linux says where the loader of a program is missing.
const NO_LOADER: &str = "exec /app: no such file or directory";

#[rustfmt::skip]
pub fn rows() -> Vec<Row> {
    vec![
        row("go-static-scratch", "scratch", "Go, static", app("go", "static"), Starts),
        row("go-static-distroless", STATIC, "Go, static", app("go", "static"), Starts),
        row("go-stripped-scratch", "scratch", "Go, -s -w", app("go", "stripped"), Starts),
        row("go-pie-scratch", "scratch", "Go, -buildmode=pie", app("go", "pie"), Fails(MissingLoader, NO_LOADER)),
        row("go-pie-debian", DEBIAN, "Go, -buildmode=pie", app("go", "pie"), Starts),
        row("go-cgo-scratch", "scratch", "Go, cgo", app("go", "cgo"), Fails(MissingLoader, NO_LOADER)),
        row("go-cgo-distroless", BASE, "Go, cgo", app("go", "cgo"), Starts),
        row("go-cgo-debian", DEBIAN, "Go, cgo", app("go", "cgo"), Starts),
        row("go-cgo-busybox", BUSYBOX, "Go, cgo", app("go", "cgo"), Starts),
        row("go-cgo-alpine", ALPINE, "Go, cgo", app("go", "cgo"), Fails(MissingLoader, NO_LOADER)),
        row("go-cgo-static-scratch", "scratch", "Go, cgo, -extldflags -static", app("go", "cgo-static"), Starts),
        row("go-other-machine", "scratch", "Go, another GOARCH", app("go", "other-machine"), Fails(WrongMachine, "exec format error")),
        row("go-windows", "scratch", "Go, GOOS=windows", app("go", "hello.exe"), Fails(NotExecutable, "exec format error")),
        row("rust-dynamic-scratch", "scratch", "Rust, glibc", app("rust", "dynamic"), Fails(MissingLoader, NO_LOADER)),
        row("rust-dynamic-distroless", BASE, "Rust, glibc", app("rust", "dynamic"), Fails(MissingLibraries, "libgcc_s.so.1: cannot open shared object file")),
        row("rust-dynamic-debian", DEBIAN, "Rust, glibc", app("rust", "dynamic"), Starts),
        row("rust-static-scratch", "scratch", "Rust, +crt-static", app("rust", "static"), Starts),
        row("c-dynamic-scratch", "scratch", "C, glibc", app("c", "dynamic"), Fails(MissingLoader, NO_LOADER)),
        row("c-dynamic-distroless", BASE, "C, glibc", app("c", "dynamic"), Starts),
        row("c-no-pie-debian", DEBIAN, "C, -no-pie -s", app("c", "no-pie"), Starts),
        row("c-static-scratch", "scratch", "C, -static", app("c", "static"), Starts),
        row("c-static-pie-scratch", "scratch", "C, -static-pie", app("c", "static-pie"), Starts),
        row("cxx-distroless", BASE, "C++, glibc", app("c", "cxx"), Fails(MissingLibraries, "libstdc++.so.6: cannot open shared object file")),
        row("cxx-debian", DEBIAN, "C++, glibc", app("c", "cxx"), Starts),
        row("cxx-own-distroless", BASE, "C++, -static-libstdc++ -static-libgcc", app("c", "cxx-own"), Starts),
        row("musl-static-scratch", "scratch", "C, musl, -static", app("musl", "static"), Starts),
        row("musl-dynamic-scratch", "scratch", "C, musl", app("musl", "dynamic"), Fails(MissingLoader, NO_LOADER)),
        row("musl-dynamic-debian", DEBIAN, "C, musl", app("musl", "dynamic"), Fails(MissingLoader, NO_LOADER)),
        row("musl-dynamic-alpine", ALPINE, "C, musl", app("musl", "dynamic"), Starts),
        row("musl-with-loader", "scratch", "C, musl", "COPY --from=musl /out/loader/ /lib/\n".to_owned() + &app("musl", "dynamic"), Starts),
        row("object-file", "scratch", "C, -c", app("c", "object.o"), Fails(NotExecutable, "exec format error")),
        row("library-as-program", DEBIAN, "C, -shared", app("lib", "libgreet.so.1"), Fails(NotExecutable, "exit code 139")),
        row("program-without-end", "scratch", "C, -static", app("c", "halved"), Fails(NotExecutable, "exit code 139")),
        row("program-without-headers", "scratch", "C, -static", app("c", "headless"), Fails(NotExecutable, "exec format error")),
    ]
}
