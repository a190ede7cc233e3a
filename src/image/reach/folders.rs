//! Which folders say something when a file names them, and which names are those of things that no program needs.

/// Folders that are kept whole where a file names them: deep enough to be about one thing.
///
/// `path`: from the root, without a slash before or behind.
pub(super) fn is_about_one_thing(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [] | [_] => false,
        ["etc", name] => !ETC.contains(name),
        ["etc", name, ..] => !ETC.contains(name),
        ["opt" | "srv", _] => true,
        ["var", "www"] => true,
        ["var", "lib", name, ..] => !matches!(*name, "apt" | "dpkg" | "systemd" | "pam" | "ucf"),
        ["var", "cache" | "log" | "tmp" | "spool" | "backups", ..] => false,
        ["usr", "share", name, ..] => !SHARE.contains(name),
        ["usr", "local", rest @ ..] => {
            rest.len() > 1
                && !matches!(rest, ["lib" | "go", _, ..] if is_language(rest[1]) || rest[0] == "go")
        }
        ["usr", "lib" | "lib64" | "libexec", name] => !is_triplet(name) && !is_language(name),
        ["usr", "lib" | "lib64" | "libexec", name, rest @ ..] => {
            let inner = rest.first().is_some_and(|name| is_language(name));
            !is_language(name) && (!is_triplet(name) || !inner)
        }
        ["lib" | "lib64", name] => !is_triplet(name),
        ["usr", "include" | "src", ..] => false,
        ["root" | "home" | "proc" | "sys" | "dev" | "run" | "tmp", ..] => false,
        _ => parts.len() > 2,
    }
}

/// Folders of /etc that are about many things, or about none that runs in a container.
const ETC: [&str; 20] = [
    "alternatives",
    "apt",
    "cron.d",
    "cron.daily",
    "cron.hourly",
    "cron.monthly",
    "cron.weekly",
    "default",
    "dpkg",
    "init.d",
    "init",
    "kernel",
    "ld.so.conf.d",
    "logrotate.d",
    "modprobe.d",
    "opt",
    "profile.d",
    "rc.d",
    "skel",
    "systemd",
];

/// Folders of /usr/share that hold texts, or what is kept by rules of its own.
const SHARE: [&str; 16] = [
    "applications",
    "bash-completion",
    "bug",
    "common-licenses",
    "doc",
    "doc-base",
    "gdb",
    "i18n",
    "icons",
    "info",
    "lintian",
    "locale",
    "man",
    "menu",
    "pixmaps",
    "zsh",
];

/// `x86_64-linux-gnu`
fn is_triplet(name: &str) -> bool {
    name.contains("-linux-")
}

/// Where a language keeps its modules: whole or absent, by the rule for that language.
fn is_language(name: &str) -> bool {
    let version = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || c == '.');
    [
        "python",
        "perl",
        "ruby",
        "gcc",
        "go",
        "go-",
        "jvm",
        "php",
        "node_modules",
        "llvm-",
        "rustlib",
        "locale",
    ]
    .iter()
    .any(|known| name.strip_prefix(known).is_some_and(version))
        || name == "perl-base"
        || name == "perl5"
}

/// Documentation, and texts in other languages.
pub(super) fn is_prose(parts: &[&[u8]]) -> bool {
    matches!(
        parts,
        [
            b"usr",
            b"share",
            b"doc" | b"man" | b"info" | b"lintian" | b"locale" | b"bug",
            _,
            ..
        ] | [b"usr", b"local", b"share", b"doc" | b"man" | b"info", _, ..]
            | [b"usr", b"include", ..]
    )
}

/// OpenSSL's scripts for keeping a certificate authority by hand, beside what its library opens. Each brings all of Perl with it.
pub(super) fn is_for_hands(parts: &[&[u8]]) -> bool {
    matches!(
        parts,
        [b"usr", b"lib" | b"lib64", b"ssl", b"misc", ..]
            | [b"etc", b"ssl", b"misc", ..]
            | [b"etc", b"pki", b"tls", b"misc", ..]
    )
}

/// What package managers, compilers and languages leave behind, and what is for reading: nothing that a program of the image
/// needs, whoever made it. Names from the root, without a slash before.
pub(super) fn is_leftover(parts: &[&[u8]]) -> bool {
    match parts {
        [b"var", b"cache" | b"log" | b"backups", ..] => parts.len() > 2,
        [b"var", b"lib", b"apt", ..] => parts.len() > 3,
        [b"var", b"lib", b"dpkg", ..] => parts.len() > 3,
        [b"etc", b"apk", _, ..] => false,
        _ if is_prose(parts) => true,
        [b"tmp", _, ..] | [b"var", b"tmp", _, ..] => true,
        [b"root", rest @ ..] | [b"home", _, rest @ ..] => match rest {
            [b".cache", name, ..] => CACHES.contains(name),
            [b"go", b"pkg", ..] | [b".config", b"go", b"telemetry", ..] => true,
            [name, ..] => LEFT_AT_HOME.contains(name),
            [] => false,
        },
        // Modules that Go has downloaded.
        [b"go", b"pkg", _, ..] => true,
        _ => false,
    }
}

/// Caches of tools that build. Others hold what a program loads: models, browsers.
const CACHES: [&[u8]; 12] = [
    b"bazel",
    b"ccache",
    b"go-build",
    b"golangci-lint",
    b"mozilla",
    b"node-gyp",
    b"npm",
    b"pip",
    b"pnpm",
    b"sccache",
    b"uv",
    b"yarn",
];

const LEFT_AT_HOME: [&[u8]; 11] = [
    b".npm",
    b".cargo",
    b".rustup",
    b".m2",
    b".gradle",
    b".gnupg",
    b".wget-hsts",
    b".bash_history",
    b".node-gyp",
    b".yarn",
    b".pnpm-store",
];

/// Programs that build others: what they need is not known, so an image that starts one is left as it is.
pub(super) const BUILDERS: [&str; 14] = [
    "ant", "bazel", "c++", "cargo", "cc", "clang", "g++", "gcc", "go", "gradle", "make", "mvn",
    "rustc", "sbt",
];

/// Whole toolchains, where a base brings them.
pub(super) fn is_toolchain(parts: &[&[u8]]) -> bool {
    matches!(
        parts,
        [b"usr", b"local", b"go" | b"cargo" | b"rustup", ..]
            | [b"usr", b"lib", b"go" | b"gcc" | b"rustlib", ..]
            | [b"opt", b"yarn" | b"gradle" | b"maven", ..]
            | [b"usr", b"share", b"maven" | b"gradle", ..]
    )
}

/// What a compiler has read: modules, and the language's own sources. Programs have their names for messages.
pub(super) fn is_source(parts: &[&[u8]]) -> bool {
    is_toolchain(parts)
        || matches!(
            parts,
            [b"go", b"pkg", ..]
                | [b"root", b"go" | b".cargo" | b".rustup", ..]
                | [b"home", _, b"go" | b".cargo" | b".rustup", ..]
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_about_one_thing_is_kept_whole_where_it_is_named() {
        for (path, expected) in [
            ("etc/nginx", true),
            ("etc/ssl/certs", true),
            ("etc/init.d", false),
            ("etc", false),
            ("usr/share/nginx", true),
            ("usr/share/locale", false),
            ("usr/share/misc", true),
            ("usr/lib/x86_64-linux-gnu", false),
            ("usr/lib/x86_64-linux-gnu/gconv", true),
            ("usr/lib/x86_64-linux-gnu/perl", false),
            ("usr/lib/x86_64-linux-gnu/perl/5.36", false),
            ("usr/lib/ssl", true),
            ("usr/lib/python3.11", false),
            ("usr/lib/locale", false),
            ("usr/local/lib", false),
            ("usr/local/lib/node_modules", false),
            ("usr/local/lib/mylib", true),
            ("usr/local/go", false),
            ("usr/local/go/src", false),
            ("opt/app", true),
            ("var/lib/dpkg", false),
            ("var/lib/app", true),
            ("usr/include/x", false),
        ] {
            assert_eq!(is_about_one_thing(path), expected, "{path}");
        }
    }
}
