//! Runtimes of languages: whole or absent, since modules are loaded by names that are computed, and late.

use super::Why;
use super::folders::is_for_hands;
use super::walk::Walk;
use crate::tree::{Kind, NodeId};

/// What of a runtime nobody needs in an image: tests, editors, headers, what is for linking.
pub(super) fn is_left_out(parts: &[&[u8]]) -> bool {
    let Some(name) = parts.last() else {
        return false;
    };
    let within = |folder: &[u8]| {
        parts
            .iter()
            .rev()
            .nth(1)
            .is_some_and(|above| *above == folder)
    };
    let python = parts
        .iter()
        .any(|part| part.starts_with(b"python3") || part.starts_with(b"python2"));
    let directly = parts
        .iter()
        .rev()
        .nth(1)
        .is_some_and(|above| above.starts_with(b"python3") || above.starts_with(b"python2"));
    python
        && (directly
            && (matches!(
                *name,
                b"test" | b"idlelib" | b"turtledemo" | b"tkinter" | b"ensurepip"
            ) || name.starts_with(b"config-"))
            || within(b"lib-dynload") && name.starts_with(b"_tkinter")
            || within(b"lib-dynload") && name.starts_with(b"_test"))
        || (within(b"dist-packages") || within(b"site-packages"))
            && (*name == b"pip" || name.starts_with(b"pip-"))
        || matches!(*name, b"jmods" | b"src.zip") && parts.len() > 3
        || name.ends_with(b".a") && parts.len() > 2
        || is_for_hands(parts)
        // The C library's converters stay where something calls iconv_open, and not for being in its package.
        || matches!(parts, [b"usr", b"lib" | b"lib64", .., b"gconv", _] | [b"lib" | b"lib64", .., b"gconv", _])
        || parts.starts_with(&[b"usr", b"share", b"doc"])
        || parts.starts_with(&[b"usr", b"share", b"man"])
        || parts.starts_with(&[b"usr", b"share", b"lintian"])
        || parts.starts_with(&[b"usr", b"include"])
}

/// Where a runtime keeps what it loads: of `PREFIX/bin/NAME` the folders below PREFIX.
fn folders(name: &str) -> Option<Vec<String>> {
    let version = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || c == '.');
    let after = |known: &str| name.strip_prefix(known).filter(|rest| version(rest));
    let owned = |folders: &[&str]| Some(folders.iter().map(|&folder| folder.to_owned()).collect());
    if let Some(rest) = after("python") {
        let mut found = vec!["lib/python3/dist-packages".to_owned()];
        if rest.contains('.') {
            found.push(format!("lib/python{rest}"));
            found.push(format!("local/lib/python{rest}"));
        }
        return Some(found);
    }
    if after("ruby").is_some() {
        return owned(&["lib/ruby", "share/rubygems-integration", "../var/lib/gems"]);
    }
    if after("perl").is_some() {
        return owned(&[
            "lib/perl5",
            "share/perl",
            "share/perl5",
            "local/lib/perl5",
            "local/share/perl",
        ]);
    }
    if after("php").is_some() || after("php-fpm").is_some() {
        return owned(&[
            "lib/php",
            "etc/php",
            "etc/php-fpm.d",
            "share/php",
            "../etc/php",
        ]);
    }
    match name {
        // Beside the program itself; an application that was built needs no SDK.
        "dotnet" => owned(&["host", "shared"]),
        "java" => owned(&["lib", "conf", "jre"]),
        _ => None,
    }
}

/// Keeps the runtime that an interpreter belongs to, and the package of a module that is reached.
pub(super) fn keep(walk: &mut Walk<'_>, id: NodeId) {
    module(walk, id);
    let name = String::from_utf8_lossy(walk.tree.name(id)).into_owned();
    let node = matches!(name.as_str(), "node" | "nodejs");
    let Some(folders) = folders(&name).or_else(|| node.then(Vec::new)) else {
        return;
    };
    let bin = walk.tree.parent(id);
    let beside = name == "dotnet";
    if !beside && !matches!(walk.tree.name(bin), b"bin" | b"sbin") || walk.runtimes.contains(&id) {
        return;
    }
    walk.runtimes.insert(id);
    let prefix = match beside {
        true => bin,
        false => walk.tree.parent(bin),
    };
    let mut folders = folders;
    if let Ok(lib) = walk.tree.resolve(prefix, b"lib") {
        // Debian's folders of compiled modules, by machine.
        for child in walk.tree.children(lib).take(4096) {
            let machine = String::from_utf8_lossy(walk.tree.name(child)).into_owned();
            let language = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
            if machine.contains("-linux-") && matches!(language, "perl" | "ruby") {
                for end in ["", "5", "-base"] {
                    folders.push(format!("lib/{machine}/{language}{end}"));
                }
            }
        }
    }
    for folder in folders {
        let Ok(found) = walk.tree.resolve(prefix, folder.as_bytes()) else {
            continue;
        };
        let fresh = walk.walked.insert(found);
        if fresh && walk.tree.meta(found).kind == Kind::Directory && found != walk.tree.root() {
            walk.keep_tree(found, Why::Runtime, Some(id), &is_left_out);
        }
    }
    // Debian's modules of Node.js, where the application's own Dockerfile installed them.
    if node && let Ok(modules) = walk.tree.resolve(prefix, b"share/nodejs") {
        for module in walk.tree.children(modules).collect::<Vec<_>>() {
            if walk.is_own(module) {
                walk.keep_tree(module, Why::Runtime, Some(id), &is_left_out);
            }
        }
    }
    let Some(package) = walk.packages.owner(id) else {
        return;
    };
    for package in walk.packages.closure(package) {
        let files = walk.packages.files(package).to_vec();
        for file in files {
            if !is_left_out(&walk.parts(file)) {
                walk.keep(file, Why::Package, Some(id));
            }
        }
    }
}

/// A module of Node.js that lies in a folder of the base, such as npm: the package is whole or absent.
fn module(walk: &mut Walk<'_>, id: NodeId) {
    let mut at = id;
    let mut package = None;
    while at != walk.tree.root() {
        let above = walk.tree.parent(at);
        if walk.tree.name(above) == b"node_modules" {
            package = Some(at);
        }
        at = above;
    }
    if let Some(package) = package
        && walk.tree.meta(package).kind == Kind::Directory
        && !walk.runtimes.contains(&package)
    {
        walk.runtimes.insert(package);
        walk.keep_tree(package, Why::Runtime, Some(id), &|_| false);
    }
}
