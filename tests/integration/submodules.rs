//! Where git takes the credentials of a source that has submodules: git itself, the helper, and servers that listen.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// `bob:hunter2`
const BASIC: &str = "Basic Ym9iOmh1bnRlcjI=";

/// A server that asks for credentials, and with them sends everybody on, where there is a place to go on to.
struct Server {
    url: String,
    /// The Authorization header of each request, empty without one.
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(onward: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(vec![]));
        let told = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, onward.as_deref(), &told);
            }
        });
        Self { url, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    onward: Option<&str>,
    heard: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let given = head
        .lines()
        .find_map(|line| line.strip_prefix("Authorization: "))
        .unwrap_or_default();
    heard.lock().unwrap().push(given.to_owned());
    let status = match onward {
        Some(place) if !given.is_empty() => format!("302 Found\r\nLocation: {place}{path}"),
        _ => "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"".to_owned(),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

fn git(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", "/dev/null")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
        .stdout(Stdio::null());
    git
}

/// Updates the submodules of a repository that has one at `url`, with the credentials of `server`.
fn update(folder: &Path, url: &str, server: &str) -> String {
    let helper = folder.join("git-credential-whittle");
    symlink(env!("CARGO_BIN_EXE_whittle"), &helper).unwrap();
    let tree = folder.join("tree");
    fs::create_dir(&tree).unwrap();
    let run = |args: &[&str]| {
        assert!(
            git(&tree).args(args).status().unwrap().success(),
            "{args:?}"
        )
    };
    run(&["init", "--quiet"]);
    let modules = format!("[submodule \"lib\"]\n\tpath = lib\n\turl = {url}/lib.git\n");
    fs::write(tree.join(".gitmodules"), modules).unwrap();
    let entry = format!("160000,{},lib", "1".repeat(40));
    run(&["update-index", "--add", "--cacheinfo", &entry]);
    run(&["add", ".gitmodules"]);
    run(&["commit", "--quiet", "--message", "one"]);
    let output = git(&tree)
        .env("WHITTLE_GIT_SERVER", server)
        .env("WHITTLE_GIT_CREDENTIAL", "bob:hunter2")
        .arg("-c")
        .arg(format!("credential.{server}.helper={}", helper.display()))
        .args(["submodule", "update", "--init", "--recursive", "--depth=1"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_submodule_of_the_same_server_gets_the_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(None);
    let said = update(folder.path(), &server.url, &server.url);
    assert!(server.heard().iter().any(|given| given == BASIC), "{said}");
}

#[test]
fn a_submodule_of_another_port_or_name_gets_none() {
    let (own, other) = (Server::new(None), Server::new(None));
    let by_name = own.url.replace("127.0.0.1", "localhost");
    for (url, asked) in [(&other.url, &other), (&by_name, &own)] {
        let folder = tempfile::tempdir().unwrap();
        let said = update(folder.path(), url, &own.url);
        assert!(!asked.heard().is_empty(), "{said}");
        assert!(
            asked.heard().iter().all(String::is_empty),
            "{:?}",
            asked.heard()
        );
    }
}

#[test]
fn a_server_that_sends_git_on_to_another_one_takes_no_credentials_along() {
    let other = Server::new(None);
    let own = Server::new(Some(other.url.clone()));
    let folder = tempfile::tempdir().unwrap();
    let said = update(folder.path(), &own.url, &own.url);
    assert!(own.heard().iter().any(|given| given == BASIC), "{said}");
    assert!(!other.heard().is_empty(), "{said}");
    assert!(
        other.heard().iter().all(String::is_empty),
        "{:?}",
        other.heard()
    );
}
