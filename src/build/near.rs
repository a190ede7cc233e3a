//! Branches and tags that are near to one that is not there. What stands beside the daemon looks for them, and tells
//! them in lines of git's output, which the runner reads.

use whittle_image::text::words;

/// Begins a line that names a ref by its whole name.
const NEAR: &str = "near by name: ";
/// The line of a repository without any.
const EMPTY: &str = "the repository has no branch and no tag";
/// How many are told.
const TOLD: usize = 3;
/// Bytes of a name that is told.
const LONGEST: usize = 200;
/// How much comparing letter by letter may cost, in pairs of letters: names come from strangers.
const PAIRS: usize = 20_000_000;
/// How near a name has to be, of 1.
const LIKELY: f64 = 0.5;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Near {
    /// There is nothing at all.
    Empty,
    /// Whole names, the nearest first; none where none is near.
    Names(Vec<String>),
}

/// A look through the refs of a repository for what is near to `wanted`, one ref after the other.
pub struct Search {
    wanted: String,
    short: String,
    seen: usize,
    pairs: usize,
    found: Vec<(f64, String)>,
}

impl Search {
    /// `wanted`: the whole name of a ref, `refs/heads/main`.
    pub fn new(wanted: &str) -> Self {
        Self {
            wanted: wanted.to_owned(),
            short: short(wanted).to_lowercase(),
            seen: 0,
            pairs: 0,
            found: vec![],
        }
    }

    /// One ref of the repository, by its whole name.
    pub fn see(&mut self, name: &str) {
        self.seen += 1;
        let usable = name.len() <= LONGEST && !name.contains(char::is_control);
        if !usable || short(name) == name {
            return;
        }
        let likeness = self.likeness(&short(name).to_lowercase(), short(name));
        if likeness >= LIKELY {
            self.found.push((likeness, name.to_owned()));
            self.found
                .sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.cmp(y)));
            self.found.truncate(TOLD);
        }
    }

    /// 1 for the same name of another kind, less for what differs more.
    fn likeness(&mut self, name: &str, as_written: &str) -> f64 {
        let wanted = self.short.as_str();
        if as_written == short(&self.wanted) {
            return 1.0;
        }
        if name == wanted {
            return 0.99;
        }
        let prefixes = ["remotes/", "origin/", "upstream/", "heads/", "tags/"];
        let bare = prefixes.iter().fold(wanted, |text, prefix| {
            text.strip_prefix(prefix).unwrap_or(text)
        });
        if name == bare {
            return 0.98;
        }
        let trunk = ["main", "master", "trunk"];
        if trunk.contains(&wanted) && trunk.contains(&name) {
            return 0.97;
        }
        let last = |text: &str| text.rsplit('/').next().map(str::to_owned);
        if last(name) == last(wanted) {
            return 0.9;
        }
        let pairs = name.len() * wanted.len();
        let (shorter, longer) = (name.len().min(wanted.len()), name.len().max(wanted.len()));
        if shorter * 2 < longer || self.pairs + pairs > PAIRS {
            return 0.0;
        }
        self.pairs += pairs;
        // Under what is sure, however near.
        strsim::normalized_damerau_levenshtein(name, wanted) * 0.89
    }

    /// What was found, as lines of output.
    pub fn lines(&self) -> Vec<String> {
        if self.seen == 0 {
            return vec![EMPTY.to_owned()];
        }
        let lines = self.found.iter().map(|(_, name)| format!("{NEAR}{name}"));
        lines.collect()
    }
}

/// The name without `refs/heads/` or `refs/tags/`.
fn short(name: &str) -> &str {
    name.strip_prefix("refs/heads/")
        .or_else(|| name.strip_prefix("refs/tags/"))
        .unwrap_or(name)
}

/// What such lines say. They are strangers' words.
pub fn told<'a>(lines: impl IntoIterator<Item = &'a str>) -> Near {
    let mut names = vec![];
    for line in lines {
        if line == EMPTY {
            return Near::Empty;
        }
        if let Some(name) = line.strip_prefix(NEAR)
            && names.len() < TOLD
            && name.len() <= LONGEST
        {
            names.push(words(name));
        }
    }
    Near::Names(names)
}

/// `branch "main"`, for a sentence.
pub fn named(name: &str) -> String {
    match name.strip_prefix("refs/tags/") {
        Some(tag) => format!("tag \"{tag}\""),
        None => format!("branch \"{}\"", short(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(wanted: &str, refs: &[&str]) -> Vec<String> {
        let mut search = Search::new(wanted);
        refs.iter().for_each(|name| search.see(name));
        match told(search.lines().iter().map(String::as_str)) {
            Near::Names(names) => names,
            Near::Empty => vec!["empty".into()],
        }
    }

    #[test]
    fn a_slip_of_the_hand_another_case_and_another_kind_are_near() {
        let refs = [
            "refs/heads/main",
            "refs/heads/feature/login",
            "refs/heads/release-1.2",
            "refs/tags/v1.2.0",
            "refs/tags/v1.3.0",
        ];
        for (wanted, first) in [
            ("refs/heads/mian", "refs/heads/main"),
            ("refs/heads/Main", "refs/heads/main"),
            ("refs/heads/master", "refs/heads/main"),
            ("refs/heads/origin/main", "refs/heads/main"),
            ("refs/heads/remotes/origin/main", "refs/heads/main"),
            ("refs/tags/main", "refs/heads/main"),
            ("refs/heads/v1.2.0", "refs/tags/v1.2.0"),
            ("refs/tags/1.2.0", "refs/tags/v1.2.0"),
            ("refs/tags/V1.3.0", "refs/tags/v1.3.0"),
            ("refs/heads/login", "refs/heads/feature/login"),
            ("refs/heads/fix/login", "refs/heads/feature/login"),
            ("refs/heads/release-1.3", "refs/heads/release-1.2"),
        ] {
            let found = near(wanted, &refs);
            assert_eq!(found.first().map(String::as_str), Some(first), "{wanted}");
        }
        assert_eq!(near("refs/heads/gh-pages", &refs), [""; 0]);
        assert_eq!(near("refs/heads/main", &[]), ["empty"]);
    }

    #[test]
    fn what_is_told_is_little_and_has_no_control_characters() {
        let mut search = Search::new("refs/heads/main");
        search.see("refs/heads/ma\u{1b}[31min");
        search.see(&format!("refs/heads/main{}", "x".repeat(300)));
        for n in 0..1000 {
            search.see(&format!("refs/heads/main{n}"));
        }
        let lines = search.lines();
        assert_eq!(lines.len(), TOLD);
        assert!(lines.iter().all(|line| line.len() < 300));
        let forged = ["near by name: refs/heads/a\u{202e}b\u{7}", "near by name"];
        assert_eq!(told(forged), Near::Names(vec!["refs/heads/ab".to_owned()]));
    }

    #[test]
    fn many_long_names_take_little_time() {
        let mut search = Search::new(&format!("refs/heads/{}", "a".repeat(150)));
        for n in 0..50_000 {
            search.see(&format!("refs/heads/{n:0150}"));
        }
        assert!(search.pairs <= PAIRS);
    }
}
