//! Steps on a terminal: those that run below those that have ended, as buildx draws them.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::screen::{BAD, FAINT, GOOD, STRONG, adapted, styled, tame};
use super::steps::Line;

/// Steps that are drawn at a time: more would push the others off a small terminal.
const SHOWN: usize = 12;
/// Characters of a step's name, and of what it printed last, that are drawn.
const WIDE: usize = 100;
/// Between two pictures.
const TICK: Duration = Duration::from_millis(100);

/// A terminal, and the steps that run.
pub(super) struct Terminal {
    bars: MultiProgress,
    running: BTreeMap<usize, Step>,
}

struct Step {
    name: String,
    bar: Option<ProgressBar>,
}

impl Terminal {
    /// On standard output: what is printed between goes there too, else the two would tear each other.
    pub(super) fn new(target: ProgressDrawTarget) -> Self {
        Self {
            bars: MultiProgress::with_draw_target(target),
            running: BTreeMap::new(),
        }
    }

    /// A line that stays.
    pub(super) fn say(&self, text: &str) {
        let _ = self.bars.println(adapted(text));
    }

    /// A line of the log.
    pub(super) fn line(&mut self, line: &Line<'_>) {
        match *line {
            Line::Started { step, name } => {
                let drawn = self.running.values().filter(|it| it.bar.is_some()).count();
                let bar = (drawn < SHOWN).then(|| self.bar(&format!("#{step} {}", cut(name))));
                let name = tame(name);
                self.running.insert(step, Step { name, bar });
            }
            Line::Output { step, text, .. } => {
                if let Some(bar) = self.running.get(&step).and_then(|it| it.bar.as_ref()) {
                    bar.set_message(adapted(&styled(FAINT, &cut(text))));
                }
            }
            Line::Cached { step } => {
                self.ended(step, &styled(FAINT, "✓"), &styled(FAINT, "cached"))
            }
            Line::Done { step, seconds } => {
                self.ended(step, &styled(GOOD, "✓"), &format!("{seconds:.1}s"));
            }
            Line::Failed { step, error } => {
                let error = tame(error);
                self.ended(step, &styled(BAD, "✗"), &styled(BAD, &error));
            }
            Line::Text(text) => self.say(&tame(text)),
        }
    }

    /// Nothing follows: steps that have not ended are drawn no more.
    pub(super) fn close(&mut self) {
        for step in std::mem::take(&mut self.running).into_values() {
            if let Some(bar) = step.bar {
                bar.finish_and_clear();
            }
        }
    }

    fn ended(&mut self, number: usize, mark: &str, what: &str) {
        let Some(step) = self.running.remove(&number) else {
            return;
        };
        if let Some(bar) = step.bar {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        self.say(&format!(
            "{mark} #{number} {} {what}",
            styled(STRONG, &step.name)
        ));
    }

    fn bar(&self, name: &str) -> ProgressBar {
        let bar = self.bars.add(ProgressBar::new_spinner());
        let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed}  {wide_msg}");
        bar.set_style(style.expect("the template is valid"));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(TICK);
        bar
    }
}

fn cut(text: &str) -> String {
    let text = tame(text).replace(['\t', '\n'], " ");
    match text.chars().count() > WIDE {
        true => text.chars().take(WIDE - 1).chain(['…']).collect(),
        false => text,
    }
}
