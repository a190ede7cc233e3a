//! `.dockerignore`, and the wildcards of COPY.
//!
//! As Docker's own matcher does it, which is neither gitignore's way nor a plain glob's
//! (<https://github.com/moby/patternmatcher/blob/v0.6.1/patternmatcher.go>).

/// The paths that `.dockerignore` leaves in the context. `ignore` is its text; paths are relative to the
/// context's root, with `/`.
pub fn kept<'a>(ignore: &str, paths: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let rules = rules(ignore);
    paths.filter(|path| !ignored(&rules, path)).collect()
}

/// A `.dockerignore`, asked while walking down a context: what holds for a directory is not looked at again for all within it.
pub struct Ignore {
    rules: Vec<Rule>,
}

/// Which rules a directory matches, and so all within it.
#[derive(Clone)]
pub struct Above {
    matched: Vec<bool>,
    out: bool,
}

impl Above {
    /// True where the rules leave it out.
    pub fn is_out(&self) -> bool {
        self.out
    }
}

impl Ignore {
    /// Reads its text.
    pub fn parse(text: &str) -> Self {
        Self { rules: rules(text) }
    }

    /// Where a walk begins: the context itself, which no rule leaves out.
    pub fn root(&self) -> Above {
        Above {
            matched: vec![false; self.rules.len()],
            out: false,
        }
    }

    /// What holds for `path`, which is right within the directory of `above`.
    pub fn within(&self, above: &Above, path: &str) -> Above {
        let mut matched = above.matched.clone();
        let out = step(&self.rules, &mut matched, path);
        Above { matched, out }
    }

    /// True where nothing within a directory that is left out can come back.
    pub fn is_final(&self) -> bool {
        self.rules.iter().all(|rule| !rule.back)
    }
}

struct Rule {
    /// `!`: takes back what earlier rules left out.
    back: bool,
    pattern: Pattern,
}

fn rules(ignore: &str) -> Vec<Rule> {
    let ignore = ignore.strip_prefix('\u{feff}').unwrap_or(ignore);
    ignore
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let line = line.trim();
            let (back, line) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            // A lone `!` fails the build. What lies above the root is nothing that a rule could mean.
            let above =
                !line.starts_with('/') && format!("{}/", shortest(line, true)).starts_with("../");
            (!line.is_empty() && !above).then(|| Rule {
                back,
                pattern: Pattern::new(clean(line).trim()),
            })
        })
        .collect()
}

/// Walks down to `path` as the builder does: a rule that a folder matches holds for all within it.
fn ignored(rules: &[Rule], path: &str) -> bool {
    let mut above = vec![false; rules.len()];
    let mut out = false;
    for part in parts(path) {
        out = step(rules, &mut above, part);
    }
    out
}

/// One step down: whether `path` is left out. `above`: which rules hold already, and then hold for it.
fn step(rules: &[Rule], above: &mut [bool], path: &str) -> bool {
    let mut out = false;
    for (rule, above) in rules.iter().zip(above) {
        if !*above && rule.back == out {
            *above = rule.pattern.matches(path);
        }
        if *above {
            out = !rule.back;
        }
    }
    out
}

/// The folders above a path, the uppermost first, and the path itself.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/')
        .map(|(at, _)| &path[..at])
        .filter(|part| !part.is_empty())
        .chain([path])
}

/// A pattern for paths.
pub(super) struct Pattern {
    tokens: Vec<Token>,
    /// `**name` without further wildcards: the end of the path.
    suffix: Option<String>,
}

enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Some,
    /// `**` at the end
    All,
    /// `**` before more: any number of folders
    Folders,
    /// `[a-z]`
    Class(bool, Vec<(char, char)>),
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let text = clean(text);
        let mut tokens = vec![];
        let mut chars = text.chars().peekable();
        let mut first = true;
        let mut wild = false;
        let mut suffix = false;
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.peek() == Some(&'*') => {
                    chars.next();
                    chars.next_if_eq(&'/');
                    wild |= !first;
                    suffix |= first;
                    tokens.push(if chars.peek().is_none() {
                        Token::All
                    } else {
                        Token::Folders
                    });
                }
                '*' => {
                    wild = true;
                    tokens.push(Token::Some);
                }
                '?' => {
                    wild = true;
                    tokens.push(Token::One);
                }
                '[' => {
                    wild = true;
                    tokens.push(class(&mut chars));
                }
                '\\' => {
                    wild = true;
                    tokens.push(Token::Char(chars.next().unwrap_or('\\')));
                }
                c => tokens.push(Token::Char(c)),
            }
            first = false;
        }
        Self {
            tokens,
            suffix: (suffix && !wild).then(|| text[2..].to_owned()),
        }
    }

    /// True where the pattern is the path's whole.
    pub(super) fn matches(&self, path: &str) -> bool {
        if let Some(suffix) = &self.suffix {
            return path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path);
        }
        let path: Vec<char> = path.chars().collect();
        // `next[i]`: the tokens behind this one match the path from character `i` on.
        let mut next = vec![false; path.len() + 1];
        next[path.len()] = true;
        for token in self.tokens.iter().rev() {
            let mut here = vec![false; path.len() + 1];
            let mut within = false;
            for at in (0..=path.len()).rev() {
                let c = path.get(at).copied();
                let one = |fits: bool| fits && next[at + 1];
                here[at] = match token {
                    Token::Char(wanted) => c.is_some_and(|c| one(c == *wanted)),
                    Token::One => c.is_some_and(|c| one(c != '/')),
                    Token::Some => next[at] || c.is_some_and(|c| c != '/' && here[at + 1]),
                    Token::All => next[at] || c.is_some_and(|_| here[at + 1]),
                    Token::Folders => {
                        within |= c == Some('/') && next[at + 1];
                        next[at] || within
                    }
                    Token::Class(negative, ranges) => c.is_some_and(|c| {
                        one(ranges.iter().any(|(a, z)| (*a..=*z).contains(&c)) != *negative)
                    }),
                };
            }
            next = here;
        }
        next[0]
    }

    /// True where the pattern is the path or a folder above it.
    pub(super) fn covers(&self, path: &str) -> bool {
        self.tokens.is_empty() || parts(path).any(|part| self.matches(part))
    }
}

/// What stands between brackets; the first is already read.
fn class(chars: &mut std::iter::Peekable<std::str::Chars>) -> Token {
    let negative = chars.next_if_eq(&'^').is_some();
    let mut ranges = vec![];
    let mut first = true;
    while let Some(c) = chars.next() {
        if c == ']' && !first {
            break;
        }
        first = false;
        let c = if c == '\\' {
            chars.next().unwrap_or('\\')
        } else {
            c
        };
        let mut end = c;
        if chars.peek() == Some(&'-') {
            chars.next();
            match chars.next() {
                Some(']') | None => {
                    ranges.extend([(c, c), ('-', '-')]);
                    break;
                }
                Some(last) => end = last,
            }
        }
        ranges.push((c, end));
    }
    Token::Class(negative, ranges)
}

/// The path without `.`, `..`, doubled slashes and those at its ends; empty for the root, above which
/// nothing lies.
pub(super) fn clean(path: &str) -> String {
    shortest(path, false)
}

/// The same; `..` that leads above the beginning stays where `upwards` says so.
fn shortest(path: &str, upwards: bool) -> String {
    let mut parts: Vec<&str> = vec![];
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if upwards && parts.last().is_none_or(|last| *last == "..") => parts.push(part),
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 10] = [
        ".env",
        "a.pem",
        "api/.env",
        "api/.env.local",
        "api/key.pem",
        "api/v1/.env",
        "docs/.npmrc",
        "docs/key.pem",
        "node_modules/x/.npmrc",
        "web/node_modules/y/.npmrc",
    ];

    fn left(ignore: &str) -> Vec<&'static str> {
        kept(ignore, PATHS.into_iter())
    }

    fn gone(ignore: &str) -> Vec<&'static str> {
        let left = left(ignore);
        PATHS.into_iter().filter(|p| !left.contains(p)).collect()
    }

    #[test]
    fn a_pattern_counts_from_the_root_and_a_folder_takes_all_within_it() {
        assert_eq!(gone(".env"), [".env"]);
        assert_eq!(gone("/.env"), [".env"]);
        assert_eq!(gone("./api/../.env"), [".env"]);
        assert_eq!(
            gone("api"),
            ["api/.env", "api/.env.local", "api/key.pem", "api/v1/.env"]
        );
        assert_eq!(gone("api/"), gone("api"));
        assert_eq!(gone("node_modules"), ["node_modules/x/.npmrc"]);
        assert_eq!(gone("../*\n..\n."), [""; 0]);
    }

    #[test]
    fn wildcards_stay_within_a_folder_and_two_stars_cross_them() {
        assert_eq!(gone("*.pem"), ["a.pem"]);
        assert_eq!(gone("*/*.pem"), ["api/key.pem", "docs/key.pem"]);
        assert_eq!(gone("**/*.pem"), ["a.pem", "api/key.pem", "docs/key.pem"]);
        assert_eq!(gone("**/.env"), [".env", "api/.env", "api/v1/.env"]);
        assert_eq!(gone("api/**"), gone("api"));
        assert_eq!(gone("api/**/.env"), ["api/.env", "api/v1/.env"]);
        assert_eq!(
            gone("**/node_modules/**"),
            ["node_modules/x/.npmrc", "web/node_modules/y/.npmrc"]
        );
        assert_eq!(gone("?.pem"), ["a.pem"]);
        assert_eq!(gone("[a-c].pem"), ["a.pem"]);
        assert_eq!(gone("[^a].pem"), [""; 0]);
        assert_eq!(gone("\\.env"), [".env"]);
        assert_eq!(left("**"), [""; 0]);
        assert_eq!(left("*"), [""; 0]);
    }

    #[test]
    fn a_later_rule_takes_back_what_an_earlier_one_left_out() {
        assert_eq!(left("*\n!docs"), ["docs/.npmrc", "docs/key.pem"]);
        assert_eq!(left("*\n!docs\ndocs/*.pem"), ["docs/.npmrc"]);
        assert_eq!(left("!docs\n*"), [""; 0]);
        assert_eq!(
            gone("**/.env*\n!api/.env"),
            [".env", "api/.env.local", "api/v1/.env"]
        );
    }

    #[test]
    fn a_walk_down_says_the_same_as_a_look_at_each_path() {
        for text in [
            "**/.env",
            "*\n!docs\ndocs/*.pem",
            "api/**\n!api/v1",
            "docs",
            "",
        ] {
            let ignore = Ignore::parse(text);
            let walked: Vec<&str> = PATHS
                .into_iter()
                .filter(|path| {
                    let down =
                        parts(path).fold(ignore.root(), |above, it| ignore.within(&above, it));
                    !down.is_out()
                })
                .collect();
            assert_eq!(walked, left(text), "{text}");
            assert_eq!(ignore.is_final(), !text.contains('!'), "{text}");
        }
    }

    #[test]
    fn comments_empty_lines_and_space_mean_nothing() {
        assert_eq!(gone("\u{feff}# .env\n\n  a.pem  \n#x\n ! \n"), ["a.pem"]);
        assert_eq!(gone(""), [""; 0]);
    }
}
