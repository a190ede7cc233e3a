//! Random scripts in real shells, against what is said of them.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{contents, verdict};
use whittle_image::shell::{Shell, ShellFile};
use whittle_image::{Contents, Os};

/// Programs of the image, each used at most once: what one answers says nothing of the others.
const PROGRAMS: usize = 4;
/// Scripts for each shell.
const SCRIPTS: usize = 500;

/// What differs between shells, and what decides. `@` is a program of the image.
const LEAVES: [&str; 70] = [
    "@",
    "@",
    "@",
    "@",
    "@",
    "@",
    "curl",
    "curl",
    "curl",
    "true",
    "false",
    "exit 0",
    "exit 1",
    "exit",
    "x=$(curl)",
    "x=$(@)",
    "set -e",
    "exec curl",
    "exec @",
    "command -v curl",
    "command -v @",
    "[[ -n x ]]",
    "[[ -z x ]]",
    "[ a == a ]",
    "test a == a",
    "[ a = a ]",
    "@ &>/dev/null",
    "curl &>/dev/null",
    "@ >&/dev/null",
    "curl >/dev/null 2>&1",
    "@ |& @",
    "curl |& @",
    "@ <<<x",
    "echo $'x'",
    "a=(1 2)",
    "function f { @; }",
    "f() { @; }; f",
    "source /dev/null",
    ". /dev/null",
    "set -o pipefail",
    "set -euo pipefail",
    "set +o pipefail",
    "@ ${PATH/a/b}",
    "@ ${PATH:0:1}",
    "@ ${PATH^^}",
    "printf -v x y",
    "exit -1",
    "[ -n x -a a == a ]",
    "</dev/tcp/127.0.0.1/PORT",
    "echo x >/dev/tcp/127.0.0.1/PORT",
    "exec 3<>/dev/tcp/127.0.0.1/PORT",
    "type @",
    "type curl",
    "type -t @",
    "local x=1",
    "return 0",
    "return 1",
    "trap : EXIT",
    "curl & wait",
    "time @",
    "echo {a,b}",
    "echo -e x",
    "echo | read -t 1 x",
    "ulimit -c 0",
    "let x=1",
    "(( 1 ))",
    "exit 256",
    "pushd /",
    "set -h",
    "eval @",
];

/// What a shell carries out itself and may fail or not, and here always does the one.
const FIXED: [&str; 11] = [
    "pushd",
    "ulimit",
    "let ",
    "read ",
    "[",
    "test ",
    "type -t",
    "/dev/tcp",
    "local",
    "return",
    "printf -v",
];
/// What turns a success of these into a failure of the script.
const TURNS: [&str; 7] = ["! ", "false", "exit 1", "exit -", "exit;", "return", "curl"];

struct Scripts {
    state: u64,
    port: u16,
    used: usize,
}

impl Scripts {
    fn next(&mut self, most: usize) -> usize {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize % most
    }

    fn leaf(&mut self) -> String {
        let leaf = LEAVES[self.next(LEAVES.len())].replace("PORT", &self.port.to_string());
        let mut text = String::new();
        for c in leaf.chars() {
            match c {
                '@' if self.used < PROGRAMS => {
                    text.push_str(&format!("p{}", self.used));
                    self.used += 1;
                }
                '@' => text.push_str("true"),
                c => text.push(c),
            }
        }
        text
    }

    fn script(&mut self, depth: usize) -> String {
        if depth == 0 || self.next(4) == 0 {
            return self.leaf();
        }
        let (a, b, c) = (
            self.script(depth - 1),
            self.script(depth - 1),
            self.script(depth - 1),
        );
        match self.next(11) {
            0 | 1 => format!("{a} && {b}"),
            2 | 3 => format!("{a} || {b}"),
            4 | 5 => format!("{a}; {b}"),
            6 => format!("if {a}; then {b}; else {c}; fi"),
            7 => format!("({a})"),
            8 => format!("{{ {a}; }}"),
            9 => format!("! {{ {a}; }}"),
            _ => format!("{{ {a}; }} | {{ {b}; }}"),
        }
    }
}

/// An image whose sh is one of these.
fn image(kind: Shell, file: &str) -> Contents {
    let mut programs = vec![file.to_owned(), format!("/usr/bin/sh -> {file}")];
    programs.extend((0..PROGRAMS).map(|number| format!("/usr/bin/p{number}")));
    let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
    let mut found = contents(&programs);
    found.os = Some(Os {
        id: "debian".into(),
        version: Some("12".into()),
    });
    if kind == Shell::Other {
        found.executables.items[1].shell = Some(ShellFile {
            kind,
            pipefail: false,
        });
        found.executables.items[1].file = None;
    }
    found
}

/// Whether a script ends with success, for one of all answers of the programs in it.
fn succeeds(shell: &Path, path: &Path, script: &str, used: usize) -> bool {
    (0..1_u32 << used).any(|answers| {
        let mut command = Command::new(shell);
        command.args(["-c", script]).env_clear().env("PATH", path);
        for number in 0..used {
            let answer = (answers >> number & 1).to_string();
            command.env(format!("p{number}"), answer);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    })
}

/// `SHELLS` is a folder with dash, bash, busybox and mksh, as tests/shells.sh makes it.
#[test]
#[ignore = "needs shells: tests/shells.sh"]
fn what_is_said_of_scripts_holds_in_each_real_shell() {
    let shells = std::env::var("SHELLS").expect("SHELLS names a folder of shells: tests/shells.sh");
    let count = std::env::var("SCRIPTS").map_or(SCRIPTS, |count| count.parse().unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    for number in 0..PROGRAMS {
        let path = programs.join(format!("p{number}"));
        std::fs::write(&path, format!("#!{shells}/dash\nexit $p{number}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let all = [
        ("dash", Shell::Dash, "/usr/bin/dash"),
        ("bash", Shell::Bash, "/usr/bin/bash"),
        ("busybox", Shell::Busybox, "/usr/bin/busybox"),
        ("mksh", Shell::Other, "/usr/bin/mksh"),
    ];
    for (name, kind, file) in all {
        // As sh, by which name bash is another shell in part.
        let sh = folder.path().join(format!("{name}.d"));
        std::fs::create_dir(&sh).unwrap();
        let sh = sh.join("sh");
        symlink(Path::new(&shells).join(name), &sh).unwrap();
        let mut scripts = Scripts {
            state: 7,
            port,
            used: 0,
        };
        let (mut works, mut lacks, mut unknown) = (0, 0, 0);
        for _ in 0..count {
            scripts.used = 0;
            let script = scripts.script(3);
            let said = verdict(&["sh", "-c", &script], image(kind, file));
            let real = || succeeds(&sh, &programs, &script, scripts.used);
            match said.as_str() {
                "unknown" => unknown += 1,
                "works" => {
                    let has = |words: &[&str]| words.iter().any(|word| script.contains(word));
                    let fixed = has(&FIXED) && has(&TURNS);
                    assert!(
                        fixed || real(),
                        "{name} never succeeds, and it is said to work: {script}"
                    );
                    works += 1;
                }
                _ => {
                    assert!(!real(), "{name} succeeds, and {said}: {script}");
                    lacks += 1;
                }
            }
        }
        println!("{name}: {works} work, {lacks} cannot, {unknown} are not known");
        assert!(works > 20 && lacks > 20, "{name}");
    }
}
