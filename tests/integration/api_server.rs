//! One etcd and one API server for all tests of a run, on loopback ports of their own.

use std::io::{Read, Seek, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::shared::{Shared, alone, folder, run, shared, stop_with};

/// The account of the controller, as the chart binds it.
pub const CONTROLLER: &str = "system:serviceaccount:whittle-system:whittle";

/// The account of another installation's controller, which nothing binds but what a test binds.
pub const BOUND: &str = "system:serviceaccount:whittle-bound:whittle";

/// A running API server.
pub struct ApiServer {
    /// Its own among those of the run.
    pub name: String,
    folder: PathBuf,
    port: u16,
    /// Its processes, where this process has started them: etcd, and the API server.
    parts: Mutex<Vec<Part>>,
    /// Whether the CRDs and permissions are there.
    pub installed: tokio::sync::OnceCell<()>,
}

/// A process of it, and how it is started.
struct Part {
    program: PathBuf,
    arguments: Vec<String>,
    log: String,
    process: Child,
}

/// Which of its processes.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    Etcd,
    ApiServer,
}

impl ApiServer {
    /// The one of this test run; it starts with the first test that asks.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<Option<ApiServer>> = OnceLock::new();
        SERVER
            .get_or_init(|| Self::named("shared".into(), run(), false))
            .as_ref()
            .expect("the API server starts: see the first failure")
    }

    /// One of its own, for a test that changes what all others stand on.
    pub fn alone() -> &'static Self {
        Self::own(false)
    }

    fn own(audit: bool) -> &'static Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let server = Self::named(format!("alone-{process}-{number}"), process, audit);
        Box::leak(Box::new(server.expect("the API server starts")))
    }

    /// One of its own that writes down what the controller asks: [`Self::asked`].
    pub fn listening() -> &'static Self {
        Self::own(true)
    }

    /// All requests of the controller until now, but for watches and for the Lease, which it renews also at rest: verb and
    /// path.
    pub fn asked(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("audit.log")).unwrap_or_default();
        let events = log.lines().filter_map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            let (verb, path) = (event["verb"].as_str()?, event["requestURI"].as_str()?);
            let counts = verb != "watch" && !path.contains("/leases");
            counts.then(|| format!("{verb} {path}"))
        });
        events.collect()
    }

    /// Another one, for tests whose controller looks after every namespace.
    pub fn of_the_guard() -> &'static Self {
        static SERVER: OnceLock<Option<ApiServer>> = OnceLock::new();
        SERVER
            .get_or_init(|| Self::named("guard".into(), run(), false))
            .as_ref()
            .expect("the API server starts: see the first failure")
    }

    /// Started, unless another test of this run has; it ends with the process `until`. On a thread of its own: it blocks,
    /// and tests run within a runtime.
    fn named(name: String, until: u32, audit: bool) -> Option<Self> {
        let start = move || match shared(&name) {
            Shared::Made(port) => Self::at(name, port, vec![]),
            Shared::Mine(turn) => {
                let server = Self::start(name, until, audit);
                turn.made(server.port);
                server
            }
        };
        std::thread::spawn(start).join().ok()
    }

    fn at(name: String, port: u16, parts: Vec<Part>) -> Self {
        Self {
            folder: folder(&name),
            name,
            port,
            parts: Mutex::new(parts),
            installed: tokio::sync::OnceCell::new(),
        }
    }

    fn start(name: String, until: u32, audit: bool) -> Self {
        let bin = PathBuf::from(std::env::var("CLUSTER_BIN").expect(
            "CLUSTER_BIN names no folder: run `make test-integration`, or set it to what `cd tests/cluster && go run . build etcd kube-apiserver helm` prints",
        ));
        let folder = folder(&name);
        let at = |name: &str| folder.join(name).display().to_string();
        let [client, peer, port] = free_ports();
        let mut parts = vec![];
        let etcd = format!("http://127.0.0.1:{client}");
        let peers = format!("http://127.0.0.1:{peer}");
        parts.push(Part::start(
            bin.join("etcd"),
            &[
                "--data-dir",
                &at("etcd"),
                "--listen-client-urls",
                &etcd,
                "--advertise-client-urls",
                &etcd,
                "--listen-peer-urls",
                &peers,
                "--initial-advertise-peer-urls",
                &peers,
                "--initial-cluster",
                &format!("default={peers}"),
                "--unsafe-no-fsync",
                "--log-level",
                "error",
            ],
            at("etcd.log"),
        ));
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(at("sa.key"), key.serialize_pem()).unwrap();
        std::fs::write(at("sa.pub"), key.public_key_pem()).unwrap();
        std::fs::write(
            at("tokens.csv"),
            format!("admin,admin,admin,system:masters\ncontroller,{CONTROLLER},controller,\"system:serviceaccounts,system:authenticated\"\nbound,{BOUND},bound,\"system:serviceaccounts,system:authenticated\"\n"),
        )
        .unwrap();
        let policy = format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\n\
             rules: [{{level: Metadata, users: [\"{CONTROLLER}\"]}}, {{level: None}}]\n"
        );
        std::fs::write(at("audit.yaml"), policy).unwrap();
        let audit = match audit {
            true => [
                "--audit-policy-file",
                &at("audit.yaml"),
                "--audit-log-path",
                &at("audit.log"),
            ]
            .map(str::to_owned)
            .to_vec(),
            false => vec![],
        };
        let mut arguments: Vec<&str> = audit.iter().map(String::as_str).collect();
        let own_port = port.to_string();
        let of_server = [at("certs"), at("sa.pub"), at("sa.key"), at("tokens.csv")];
        let [certs, public, key, tokens] = &of_server;
        arguments.extend([
            "--etcd-servers",
            &etcd,
            "--bind-address",
            "127.0.0.1",
            "--secure-port",
            &own_port,
            "--cert-dir",
            certs,
            "--service-cluster-ip-range",
            "127.255.0.0/24",
            "--service-account-issuer",
            "https://kubernetes.default.svc",
            "--service-account-key-file",
            public,
            "--service-account-signing-key-file",
            key,
            "--token-auth-file",
            tokens,
            "--authorization-mode",
            "RBAC",
            "--anonymous-auth=false",
            "--allow-privileged",
            // Nothing makes the default service account here.
            "--disable-admission-plugins",
            "ServiceAccount",
        ]);
        parts.push(Part::start(
            bin.join("kube-apiserver"),
            &arguments,
            at("kube-apiserver.log"),
        ));
        stop_with(until, parts.iter().map(|part| &part.process), &folder);
        let server = Self::at(name, port, parts);
        server.wait_until_ready();
        server
    }

    fn part<T>(&self, which: Which, act: impl FnOnce(&mut Part) -> T) -> T {
        act(&mut self.parts.lock().unwrap()[which as usize])
    }

    /// It does nothing any more, and nobody is told: its connections stay open.
    pub fn freeze(&self, which: Which) {
        self.part(which, |part| part.signal("STOP"));
    }

    /// It goes on where it was frozen.
    pub fn thaw(&self, which: Which) {
        self.part(which, |part| part.signal("CONT"));
    }

    /// SIGKILL.
    pub fn end(&self, which: Which) {
        self.part(which, |part| {
            part.process.kill().unwrap();
            part.process.wait().unwrap();
        });
    }

    /// It starts again after its end.
    pub async fn start_again(&self, which: Which) {
        self.part(which, |part| {
            part.process = spawn(&part.program, &part.arguments, &part.log);
            stop_with(std::process::id(), [&part.process], &self.folder);
        });
        let deadline = Instant::now() + Duration::from_secs(90);
        while !self.is_ready().await {
            assert!(Instant::now() < deadline, "{which:?} did not start again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(90);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        while Instant::now() < deadline {
            if self.path("certs/apiserver.crt").exists() && runtime.block_on(self.is_ready()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = std::fs::read_to_string(self.path("kube-apiserver.log")).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(20).collect();
        panic!(
            "the API server did not become ready:\n{}",
            tail.into_iter().rev().collect::<Vec<_>>().join("\n")
        );
    }

    async fn is_ready(&self) -> bool {
        let client = self.client("admin").await;
        let request = http::Request::get("/readyz").body(vec![]).unwrap();
        client.request_text(request).await.is_ok()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A client that may do everything.
    pub async fn admin(&self) -> Client {
        self.client("admin").await
    }

    /// A client with the controller's own permissions.
    pub async fn controller(&self) -> Client {
        self.client("controller").await
    }

    async fn client(&self, token: &str) -> Client {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig(token)).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        Client::try_from(config).unwrap()
    }

    /// A client for somebody else, who may do what RBAC gives this name.
    pub async fn user(&self, name: &str) -> Client {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig("admin")).unwrap();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        config.auth_info.impersonate = Some(name.into());
        Client::try_from(config).unwrap()
    }

    /// Path of a kubeconfig with the controller's own permissions.
    pub fn controllers_kubeconfig(&self) -> PathBuf {
        self.kubeconfig("controller")
    }

    /// The same, by way of another address: another name than the server's own, as that is what others use.
    pub fn controllers_kubeconfig_at(&self, url: &str) -> PathBuf {
        let name = url.replace(['/', ':'], "-");
        self.kubeconfig_at("controller", url, &format!("controller-{name}"))
    }

    /// Path of a kubeconfig that may do everything.
    pub fn kubeconfig_of_admin(&self) -> PathBuf {
        self.kubeconfig("admin")
    }

    /// Path of a kubeconfig with the account [`BOUND`].
    pub fn bound_kubeconfig(&self) -> PathBuf {
        self.kubeconfig("bound")
    }

    /// Where it answers, and the certificate that it shows.
    pub fn address(&self) -> (String, PathBuf) {
        let url = format!("https://127.0.0.1:{}", self.port);
        (url, self.path("certs/apiserver.crt"))
    }

    fn kubeconfig(&self, token: &str) -> PathBuf {
        self.kubeconfig_at(token, &self.address().0, token)
    }

    fn kubeconfig_at(&self, token: &str, url: &str, name: &str) -> PathBuf {
        let path = self.path(&format!("{name}.kubeconfig"));
        let (_, certificate) = self.address();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: \"{url}\", certificate-authority: {}}}}}]\n\
             users: [{{name: test, user: {{token: {token}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            certificate.display()
        );
        // Written whole: other tests read it at the same time.
        let temporary = tempfile::NamedTempFile::new_in(&self.folder).unwrap();
        std::fs::write(temporary.path(), text).unwrap();
        temporary.persist(&path).unwrap();
        path
    }
}

/// Ports that are free, and stay so until who asked listens: nobody else is told the same ones soon, and none is of those that the
/// kernel gives out by itself (32768 to 60999), or a connection of another test could have it a moment later.
pub fn free_ports<const N: usize>() -> [u16; N] {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    let user = std::fs::metadata("/proc/self").unwrap().uid();
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(std::env::temp_dir().join(format!("whittle-tests-port-{user}")))
        .unwrap();
    // Until the file is closed.
    file.lock().unwrap();
    let mut last = String::new();
    file.read_to_string(&mut last).unwrap();
    let mut offset: u16 = last.parse().unwrap_or_default();
    let free = std::array::from_fn(|_| {
        let mut tried = 0..COUNT;
        let found = tried.find_map(|_| {
            offset = (offset + 1) % COUNT;
            let port = FIRST + offset;
            TcpListener::bind(("127.0.0.1", port))
                .is_ok()
                .then_some(port)
        });
        found.expect("a port of 20000 to 29999 is free")
    });
    file.set_len(0).unwrap();
    file.rewind().unwrap();
    write!(file, "{offset}").unwrap();
    free
}

impl Part {
    fn start(program: PathBuf, arguments: &[&str], log: String) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
        let process = spawn(&program, &arguments, &log);
        Self {
            program,
            arguments,
            log,
            process,
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        let mut kill = Command::new("kill");
        let status = kill.args(["-s", signal, &id]).status().unwrap();
        assert!(status.success());
    }
}

fn spawn(program: &Path, arguments: &[String], log: &str) -> Child {
    let mut file = std::fs::OpenOptions::new();
    let log = file.create(true).append(true).open(log).unwrap();
    alone(&mut Command::new(program))
        .args(arguments)
        // They collect garbage for a quarter of their time otherwise.
        .env("GOGC", "400")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}
