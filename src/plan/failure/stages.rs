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

/// Stages as BuildKit's frontend lists them: a table whose first column has the names, and `(default)`
/// after one of them.
pub fn from_listing(text: &str) -> Vec<String> {
    text.lines()
        .skip_while(|line| !line.starts_with("TARGET"))
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "(default)")
        .map(str::to_owned)
        .collect()
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
    fn stages_are_read_from_the_frontends_table() {
        let text = "TARGET      DESCRIPTION\nx           the first\ny (default) \n";
        assert_eq!(from_listing(text), ["x", "y"]);
        assert!(from_listing("error: x").is_empty());
    }
}
