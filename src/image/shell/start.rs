//! Programs that only start another one: `sudo`, `env`, `timeout` and their like.

use super::tolerant::{Command, base_name, is_name};

/// `NAME=value` and `NAME+=value`.
pub(super) fn assignment(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let name = name.strip_suffix('+').unwrap_or(name);
    is_name(name).then(|| (name.to_owned(), value.to_owned()))
}

/// Programs that only start another one: their options that take a value, and how many words they take
/// themselves before it.
fn starter(program: &str) -> Option<(&'static [&'static str], usize)> {
    Some(match program {
        "sudo" | "doas" => (&["-u", "-g", "-h", "-p", "-C", "--user", "--group"], 0),
        "env" => (&["-u", "-C", "--unset", "--chdir"], 0),
        "timeout" => (&["-k", "-s", "--kill-after", "--signal"], 1),
        "nice" => (&["-n"], 0),
        "ionice" => (&["-c", "-n"], 0),
        "stdbuf" => (&["-i", "-o", "-e"], 0),
        "xargs" => (&["-n", "-I", "-P", "-L", "-d", "-a", "-s"], 0),
        "gosu" | "su-exec" => (&[], 1),
        "exec" | "command" | "builtin" | "nohup" | "time" | "eatmydata" | "retry" | "linux32"
        | "linux64" | "dumb-init" | "busybox" | "corepack" => (&[], 0),
        _ => return None,
    })
}

/// A command without the programs that only start it (`sudo`, `env`, `exec` …).
pub fn command(words: Vec<String>, at: usize) -> Option<Command> {
    let mut env = vec![];
    let mut words = words.into_iter().peekable();
    loop {
        let first = words.next()?;
        let program = base_name(&first);
        // `corepack yarn install` starts; `corepack enable` does not. `conda run -n name program` does.
        let next = words.peek().map_or("", String::as_str);
        let started = match program {
            "corepack" => matches!(next, "yarn" | "pnpm" | "npm"),
            "conda" | "mamba" | "micromamba" | "poetry" | "pipenv" | "uv" => next == "run",
            // `command -v yarn` only asks.
            "command" => !matches!(next, "-v" | "-V"),
            _ => starter(program).is_some(),
        };
        if program == "command" && !started {
            return None;
        }
        if !started {
            let words = std::iter::once(program.to_owned()).chain(words).collect();
            return Some(Command { at, words, env });
        }
        let (valued, mut own) = starter(program).unwrap_or((
            &[
                "-n", "-p", "--name", "--prefix", "--cwd", "--with", "--python", "--group",
                "--extra",
            ],
            1,
        ));
        while let Some(word) = words.peek() {
            let number = word.starts_with(|c: char| c.is_ascii_digit());
            let valued = valued.contains(&word.as_str());
            match assignment(word) {
                Some(pair) => env.push(pair),
                None if word.starts_with('-') => {}
                None if own > 0 => own -= 1,
                None if number => {}
                None => break,
            }
            words.next();
            if valued {
                words.next();
            }
        }
    }
}
