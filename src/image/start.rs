//! What a container of the image starts, and what that starts in turn.

use super::config::ImageConfig;
use super::contents::{CommandForm, Executable, Fault, Runs, Start};
use super::directory;
use super::inspect::{SHELLS, executable, words};
use super::limits::short;
use super::resolve::Resolver;
use super::script::{self, Reached};
use super::shell::is_shell;
use super::user::Identity;

/// Programs that start the one that they are given.
const INITS: [&str; 4] = ["tini", "tini-static", "dumb-init", "catatonit"];
/// Bytes of a message.
const MAX_TEXT: usize = 1000;

/// What the container starts, and what that starts in turn.
pub(super) fn start(
    resolver: &mut Resolver<'_>,
    config: &ImageConfig,
    identity: &Identity,
) -> Start {
    let command = config.command();
    let image = resolver.image();
    let Some(first) = command.first() else {
        return Start {
            program: Executable {
                runs: Runs::No,
                fault: Some(Fault::NoCommand),
                message: Some("the image has neither ENTRYPOINT nor CMD".into()),
                ..Executable::default()
            },
            ..Start::default()
        };
    };
    let mut program = executable(image, resolver.command(first));
    if let (Some(unknown), Runs::Yes) = (&identity.unknown, program.runs) {
        program.runs = Runs::No;
        program.fault = Some(Fault::UnknownUser);
        program.message = Some(format!(
            "user {unknown} not found in the image's /etc/passwd"
        ));
    }
    // Before the program is looked for, the runtime goes to the working directory.
    match directory::trouble(image, config) {
        Some((why, true)) => {
            program.runs = Runs::No;
            program.fault = Some(Fault::WorkingDirectory);
            program.message = Some(short(&why, MAX_TEXT));
        }
        Some((why, false)) if program.runs == Runs::Yes => {
            program.runs = Runs::Unknown;
            program.message = Some(short(&why, MAX_TEXT));
        }
        _ => {}
    }
    let then = next(resolver, config, &command);
    // The program is handed what was meant as a list of words.
    if program.runs == Runs::Yes
        && then.is_none()
        && !config.entrypoint.is_empty()
        && let Some(text) = script_of(&config.cmd).filter(|text| script::is_broken_list(text))
    {
        program.runs = Runs::Unknown;
        program.message = Some(short(
            &format!(
                "CMD {text} is not a valid JSON array, so {first} gets a shell and this text as \
                    arguments: use double quotes, no trailing comma and nothing after the \
                    bracket"
            ),
            MAX_TEXT,
        ));
    }
    Start {
        then,
        command: words(&command),
        form: match script_of(&command) {
            Some(_) => CommandForm::Shell,
            None => CommandForm::Exec,
        },
        program,
    }
}

/// What the first program of a command starts, where that is beyond doubt.
fn next(
    resolver: &mut Resolver<'_>,
    config: &ImageConfig,
    command: &[String],
) -> Option<Executable> {
    let name = command.first()?.rsplit('/').next().unwrap_or_default();
    if let Some(text) = script_of(command) {
        // Others read another language, and files that are read first may set PATH.
        let posix = is_shell(name) || name == "busybox";
        let login = |word: &String| word.starts_with('-') && word.contains(['l', 'i']);
        let before = command
            .iter()
            .skip(1)
            .take_while(|word| word.as_str() != text);
        if !posix || before.into_iter().any(login) || config.variable("BASH_ENV").is_some() {
            return None;
        }
        return match script::reached(resolver, config, text)? {
            Reached::Program(program) => Some(*program),
            Reached::NoList(why) => Some(Executable {
                path: command[0].clone(),
                runs: Runs::No,
                fault: Some(Fault::ShellText),
                message: Some(short(&why, MAX_TEXT)),
                ..Executable::default()
            }),
        };
    }
    if !INITS.contains(&name) {
        return None;
    }
    let inner = wrapped(&command[1..])?;
    let program = executable(resolver.image(), resolver.called(inner.first()?));
    match program.runs {
        // One more step: an image mostly has its init before a command in shell form.
        Runs::Yes => next(resolver, config, inner).or(Some(program)),
        _ => Some(program),
    }
}

/// The text that a shell is given, as SHELL of a Dockerfile puts it together: `/bin/sh -c TEXT`, with options
/// before.
fn script_of(command: &[String]) -> Option<&str> {
    let (first, mut rest) = command.split_first()?;
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    if name(first) == "busybox" {
        let (applet, more) = rest.split_first()?;
        (is_shell(&name(applet))).then_some(())?;
        rest = more;
    } else if !SHELLS.contains(&name(first).as_str()) {
        return None;
    }
    let mut given = false;
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix(['-', '+']) {
            Some(flags) if !flags.starts_with('-') && !flags.is_empty() => {
                given |= word.starts_with('-') && flags.contains('c');
                if flags.contains('o') {
                    words.next();
                }
            }
            Some(_) if word.len() > 2 => {}
            _ => return given.then_some(word),
        }
    }
    None
}

/// What an init is given, behind its options.
fn wrapped(words: &[String]) -> Option<&[String]> {
    match words.iter().position(|word| word == "--") {
        Some(at) => words.get(at + 1..),
        // An option may have a value: then it is not known which word is the program.
        None => {
            Some(words).filter(|words| words.first().is_some_and(|word| !word.starts_with('-')))
        }
    }
}
