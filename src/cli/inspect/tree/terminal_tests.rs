//! On a pseudo-terminal: what is seen, and that the terminal is given back however it ends.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::tests::layers;
use crate::inspect::fixtures::LayoutFolder;
use crate::inspect::{Options, run};

const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "WHITTLE_TEST_TREE";

/// This very program on a terminal, as `whittle inspect --tree`.
struct Session {
    child: Box<dyn Child + Send + Sync>,
    _master: Box<dyn MasterPty + Send>,
    input: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    raw: Vec<u8>,
    _image: LayoutFolder,
}

impl Session {
    fn start() -> Self {
        let image = LayoutFolder::of("linux/amd64", &layers());
        let size = PtySize {
            rows: 24,
            cols: 100,
            ..PtySize::default()
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
        let name = "inspect::tree::terminal_tests::the_program_on_the_terminal";
        command.args([
            "--exact",
            name,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ]);
        command.env(IMAGE, image.name());
        command.env("TERM", "xterm-256color");
        command.env("RUST_BACKTRACE", "0");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let input = pair.master.take_writer().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read) = reader.read(&mut buffer) {
                if read == 0 || sender.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            _master: pair.master,
            input,
            output,
            parser: vt100::Parser::new(24, 100, 0),
            raw: Vec::new(),
            _image: image,
        }
    }

    fn press(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    /// Waits until the screen is so.
    fn until(&mut self, what: &str, is: impl Fn(&vt100::Screen) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is(self.parser.screen()) {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => {
                    self.parser.process(&bytes);
                    self.raw.extend(bytes);
                }
                Err(error) => panic!("{what}: {error}\n{}", self.parser.screen().contents()),
            }
        }
    }

    fn shows(&mut self, text: &str) {
        self.until(text, |screen| screen.contents().contains(text));
    }

    /// Waits for its end, by when the screen is the one from before, with its cursor.
    fn given_back(&mut self) {
        self.until("the terminal is given back", |screen| {
            !screen.alternate_screen() && !screen.hide_cursor()
        });
        self.child.wait().unwrap();
    }
}

#[test]
#[ignore = "started by the tests below, on a terminal of theirs"]
fn the_program_on_the_terminal() {
    let image = std::env::var(IMAGE).expect("the tests below say which image");
    let options = Options {
        image,
        tree: true,
        ..Options::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let code = runtime.unwrap().block_on(run(&options));
    println!("ended with {code:?}");
}

#[test]
fn keys_walk_through_layers_and_files_and_q_gives_the_terminal_back() {
    let mut session = Session::start();
    session.shows("all files");
    assert!(session.parser.screen().alternate_screen());
    session.press("\u{1b}[B\u{1b}[B");
    session.shows("What layer 2 did");
    session.press("\t");
    session.press("/pass");
    session.shows("passwd");
    session.press("\r\u{1b}[F");
    session.shows("mode 0600");
    session.press("q");
    session.given_back();
    session.shows("ended with");
    // No name of the image has steered the terminal: red is what the third color would be.
    let sent = String::from_utf8_lossy(&session.raw).into_owned();
    assert!(!sent.contains("\u{1b}[31mred"), "{sent:?}");
}

#[test]
fn ctrl_c_gives_the_terminal_back() {
    let mut session = Session::start();
    session.shows("all files");
    session.press("\u{3}");
    session.given_back();
    session.shows("ended with ExitCode(unix_exit_status(130))");
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let mut session = Session::start();
    session.shows("all files");
    let id = session.child.process_id().unwrap();
    let id = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    session.given_back();
    session.shows("ended with ExitCode(unix_exit_status(130))");
}

#[test]
fn a_panic_gives_the_terminal_back_and_its_message_is_read() {
    let mut session = Session::start();
    session.shows("all files");
    session.press("\u{1b}[24~");
    session.given_back();
    session.shows("a test asked for a panic");
}

#[tokio::test]
async fn without_a_terminal_nothing_is_drawn() {
    // Tests have none where their output is kept; where they have one, there is nothing to be seen.
    use std::io::IsTerminal;
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        return;
    }
    let options = Options {
        image: "/nowhere".into(),
        tree: true,
        ..Options::default()
    };
    let code = run(&options).await;
    assert_eq!(format!("{code:?}"), "ExitCode(unix_exit_status(2))");
}
