//! The rows of the truth table: an image each, what its author says of it, and how one sees that in a Pod.

use whittle_image::{Fault, Rule};

mod libraries;
mod programs;
mod rules;
mod starts;

/// The table is of this platform: loaders and library folders have their names there.
const PLATFORM: &str = "linux/amd64";
/// What every program of the table prints.
pub const WORDS: &str = "it ran";

/// One image.
pub struct Row {
    /// Of its stage, its ImageBuild and its Pod.
    pub name: &'static str,
    /// What its stage begins from.
    pub base: &'static str,
    /// What made its program.
    pub toolchain: &'static str,
    /// The rest of its stage.
    pub stage: String,
    pub claim: Claim,
}

/// What is true of an image, as its author knows.
#[derive(Clone, Copy, Debug)]
pub enum Claim {
    /// It starts.
    Starts,
    /// It does not start, for this reason; then the runtime or the loader says this.
    Fails(Fault, &'static str),
    /// It starts in a Pod that drops no capabilities, and in one that drops all the system says this: Whittle
    /// cannot know which it will be.
    Depends(&'static str),
    /// It keeps a rule: what the rule promises works.
    Keeps(Rule),
    /// It breaks a rule: what the rule promises does not work; then the system says this.
    Breaks(Rule, &'static str),
}

impl Claim {
    /// Whether its Pod ends well.
    pub fn ends_well(self) -> bool {
        matches!(self, Self::Starts | Self::Depends(_) | Self::Keeps(_))
    }

    /// The rule that it is about, where it is about one.
    pub fn rule(self) -> Option<Rule> {
        match self {
            Self::Keeps(rule) | Self::Breaks(rule, _) => Some(rule),
            Self::Starts | Self::Fails(..) | Self::Depends(_) => None,
        }
    }

    /// What the system says of what does not work.
    pub fn told(self) -> Option<&'static str> {
        match self {
            Self::Fails(_, words) | Self::Depends(words) | Self::Breaks(_, words) => Some(words),
            Self::Starts | Self::Keeps(_) => None,
        }
    }
}

impl Row {
    /// The platforms to ask for: those of the builder where none are.
    pub fn platforms(&self) -> Option<[&'static str; 1]> {
        (self.claim.rule() == Some(Rule::PlatformMatches)).then_some([PLATFORM])
    }
}

fn row(
    name: &'static str,
    base: &'static str,
    toolchain: &'static str,
    stage: impl Into<String>,
    claim: Claim,
) -> Row {
    let stage = stage.into();
    Row {
        name,
        base,
        toolchain,
        stage,
        claim,
    }
}

/// The lines of a stage that starts `/app`: a file of a toolchain's stage.
fn app(toolchain: &str, file: &str) -> String {
    format!("COPY --from={toolchain} /out/{file} /app\nENTRYPOINT [\"/app\"]\n")
}

/// All rows.
pub fn all() -> Vec<Row> {
    let mut all = programs::rows();
    all.extend(libraries::rows());
    all.extend(starts::rows());
    all.extend(rules::rows());
    all
}

/// The toolchains' stages, then one stage a row.
pub fn dockerfile(rows: &[Row]) -> String {
    let mut text = String::from(include_str!("sources/Dockerfile"));
    for row in rows {
        text += &format!("\nFROM {} AS {}\n{}", row.base, row.name, row.stage);
    }
    text
}
