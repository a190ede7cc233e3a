//! What a command comes to: which of its programs are reached, which of those are missing, and whether it
//! can still succeed.
//!
//! A command is followed along every way that it may take, not run: each step may succeed, fail, or end
//! the script either way. Evaluated a second time with every program taken to be there, it tells what the
//! missing ones change.

use crate::place::Place;
use whittle_image::shell::Shell;
use whittle_image::shell::syntax::{Node, Piece, Word};

/// Ways that a command may go on: with success, with failure, or by ending the script with either.
pub(super) type Flow = u8;
pub(super) const OK: Flow = 1;
pub(super) const FAIL: Flow = 2;
pub(super) const EXIT_OK: Flow = 4;
pub(super) const EXIT_FAIL: Flow = 8;
pub(super) const GOES_ON: Flow = OK | FAIL;
pub(super) const EXITS: Flow = EXIT_OK | EXIT_FAIL;
const ANY: Flow = GOES_ON | EXITS;

/// A program that a command needs and the image does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// As the command names it.
    pub(crate) program: String,
    /// Why, in one clause.
    pub(crate) why: String,
    /// True where something is started, and fails.
    pub(crate) started: bool,
    /// What to do about it, where that is no program's being put into the image.
    pub(crate) fix: Option<String>,
}

/// The shell that carries out a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) kind: Shell,
    /// As it is called.
    pub(super) name: String,
    /// Whether it knows pipefail, where that is known.
    pub(super) pipefail: Option<bool>,
}

/// Follows one command.
pub(super) struct Eval<'p, 'a> {
    pub(super) place: &'p Place<'a>,
    /// Takes every program to be there.
    pub(super) assume: bool,
    pub(super) shell: Option<Running>,
    pub(super) errexit: bool,
    pub(super) pipefail: bool,
    /// Within what may not be carried out: options that are set there may or may not hold.
    pub(super) branches: usize,
    pub(super) other_path: bool,
    pub(super) other_folder: bool,
    pub(super) leaves_loop: bool,
    pub(super) depth: usize,
    /// Programs that are looked up.
    pub(super) looked: usize,
    /// Programs that are reached and start.
    pub(super) ran: usize,
    pub(super) missing: Vec<Missing>,
    /// Programs that are only asked for (`command -v`).
    pub(super) sought: Vec<Missing>,
    /// Missing ones in whose place another runs.
    pub(super) replaced: Vec<Missing>,
    pub(super) unknown: Vec<String>,
}

impl<'p, 'a> Eval<'p, 'a> {
    pub(super) fn new(place: &'p Place<'a>, assume: bool) -> Self {
        Self {
            place,
            assume,
            shell: None,
            errexit: false,
            pipefail: false,
            branches: 0,
            other_path: false,
            other_folder: false,
            leaves_loop: false,
            depth: 0,
            looked: 0,
            ran: 0,
            missing: Vec::new(),
            sought: Vec::new(),
            replaced: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// True where one of the ways is a success.
    pub(super) fn succeeds(flow: Flow) -> bool {
        flow & (OK | EXIT_OK) != 0
    }

    pub(super) fn opaque(&mut self, why: impl Into<String>) -> Flow {
        self.unknown.push(why.into());
        ANY
    }

    pub(super) fn eval(&mut self, node: &Node, prior: Flow, tested: bool) -> Flow {
        match node {
            Node::Simple(simple) => {
                let mut flow = self.simple(simple, prior);
                // bash that is called sh ends there only where nobody asks whether it failed.
                let returns = simple.words.first().and_then(Word::literal) == Some("return");
                if tested && returns && flow & EXIT_FAIL != 0 && self.kind() == Shell::Bash {
                    flow = flow & !EXIT_FAIL | FAIL;
                }
                self.checked(flow, tested)
            }
            Node::Pipe(all) => {
                let mut last = OK;
                let mut sure = false;
                for part in all {
                    last = self.apart(part, true);
                    sure |= last & OK == 0;
                }
                let flow = match (self.pipefail, sure) {
                    (true, true) => FAIL,
                    (true, false) => GOES_ON,
                    (false, _) => last,
                };
                self.checked(flow, tested)
            }
            Node::Not(inner) => {
                let flow = self.eval(inner, prior, true);
                let turned = (flow & OK) << 1 | (flow & FAIL) >> 1;
                flow & EXITS | turned
            }
            Node::And(left, right) => {
                let left = self.eval(left, prior, true);
                let mut flow = left & !OK;
                if left & OK != 0 {
                    flow |= self.branch(right, OK, tested);
                }
                flow
            }
            Node::Or(left, right) => self.either(left, right, prior, tested),
            Node::Sequence(all) => {
                let (mut exits, mut at) = (0, OK);
                for (node, background) in all {
                    let flow = if *background {
                        self.apart(node, true);
                        OK
                    } else {
                        self.eval(node, at, tested)
                    };
                    exits |= flow & EXITS;
                    at = flow & GOES_ON;
                    if at == 0 {
                        break;
                    }
                }
                exits | at
            }
            Node::If(arms, other) => {
                let (mut flow, mut reached) = (0, true);
                for (condition, then) in arms {
                    if !reached {
                        break;
                    }
                    let condition = self.branch(condition, prior, true);
                    flow |= condition & EXITS;
                    if condition & OK != 0 {
                        flow |= self.branch(then, OK, tested);
                    }
                    reached = condition & FAIL != 0;
                }
                match other {
                    Some(other) if reached => flow | self.branch(other, FAIL, tested),
                    None if reached => flow | OK,
                    _ => flow,
                }
            }
            Node::Loop(condition, body, until) => {
                let outer = std::mem::take(&mut self.leaves_loop);
                let condition = self.branch(condition, prior, true);
                let (on, end) = if *until { (FAIL, OK) } else { (OK, FAIL) };
                let mut flow = condition & EXITS;
                if condition & on != 0 {
                    let body = self.branch(body, on, tested);
                    flow |= body & EXITS;
                    if condition & end != 0 || self.leaves_loop {
                        flow |= body & GOES_ON | OK;
                    }
                }
                if condition & end != 0 {
                    flow |= OK;
                }
                self.leaves_loop = outer;
                flow
            }
            Node::For(words, body) => {
                let outer = std::mem::take(&mut self.leaves_loop);
                self.outputs(words);
                let once = words.iter().any(|word| word.literal().is_some());
                let mut flow = self.branch(body, prior | GOES_ON, tested);
                if !once || self.leaves_loop {
                    flow |= OK;
                }
                self.leaves_loop = outer;
                flow
            }
            Node::Case(word, arms) => {
                self.outputs(std::slice::from_ref(word));
                arms.iter()
                    .fold(OK, |flow, arm| flow | self.branch(arm, prior, tested))
            }
            Node::Subshell(inner) => {
                let flow = self.apart(inner, tested);
                self.checked(flow, tested)
            }
        }
    }

    /// `a || b`: where `a` is missing and `b` can do its work, nothing is lost.
    fn either(&mut self, left: &Node, right: &Node, prior: Flow, tested: bool) -> Flow {
        let before = self.missing.len();
        let left = self.eval(left, prior, true);
        let mut flow = left & !FAIL;
        if left & FAIL == 0 {
            return flow;
        }
        let lost = self.missing.split_off(before);
        let ran = self.ran;
        let right = self.branch(right, FAIL, tested);
        flow |= right;
        if left & OK == 0 && right & OK != 0 && self.ran > ran {
            self.replaced.extend(lost);
        } else {
            let later = self.missing.split_off(before);
            self.missing.extend(lost);
            self.missing.extend(later);
        }
        flow
    }

    /// With `set -e`, a failure that nobody asks about ends the script.
    fn checked(&self, flow: Flow, tested: bool) -> Flow {
        if self.errexit && !tested && flow & FAIL != 0 {
            return flow & !FAIL | EXIT_FAIL;
        }
        flow
    }

    fn branch(&mut self, node: &Node, prior: Flow, tested: bool) -> Flow {
        self.branches += 1;
        let flow = self.eval(node, prior, tested);
        self.branches -= 1;
        flow
    }

    /// In a process of its own: what ends it ends nothing else.
    fn apart(&mut self, node: &Node, tested: bool) -> Flow {
        let state = (
            self.errexit,
            self.pipefail,
            self.other_path,
            self.other_folder,
            std::mem::take(&mut self.branches),
        );
        let flow = self.eval(node, OK, tested);
        (
            self.errexit,
            self.pipefail,
            self.other_path,
            self.other_folder,
            self.branches,
        ) = state;
        flow & GOES_ON | flow >> 2
    }

    /// Carries out the `$(…)` of words; how the last one ends.
    pub(super) fn outputs<'w>(
        &mut self,
        words: impl IntoIterator<Item = &'w Word>,
    ) -> Option<Flow> {
        let mut last = None;
        for word in words {
            for piece in &word.pieces {
                if let Piece::Output(node) = piece {
                    last = Some(self.apart(node, true));
                }
            }
        }
        last
    }
}
