//! Puts values in the place of variables: in tags, and in values of build arguments, labels and annotations.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::inputs::Inputs;
use whittle_api::variables::{Variable, listed};
use whittle_api::{GitRef, Output, Source};

/// Characters of a tag (<https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests>).
pub const TAG: usize = 128;
/// Characters of all tags of a build, where variables made them: they go back to the controller in the termination
/// message, which has room for no more.
pub const TAGS: usize = 2560;
/// How revisions begin that are of no git repository.
const OF_OTHERS: [&str; 3] = ["inline", "configmap", "oci"];
/// Digits of a short commit, as git prints it for most repositories.
const SHORT: usize = 7;

/// What a build knows of itself and its source.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The commit.
    pub commit: Option<String>,
    /// The branch or tag that it was found by.
    pub found_by: Option<String>,
    /// When it was committed.
    pub time: Option<Timestamp>,
    /// The build's number.
    pub build: i64,
}

impl Known {
    /// What the revision of an earlier build and its number say. The time of the commit is not among it.
    pub fn of_revision(revision: Option<&str>, build: i64) -> Self {
        let (found_by, id) = match revision.unwrap_or_default().rsplit_once('@') {
            Some((found_by, id)) => (Some(found_by), id),
            None => (None, revision.unwrap_or_default()),
        };
        let of_others = found_by.is_some_and(|it| OF_OTHERS.contains(&it));
        let commit = match id.split_once(':') {
            Some(("sha1", commit)) => Some(commit),
            Some(("sha256", commit)) if !of_others => Some(commit),
            _ => None,
        };
        Self {
            found_by: found_by.filter(|_| commit.is_some()).map(str::to_owned),
            commit: commit.map(str::to_owned),
            time: None,
            build,
        }
    }
}

/// The tags of a build with values in the place of variables, but for those whose values are not known.
pub fn known_tags(inputs: &Inputs, known: &Known) -> Vec<String> {
    let suffix = inputs.debug.as_ref().map(|debug| debug.tag_suffix.as_str());
    let mut all: Vec<String> = vec![];
    for text in &inputs.output.tags {
        if let Ok(tag) = tag(text, suffix.unwrap_or_default(), known, &inputs.source)
            && !all.contains(&tag)
        {
            all.push(tag);
        }
    }
    all
}

/// True where there is a variable in this text, or what looks like one.
pub fn is_variable(text: &str) -> bool {
    text.contains("$(")
}

/// The tags that stand in a spec as they are: those with variables are known once they are built.
pub fn literal(tags: &[String]) -> Vec<String> {
    let tags = tags.iter().filter(|tag| !is_variable(tag));
    tags.cloned().collect()
}

/// True for what a registry takes as a tag.
pub fn is_tag(text: &str) -> bool {
    let start = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= TAG && text.starts_with(start) && text.chars().all(is_of_tag)
}

fn is_of_tag(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

/// True where this variable is used: only then is it worth its cost.
pub fn uses(inputs: &Inputs, variable: Variable) -> bool {
    let Output {
        tags,
        labels,
        annotations,
        ..
    } = &inputs.output;
    let maps = [&inputs.build_args, labels, annotations].into_iter();
    let mut texts = maps.flat_map(BTreeMap::values).chain(tags);
    texts.any(|text| {
        let mut used = false;
        // What is wrong is said where it is replaced.
        let _ = replace(text, |found| {
            used |= found == variable;
            Ok(String::new())
        });
        used
    })
}

/// The inputs with values in the place of variables. `build_args` and the like may be longer then than a spec's may be.
///
/// # Errors
/// What is wrong with which text, and what to do.
pub fn expanded(inputs: &Inputs, known: &Known) -> Result<Inputs, String> {
    let mut all = inputs.clone();
    let source = &inputs.source;
    let value = |variable| known.value(source, variable);
    let maps = [
        ("buildArgs", &mut all.build_args),
        ("output.labels", &mut all.output.labels),
        ("output.annotations", &mut all.output.annotations),
    ];
    for (field, map) in maps {
        for (name, text) in map {
            *text = replace(text, value).map_err(|why| format!("{field} {name}: {why}"))?;
        }
    }
    let suffix = inputs.debug.as_ref().map(|debug| debug.tag_suffix.as_str());
    all.output.tags.clear();
    for text in &inputs.output.tags {
        let tag = tag(text, suffix.unwrap_or_default(), known, source);
        let tag = tag.map_err(|why| format!("output.tags: {text}: {why}"))?;
        if !all.output.tags.contains(&tag) {
            all.output.tags.push(tag);
        }
    }
    let size: usize = all.output.tags.iter().map(String::len).sum();
    if size > TAGS && inputs.output.tags.iter().any(|tag| is_variable(tag)) {
        return Err(format!(
            "output.tags: too long: {size} characters in all tags together, and at most {TAGS} are possible where tags \
                have variables: use fewer or shorter ones, for example $(SHORT_COMMIT) for $(COMMIT)"
        ));
    }
    Ok(all)
}

/// One tag; `suffix`: what is added to it for a second image.
fn tag(text: &str, suffix: &str, known: &Known, source: &Source) -> Result<String, String> {
    if !is_variable(text) {
        return Ok(text.to_owned());
    }
    let value = |variable| {
        let value = match variable {
            // Colons cannot be in a tag.
            Variable::CommitTime => known.time(source)?.strftime("%Y%m%dT%H%M%SZ").to_string(),
            _ => known.value(source, variable)?,
        };
        let safe = |c| if is_of_tag(c) { c } else { '-' };
        Ok(value.chars().map(safe).collect())
    };
    let tag = replace(text, value)?;
    let tag = tag.trim_start_matches(['.', '-']);
    let length = tag.len() + suffix.len();
    if tag.is_empty() {
        return Err(
            "the tag is empty once its variables are replaced, as it has nothing that is allowed at the start of a \
                tag: write some text before the variable"
                .into(),
        );
    }
    if length > TAG {
        let with = match suffix {
            "" => String::new(),
            suffix => format!(" with debug.tagSuffix {suffix}"),
        };
        return Err(format!(
            "the tag is too long once its variables are replaced: {tag} has {length} characters{with}, and at most {TAG} \
                are allowed: use $(SHORT_COMMIT) for $(COMMIT), or a shorter name of the branch or tag"
        ));
    }
    if !is_tag(tag) {
        return Err(format!(
            "invalid tag: {tag}: use letters, digits, _, . and - only around variables"
        ));
    }
    Ok(tag.to_owned())
}

/// A text with the values of its variables; `$$(` stands for `$(`, and further dollar signs count in pairs, as Kubernetes
/// counts them.
fn replace(
    text: &str,
    mut value: impl FnMut(Variable) -> Result<String, String>,
) -> Result<String, String> {
    let mut all = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$(") {
        let dollars = before.len() - before.trim_end_matches('$').len();
        if dollars % 2 == 1 {
            all += &before[..before.len() - 1];
            all += "$(";
            rest = after;
            continue;
        }
        all += before;
        let escape = "write $$( where $( itself is meant";
        let Some((name, after)) = after.split_once(')') else {
            return Err(format!("unclosed variable: ) missing after $(: {escape}"));
        };
        let Some(variable) = Variable::named(name) else {
            let name: String = name.chars().take(32).collect();
            let known = listed();
            return Err(format!(
                "unknown variable $({name}): use one of {known}; {escape}"
            ));
        };
        all += &value(variable)?;
        rest = after;
    }
    Ok(all + rest)
}

impl Known {
    fn value(&self, source: &Source, variable: Variable) -> Result<String, String> {
        let lacks = |why: &str| format!("$({}) is unknown: {why}", variable.name());
        match variable {
            Variable::Commit => self.commit(source),
            Variable::ShortCommit => Ok(self.commit(source)?.chars().take(SHORT).collect()),
            Variable::CommitTime => Ok(self.time(source)?.to_string()),
            Variable::Branch => self.branch(source).map(str::to_owned).ok_or_else(|| {
                lacks("the source is not a branch: set source.git.ref.branch, or use $(SHORT_COMMIT)")
            }),
            Variable::Tag => self.tag(source).map(str::to_owned).ok_or_else(|| {
                lacks("the source is not a git tag: set source.git.ref.tag, or use $(SHORT_COMMIT)")
            }),
            Variable::Semver => self.version(source).map(str::to_owned).ok_or_else(|| {
                lacks(
                    "the source is not a git tag that names a version such as v1.2.3: set source.git.ref.tag, or use \
                        $(TAG)",
                )
            }),
            Variable::BuildNumber => Ok(self.build.to_string()),
        }
    }

    fn commit(&self, source: &Source) -> Result<String, String> {
        let commit = self.commit.clone().filter(|_| source.git.is_some());
        commit
            .ok_or_else(|| "the commit is unknown: variables of a commit require source.git".into())
    }

    fn time(&self, source: &Source) -> Result<Timestamp, String> {
        self.commit(source)?;
        let time = self.time.filter(|_| source.git.is_some());
        time.ok_or_else(|| {
            "$(COMMIT_TIME) is unknown: the builder reported no time of the commit".into()
        })
    }

    /// The branch that was built; with no ref that of the remote's HEAD, where that is one.
    fn branch(&self, source: &Source) -> Option<&str> {
        match &source.git.as_ref()?.reference {
            None => self.found_by.as_deref().filter(|name| *name != "HEAD"),
            Some(reference) => self
                .found_by
                .as_deref()
                .filter(|_| reference.branch.is_some()),
        }
    }

    /// The git tag that was built.
    pub(super) fn tag(&self, source: &Source) -> Option<&str> {
        let tagged = |reference: &&GitRef| {
            reference.branch.is_none() && (reference.commit.is_none() || reference.tag.is_some())
        };
        source.git.as_ref()?.reference.as_ref().filter(tagged)?;
        self.found_by.as_deref()
    }

    /// The version that the git tag names, without the letter v.
    pub(super) fn version(&self, source: &Source) -> Option<&str> {
        version(self.tag(source)?)
    }
}

/// The semantic version that a name is (<https://semver.org>), with or without a v before it.
fn version(name: &str) -> Option<&str> {
    let version = name.strip_prefix('v').unwrap_or(name);
    let (rest, build) = match version.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (version, None),
    };
    let (numbers, before) = match rest.split_once('-') {
        Some((numbers, before)) => (numbers, Some(before)),
        None => (rest, None),
    };
    let is_number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let good = numbers.split('.').count() == 3
        && numbers.split('.').all(is_number)
        && [before, build]
            .iter()
            .flatten()
            .all(|words| words.split('.').all(is_word));
    good.then_some(version)
}

#[cfg(test)]
#[path = "variables_tests.rs"]
mod tests;
