//! What a command runs, through the shells and programs that only start others.

mod dialect;
mod eval;
mod run;
mod wrappers;

use super::place::{Place, Starter};
use eval::Eval;
pub(super) use eval::Missing;
pub(super) use run::RESERVED;
use whittle_image::shell::syntax::Word;

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every program that it reaches starts; and those of which another takes the place.
    Works(Vec<Missing>),
    /// It cannot be started at all.
    NotStarted(Missing),
    /// It starts, and always fails for want of a program.
    Fails(Missing),
    /// It cannot be told; why.
    Unknown(String),
}

/// Follows a command as the container runtime is given it.
pub(super) fn judge(place: &Place<'_>, command: &[String]) -> Outcome {
    let words: Vec<Word> = command.iter().map(|word| Word::plain(word)).collect();
    let mut real = Eval::new(place, false);
    let flow = real.program(&words, Starter::Runtime);
    let mut ideal = Eval::new(place, true);
    let hoped = ideal.program(&words, Starter::Runtime);
    if !Eval::succeeds(flow) && Eval::succeeds(hoped) {
        let first = [real.missing, real.sought].concat().into_iter().next();
        return match first {
            Some(missing) if !missing.started && command.first() == Some(&missing.program) => {
                Outcome::NotStarted(missing)
            }
            Some(missing) => Outcome::Fails(missing),
            None => Outcome::Unknown("it cannot succeed, for an unknown reason".into()),
        };
    }
    if let Some(why) = real.unknown.into_iter().next() {
        return Outcome::Unknown(why);
    }
    if let Some(missing) = real.missing.into_iter().next() {
        return Outcome::Unknown(format!(
            "{}, and the script goes on without it",
            missing.why
        ));
    }
    if !Eval::succeeds(hoped) {
        return Outcome::Unknown("its script always fails".into());
    }
    Outcome::Works(real.replaced)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
