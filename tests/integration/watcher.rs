//! The real watcher beside a stage.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use whittle_controller::names;
use whittle_watch::wire::paths;

use crate::stage::Stage;

/// The real watcher, with what the kubelet would mount; SIGKILL where it is dropped.
pub struct Watcher {
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Watcher {
    /// One that does not run yet.
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            process: None,
        }
    }

    /// Its process, where it runs: for tests/bench/watch.rs.
    #[allow(dead_code)]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it, again.
    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        // WHITTLE: another build of it, to be compared with.
        let program = std::env::var_os("WHITTLE");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_whittle").into());
        let process = Command::new(program)
            .args(["watch", "--folder"])
            .arg(self.folder.path())
            // As in its Pod.
            .envs([("MIMALLOC_ALLOW_THP", "0"), ("MIMALLOC_PURGE_DELAY", "0")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(process.unwrap());
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// True where this file of its Pod is mounted.
    #[allow(dead_code)]
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_start_matches(paths::ALL).trim_start_matches('/');
        self.folder.path().join(path).exists()
    }

    /// Plays the kubelet: what the watcher's Pod would mount now, where that is all there.
    pub async fn mount(&self, stage: &Stage) {
        let name = names::watcher("default");
        let secrets = stage.api::<Secret>();
        let list = stage.api::<ConfigMap>().get_opt(&name).await.unwrap();
        let token = secrets.get_opt(&name).await.unwrap();
        let tls = names::builder_client_tls("default");
        let tls = secrets.get_opt(&tls).await.unwrap();
        let (Some(list), Some(token), Some(tls)) = (list, token, tls) else {
            return;
        };
        let list = list.data.unwrap().into_iter();
        let mut files: Vec<_> = list
            .map(|(name, text)| (format!("{}/{name}", paths::LIST), text.into_bytes()))
            .collect();
        for (folder, secret) in [("/whittle/attempt", token), (paths::TLS, tls)] {
            let data = secret.data.unwrap().into_iter();
            files.extend(data.map(|(name, bytes)| (format!("{folder}/{name}"), bytes.0)));
        }
        for (path, bytes) in files {
            let path = path.trim_start_matches(paths::ALL).trim_start_matches('/');
            write(&self.folder.path().join(path), &bytes);
        }
    }
}

/// All at once, and only where it differs.
fn write(path: &Path, bytes: &[u8]) {
    if std::fs::read(path).is_ok_and(|before| before == bytes) {
        return;
    }
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(new, path).unwrap();
}
