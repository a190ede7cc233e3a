//! Names of a Dockerfile's stages.

/// Stages that a Dockerfile names, by its `FROM … AS name` lines.
pub fn from_dockerfile(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (first, rest) = words.split_first()?;
            let named = rest.iter().position(|w| w.eq_ignore_ascii_case("as"))?;
            first
                .eq_ignore_ascii_case("from")
                .then(|| rest.get(named + 1).map(|name| (*name).to_owned()))
                .flatten()
        })
        .collect()
}

/// The stage whose name is so near to `name` that a slip of the hand is likely.
pub fn nearest<'a>(name: &str, stages: &'a [String]) -> Option<&'a str> {
    let name = name.to_lowercase();
    stages
        .iter()
        .map(|stage| {
            (
                strsim::normalized_damerau_levenshtein(&name, &stage.to_lowercase()),
                stage,
            )
        })
        .filter(|(likeness, stage)| *likeness >= 0.5 || stage.to_lowercase().starts_with(&name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, stage)| stage.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_from_the_dockerfile() {
        let text = "FROM golang AS build\nRUN echo as if\nfrom --platform=x scratch as runtime\nFROM busybox\n";
        assert_eq!(from_dockerfile(text), ["build", "runtime"]);
    }

    #[test]
    fn a_slip_of_the_hand_leads_to_the_nearest_stage() {
        let stages = ["build", "runtime", "debug"].map(str::to_owned);
        for (name, near) in [
            ("runtme", Some("runtime")),
            ("Runtime", Some("runtime")),
            ("run", Some("runtime")),
            ("biuld", Some("build")),
            ("builder", Some("build")),
            ("production", None),
        ] {
            assert_eq!(nearest(name, &stages), near, "{name}");
        }
    }
}
