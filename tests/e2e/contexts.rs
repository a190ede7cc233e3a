//! The same tree makes the same layers from every kind of source, header for header, as BuildKit's own client makes of a
//! folder on disk.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::field::{Field, Repository};
use crate::registry::{blob, files_of, manifest, push_artifact};

const DOCKERFILE: &str = "FROM scratch\nCOPY . /src/\nWORKDIR /work/deep\nCOPY sub /other/place/\n";

/// What a header of a layer says; the time only where it comes from the source.
#[derive(Debug, PartialEq)]
struct Entry {
    kind: u8,
    mode: u32,
    owner: (u64, u64),
    link: Option<String>,
    size: u64,
    extended: Vec<String>,
}

type Layer = BTreeMap<String, (Entry, u64)>;

fn layer(bytes: &[u8]) -> Layer {
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(bytes));
    let mut all = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let extended = entry.pax_extensions().unwrap().map_or(vec![], |all| {
            let all = all.map(|it| it.unwrap().key().unwrap().to_owned());
            all.filter(|key| key != "mtime").collect()
        });
        let link = entry.link_name().unwrap();
        let link = link.map(|link| link.display().to_string());
        let header = entry.header();
        let found = Entry {
            kind: header.entry_type().as_byte(),
            mode: header.mode().unwrap(),
            owner: (header.uid().unwrap(), header.gid().unwrap()),
            link,
            size: header.size().unwrap(),
            extended,
        };
        let time = header.mtime().unwrap();
        all.insert(entry.path().unwrap().display().to_string(), (found, time));
        std::io::copy(&mut entry, &mut std::io::sink()).unwrap();
    }
    all
}

/// Layers of an image in the local registry.
async fn layers(image: &str, digest: &str) -> Vec<Layer> {
    let (_, manifest) = manifest(image, digest).await;
    let mut all = vec![];
    for it in manifest["layers"].as_array().unwrap() {
        all.push(layer(&blob(image, it["digest"].as_str().unwrap()).await));
    }
    all
}

/// BuildKit's daemon and client, as anybody has them: as root, on a folder of its own.
struct Bare {
    daemon: Child,
    folder: tempfile::TempDir,
}

impl Bare {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = format!("unix://{}/socket", folder.path().display());
        // It goes with this process also where that is ended from outside.
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "buildkitd", "--root"])
            .arg(folder.path().join("state"))
            .args(["--addr", &socket, "--oci-worker-snapshotter", "native"])
            .args(["--config", "/dev/null"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let bare = Self { daemon, folder };
        while !bare
            .client(&["debug", "workers"])
            .output()
            .unwrap()
            .status
            .success()
        {
            let log = || fs::read_to_string(bare.folder.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "{}", log());
            std::thread::sleep(Duration::from_millis(200));
        }
        bare
    }

    fn client(&self, args: &[&str]) -> Command {
        let mut client = Command::new("buildctl");
        let socket = format!("unix://{}/socket", self.folder.path().display());
        client.args(["--addr", &socket]).args(args);
        client
    }

    fn layers(&self, context: &Path) -> Vec<Layer> {
        let context = context.display();
        let (out, image) = (
            self.folder.path().join("out"),
            self.folder.path().join("image"),
        );
        let output = self
            .client(&["build", "--frontend", "dockerfile.v0"])
            .args(["--local", &format!("context={context}")])
            .args(["--local", &format!("dockerfile={context}")])
            .args(["--output", &format!("type=oci,dest={}", out.display())])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        tar::Archive::new(fs::File::open(&out).unwrap())
            .unpack(&image)
            .unwrap();
        let of = |digest: &str| {
            let (_, hash) = digest.split_once(':').unwrap();
            fs::read(image.join("blobs/sha256").join(hash)).unwrap()
        };
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = json(&fs::read(image.join("index.json")).unwrap());
        let manifest = json(&of(index["manifests"][0]["digest"].as_str().unwrap()));
        let all = manifest["layers"].as_array().unwrap();
        let all = all
            .iter()
            .map(|it| layer(&of(it["digest"].as_str().unwrap())))
            .collect();
        fs::remove_dir_all(&image).unwrap();
        all
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let id = self.daemon.id().to_string();
        let _ = Command::new("kill").arg(&id).status();
        let _ = self.daemon.wait();
    }
}

/// Files that every kind of source can hold.
fn files() -> BTreeMap<&'static str, &'static str> {
    [
        ("Dockerfile", DOCKERFILE),
        ("main.go", "package main"),
        ("sub/deep/er/a.txt", "a"),
        ("sub/b.txt", ""),
    ]
    .into()
}

fn write(root: &Path, files: &BTreeMap<&str, &str>) {
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    plain(root);
}

/// The modes that a usual umask gives, whatever this process has.
fn plain(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            continue;
        }
        let mode = if kind.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(entry.path(), Permissions::from_mode(mode)).unwrap();
        if kind.is_dir() {
            plain(&entry.path());
        }
    }
}

/// Entries one by one; `same_times`: also when those of the source were written.
#[track_caller]
fn assert_same(kind: &str, found: &[Layer], expected: &[Layer], same_times: bool) {
    assert_eq!(found.len(), expected.len(), "{kind}: layers");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    for (found, expected) in found.iter().zip(expected) {
        let names = |layer: &Layer| layer.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(found), names(expected), "{kind}");
        for (name, (entry, time)) in found {
            let (wanted, at) = &expected[name];
            assert_eq!(entry, wanted, "{kind}: {name}");
            let made =
                ["src/", "work/", "work/deep/", "other/", "other/place/"].contains(&name.as_str());
            // BuildKit keeps the time that a folder of this name had in an earlier context of the same daemon.
            if same_times && !made && entry.kind != b'5' {
                assert_eq!(time, at, "{kind}: {name}");
            } else if !same_times {
                assert!(now.abs_diff(*time) < 3600, "{kind}: {name}: {time}");
            }
        }
    }
}

#[tokio::test]
async fn every_kind_of_source_makes_the_layers_that_a_folder_on_disk_makes() {
    let field = Field::new("contexts").await;
    let bare = Bare::new();
    let files = files();
    let disk = tempfile::tempdir().unwrap();
    write(disk.path(), &files);

    let texts: serde_json::Map<String, Value> = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), json!(text)))
        .collect();
    field.build("inline", json!(texts), json!({})).await;
    let data: serde_json::Map<String, Value> = files
        .values()
        .enumerate()
        .map(|(n, text)| (format!("f{n}"), json!(text)))
        .collect();
    let items: Vec<Value> = files
        .keys()
        .enumerate()
        .map(|(n, path)| json!({"key": format!("f{n}"), "path": path}))
        .collect();
    field.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "source"}, "data": data})).await;
    let source = json!({"configMap": {"name": "source", "items": items}});
    field.apply("configmap", source, json!({})).await;
    let expected = bare.layers(disk.path());
    for kind in ["inline", "configmap"] {
        let status = field.succeeds(kind).await;
        let found = layers(&field.image(kind), &status.digest.unwrap()).await;
        assert_same(kind, &found, &expected, false);
    }

    // What git knows besides: programs and links; all of it at once, and by way of a local context.
    for (kind, ignore) in [("git", None), ("git-ignore", Some("nothing-of-this\n"))] {
        let repository = Repository::new(&format!("{}-{kind}", field.namespace));
        let disk = tempfile::tempdir().unwrap();
        for root in [repository.tree(), disk.path()] {
            write_with_git(root, &files, ignore);
        }
        repository.commit(&[], "refs/heads/main");
        field
            .apply(kind, json!({"git": {"url": repository.url}}), json!({}))
            .await;
        let status = field.succeeds(kind).await;
        let found = layers(&field.image(kind), &status.digest.unwrap()).await;
        assert_same(kind, &found, &bare.layers(disk.path()), false);
    }

    // What an archive knows: any mode and time.
    let disk = tempfile::tempdir().unwrap();
    write(disk.path(), &files);
    let at = |name: &str| disk.path().join(name);
    for (name, mode) in [
        ("main.go", 0o600),
        ("sub/b.txt", 0o4755),
        ("sub/deep", 0o1777),
        ("sub/deep/er", 0o700),
    ] {
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    symlink("../main.go", at("sub/link")).unwrap();
    fs::hard_link(at("main.go"), at("sub/hard")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::set_permissions(at("empty"), Permissions::from_mode(0o555)).unwrap();
    let all = [
        "Dockerfile",
        "main.go",
        "sub/deep/er/a.txt",
        "sub/deep/er",
        "sub/deep",
        "sub/b.txt",
        "sub/link",
        "empty",
        "sub",
    ];
    for (n, name) in all.into_iter().enumerate() {
        let date = format!("@{}", 1_000_000_000 + n * 1000);
        let status = Command::new("touch")
            .args(["--no-dereference", "--date", &date])
            .arg(at(name))
            .status();
        assert!(status.unwrap().success());
    }
    let artifact = field.image("artifact");
    push_artifact(&artifact, "v1", &packed(disk.path())).await;
    field
        .apply(
            "oci",
            json!({"oci": {"image": format!("{artifact}:v1")}}),
            json!({}),
        )
        .await;
    let status = field.succeeds("oci").await;
    let found = layers(&field.image("oci"), &status.digest.unwrap()).await;
    assert_same("oci", &found, &bare.layers(disk.path()), true);

    // Another content of the same size and time is another file all the same.
    fs::write(at("main.go"), "package niam").unwrap();
    let status = Command::new("touch")
        .args(["--date", "@1000001000"])
        .arg(at("main.go"))
        .status();
    assert!(status.unwrap().success());
    push_artifact(&artifact, "v2", &packed(disk.path())).await;
    field
        .apply(
            "oci-2",
            json!({"oci": {"image": format!("{artifact}:v2")}}),
            json!({}),
        )
        .await;
    let status = field.succeeds("oci-2").await;
    let files = files_of(&field.image("oci-2"), &status.digest.unwrap()).await;
    assert_eq!(files["src/main.go"], b"package niam");
    field.close().await;
}

fn packed(folder: &Path) -> Vec<u8> {
    let output = Command::new("tar")
        .args([
            "--create",
            "--gzip",
            "--owner=1000",
            "--group=1000",
            "--directory",
        ])
        .arg(folder)
        .args(["Dockerfile", "main.go", "sub", "empty"])
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

fn write_with_git(root: &Path, files: &BTreeMap<&str, &str>, ignore: Option<&str>) {
    let text = |name: &str| files[name];
    for name in files.keys() {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text(name)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }
    if let Some(ignore) = ignore {
        fs::write(root.join(".dockerignore"), ignore).unwrap();
        fs::set_permissions(root.join(".dockerignore"), Permissions::from_mode(0o644)).unwrap();
    }
    fs::write(root.join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("run.sh"), Permissions::from_mode(0o755)).unwrap();
    symlink("sub/b.txt", root.join("link")).unwrap();
    symlink("sub", root.join("folder")).unwrap();
    for folder in ["sub", "sub/deep", "sub/deep/er"] {
        fs::set_permissions(root.join(folder), Permissions::from_mode(0o755)).unwrap();
    }
}

#[tokio::test]
async fn what_a_step_makes_belongs_to_no_group_of_the_builders_volume() {
    let field = Field::new("folders").await;
    let dockerfile = "FROM busybox:1.36 AS made\nRUN mkdir -p /made/deep && touch /made/file && find / -xdev -perm -2000 > /found\n\
                      WORKDIR /work\nFROM scratch\nCOPY --from=made /made /made\nCOPY --from=made /work /work\nCOPY --from=made /found /\n";
    field
        .build("hello", json!({"Dockerfile": dockerfile}), json!({}))
        .await;
    let status = field.succeeds("hello").await;
    for layer in layers(&field.image("hello"), &status.digest.unwrap()).await {
        for (name, (entry, _)) in layer {
            assert_eq!(entry.mode & 0o7000, 0, "{name}: {entry:?}");
            assert_eq!(entry.owner, (0, 0), "{name}");
            if name == "found" {
                assert_eq!(entry.size, 0, "folders of a group");
            }
        }
    }
    field.close().await;
}
