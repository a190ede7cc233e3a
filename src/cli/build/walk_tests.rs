use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn paths(folder: &TempDir, dockerfile: &str) -> Vec<String> {
    let tree = walk(folder.path(), dockerfile).unwrap();
    let paths = tree.entries.iter().map(|it| it.path.display().to_string());
    paths.collect()
}

#[test]
fn what_the_ignore_file_names_is_left_out_but_for_itself_and_the_dockerfile() {
    let folder = folder(&[
        (".dockerignore", "# all\n*\n!src\nsrc/*.log\n"),
        ("Dockerfile", ""),
        ("README.md", ""),
        ("node_modules/a/b.js", ""),
        ("src/main.c", ""),
        ("src/x.log", ""),
    ]);
    assert_eq!(
        paths(&folder, "Dockerfile"),
        [".dockerignore", "Dockerfile", "src", "src/main.c"]
    );
}

#[test]
fn a_dockerfile_in_a_directory_that_is_left_out_is_sent_with_that_directory() {
    let folder = folder(&[
        (".dockerignore", "build\n"),
        ("build/Dockerfile", ""),
        ("build/other", ""),
        ("main.c", ""),
    ]);
    assert_eq!(
        paths(&folder, "build/Dockerfile"),
        [".dockerignore", "build", "build/Dockerfile", "main.c"]
    );
}

#[test]
fn the_ignore_file_of_the_dockerfile_goes_before_the_common_one() {
    let folder = folder(&[
        (".dockerignore", "a\n"),
        ("prod.Dockerfile", ""),
        ("prod.Dockerfile.dockerignore", "b\n"),
        ("a", ""),
        ("b", ""),
    ]);
    let sent = paths(&folder, "prod.Dockerfile");
    assert!(
        sent.contains(&"a".into()) && !sent.contains(&"b".into()),
        "{sent:?}"
    );
    assert!(sent.contains(&"prod.Dockerfile.dockerignore".into()));
    assert_eq!(paths(&folder, "Dockerfile")[1], "b");
}

#[test]
fn an_exception_keeps_the_directory_above_it() {
    let folder = folder(&[
        (".dockerignore", "vendor\n!vendor/keep/this\n"),
        ("Dockerfile", ""),
        ("vendor/a", ""),
        ("vendor/keep/this", ""),
        ("vendor/keep/not", ""),
    ]);
    assert_eq!(
        paths(&folder, "Dockerfile")[2..],
        ["vendor", "vendor/keep", "vendor/keep/this"]
    );
}

#[test]
fn a_socket_is_left_out_with_a_warning_and_a_link_to_nowhere_is_a_link() {
    let folder = folder(&[("Dockerfile", ""), (".wh.gone", "")]);
    let _socket = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
    symlink("/nowhere/at/all", folder.path().join("link")).unwrap();
    let tree = walk(folder.path(), "Dockerfile").unwrap();
    let link = tree.entries.iter().find(|it| it.path == Path::new("link"));
    assert_eq!(link.unwrap().kind, Kind::Link("/nowhere/at/all".into()));
    assert_eq!(tree.entries.len(), 2);
    let mut warnings = tree.warnings;
    warnings.sort();
    assert_eq!(
        warnings,
        [
            ".wh.gone is left out: in the layers of an image such a name deletes a file",
            "agent.sock is left out: it is a socket, and not a file",
        ]
    );
}

#[test]
fn many_warnings_are_counted() {
    let files: Vec<String> = (0..9).map(|n| format!(".wh.{n}")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|name| (name.as_str(), "")).collect();
    let tree = walk(folder(&files).path(), "Dockerfile").unwrap();
    assert_eq!(tree.warnings.len(), WARNINGS + 1);
    assert_eq!(tree.warnings[WARNINGS], "4 more are left out");
}

#[test]
fn a_directory_of_too_many_bytes_is_refused_with_its_largest_entries() {
    let folder = folder(&[
        ("Dockerfile", "FROM scratch"),
        ("data/a", ""),
        ("data/b", ""),
    ]);
    for (name, size) in [
        ("data/a", 5_u64 << 30),
        ("data/b", 4 << 30),
        ("disk.img", 6 << 30),
    ] {
        // Sparse: it takes no room on the disk.
        let file = fs::File::create(folder.path().join(name)).unwrap();
        file.set_len(size).unwrap();
    }
    let failed = walk(folder.path(), "Dockerfile")
        .unwrap()
        .fits()
        .unwrap_err();
    assert_eq!(failed.code(), 2);
    let said = failed.to_string();
    assert!(
        said.contains("15.0 GiB") && said.contains("8.0 GiB"),
        "{said}"
    );
    assert!(
        said.contains("data/ (9.0 GiB), disk.img (6.0 GiB), Dockerfile (12 B)"),
        "{said}"
    );
    assert!(said.contains(".dockerignore"), "{said}");
}

#[test]
fn what_cannot_be_read_is_wrong_use_with_the_way_out() {
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    let failed = unreadable(Path::new("/src/key.pem"), &denied);
    assert_eq!(failed.code(), 2);
    assert_eq!(
        failed.to_string(),
        "/src/key.pem cannot be read: permission denied: allow it (chmod), or leave it out with .dockerignore"
    );
    let folder = folder(&[("Dockerfile", ""), (".dockerignore/a", "")]);
    let failed = walk(folder.path(), "Dockerfile").unwrap_err();
    assert!(
        failed.to_string().contains(".dockerignore is not a file"),
        "{failed}"
    );
}
