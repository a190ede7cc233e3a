//! One command without operators: a builtin, a program, and what programs start in turn.

use super::eval::{EXIT_FAIL, EXITS, Eval, FAIL, Flow, GOES_ON, Missing, OK, Running};
use super::wrappers::{Inner, inner};
use crate::paths;
use crate::place::{Found, Starter};
use whittle_image::shell::syntax::{Piece, Simple, Word, parse, quiet};
use whittle_image::shell::{Shell, is_applet, is_builtin, is_shell};
use whittle_image::{Executable, ProgramKind};

/// How deep shells may start shells.
const DEPTH: usize = 8;
/// Programs that are looked up for one command.
const PROGRAMS: usize = 1000;

impl Eval<'_, '_> {
    pub(super) fn simple(
        &mut self,
        Simple {
            assigns,
            words,
            redirects,
        }: &Simple,
        prior: Flow,
    ) -> Flow {
        let output = self.outputs(
            (assigns.iter().chain(redirects))
                .map(|(_, word)| word)
                .chain(words),
        );
        let outer = self.other_path;
        self.other_path |= assigns.iter().any(|(name, _)| name == "PATH");
        if let Some(flow) = self.network(redirects) {
            self.other_path = outer;
            // A special builtin ends the script with it (POSIX, 2.8.1).
            let special = matches!(words.first().and_then(Word::literal), Some("exec" | ":"));
            return match flow {
                FAIL if special => EXIT_FAIL,
                flow => flow,
            };
        }
        // A file that cannot be opened keeps the command from being run.
        let mut flow = if quiet(redirects) { 0 } else { FAIL };
        if words.is_empty() {
            return flow | output.unwrap_or(OK);
        }
        flow |= match words[0].literal() {
            None => self.opaque("the command's name is only known at run time"),
            Some(name) if !name.contains('/') => match self.is_builtin(name) {
                Some(true) => self.builtin(name, words, prior),
                Some(false) => self.program(words, Starter::Shell),
                None => self.opaque(format!(
                    "it runs {name}, which some shells carry out themselves"
                )),
            },
            Some(_) => self.program(words, Starter::Shell),
        };
        // A value that stands before a program is for that program alone.
        if !words.is_empty() && !assigns.is_empty() {
            self.other_path = outer;
        }
        flow
    }

    fn is_builtin(&self, name: &str) -> Option<bool> {
        let shell = self.shell.as_ref();
        shell.map_or(Some(false), |shell| is_builtin(name, shell.kind))
    }

    fn builtin(&mut self, name: &str, words: &[Word], prior: Flow) -> Flow {
        let rest = &words[1..];
        match name {
            ":" | "true" | "echo" => OK,
            "false" => FAIL,
            // Shells do not agree on what more than one code does.
            "exit" if rest.len() > 1 => EXITS | FAIL,
            "exit" => Self::exits(prior, rest.first()),
            "return" => self.returns(prior, rest.first()),
            "[" | "test" => self.test(name, rest),
            "type" => self.asks_type(rest),
            "read" => self.reads(rest),
            "printf" | "wait" => self.lacks_option(name, rest),
            "local" => self.local(),
            "exec" => match rest.first() {
                None => OK,
                Some(word) if word.literal().is_some_and(|text| text.starts_with('-')) => {
                    self.opaque("it has exec with options")
                }
                // The shell ends where the program does, or where it is missing.
                Some(_) => match self.program(rest, Starter::Shell) {
                    flow if flow & EXITS == 0 => (flow & GOES_ON) << 2,
                    _ => EXITS,
                },
            },
            "command" => self.command(rest, prior),
            "eval" => {
                let text: Option<Vec<&str>> = rest.iter().map(Word::literal).collect();
                let kind = self.kind();
                match text.map(|text| parse(&text.join(" "), kind)) {
                    Some(Ok(node)) if self.depth < DEPTH => {
                        self.depth += 1;
                        // With set -e it may stand where a failure is asked about.
                        let flow = self.eval(&node, prior, true);
                        self.depth -= 1;
                        flow
                    }
                    _ => self.opaque("it evaluates text that is only known at run time"),
                }
            }
            "set" => self.set(rest),
            "alias" | "trap" | "enable" | "shopt" | "hash" | "." | "source" | "logout"
            | "builtin" => self.opaque(format!("it uses {name}, which changes what commands mean")),
            "break" | "continue" => {
                self.leaves_loop = true;
                OK
            }
            "cd" | "pushd" | "popd" => {
                self.other_folder = true;
                GOES_ON
            }
            _ => {
                let path = |word: &Word| matches!(word.pieces.first(), Some(Piece::Text(text)) if text == "PATH" || text.starts_with("PATH="));
                self.other_path |= rest.iter().any(path);
                GOES_ON
            }
        }
    }

    /// `command`, which runs a program or says whether there is one.
    fn command(&mut self, words: &[Word], prior: Flow) -> Flow {
        let Some(first) = words.first() else {
            return OK;
        };
        match first.literal() {
            Some("-v" | "-V") => {
                let Some(name) = words.get(1).and_then(Word::literal) else {
                    return GOES_ON;
                };
                // With several names bash asks for one of them, and others for the first.
                match words.len() {
                    2 => self.sought(name),
                    _ => GOES_ON,
                }
            }
            Some(name) if name.starts_with('-') => self.opaque("it has command with options"),
            Some(name) => match self.is_builtin(name) {
                Some(true) => self.builtin(name, words, prior),
                Some(false) => self.program(words, Starter::Shell),
                None => self.opaque(format!(
                    "it runs {name}, which some shells carry out themselves"
                )),
            },
            None => self.opaque("the command's name is only known at run time"),
        }
    }

    /// Whether a name is a command: without running it.
    pub(super) fn sought(&mut self, name: &str) -> Flow {
        if self.is_builtin(name) == Some(true)
            || RESERVED.contains(&name)
            || is_shell(name) && self.assume
        {
            return OK;
        }
        if self.looks_no_more() {
            return self.opaque("too many programs in the script");
        }
        match self.place.find(name, Starter::Shell) {
            _ if self.other_path || self.other_folder => GOES_ON,
            // It is there, whatever becomes of it.
            Found::Runs(_) | Found::Breaks(_) => OK,
            Found::Fails(_) if self.assume => OK,
            Found::Fails(_) if self.own_applet(name) || self.is_builtin(name).is_none() => GOES_ON,
            Found::Fails(why) => {
                self.sought.push(Missing {
                    program: name.to_owned(),
                    why,
                    started: false,
                    fix: None,
                });
                FAIL
            }
            Found::Unknown(_) => GOES_ON,
        }
    }

    fn set(&mut self, words: &[Word]) -> Flow {
        let mut words = words.iter().map(Word::literal);
        while let Some(word) = words.next() {
            let Some(flags) = word.and_then(|word| word.strip_prefix(['-', '+'])) else {
                return OK;
            };
            let on = word.is_some_and(|word| word.starts_with('-'));
            if self.branches > 0 && flags.contains(['e', 'o']) {
                return self.opaque("it sets shell options conditionally");
            }
            if let Some(flow) = self.option(flags, on, &mut words) {
                return flow;
            }
        }
        OK
    }

    /// Options of `set` and of the shell itself: `e`, and those that `o` names. None where the shell takes them.
    fn option<'w>(
        &mut self,
        flags: &str,
        on: bool,
        words: &mut impl Iterator<Item = Option<&'w str>>,
    ) -> Option<Flow> {
        let mut refused = self.unknown_option(flags, None);
        for flag in flags.chars() {
            match flag {
                'e' => self.errexit = on,
                'o' => {
                    let name = words.next().flatten();
                    refused = refused.or_else(|| self.unknown_option("", name));
                    match name {
                        Some("errexit") => self.errexit = on,
                        Some("pipefail") => self.pipefail = on,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        // Where it is taken to know them, it does.
        refused.filter(|_| !self.assume)
    }

    /// A program and what it starts in turn.
    pub(super) fn program(&mut self, words: &[Word], starter: Starter) -> Flow {
        let Some(name) = words.first().and_then(Word::literal) else {
            return self.opaque("the command's name is only known at run time");
        };
        if self.other_path && !name.contains('/') {
            return self.opaque(format!(
                "it sets PATH itself, in which {name} is looked for"
            ));
        }
        if self.other_folder && name.contains('/') && !name.starts_with('/') {
            return self.opaque(format!(
                "it changes the directory from which {name} is started"
            ));
        }
        if self.looks_no_more() {
            return self.opaque("too many programs in the script");
        }
        match self.place.find(name, starter) {
            Found::Runs(program) => {
                self.ran += 1;
                self.runs(program, name, words)
            }
            Found::Fails(_) | Found::Breaks(_) if self.assume => GOES_ON,
            Found::Breaks(why) => {
                self.missing.push(Missing {
                    program: name.to_owned(),
                    why,
                    started: true,
                    fix: None,
                });
                FAIL
            }
            Found::Fails(_) if starter == Starter::Shell && self.own_applet(name) => {
                self.unknown.push(format!(
                    "{name} not found in PATH, and busybox may have it as an applet"
                ));
                GOES_ON
            }
            Found::Fails(_) if starter == Starter::Shell && self.is_of_bash(name) => {
                let flow = self.lacks(name, FAIL);
                if let Some(missing) = self.missing.last_mut() {
                    (missing.program, missing.started) = (name.to_owned(), false);
                }
                flow
            }
            Found::Fails(why) => {
                self.missing.push(Missing {
                    program: name.to_owned(),
                    why,
                    started: false,
                    fix: None,
                });
                FAIL
            }
            Found::Unknown(why) => {
                self.unknown.push(why);
                GOES_ON
            }
        }
    }

    /// Counts a program that is to be looked up; true where it is one too many.
    fn looks_no_more(&mut self) -> bool {
        self.looked += 1;
        self.looked > PROGRAMS
    }

    /// True where busybox may carry a name out without a file of that name (FEATURE_SH_STANDALONE,
    /// FEATURE_PREFER_APPLETS of its configuration).
    fn own_applet(&self, name: &str) -> bool {
        is_applet(name)
            && (self.shell.is_some() && matches!(self.kind(), Shell::Busybox | Shell::Other)
                || self.place.has_busybox())
    }

    fn runs(&mut self, program: &Executable, name: &str, words: &[Word]) -> Flow {
        let name = paths::name(name);
        match Shell::of(program) {
            // Its interpreter decides.
            Some(_) if program.kind == ProgramKind::Script => {
                return self.opaque(format!("{} is a script itself", program.path)) & GOES_ON;
            }
            Some(kind) => {
                let pipefail = self.place.knows_pipefail(program, kind);
                let shell = Running {
                    kind,
                    name: name.to_owned(),
                    pipefail,
                };
                return self.shell(shell, &words[1..]);
            }
            None if is_shell(name) => {
                return self.opaque(format!("{} is an unknown shell", program.path)) & GOES_ON;
            }
            None => {}
        }
        if name == "busybox" {
            return self.busybox(program, &words[1..]);
        }
        self.started(name, words)
    }

    /// What programs start that do little else.
    fn started(&mut self, name: &str, words: &[Word]) -> Flow {
        if name == "which"
            && !words[1..]
                .iter()
                .any(|word| word.literal().is_none_or(|word| word.starts_with('-')))
        {
            // It looks into PATH alone: what a shell carries out itself is no file.
            return match words[1..].iter().any(|word| {
                word.literal()
                    .is_some_and(|name| self.is_builtin(name) != Some(false))
            }) {
                true => GOES_ON,
                false => self.all_found(&words[1..]) | FAIL,
            };
        }
        match inner(name, &words[1..]) {
            Inner::None => GOES_ON,
            Inner::Always(succeeds) => {
                if succeeds {
                    OK
                } else {
                    FAIL
                }
            }
            Inner::Unread => {
                self.unknown.push(format!(
                    "{name} starts another program, and its arguments are not read here"
                ));
                GOES_ON
            }
            Inner::Words(words) if self.depth < DEPTH => {
                self.depth += 1;
                let flow = self.program(words, Starter::Shell) & GOES_ON;
                self.depth -= 1;
                // What starts it may fail itself, and tells a failure in its own way.
                if flow & OK == 0 { FAIL } else { GOES_ON }
            }
            Inner::Words(_) => self.opaque("programs are nested too deeply") & GOES_ON,
        }
    }

    fn busybox(&mut self, program: &Executable, words: &[Word]) -> Flow {
        // It takes itself for an applet, and a path for the applet at its end.
        let again = |word: &&Word| {
            word.literal()
                .is_some_and(|text| paths::name(text) == "busybox")
        };
        let words = &words[words.iter().take_while(again).count()..];
        let Some(applet) = words.first().map(Word::literal) else {
            return GOES_ON;
        };
        match applet.map(paths::name) {
            Some(called @ ("sh" | "ash")) => {
                let shell = Running {
                    kind: Shell::Busybox,
                    name: called.to_owned(),
                    pipefail: self.place.knows_pipefail(program, Shell::Busybox),
                };
                self.shell(shell, &words[1..])
            }
            Some(applet) if applet.starts_with('-') => GOES_ON,
            Some(applet) if !is_applet(applet) => {
                if self.assume {
                    return GOES_ON;
                }
                self.missing.push(Missing {
                    program: format!("busybox {applet}"),
                    why: format!("busybox has no applet {applet}"),
                    started: true,
                    fix: None,
                });
                FAIL
            }
            Some(applet) => {
                if !self.place.has_link(applet, program) {
                    self.unknown.push(format!(
                        "no program of the image shows whether its busybox has the applet {applet}"
                    ));
                }
                self.started(applet, words)
            }
            None => self.opaque("the command's name is only known at run time") & GOES_ON,
        }
    }

    /// A shell and its arguments: `-c` and a script, else a script's file, else nothing.
    fn shell(&mut self, shell: Running, words: &[Word]) -> Flow {
        if self.depth >= DEPTH {
            return self.opaque("shells are nested too deeply") & GOES_ON;
        }
        let outer = (
            self.shell.replace(shell),
            std::mem::take(&mut self.errexit),
            std::mem::take(&mut self.pipefail),
            std::mem::take(&mut self.branches),
            self.other_path,
            self.other_folder,
        );
        self.depth += 1;
        let flow = self.script(words);
        self.depth -= 1;
        (
            self.shell,
            self.errexit,
            self.pipefail,
            self.branches,
            self.other_path,
            self.other_folder,
        ) = outer;
        flow & GOES_ON | flow >> 2
    }

    fn script(&mut self, words: &[Word]) -> Flow {
        let mut all = words.iter().map(Word::literal);
        let mut command = false;
        let operand = loop {
            match all.next() {
                None if command => {
                    return self.opaque("the script after -c is missing");
                }
                None => return OK,
                Some(None) => {
                    return self.opaque("the shell's arguments are only known at run time");
                }
                Some(Some("--")) => break all.next().flatten(),
                Some(Some("--posix" | "--norc" | "--noprofile")) if self.kind() == Shell::Bash => {}
                // Files such as /etc/profile are read first, which mostly set PATH.
                Some(Some("--login")) => self.other_path = true,
                Some(Some(word)) if word.starts_with("--") => {
                    return self.opaque(format!("its shell has the option {word}"));
                }
                Some(Some(word)) if word.len() > 1 && word.starts_with(['-', '+']) => {
                    let on = word.starts_with('-');
                    command |= on && word.contains('c');
                    self.other_path |= on && word.contains(['l', 'i']);
                    if let Some(flow) = self.option(&word[1..], on, &mut all) {
                        return flow;
                    }
                }
                Some(word) => break word,
            }
        };
        let Some(operand) = operand else {
            return self.opaque("nothing follows the shell's --");
        };
        if !command {
            return match self
                .place
                .find(&format!("./{operand}").replace(".//", "/"), Starter::Shell)
            {
                Found::Runs(_) => {
                    self.ran += 1;
                    GOES_ON
                }
                _ => {
                    self.unknown.push(format!(
                        "the shell reads {operand}, and the image's report lists programs, not other files"
                    ));
                    GOES_ON
                }
            };
        }
        match parse(operand, self.kind()) {
            Ok(node) => self.eval(&node, OK, false),
            Err(why) => self.opaque(format!("its script is not judged: {why}")),
        }
    }
}

/// The words that every shell's language is made of.
pub(crate) const RESERVED: [&str; 16] = [
    "if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for", "{",
    "}", "!", "in",
];
