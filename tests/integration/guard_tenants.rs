//! The probe guard among tenants: whose word counts, and what one of them can do to the others. The policies are
//! the chart's own, and refuse. One controller looks after every namespace of an API server of its own; the tests
//! write the statuses that builds of crafted images leave behind.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use whittle_api::{ImageBuild, ProbeProfile, ProbeProfileSpec, find};
use whittle_image::{Contents, Executable, FolderLink, Runs};
use whittle_probe::pack;

use crate::api_server::{ApiServer, free_ports};
use crate::shared::{self, Shared, shared, stop_with};
use crate::stage::{apply, install_into, root};

const PATIENCE: Duration = Duration::from_secs(120);

/// The chart's memory limit of the controller, in KiB.
const LIMIT: u64 = 256 << 10;

/// The controller's process, and the port of its metrics.
async fn controller() -> (u32, u16) {
    static DONE: OnceCell<(u32, u16)> = OnceCell::const_new();
    let once = async || match shared("guard-controller") {
        Shared::Made(made) => made,
        Shared::Mine(turn) => turn.made(start().await),
    };
    *DONE.get_or_init(once).await
}

async fn start() -> (u32, u16) {
    let server = ApiServer::of_the_guard();
    let client = server.admin().await;
    install_into(server, &client).await;
    let text = std::fs::read_to_string(root().join("config/default/whittle.yaml")).unwrap();
    for mut object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
        // As with probeGuard.mode: Deny.
        if object["kind"] == "ValidatingAdmissionPolicyBinding"
            && object["metadata"]["name"] == "whittle-probe-guard"
        {
            object["spec"]["validationActions"] = json!(["Deny"]);
            apply(&client, object).await;
        }
    }
    // As with an entry in probeGuard.trust.
    for object in [
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "trust"},
            "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "trust"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "trust"},
            "subjects": [{"kind": "ServiceAccount", "name": "whittle", "namespace": "whittle-system"}]}),
    ] {
        apply(&client, object).await;
    }
    for (name, labels) in [
        (
            "whittle-0-of-2",
            json!({"app.kubernetes.io/managed-by": "whittle"}),
        ),
        (
            "other-0",
            json!({"app.kubernetes.io/managed-by": "whittle", "whittle.dev/installation": "other"}),
        ),
    ] {
        let mut profile = ProbeProfile::new(name, ProbeProfileSpec::default());
        profile.metadata.labels = serde_json::from_value(labels).unwrap();
        Api::all(client.clone())
            .create(&PostParams::default(), &profile)
            .await
            .unwrap();
    }
    let [health, callback] = free_ports();
    let folder = shared::folder("guard-controller");
    let settings = json!({
        "runner": {"image": "whittle:test"},
        "builder": {"image": "moby/buildkit:rootless"},
        "callback": {"url": format!("https://localhost:{callback}")},
        "probeGuard": {"name": "whittle", "trust": [{"namespaceSelector": {"matchLabels": {"trusted": "yes"}},
            "repositories": ["registry.example.com/platform"]}]}});
    let path = folder.join("settings.json");
    std::fs::write(&path, settings.to_string()).unwrap();
    let log = std::fs::File::create(folder.join("controller.log")).unwrap();
    let process = shared::alone(&mut Command::new(env!("CARGO_BIN_EXE_whittle")))
        .args(["controller", "--namespace", "whittle-system", "--settings"])
        .arg(&path)
        .args(["--health-address", &format!("127.0.0.1:{health}")])
        .args(["--callback-address", &format!("127.0.0.1:{callback}")])
        .args(["--webhook-address", "127.0.0.1:0"])
        .env("KUBECONFIG", server.controllers_kubeconfig())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    println!(
        "the controller's log: {}",
        folder.join("controller.log").display()
    );
    let pid = process.id();
    stop_with(shared::run(), &[process], &folder);
    (pid, health)
}

struct Scene {
    client: Client,
    pid: u32,
    health: u16,
}

/// What the API server answers to a Pod.
#[derive(Debug)]
struct Answer {
    refused: Option<String>,
    warnings: String,
}

impl Scene {
    async fn new(namespaces: &[&str]) -> Self {
        let (pid, health) = controller().await;
        let client = ApiServer::of_the_guard().admin().await;
        let scene = Self {
            client,
            pid,
            health,
        };
        for namespace in namespaces {
            scene.namespace(namespace, json!({})).await;
        }
        scene
    }

    async fn namespace(&self, name: &str, labels: Value) {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        apply(&self.client, object).await;
    }

    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = look().await {
                return answer;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn builds(&self, namespace: &str) -> Api<ImageBuild> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// An ImageBuild that has succeeded: `image` with the tag 1, holding this.
    async fn built(
        &self,
        namespace: &str,
        name: &str,
        image: &str,
        contents: &Contents,
        digest: &str,
    ) {
        self.built_with(namespace, name, image, &pack(contents), digest)
            .await;
    }

    /// The same, with a packed report as it stands.
    async fn built_with(
        &self,
        namespace: &str,
        name: &str,
        image: &str,
        packed: &str,
        digest: &str,
    ) {
        let object = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": name},
            "spec": {"suspend": true, "source": {"inline": {"files": {"Dockerfile": "FROM scratch\n"}}},
                "output": {"image": image, "tags": ["not-yet-moved"]}}});
        let builds = self.builds(namespace);
        builds
            .patch(
                name,
                &PatchParams::apply("test").force(),
                &Patch::Apply(object),
            )
            .await
            .unwrap();
        // The controller has written what it has to say: it writes a status as a whole.
        self.until(&format!("{namespace}/{name} is suspended"), async || {
            let status = builds.get(name).await.unwrap().status?;
            find(&status.conditions, "Ready").map(drop)
        })
        .await;
        let digest = format!("sha256:{digest:0>64}");
        let held = json!({"base": "Scratch", "starts": "Yes", "command": [], "root": true, "shell": false,
            "packageManager": false, "caCertificates": false, "timeZones": false, "writableTmp": false,
            "setuidFiles": 0, "files": 1, "unpackedSize": 1, "programs": packed});
        let status = json!({"status": {"image": format!("{image}@{digest}"), "digest": digest, "tags": ["1"],
            "platforms": [{"platform": "linux/amd64", "digest": digest, "size": 1, "contents": held}]}});
        builds
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    async fn ask(&self, namespace: &str, pod: &Value) -> Answer {
        let request =
            http::Request::post(format!("/api/v1/namespaces/{namespace}/pods?dryRun=All"))
                .header("content-type", "application/json")
                .body(kube::client::Body::from(pod.to_string().into_bytes()))
                .unwrap();
        let answer = self.client.send(request).await.unwrap();
        let warnings = answer.headers().get_all("warning").iter();
        let warnings: Vec<_> = warnings
            .map(|value| value.to_str().unwrap().to_owned())
            .collect();
        let accepted = answer.status().is_success();
        let body = answer.into_body().collect_bytes().await.unwrap();
        Answer {
            refused: (!accepted).then(|| String::from_utf8_lossy(&body).into_owned()),
            warnings: warnings.join("\n"),
        }
    }

    async fn refused(&self, namespace: &str, image: &str) -> String {
        self.until(&format!("{image} is refused in {namespace}"), async || {
            self.ask(namespace, &wrong(image)).await.refused
        })
        .await
    }

    async fn warned(&self, namespace: &str, image: &str) -> String {
        self.until(
            &format!("{image} is warned of in {namespace}"),
            async || {
                let answer = self.ask(namespace, &wrong(image)).await;
                assert_eq!(answer.refused, None);
                Some(answer.warnings).filter(|warnings| warnings.contains("/bin/curl"))
            },
        )
        .await
    }

    /// Neither refused nor warned of, for as long as a write takes.
    async fn silent(&self, namespace: &str, image: &str) {
        self.until(
            &format!("{image} is let alone in {namespace}"),
            async || {
                for _ in 0..20 {
                    let answer = self.ask(namespace, &wrong(image)).await;
                    if answer.refused.is_some() || !answer.warnings.is_empty() {
                        return None;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Some(())
            },
        )
        .await
    }

    /// The message of a condition, once it has this status and reason.
    async fn condition(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> String {
        self.until(
            &format!("{namespace}/{name} has {kind}={status}, {reason}"),
            async || {
                let build = self.builds(namespace).get(name).await.unwrap();
                let found = find(&build.status?.conditions, kind)?.clone();
                (found.status == status && found.reason == reason).then_some(found.message)
            },
        )
        .await
    }

    async fn profiles(&self) -> Vec<ProbeProfile> {
        let ours = ListParams::default().labels("whittle.dev/installation=whittle");
        Api::<ProbeProfile>::all(self.client.clone())
            .list(&ours)
            .await
            .unwrap()
            .items
    }

    /// The most memory that the controller has had, in KiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    async fn metric(&self, name: &str) -> u64 {
        let url = format!("http://127.0.0.1:{}/metrics", self.health);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{name}: {text}"))
    }
}

fn wrong(image: &str) -> Value {
    probing(image, "/bin/curl")
}

fn probing(image: &str, program: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}, "spec": {"containers": [
        {"name": "app", "image": image, "livenessProbe": {"exec": {"command": [program]}}}]}})
}

fn holding(programs: impl IntoIterator<Item = String>) -> Contents {
    let mut contents = Contents {
        platform: "linux/amd64".into(),
        ..Contents::default()
    };
    contents.executables.items = programs
        .into_iter()
        .map(|path| Executable {
            path,
            runs: Runs::Yes,
            ..Executable::default()
        })
        .collect();
    contents
}

fn small() -> Contents {
    holding(["/app".to_owned()])
}

fn linked(links: impl IntoIterator<Item = (String, String)>) -> Contents {
    let mut contents = holding(["/bin/app".to_owned(), "/d40/x".to_owned()]);
    contents.links.items = links
        .into_iter()
        .map(|(path, folder)| FolderLink { path, folder })
        .collect();
    contents
}

/// Programs with paths of so many bytes.
fn long(count: usize, bytes: usize) -> Contents {
    let deep = "/".to_owned() + &vec!["a".repeat(200); bytes / 201].join("/");
    holding((0..count).map(|number| format!("{deep}/d{number}/x")))
}

#[tokio::test]
async fn an_image_build_has_workloads_of_its_own_namespace_refused_and_others_warned() {
    let scene = Scene::new(&["own", "own-elsewhere"]).await;
    let image = "registry.example.com/own/app";
    scene.built("own", "app", image, &small(), "a1").await;
    let image = format!("{image}:1");
    let said = scene.refused("own", &image).await;
    assert!(
        said.contains("/bin/curl") && said.contains("ImageBuild own/app"),
        "{said}"
    );
    let said = scene.warned("own-elsewhere", &image).await;
    assert!(said.contains("whittle-probe-guard-elsewhere"), "{said}");
    // What works is neither, and a tag that the spec names and no success has moved is not known.
    for namespace in ["own", "own-elsewhere"] {
        let answer = scene.ask(namespace, &probing(&image, "/app")).await;
        assert!(
            answer.refused.is_none() && answer.warnings.is_empty(),
            "{answer:?}"
        );
        scene
            .silent(namespace, "registry.example.com/own/app:not-yet-moved")
            .await;
    }
}

#[tokio::test]
async fn a_trusted_namespace_speaks_everywhere_for_its_repositories_alone() {
    let scene = Scene::new(&["trust-elsewhere", "trust-own"]).await;
    scene
        .namespace("trust-platform", json!({"trusted": "yes"}))
        .await;
    for image in ["platform/base", "platforms/base"] {
        let name = image.replace('/', "-");
        let image = format!("registry.example.com/{image}");
        scene
            .built("trust-platform", &name, &image, &small(), "b1")
            .await;
    }
    scene
        .refused("trust-elsewhere", "registry.example.com/platform/base:1")
        .await;
    scene
        .warned("trust-elsewhere", "registry.example.com/platforms/base:1")
        .await;
    // Who claims it in a namespace speaks there, and nowhere else.
    let other = holding(["/bin/curl".to_owned()]);
    scene
        .built(
            "trust-own",
            "base",
            "registry.example.com/platform/base",
            &other,
            "b2",
        )
        .await;
    scene
        .silent("trust-own", "registry.example.com/platform/base:1")
        .await;
    scene
        .refused("trust-elsewhere", "registry.example.com/platform/base:1")
        .await;
}

#[tokio::test]
async fn of_one_reference_with_two_contents_nothing_is_known_and_both_say_so() {
    let scene = Scene::new(&["twice", "twice-elsewhere", "twice-hostile"]).await;
    let image = "registry.example.com/twice/app";
    let tag = format!("{image}:1");
    scene.built("twice", "one", image, &small(), "c1").await;
    scene.refused("twice", &tag).await;
    scene.warned("twice-elsewhere", &tag).await;
    // Another namespace takes away what is said elsewhere, and nothing here.
    let other = holding(["/other".to_owned()]);
    scene
        .built("twice-hostile", "app", image, &other, "c2")
        .await;
    let said = scene
        .condition("twice", "one", "ProbeProfile", "True", "ClaimedElsewhere")
        .await;
    assert!(said.contains(&tag) && !said.contains("hostile"), "{said}");
    scene.silent("twice-elsewhere", &tag).await;
    scene.refused("twice", &tag).await;
    // The same namespace does.
    scene.built("twice", "two", image, &other, "c3").await;
    for (name, counterpart) in [("one", "twice/two"), ("two", "twice/one")] {
        let said = scene
            .condition("twice", name, "ProbeProfile", "False", "ClaimedTwice")
            .await;
        assert!(said.contains(&tag) && said.contains(counterpart), "{said}");
    }
    scene.silent("twice", &tag).await;
    // Once one is gone, the other speaks again.
    scene
        .builds("twice")
        .delete("two", &DeleteParams::default())
        .await
        .unwrap();
    scene.refused("twice", &tag).await;
}

#[tokio::test]
async fn a_pod_of_any_controller_is_let_alone_and_audited() {
    let scene = Scene::new(&["owned"]).await;
    let image = "registry.example.com/owned/postgres";
    scene
        .built("owned", "postgres", image, &small(), "d1")
        .await;
    let image = format!("{image}:1");
    scene.refused("owned", &image).await;
    let mut pod = wrong(&image);
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
        "name": "db", "uid": "6c0e3b1e-0000-4000-8000-000000000000", "controller": true}]);
    assert_eq!(scene.ask("owned", &pod).await.refused, None);
    pod["metadata"]["name"] = json!("db-1");
    apply_pod(&scene, "owned", pod.clone()).await;
    let said = scene
        .condition(
            "owned",
            "postgres",
            "ProbesCompatible",
            "False",
            "CannotWork",
        )
        .await;
    assert!(said.contains("Pod owned/db-1"), "{said}");
    // An owner that controls nothing is none.
    pod["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    pod["metadata"]["name"] = json!("db-2");
    assert!(scene.ask("owned", &pod).await.refused.is_some());
}

async fn apply_pod(scene: &Scene, namespace: &str, pod: Value) {
    let pods = Api::<k8s_openapi::api::core::v1::Pod>::namespaced(scene.client.clone(), namespace);
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
}

#[tokio::test]
async fn hostile_images_are_not_known_and_nobody_elses_trouble() {
    let scene = Scene::new(&["bad", "good"]).await;
    let to_the_root =
        |count: usize| (0..count).map(|number| (format!("/l{number}"), "/".to_owned()));
    let ladder = (0..40).flat_map(|rung| {
        ["x", "y"].map(|side| (format!("/d{rung}/{side}"), format!("/d{}", rung + 1)))
    });
    let rounds =
        (0..100).map(|number| (format!("/r{number}"), format!("/r{}", (number + 1) % 100)));
    let mut omitted = small();
    omitted.executables.omitted = 1;
    for (name, contents, reason) in [
        ("links", linked(to_the_root(40)), None),
        ("more-links", linked(to_the_root(101)), Some("TooManyLinks")),
        ("ladder", linked(ladder), Some("TooManyLinks")),
        ("rounds", linked(rounds), Some("LinksNotFollowed")),
        ("paths", long(950, 4000), Some("NoReport")),
        ("some-paths", long(200, 4000), Some("TooLarge")),
        ("many", omitted, Some("TooManyPrograms")),
    ] {
        let image = format!("registry.example.com/bad/{name}");
        scene.built("bad", name, &image, &contents, "e1").await;
        match reason {
            Some(reason) => drop(
                scene
                    .condition("bad", name, "ProbeProfile", "False", reason)
                    .await,
            ),
            None => drop(scene.refused("bad", &format!("{image}:1")).await),
        }
    }
    assert!(scene.metric("whittle_probe_guard_images_not_known ").await >= 6);
    // A link that leads everywhere is left alone; what is called past it is not.
    let through = probing("registry.example.com/bad/links:1", "/l7/bin/curl");
    assert_eq!(scene.ask("bad", &through).await.refused, None);
    // Images that are small enough alone, and too much together.
    for number in 0..24 {
        let name = format!("heap-{number}");
        let image = format!("registry.example.com/bad/{name}");
        let unlike = holding(
            (0..900).map(|program| format!("/opt/{number}/{program}-{}/x", "p".repeat(90))),
        );
        scene
            .built("bad", &name, &image, &unlike, &format!("e{number}"))
            .await;
    }
    let told = scene.until("the namespace has its share", async || {
        let builds = scene
            .builds("bad")
            .list(&ListParams::default())
            .await
            .unwrap();
        let too_large = builds.into_iter().filter_map(|build| {
            let found = find(&build.status?.conditions, "ProbeProfile")?.clone();
            found.message.contains("namespace").then_some(found)
        });
        Some(too_large.count()).filter(|count| *count > 0)
    });
    assert!((1..24).contains(&told.await));
    scene
        .built(
            "good",
            "app",
            "registry.example.com/good/app",
            &small(),
            "e2",
        )
        .await;
    scene
        .refused("good", "registry.example.com/good/app:1")
        .await;
    let many = scene.profiles().await.len();
    assert!((2..=6).contains(&many), "{many}");
    scene
        .builds("bad")
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    let fewer = scene.until("there are fewer profiles again", async || {
        let count = scene.profiles().await.len();
        (count < many).then_some(count)
    });
    assert!(fewer.await < many);
    scene
        .refused("good", "registry.example.com/good/app:1")
        .await;
    assert!(scene.peak() < LIMIT, "{} KiB", scene.peak());
}

/// Numbers that come out the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        // Knuth's linear congruential generator; the upper bits are the better ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most.max(1)
    }

    fn path(&mut self) -> String {
        let length = [1, 3, 40, 255][self.below(4)];
        let part = ["a", "..", ".", "", "b\u{202e}", "usr", "bin", "%2f"][self.below(8)];
        let depth = 1 + self.below(40);
        let parts: Vec<String> = (0..depth)
            .map(|_| match self.below(3) {
                0 => part.to_owned(),
                1 => "x".repeat(1 + self.below(length)),
                _ => format!("d{}", self.below(6)),
            })
            .collect();
        format!("/{}", parts.join("/"))
    }

    /// Programs and links of which none is as it should be.
    fn contents(&mut self) -> Contents {
        let (programs, links) = (self.below(800), self.below(300));
        let mut contents = holding((0..programs).map(|_| self.path()).collect::<Vec<_>>());
        contents.links.items = (0..links)
            .map(|number| FolderLink {
                path: match self.below(3) {
                    0 => format!("/l{number}"),
                    1 => format!("/l{}/l{number}", self.below(links)),
                    _ => self.path(),
                },
                folder: match self.below(4) {
                    0 => "/".to_owned(),
                    1 => format!("/l{}", self.below(links)),
                    2 => format!("/l{}/l{}", self.below(links), self.below(links)),
                    _ => self.path(),
                },
            })
            .collect();
        contents.env_path = Some((0..self.below(100)).map(|_| self.path() + ":").collect());
        contents
    }

    /// A report that is none, or not one that a runner writes.
    fn packed(&mut self) -> String {
        let deep = format!("{0}{1}", "[".repeat(60_000), "]".repeat(60_000));
        let of = |bytes: &[u8]| {
            let mut all = flate2::write::DeflateEncoder::new(vec![], Default::default());
            std::io::Write::write_all(&mut all, bytes).unwrap();
            base64::Engine::encode(
                &base64::engine::general_purpose::STANDARD,
                all.finish().unwrap(),
            )
        };
        match self.below(6) {
            0 => of(deep.as_bytes()),
            1 => of(format!(r#"{{"platform": "x", "links": {{"items": {deep}}}}}"#).as_bytes()),
            // Thirty mebibytes of nothing.
            2 => of(&vec![b' '; 30 << 20]),
            3 => "x".repeat(self.below(300_000)),
            4 => {
                let whole = pack(&self.contents());
                whole[..self.below(whole.len())].to_owned()
            }
            _ => pack(&self.contents()),
        }
    }
}

#[tokio::test]
async fn whatever_reports_hold_the_controller_lives_and_the_others_are_guarded() {
    let scene = Scene::new(&["wild", "tame"]).await;
    let mut dice = Dice(20_261_125);
    for number in 0..48 {
        let name = format!("wild-{number}");
        let image = format!("registry.example.com/wild/{name}");
        let packed = dice.packed();
        let digest = format!("f{number}");
        scene
            .built_with("wild", &name, &image, &packed, &digest)
            .await;
        if number % 16 == 15 {
            // An honest one, while the others are judged.
            let name = format!("tame-{number}");
            let image = format!("registry.example.com/tame/{name}");
            scene
                .built("tame", &name, &image, &small(), &format!("a{number}"))
                .await;
            scene.refused("tame", &format!("{image}:1")).await;
        }
    }
    assert!(scene.peak() < LIMIT, "{} KiB", scene.peak());
    let builds = scene.builds("wild");
    let (now, all) = (DeleteParams::default(), ListParams::default());
    builds.delete_collection(&now, &all).await.unwrap();
}

#[tokio::test]
async fn profiles_of_another_installation_are_let_alone_and_those_of_none_go() {
    let scene = Scene::new(&[]).await;
    let all = Api::<ProbeProfile>::all(scene.client.clone());
    scene
        .until("what an earlier version wrote is gone", async || {
            all.get_opt("whittle-0-of-2")
                .await
                .unwrap()
                .is_none()
                .then_some(())
        })
        .await;
    assert!(all.get_opt("other-0").await.unwrap().is_some());
    for profile in scene.profiles().await {
        assert!(profile.name_any().starts_with("whittle-"));
    }
}

/// So many, or as many as the variable IMAGE_BUILDS says.
const ORDINARY: usize = 300;

#[tokio::test]
async fn many_ordinary_image_builds_take_a_part_of_the_controllers_memory() {
    let count = std::env::var("IMAGE_BUILDS")
        .ok()
        .and_then(|count| count.parse().ok());
    let count: usize = count.unwrap_or(ORDINARY);
    let scene = Scene::new(&["ordinary"]).await;
    let distribution = |number: usize| {
        let of_all = (0..400).map(|program| format!("/usr/bin/program-{program}"));
        holding(of_all.chain([format!("/usr/local/bin/tool-{number}"), "/app".to_owned()]))
    };
    let all = futures::stream::iter(0..count);
    futures::StreamExt::for_each_concurrent(all, 4, async |number| {
        let (name, image) = (
            format!("app-{number}"),
            format!("registry.example.com/ordinary/app-{number}"),
        );
        let digest = format!("f{number}");
        scene
            .built("ordinary", &name, &image, &distribution(number), &digest)
            .await;
    })
    .await;
    let last = format!("registry.example.com/ordinary/app-{}:1", count - 1);
    scene.refused("ordinary", &last).await;
    println!("peak with {count} ImageBuilds: {} KiB", scene.peak());
    assert!(scene.peak() < LIMIT, "{} KiB", scene.peak());
    let all = (DeleteParams::default(), ListParams::default());
    scene
        .builds("ordinary")
        .delete_collection(&all.0, &all.1)
        .await
        .unwrap();
}
