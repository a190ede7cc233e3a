//! The peers, from their Go modules: their programs built, put into images of the local registry, and installed by the manifests
//! of the same modules. Everything of the cluster's that this makes has a label, by which it is removed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::NAMESPACE;
use super::bench::{Result, variable};

const LABEL: &str = "whittle.dev/bench";
const OURS: &str = "whittle.dev/bench=peers";
/// On Pods of the peers' controllers.
const CONTROLLER: &str = "whittle.dev/bench-controller";
pub const CONTROLLERS: &str = "whittle.dev/bench-controller=true";
/// As their manifests have them.
const NAMESPACES: [&str; 2] = ["tekton-pipelines", "shipwright-build"];
/// What the namespaces do not hold, but for CRDs. Webhooks first: nothing answers them any more, and they would hold up the rest.
const CLUSTER_WIDE: [&str; 4] = [
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    "clusterrolebindings",
    "clusterroles",
];
/// Of Tekton, what Shipwright does not need: who tells others of Events, and how many webhooks there are.
const LEFT_OUT: [&str; 2] = ["events.yaml", "webhook-hpa.yaml"];

fn cluster() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster")
}

/// What a command says, given this.
fn said(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let mut stdin = child.stdin.take().ok_or("a child without an input")?;
    // It reads all before it says anything, or ends early, and says why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?.trim().to_owned());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}\n{error}", output.status).into())
}

fn kubectl(arguments: &[&str]) -> Result<String> {
    said(Command::new("kubectl").args(arguments), "")
}

/// Creates objects, with the label.
pub fn apply(mut objects: Vec<Value>) -> Result<()> {
    for object in &mut objects {
        let labels = &mut object["metadata"]["labels"];
        if !labels.is_object() {
            *labels = Value::Object(Map::new());
        }
        labels[LABEL] = "peers".into();
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=bench-peers",
        "--filename=-",
    ];
    said(Command::new("kubectl").args(apply), &list)?;
    Ok(())
}

/// An error where somebody else has installed one of the peers: it would not be removed rightly.
pub fn is_not_there() -> Result<()> {
    let others = format!("--selector={LABEL}!=peers");
    let crds = kubectl(&["get", "crds", "--output=name", &others])?;
    let namespaces = kubectl(&["get", "namespaces", "--output=name", &others])?;
    let of_peers = |name: &&str| {
        let kind = name.ends_with(".tekton.dev") || name.ends_with(".shipwright.io");
        let at = name.strip_prefix("namespace/");
        kind || at.is_some_and(|it| NAMESPACES.contains(&it) || it == NAMESPACE)
    };
    match crds.lines().chain(namespaces.lines()).find(of_peers) {
        Some(name) => {
            Err(format!("{name} is there, and not of this bench: it is left alone").into())
        }
        None => Ok(()),
    }
}

/// Removes everything that has the label. A step that fails holds up none of those behind it: what counts is what is left.
pub fn clear() -> Result<()> {
    let ours = format!("--selector={OURS}");
    let tried = |step: Result<String>| {
        step.unwrap_or_else(|error| {
            eprintln!("{error}");
            String::new()
        })
    };
    // Builds while their controllers answer. Where these have gone, the rest goes first, and this is waited for below.
    let (builds, homes): (Vec<String>, Vec<String>) = named("namespaces")?
        .into_iter()
        .partition(|it| it.ends_with(NAMESPACE));
    tried(delete(&builds, "60s"));
    // Tekton's controllers would write the addresses of its webhooks anew.
    for home in &homes {
        let at = home.replace("namespace/", "--namespace=");
        let all = ["--all", "--cascade=foreground", "--timeout=180s"];
        tried(kubectl(
            &[&["delete", "deployments", &at][..], &all].concat(),
        ));
    }
    for kind in CLUSTER_WIDE {
        let gone = ["delete", kind, &ours, "--ignore-not-found", "--timeout=60s"];
        tried(kubectl(&gone));
    }
    let crds = named("crds")?;
    for crd in &crds {
        // Nobody translates the objects of other versions any more.
        let none = r#"--patch={"spec":{"conversion":{"strategy":"None","webhook":null}}}"#;
        tried(kubectl(&["patch", crd, "--type=merge", none]));
    }
    tried(delete(&crds, "180s"));
    tried(delete(&named("namespaces")?, "300s"));
    let mut left = vec![];
    for kind in CLUSTER_WIDE.iter().chain(&["crds", "namespaces"]) {
        left.extend(named(kind)?);
    }
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!("left, and to be removed with RUNS=0: {}", left.join(" ")).into()),
    }
}

/// Those of a kind that have the label, as kubectl names them.
fn named(kind: &str) -> Result<Vec<String>> {
    let ours = format!("--selector={OURS}");
    let all = kubectl(&["get", kind, "--output=name", &ours])?;
    Ok(all.lines().map(str::to_owned).collect())
}

/// Until they are gone.
fn delete(names: &[String], timeout: &str) -> Result<String> {
    if names.is_empty() {
        return Ok(String::new());
    }
    let timeout = format!("--timeout={timeout}");
    let mut arguments = vec!["delete", "--ignore-not-found", &timeout];
    arguments.extend(names.iter().map(String::as_str));
    kubectl(&arguments)
}

/// Builds them, where they are not yet; the folder that has them.
pub fn programs() -> Result<PathBuf> {
    eprintln!("the peers' programs; from nothing that takes some minutes");
    let build = ["run", ".", "build"];
    let of_all = ["buildx", "shipwright-git", "tekton-controller"];
    let go = Command::new("go")
        .args(build)
        .args(of_all)
        .current_dir(cluster())
        // It says how far it is.
        .stderr(Stdio::inherit())
        .stdin(Stdio::null())
        .output()?;
    match go.status.success() {
        true => Ok(PathBuf::from(String::from_utf8(go.stdout)?.trim())),
        false => Err("the peers' programs cannot be built".into()),
    }
}

/// The folder of a module.
fn module(family: &str, name: &str) -> Result<PathBuf> {
    let list = ["list", "-m", "-f", "{{.Dir}}", name];
    let folder = cluster().join("components").join(family);
    let told = said(Command::new("go").args(list).current_dir(folder), "")?;
    Ok(told.into())
}

/// The objects in the YAML files of a folder, in the order of their names.
fn objects(folder: &Path) -> Result<Vec<Value>> {
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(folder)?.collect();
    let mut files: Vec<PathBuf> = entries?.iter().map(std::fs::DirEntry::path).collect();
    files.sort();
    let mut all = vec![];
    for file in files {
        let name = file
            .file_name()
            .and_then(|it| it.to_str())
            .unwrap_or_default();
        if !name.ends_with(".yaml") || LEFT_OUT.contains(&name) {
            continue;
        }
        let text = std::fs::read_to_string(&file)?;
        let read: Vec<Value> = serde_saphyr::from_multiple(&text)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        all.extend(read.into_iter().filter(Value::is_object));
    }
    Ok(all)
}

/// Images, as Pods ask for them.
pub struct Images {
    tekton: String,
    shipwright: String,
    /// BuildKit's, which has a shell.
    shell: String,
}

impl Images {
    pub fn push(programs: &Path, buildkit: &str) -> Result<Self> {
        let host = variable("REGISTRY_HOST")?;
        let registry = variable("REGISTRY")?;
        let name = buildkit.strip_prefix("docker.io/").unwrap_or(buildkit);
        let name = name.strip_prefix(&format!("{registry}/")).unwrap_or(name);
        let base = format!("{host}/{name}");
        let digest = said(
            Command::new("crane").args(["digest", "--insecure", &base]),
            "",
        )?;
        let repository = buildkit.split('@').next().unwrap_or(buildkit);
        let tag = repository
            .rfind(':')
            .filter(|at| !repository[*at..].contains('/'));
        let repository = &repository[..tag.unwrap_or(repository.len())];
        let tekton = [
            "controller",
            "entrypoint",
            "nop",
            "webhook",
            "workingdirinit",
        ];
        let tekton = tekton.map(|it| (format!("tekton-{it}"), it));
        let shipwright = [
            ("shipwright-git".to_owned(), "git"),
            (
                "shipwright-build-controller".to_owned(),
                "shipwright-build-controller",
            ),
        ];
        Ok(Self {
            tekton: image("tekton", programs, &tekton, None)?,
            // Its git step wants git and ssh.
            shipwright: image("shipwright", programs, &shipwright, Some(&base))?,
            shell: format!("{repository}@{digest}"),
        })
    }
}

/// Pushes an image with these programs where ko puts them, which is where they are looked for.
fn image(
    name: &str,
    folder: &Path,
    programs: &[(String, &str)],
    base: Option<&str>,
) -> Result<String> {
    let work = tempfile::tempdir()?;
    let layer = work.path().join("layer.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&layer)?);
    for (program, at) in programs {
        tar.append_path_with_name(folder.join(program), format!("ko-app/{at}"))?;
    }
    if base.is_some() {
        // Its version is all that is asked of it: nothing of the repository is in LFS.
        let text = "#!/bin/sh\necho git-lfs/3.6.1\n";
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, "usr/local/bin/git-lfs", text.as_bytes())?;
    }
    tar.into_inner()?.sync_all()?;
    let repository = format!("bench-peers/{name}");
    let there = format!("{}/{repository}:bench", variable("REGISTRY_HOST")?);
    let crane = || Command::new("crane");
    let mut append = crane();
    append.args(["append", "--insecure", "--new_tag", &there, "--new_layer"]);
    append.arg(&layer);
    if let Some(base) = base {
        append.args(["--base", base]);
    }
    said(&mut append, "")?;
    // One without a base has none.
    let platform = ["--set-platform", "linux/amd64", "--tag", &there];
    said(
        crane()
            .args(["mutate", "--insecure", &there])
            .args(platform),
        "",
    )?;
    let digest = said(crane().args(["digest", "--insecure", &there]), "")?;
    // By digest: the tag stays while programs change.
    Ok(format!("{}/{repository}@{digest}", variable("REGISTRY")?))
}

/// Puts an image in the place of those that ko would make, with the program that each names as its command.
fn with_image(deployment: &mut Value, image: &str, shell: &str) {
    deployment["spec"]["template"]["metadata"]["labels"][CONTROLLER] = "true".into();
    let containers = &mut deployment["spec"]["template"]["spec"]["containers"];
    for container in containers.as_array_mut().into_iter().flatten() {
        let program = container["image"]
            .as_str()
            .and_then(|it| it.rsplit('/').next());
        container["command"] = json!([format!("/ko-app/{}", program.unwrap_or_default())]);
        container["image"] = image.into();
        let is_made = |it: &Value| it.as_str().is_some_and(|it| it.starts_with("ko://"));
        let mut before = Value::Null;
        for argument in container["args"].as_array_mut().into_iter().flatten() {
            if is_made(argument) {
                *argument = image.into();
            } else if before == "-shell-image" {
                *argument = shell.into();
            }
            before = argument.clone();
        }
        for variable in container["env"].as_array_mut().into_iter().flatten() {
            if is_made(&variable["value"]) {
                variable["value"] = image.into();
            }
        }
    }
}

/// Until a Deployment is there, as its manifest wants it.
fn runs(namespace: &str, deployment: &str) -> Result<()> {
    let name = format!("deployment/{deployment}");
    let at = format!("--namespace={namespace}");
    let told = kubectl(&["rollout", "status", &name, &at, "--timeout=180s"]);
    if let Err(error) = told {
        let log = kubectl(&["logs", &name, &at, "--tail=20"]).unwrap_or_default();
        return Err(format!("{error}\n{log}").into());
    }
    Ok(())
}

/// Controller and webhook: it has more, which nothing of this needs.
pub fn tekton(images: &Images) -> Result<()> {
    let config = module("tekton", "github.com/tektoncd/pipeline")?.join("config");
    apply(objects(&config.join("100-namespace"))?)?;
    let crds = objects(&config.join("300-crds"))?;
    apply(crds)?;
    let (deployments, all): (Vec<Value>, Vec<Value>) = objects(&config)?
        .into_iter()
        .partition(|it| it["kind"] == "Deployment");
    // The webhook answers for its own settings, and is not there yet.
    let (webhooks, all): (Vec<Value>, Vec<Value>) = all.into_iter().partition(|it| {
        let kind = it["kind"].as_str().unwrap_or_default();
        kind.ends_with("WebhookConfiguration")
    });
    apply(all)?;
    apply(webhooks)?;
    let mut names = vec![];
    let mut with_images = vec![];
    for mut deployment in deployments {
        with_image(&mut deployment, &images.tekton, &images.shell);
        names.push(
            deployment["metadata"]["name"]
                .as_str()
                .unwrap_or("")
                .to_owned(),
        );
        with_images.push(deployment);
    }
    apply(with_images)?;
    for name in names {
        runs(NAMESPACES[0], &name)?;
    }
    answers()
}

/// Until Tekton's webhook answers: it is Ready before it has told the API server of its certificate.
fn answers() -> Result<()> {
    let task = json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": {"name": "asked", "namespace": NAMESPACE},
        "spec": {"taskSpec": {"steps": [{"name": "nothing", "image": "nothing", "command": ["nothing"]}]}}})
    .to_string();
    let mut last = None;
    for _ in 0..120 {
        let create = ["create", "--dry-run=server", "--filename=-"];
        match said(Command::new("kubectl").args(create), &task) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    Err(format!("Tekton's webhook does not answer: {last:?}").into())
}

/// Its controller. Its webhook translates the version of its kinds that came before, which is left out with it.
pub fn shipwright(images: &Images) -> Result<()> {
    let deploy = module("shipwright", "github.com/shipwright-io/build")?.join("deploy");
    let mut crds = objects(&deploy.join("crds"))?;
    for crd in &mut crds {
        if let Some(spec) = crd["spec"].as_object_mut() {
            spec.remove("conversion");
        }
        if let Some(versions) = crd["spec"]["versions"].as_array_mut() {
            versions.retain(|it| it["storage"] == true);
        }
    }
    apply(crds)?;
    let mut all = objects(&deploy)?;
    all.retain(|it| {
        let name = it["metadata"]["name"].as_str().unwrap_or_default();
        !name.contains("webhook")
    });
    let (namespace, mut all): (Vec<Value>, Vec<Value>) =
        all.into_iter().partition(|it| it["kind"] == "Namespace");
    apply(namespace)?;
    for object in &mut all {
        if object["kind"] == "Deployment" {
            with_image(object, &images.shipwright, &images.shell);
        }
    }
    apply(all)?;
    runs(NAMESPACES[1], "shipwright-build-controller")
}

/// Whether Shipwright has looked at the Build, and takes it.
pub fn is_registered(namespace: &str) -> Result<bool> {
    let at = format!("--namespace={namespace}");
    let path = "--output=jsonpath={.status.registered} {.status.message}";
    let told = kubectl(&["get", "builds.shipwright.io", "hello", &at, path])?;
    match told.split_once(' ') {
        Some(("False", why)) => Err(format!("Shipwright refuses its Build: {why}").into()),
        _ => Ok(told.starts_with("True")),
    }
}

/// buildx with a daemon of its Kubernetes driver.
pub struct Buildx {
    program: PathBuf,
    /// Nothing of the user's is read or written.
    home: tempfile::TempDir,
}

impl Buildx {
    pub fn new(program: PathBuf, namespace: &str, image: &str, registry: &str) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let config = home.path().join("buildkitd.toml");
        let mirror = |host: &str| format!("[registry.\"{host}\"]\nmirrors = [\"{registry}\"]\n");
        let text = format!(
            "[registry.\"{registry}\"]\nhttp = true\n{}{}",
            mirror("docker.io"),
            mirror("gcr.io")
        );
        std::fs::write(&config, text)?;
        let buildx = Self { program, home };
        let options = format!("namespace={namespace},image={image},rootless=true");
        said(
            buildx.command().args([
                "create",
                "--name=bench-peers",
                "--driver=kubernetes",
                &format!("--driver-opt={options}"),
                &format!("--buildkitd-config={}", config.display()),
                // A rootless daemon looks for it elsewhere.
                "--buildkitd-flags=--config=/etc/buildkit/buildkitd.toml",
                "--bootstrap",
            ]),
            "",
        )?;
        Ok(buildx)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("DOCKER_CONFIG", self.home.path())
            .env("BUILDX_CONFIG", self.home.path().join("buildx"));
        command
    }

    /// A command of its, by this daemon.
    pub fn run(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.command();
        command.arg(arguments[0]).arg("--builder=bench-peers");
        said(command.args(&arguments[1..]), "")?;
        Ok(())
    }
}
