use super::*;
use std::os::unix::fs::PermissionsExt;

const BUILD: &str = "apiVersion: whittle.dev/v1alpha1
kind: ImageBuild
metadata: {name: hello}
spec:
  source: {configMap: {name: files, items: [{key: d, path: build/Dockerfile}]}}
  output: {image: r.example/x, secretRef: {name: push}}
  secrets: [{id: npm, secretRef: {name: npm, key: token}}]
";
const FILES: &str = "---
kind: ConfigMap
metadata: {name: files}
data: {d: FROM scratch, e: other}
";
const SECRETS: &str = "---
kind: Secret
metadata: {name: npm}
stringData: {token: hunter22}
---
kind: Secret
metadata: {name: push}
data: {.dockerconfigjson: e30=}
";

fn wanted(manifest: &Manifest, secrets: Vec<SecretOption>) -> Wanted {
    Wanted {
        build: manifest.build.clone().unwrap(),
        folder: None,
        secrets,
        no_cache: false,
        notes: vec![],
    }
}

fn request(text: &str, secrets: Vec<SecretOption>) -> (Room, Result<BuildRequest, Error>) {
    let manifest = Manifest::read("x.yaml", text, None).unwrap();
    let room = Room::make().unwrap();
    let request = room.request(
        &wanted(&manifest, secrets),
        &manifest,
        vec!["/b/buildctl".into()],
    );
    (room, request)
}

#[test]
fn what_the_file_has_is_laid_out_as_the_kubelet_would_and_is_gone_with_the_room() {
    let (room, request) = request(&format!("{BUILD}{FILES}{SECRETS}"), vec![]);
    let place = request.unwrap().place;
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    assert_eq!(read(place.source.join("build/Dockerfile")), "FROM scratch");
    assert!(!place.source.join("e").exists());
    assert_eq!(read(place.secret("npm")), "hunter22");
    assert_eq!(read(place.registry_auth.join(".dockerconfigjson")), "{}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(room.folder()), 0o700);
    assert_eq!(mode(&place.secret("npm")), 0o600);
    let folder = room.folder().to_owned();
    drop(room);
    assert!(!folder.exists());
}

#[test]
fn what_is_missing_is_named_with_where_to_put_it() {
    let said = |text: &str| request(text, vec![]).1.unwrap_err().to_string();
    assert_eq!(
        said(BUILD),
        "ConfigMap files of source.configMap not found: put it into the file of -f, beside the ImageBuild"
    );
    let lacking = said(&format!("{BUILD}{FILES}"));
    assert!(
        lacking.starts_with("secret npm of the build: key token of Secret npm not found in the file of -f: give its value with --secret id=npm,"),
        "{lacking}"
    );
    let other = FILES.replace("d: FROM scratch, ", "");
    assert_eq!(
        said(&format!("{BUILD}{other}{SECRETS}")),
        "key d not found in the ConfigMap of source.configMap"
    );
}

#[test]
fn a_secret_of_the_command_line_goes_before_that_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "other").unwrap();
    let given = SecretOption {
        id: "npm".into(),
        from: SecretFrom::File(path),
    };
    let (_room, request) = request(&format!("{BUILD}{FILES}{SECRETS}"), vec![given]);
    let place = request.unwrap().place;
    assert_eq!(fs::read_to_string(place.secret("npm")).unwrap(), "other");
    let lacking = SecretOption {
        id: "npm".into(),
        from: SecretFrom::Variable("WHITTLE_TEST_NO_SUCH_VARIABLE".into()),
    };
    let said = value(&lacking).unwrap_err().to_string();
    assert!(said.ends_with("is not set in the environment"), "{said}");
}

#[test]
fn no_file_leads_out_of_its_directory() {
    let items = BUILD.replace("build/Dockerfile", "../../x");
    let (_room, request) = request(&format!("{items}{FILES}{SECRETS}"), vec![]);
    let said = request.unwrap_err().to_string();
    assert!(said.contains("leads out of its directory"), "{said}");
}

#[test]
fn no_id_and_no_host_of_the_file_leads_out_of_the_room() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("x");
    let refused = |text: &str, field: &str| {
        let (room, request) = request(text, vec![]);
        let said = request.unwrap_err().to_string();
        assert!(said.starts_with(field), "{said}");
        // Nothing but the room itself has been made.
        let left: Vec<_> = fs::read_dir(room.folder()).unwrap().flatten().collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(!target.exists());
    };
    for id in [target.to_str().unwrap(), "../../x", "GIT_AUTH_TOKEN"] {
        let build = BUILD.replace("id: npm", &format!("id: {id:?}"));
        refused(&format!("{build}{FILES}{SECRETS}"), "secrets: invalid id");
    }
    let builder = format!(
        "---\nkind: Builder\nmetadata: {{name: default}}\nspec: {{registries: [{{host: {:?}, caRef: {{name: files, key: d}}}}]}}\n",
        target.to_str().unwrap()
    );
    refused(
        &format!("{BUILD}{FILES}{SECRETS}{builder}"),
        "registries.host: invalid host",
    );
}

#[test]
fn a_source_takes_what_the_cluster_gives_or_less_where_less_is_free() {
    assert_eq!(scratch_bytes(None), 8 << 30);
    assert_eq!(scratch_bytes(Some(u64::MAX)), 8 << 30);
    assert_eq!(scratch_bytes(Some(1000)), 1000);
    let (_room, request) = request(&format!("{BUILD}{FILES}{SECRETS}"), vec![]);
    assert!(request.unwrap().scratch_bytes <= 8 << 30);
}

#[test]
fn rooms_of_builds_that_were_killed_are_removed_and_no_others() {
    let all = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let folder = all.path().join(name);
        fs::create_dir(&folder).unwrap();
        (held(&folder).unwrap(), folder)
    };
    // No process has such a number.
    let (lock, dead) = make("whittle-999999999-a");
    let (_lock, held) = make("whittle-999999999-b");
    let (_, other) = make("other-999999999-c");
    let (_, living) = make(&format!("whittle-{}-d", std::process::id()));
    let bare = all.path().join("whittle-999999999-e");
    fs::create_dir(&bare).unwrap();
    drop(lock);
    sweep(all.path());
    assert!(!dead.exists());
    for kept in [held, other, living, bare] {
        assert!(kept.exists(), "{}", kept.display());
    }
}
