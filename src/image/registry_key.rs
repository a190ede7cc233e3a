//! For which repositories credentials of a Docker config file are: its keys, as the kubelet takes them
//! (<https://kubernetes.io/docs/concepts/containers/images/#config-json>).

use super::Repository;

/// A key of `auths`: a host, with a port where the registry has one, perhaps with `*` in it, and perhaps with the
/// beginning of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryKey {
    /// The host in lower case; `docker.io` for each name of Docker's.
    pub host: String,
    /// What paths begin with; empty for all of the host.
    pub path: String,
    /// True for one that is written as a URL: Docker takes these for the whole host, whatever their path.
    url: bool,
}

/// How well a key fits; the larger, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fit {
    path: usize,
    exact: bool,
}

impl RegistryKey {
    /// Reads `https://index.docker.io/v1/`, `host`, `host:port/path`, `host/v2/`, `*.example.com`.
    pub fn parse(key: &str) -> Self {
        let key = key.trim();
        let rest = ["https://", "http://"]
            .iter()
            .find_map(|scheme| key.strip_prefix(scheme));
        let (host, path) = match rest.unwrap_or(key).split_once('/') {
            Some((host, path)) => (host, path),
            None => (rest.unwrap_or(key), ""),
        };
        let path = match path.split_once('/') {
            Some(("v1" | "v2", path)) => path,
            None if matches!(path, "v1" | "v2") => "",
            _ => path,
        };
        Self {
            host: canonical(host),
            path: path.to_owned(),
            url: rest.is_some(),
        }
    }

    /// How well the key fits a repository; none where it is for others.
    pub fn fit(&self, repository: &Repository) -> Option<Fit> {
        if !self.is_of_host(&repository.host) {
            return None;
        }
        let exact = !self.host.contains(['*', '?', '[']);
        if repository.path.starts_with(&self.path) {
            return Some(Fit {
                path: self.path.len() + 1,
                exact,
            });
        }
        self.url.then_some(Fit { path: 0, exact })
    }

    /// True where the key is for some of the host's repositories. Each part of a name is compared on its own, and a
    /// port is compared as it is.
    pub fn is_of_host(&self, host: &str) -> bool {
        let host = canonical(host);
        let split = |host: &str| match host.rsplit_once(':') {
            Some((name, port)) => (name.to_owned(), port.to_owned()),
            None => (host.to_owned(), String::new()),
        };
        let ((pattern, port), (name, asked)) = (split(&self.host), split(&host));
        let (parts, names): (Vec<&str>, Vec<&str>) =
            (pattern.split('.').collect(), name.split('.').collect());
        port == asked
            && parts.len() == names.len()
            && parts
                .iter()
                .zip(names)
                .all(|(part, name)| matches(part.as_bytes(), name.as_bytes()))
    }
}

impl std::fmt::Display for RegistryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.host)?;
        if !self.path.is_empty() && !self.url {
            write!(f, "/{}", self.path)?;
        }
        Ok(())
    }
}

fn canonical(host: &str) -> String {
    match host.to_ascii_lowercase() {
        host if host == "index.docker.io" || host == "registry-1.docker.io" => "docker.io".into(),
        host => host,
    }
}

/// As Go's path.Match, for a text without slashes: `*`, `?`, `[a-z]`, `[^a]`, `\\x`. A pattern that is none matches
/// nothing.
///
/// Of several `*` only the last one is tried again, so that a key with many takes no longer: no other can help.
fn matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut again = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            again = Some((rest, text));
            continue;
        }
        let Some((first, others)) = text.split_first() else {
            return pattern.is_empty();
        };
        if let Some(rest) = behind(pattern, *first) {
            (pattern, text) = (rest, others);
            continue;
        }
        let Some((rest, [_, others @ ..])) = again else {
            return false;
        };
        again = Some((rest, others));
        (pattern, text) = (rest, others);
    }
}

/// The pattern behind its first part, where that stands for the letter.
fn behind(pattern: &[u8], letter: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => {
            let end = rest.iter().skip(1).position(|&b| b == b']')?;
            let (class, rest) = (&rest[..end + 1], &rest[end + 2..]);
            let (negated, class) = match class {
                [b'^', class @ ..] => (true, class),
                class => (false, class),
            };
            let mut found = false;
            let mut left = class;
            while let Some((low, more)) = left.split_first() {
                match more {
                    [b'-', high, more @ ..] => {
                        found |= (low..=high).contains(&&letter);
                        left = more;
                    }
                    more => {
                        found |= *low == letter;
                        left = more;
                    }
                }
            }
            (found != negated).then_some(rest)
        }
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == letter).then_some(rest),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(key: &str, image: &str) -> bool {
        RegistryKey::parse(key)
            .fit(&Repository::parse(image))
            .is_some()
    }

    #[test]
    fn a_key_is_for_a_host_a_path_or_a_pattern_of_hosts() {
        for (key, image, expected) in [
            ("registry.example.com", "registry.example.com/team/a", true),
            ("Registry.Example.com", "registry.example.com/team/a", true),
            (
                "https://registry.example.com",
                "registry.example.com/a",
                true,
            ),
            (
                "https://registry.example.com/",
                "registry.example.com/a",
                true,
            ),
            (
                "http://registry.example.com/v1/",
                "registry.example.com/a",
                true,
            ),
            ("registry.example.com/v2/", "registry.example.com/a", true),
            ("registry.example.com/v2", "registry.example.com/a", true),
            (
                "registry.example.com/v2/team",
                "registry.example.com/team/a",
                true,
            ),
            (
                "registry.example.com/team",
                "registry.example.com/team/a",
                true,
            ),
            (
                "registry.example.com/team",
                "registry.example.com/other/a",
                false,
            ),
            (
                "https://registry.example.com/api/x",
                "registry.example.com/other/a",
                true,
            ),
            ("registry.example.com", "registry.example.com:5000/a", false),
            ("registry.example.com:5000", "registry.example.com/a", false),
            (
                "registry.example.com:5000",
                "registry.example.com:5000/a",
                true,
            ),
            ("*.example.com", "registry.example.com/a", true),
            ("*.example.com", "a.registry.example.com/a", false),
            ("*.example.com", "example.com/a", false),
            ("*.example.com:5000", "registry.example.com:5000/a", true),
            ("*.example.com", "registry.example.com:5000/a", false),
            (
                "*.dkr.ecr.*.amazonaws.com",
                "123.dkr.ecr.eu-central-1.amazonaws.com/a",
                true,
            ),
            ("*.example.com/team", "registry.example.com/team/a", true),
            ("*.example.com/team", "registry.example.com/b", false),
            ("reg[a-c]?.example.com", "regb1.example.com/x", true),
            ("reg[^a-c].example.com", "regb.example.com/x", false),
            ("[.example.com", "r.example.com/x", false),
            ("r*g*y.example.com", "registry.example.com/x", true),
            ("r*g*x.example.com", "registry.example.com/x", false),
            ("*r*.example.com", "registry.example.com/x", true),
            ("**.example.com", "registry.example.com/x", true),
            ("*s*s*.example.com", "registry.example.com/x", false),
            ("r***.example.com", "registry.example.com/x", true),
            ("r?*\\y.example.com", "registry.example.com/x", true),
            ("https://index.docker.io/v1/", "busybox", true),
            ("index.docker.io", "team/app", true),
            ("docker.io", "docker.io/team/app", true),
            ("registry-1.docker.io", "busybox", true),
            ("docker.io/team", "docker.io/team/app", true),
            ("docker.io/team", "busybox", false),
            ("", "busybox", false),
        ] {
            assert_eq!(fits(key, image), expected, "{key} {image}");
        }
    }

    #[test]
    fn a_key_of_many_stars_takes_no_time() {
        // One that is tried at every place for every star does not come to an end.
        let key = format!("{}b.example.com", "*a".repeat(200));
        let image = format!("{}.example.com/x", "a".repeat(63));
        assert!(!fits(&key, &image));
        let host = format!("{}b", "a".repeat(200));
        assert!(!fits(&"a*".repeat(100), &format!("{host}:5000/x")));
    }

    #[test]
    fn the_longest_path_fits_best_and_a_pattern_worse_than_a_name() {
        let fit = |key: &str| {
            RegistryKey::parse(key)
                .fit(&Repository::parse("registry.example.com/team/app"))
                .unwrap()
        };
        let keys = [
            "registry.example.com/team/app",
            "registry.example.com/team",
            "*.example.com/team",
            "registry.example.com",
            "*.example.com",
            "https://registry.example.com/x",
        ];
        for pair in keys.windows(2) {
            assert!(fit(pair[0]) > fit(pair[1]), "{pair:?}");
        }
    }
}
