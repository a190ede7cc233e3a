//! Where local builds are tried: a folder with a state of its own, and the cluster's programs on PATH.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::field::{PATIENCE, variable};

/// The Builder that every manifest names: how the local registry is reached from this machine.
fn builder() -> Value {
    let host = variable("REGISTRY_HOST");
    json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder", "metadata": {"name": "default"}, "spec": {
        "registries": [{"host": "docker.io", "mirrors": [host]}, {"host": host, "plainHTTP": true}]}})
}

/// An ImageBuild as text.
pub fn manifest(name: &str, spec: &Value) -> String {
    let build = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": name}, "spec": spec});
    format!("{build}\n")
}

/// The folder.
pub struct Bench {
    folder: tempfile::TempDir,
    number: u32,
}

/// What a build came to.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub result: String,
    pub said: String,
}

impl Ended {
    /// The status, where it ended with this code.
    pub fn status(&self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "{}\n{}", self.said, self.result);
        let build: Value = serde_json::from_str(&self.result).expect("-o json prints JSON");
        build["status"].clone()
    }

    /// What it said, where it ended with this code.
    pub fn said(&self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}\n{}", self.said, self.result);
        self.said.clone()
    }
}

impl Bench {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        Self {
            folder: tempfile::tempdir().unwrap(),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A repository of the local registry, as this machine reaches it.
    pub fn image(&self, name: &str) -> String {
        let (process, number) = (std::process::id(), self.number);
        format!(
            "{}/local-{process}-{number}/{name}",
            variable("REGISTRY_HOST")
        )
    }

    /// The command, with nothing of this machine's user in it.
    pub fn command(&self) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_whittle"))
    }

    /// The same of the program that is in the operator's image: it runs within others, too.
    pub fn program(&self) -> Command {
        self.command_of(&variable("WHITTLE_STATIC"))
    }

    fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let proxy = "http://127.0.0.1:9";
        command
            .env_clear()
            .env(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", variable("CLUSTER_BIN")),
            )
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.folder.path())
            .env("XDG_DATA_HOME", self.path("data"))
            .env("HTTP_PROXY", proxy)
            .env("HTTPS_PROXY", proxy)
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null());
        command
    }

    fn words<'a>(&self, file: &'a str, options: &[&'a str]) -> Vec<&'a str> {
        let fixed = ["build", "--local", "-o", "json", "-f", file];
        fixed.iter().chain(options).copied().collect()
    }

    /// Writes the manifest, with the Builder beside it.
    pub fn write(&self, text: &str) -> String {
        let path = self.path("build.yaml");
        fs::write(&path, format!("{}\n---\n{}\n", text.trim_end(), builder())).unwrap();
        path.display().to_string()
    }

    /// Builds a manifest to its end.
    pub fn build(&self, text: &str, options: &[&str]) -> Ended {
        let file = self.write(text);
        ended(self.command().args(self.words(&file, options)))
    }

    /// The same, and runs what was built.
    pub fn checked(&self, text: &str, options: &[&str]) -> Ended {
        let file = self.write(text);
        let words = self.words(&file, options);
        ended(self.program().args(words).arg("--check"))
    }

    /// Builds a folder, by a manifest that has little but the Builder.
    pub fn builder_of_the_file(&self, options: &[&str]) -> Ended {
        let spec = json!({"source": {"inline": {"files": {"Dockerfile": "FROM scratch"}}}, "output": {"image": "r.example/x"}});
        self.build(&manifest("app", &spec), options)
    }

    /// The same where none of the daemon's programs is on PATH.
    pub fn without_programs(&self, text: &str, options: &[&str]) -> Ended {
        let file = self.write(text);
        let words = self.words(&file, options);
        ended(self.command().env("PATH", "/nowhere").args(words))
    }

    /// Begins to build.
    pub fn start(&self, text: &str, options: &[&str]) -> Running {
        let file = self.write(text);
        let mut command = self.command();
        command.args(self.words(&file, options));
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Running { child, lines }
    }

    /// What `whittle` prints.
    pub fn whittle(&self, words: &[&str]) -> String {
        let ended = ended(self.command().args(words));
        assert_eq!(ended.code, Some(0), "{}", ended.said);
        ended.result
    }

    /// One file of an archive.
    pub fn out_of_tar(&self, archive: &Path, name: &str) -> Vec<u8> {
        let mut tar = tar::Archive::new(fs::File::open(archive).unwrap());
        let mut bytes = vec![];
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap().to_str() == Some(name) {
                entry.read_to_end(&mut bytes).unwrap();
            }
        }
        assert!(!bytes.is_empty(), "{name} is not in {}", archive.display());
        bytes
    }

    /// The names of the files in layers of an archive.
    pub fn files_of(&self, archive: &Path, layers: &Value) -> Vec<String> {
        let mut names = vec![];
        for layer in layers.as_array().unwrap() {
            let bytes = self.out_of_tar(archive, layer.as_str().unwrap());
            let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
            for entry in tar.entries().unwrap() {
                names.push(entry.unwrap().path().unwrap().display().to_string());
            }
        }
        names
    }

    /// Waits until no process has this folder in its arguments.
    pub fn nothing_is_left(&self, after: &str) {
        let own = self.folder.path().display().to_string();
        let begun = Instant::now();
        loop {
            let left = processes_with(&own);
            if left.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "after {after}: {left:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The command lines in which this text stands.
fn processes_with(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

/// Runs a command to its end.
pub fn ended(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Ended {
        code: output.status.code(),
        result: String::from_utf8_lossy(&output.stdout).into_owned(),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A build that runs.
pub struct Running {
    child: Child,
    lines: BufReader<ChildStderr>,
}

impl Running {
    /// Reads until it has said this.
    pub fn says(&mut self, words: &str) {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended without {words}: {all}");
            all.push_str(&line);
            if line.contains(words) {
                return;
            }
        }
    }

    pub fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &process]).status();
        assert!(sent.unwrap().success());
    }

    /// The exit code; none where a signal ended it.
    pub fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

/// Writes a program of a test's own.
pub fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
