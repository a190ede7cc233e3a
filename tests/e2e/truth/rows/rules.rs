//! What the other rules promise, tried by the doctor (see sources/doctor.go) in the image itself.

use whittle_image::Rule::*;

use super::Claim::*;
use super::{Row, app, row};

const STATIC: &str = "gcr.io/distroless/static-debian12";
const BASE: &str = "gcr.io/distroless/base-debian12";
const DEBIAN: &str = "debian:12-slim";
const BUSYBOX: &str = "busybox:1.36";
const ALPINE: &str = "alpine:3.22";
const DOCTOR: &str = "Go, doctor";

/// A stage in which the doctor does one thing.
fn doctor(task: &str, lines: &str) -> String {
    format!("COPY --from=doctor /doctor /doctor\nENTRYPOINT [\"/doctor\", \"{task}\"]\n{lines}")
}

/// One in which it speaks TLS with a server whose certificate is of a valid or an expired authority.
fn tls(authority: &str, lines: &str) -> String {
    doctor(
        "tls",
        &format!("COPY --from=doctor /tls/{authority}/server.* /server/\n{lines}"),
    )
}

#[rustfmt::skip]
pub fn rows() -> Vec<Row> {
    vec![
        row("static-rule-kept", "scratch", "Rust, +crt-static", app("rust", "static"), Keeps(StaticBinary)),
        row("static-rule-broken", "scratch", "C, glibc", app("c", "dynamic"), Breaks(StaticBinary, "no such file or directory")),
        row("authorities", "scratch", DOCTOR, tls("valid", "COPY --from=doctor /tls/valid/authority.pem /etc/ssl/certs/ca-certificates.crt\n"), Keeps(CACertificates)),
        row("authorities-missing", "scratch", DOCTOR, tls("valid", ""), Breaks(CACertificates, "certificate signed by unknown authority")),
        row("authorities-expired", "scratch", DOCTOR, tls("expired", "COPY --from=doctor /tls/expired/authority.pem /etc/ssl/certs/ca-certificates.crt\n"),
            Breaks(CACertificates, "certificate has expired")),
        row("authorities-by-variable", "scratch", DOCTOR, tls("valid", "COPY --from=doctor /tls/valid/authority.pem /authorities.pem\nENV SSL_CERT_FILE=/authorities.pem\n"), Keeps(CACertificates)),
        row("authorities-by-wrong-variable", "scratch", DOCTOR,
            tls("valid", "COPY --from=doctor /tls/valid/authority.pem /etc/ssl/cert.pem\nENV SSL_CERT_FILE=/authorities.pem\n"), Breaks(CACertificates, "certificate signed by unknown authority")),
        row("authorities-in-folder", "scratch", DOCTOR, tls("valid", "COPY --from=doctor /tls/valid/authority.pem /etc/ssl/certs/\n"), Keeps(CACertificates)),
        row("authorities-unreadable", "scratch", DOCTOR,
            tls("valid", "COPY --from=doctor --chmod=600 /tls/valid/authority.pem /etc/ssl/certs/ca-certificates.crt\nUSER 65532\n"), Breaks(CACertificates, "failed to verify certificate")),
        row("time-zones", STATIC, DOCTOR, doctor("zone", ""), Keeps(TimeZones)),
        row("time-zones-missing", "scratch", DOCTOR, doctor("zone", ""), Breaks(TimeZones, "unknown time zone Europe/Berlin")),
        row("time-zones-by-variable", "scratch", DOCTOR, doctor("zone", "COPY --from=gcr.io/distroless/static-debian12 /usr/share/zoneinfo /zones\nENV ZONEINFO=/zones\n"), Keeps(TimeZones)),
        row("tmp", STATIC, DOCTOR, doctor("tmp", ""), Keeps(TmpDirectory)),
        row("tmp-missing", "scratch", DOCTOR, doctor("tmp", ""), Breaks(TmpDirectory, "no such file or directory")),
        row("tmp-closed", BUSYBOX, DOCTOR, doctor("tmp", "RUN chmod 755 /tmp\nUSER 65532\n"), Breaks(TmpDirectory, "permission denied")),
        row("user-is-root", "scratch", DOCTOR, doctor("nothing", ""), Breaks(NonRoot, "image will run as root")),
        row("user-is-not-root", "scratch", DOCTOR, doctor("nothing", "USER 65532:65532\n"), Keeps(NonRoot)),
        row("user-is-a-name", ALPINE, DOCTOR, doctor("nothing", "USER nobody\n"), Breaks(NumericUser, "non-numeric user (nobody)")),
        row("no-shell", STATIC, DOCTOR, doctor("shell", ""), Keeps(NoShell)),
        row("a-shell", BUSYBOX, DOCTOR, doctor("shell", ""), Breaks(NoShell, "a shell runs: sh")),
        row("a-shell-that-cannot-run", "scratch", DOCTOR, doctor("shell", "COPY --from=busybox:1.36 /bin/busybox /bin/sh\n"), Keeps(NoShell)),
        row("no-package-manager", BASE, DOCTOR, doctor("packages", ""), Keeps(NoPackageManager)),
        row("a-package-manager", DEBIAN, DOCTOR, doctor("packages", ""), Breaks(NoPackageManager, "a package manager runs: apt-get")),
        row("no-setuid", "scratch", DOCTOR, doctor("rights", "USER 65532\n"), Keeps(NoSetuid)),
        row("setuid", "scratch", DOCTOR, "COPY --from=doctor --chmod=4755 /doctor /doctor\nENTRYPOINT [\"/doctor\", \"rights\"]\nUSER 65532\n", Breaks(NoSetuid, "user 65532 has the rights of user 0")),
        row("another-machine", "scratch", "Go, another GOARCH", app("go", "other-machine"), Breaks(PlatformMatches, "exec format error")),
        row("another-platform", "--platform=linux/arm64 scratch", "Go, another GOARCH", app("go", "other-machine"), Breaks(PlatformMatches, "exec format error")),
    ]
}
