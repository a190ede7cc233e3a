//! Patterns of paths, as `keep` and `drop` have them: `*` and `?` within one name, `**` for any number of folders.

/// Patterns, at most.
const MOST: usize = 64;
/// Bytes of a pattern, at most.
const LENGTH: usize = 512;

/// Patterns of absolute paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Globs(Vec<Vec<Vec<u8>>>);

/// Why a pattern is none.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum GlobError {
    /// Patterns are about paths from the root.
    #[error("invalid pattern {0:?}: it must begin with a slash, for example /app/templates/**")]
    Relative(String),
    /// It is too long.
    #[error("invalid pattern {0:?}…: it is too long: at most {LENGTH} bytes")]
    TooLong(String),
    /// There are too many.
    #[error("too many patterns: {0}, and at most {MOST}")]
    TooMany(usize),
}

impl Globs {
    /// Reads patterns.
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, GlobError> {
        if patterns.len() > MOST {
            return Err(GlobError::TooMany(patterns.len()));
        }
        let mut found = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            if pattern.len() > LENGTH {
                let start = pattern.chars().take(40).collect();
                return Err(GlobError::TooLong(start));
            }
            if !pattern.starts_with('/') {
                return Err(GlobError::Relative(pattern.to_owned()));
            }
            let parts = pattern.split('/').filter(|part| !part.is_empty());
            let mut parts: Vec<Vec<u8>> = parts.map(|part| part.as_bytes().to_vec()).collect();
            // Two of them mean what one means, and cost more.
            parts.dedup_by(|a, b| a == b"**" && b == b"**");
            found.push(parts);
        }
        Ok(Self(found))
    }

    /// True without patterns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True where a pattern has this path: its names, from the root.
    pub fn has(&self, path: &[&[u8]]) -> bool {
        self.0.iter().any(|pattern| matches(pattern, path))
    }
}

/// Goes through both once for each `**`, so that no pattern costs more than its length times that of the path.
fn matches(pattern: &[Vec<u8>], path: &[&[u8]]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < path.len() {
        match pattern.get(p).map(Vec::as_slice) {
            Some(b"**") => {
                star = Some((p, n));
                p += 1;
            }
            Some(part) if one(part, path[n]) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|part| part == b"**")
}

fn one(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(pattern: &str, path: &str) -> bool {
        let globs = Globs::parse(&[pattern]).unwrap();
        let parts: Vec<&[u8]> = path.split('/').skip(1).map(str::as_bytes).collect();
        globs.has(&parts)
    }

    #[test]
    fn a_star_stays_within_a_name_and_two_go_through_folders() {
        for (pattern, path, expected) in [
            ("/app/*", "/app/x", true),
            ("/app/*", "/app/x/y", false),
            ("/app/**", "/app/x/y", true),
            ("/app/**", "/app", true),
            ("/app/**", "/apple/x", false),
            ("/**/*.py", "/a/b/c.py", true),
            ("/**/*.py", "/c.py", true),
            ("/**/x/**/y", "/a/x/b/x/c/y", true),
            ("/**/x/**/y", "/a/x/b/x/c/z", false),
            ("/etc/my?pp/a*b*c", "/etc/myapp/a1b2c", true),
            ("/etc/my?pp/a*b*c", "/etc/myapp/a1c", false),
            ("/usr/share/doc/**", "/usr/share/doc/x", true),
            ("/", "/x", false),
        ] {
            assert_eq!(has(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_little() {
        let pattern = format!("/{}", "**/a*a*a*a*a*a*b/".repeat(30));
        let path = format!("/{}", "aaaaaaaaaaaaaaaaaaaaaaaa/".repeat(160));
        assert!(!has(&pattern, &path));
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        assert_eq!(
            Globs::parse(&["app/**"]).unwrap_err().to_string(),
            "invalid pattern \"app/**\": it must begin with a slash, for example /app/templates/**"
        );
        assert!(Globs::parse(&vec!["/x"; 65]).is_err());
        assert!(Globs::parse(&["/x".repeat(300)]).is_err());
    }
}
