//! The host keys of ssh servers, as `ssh-keyscan` prints them
//! (<https://man.openbsd.org/sshd#SSH_KNOWN_HOSTS_FILE_FORMAT>).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// The keys that are known of one server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Kind and key in base64.
    keys: Vec<(String, String)>,
    /// Those that are never to be trusted.
    revoked: Vec<String>,
}

impl Known {
    /// What a file says of a server. Certificates of hosts (`@cert-authority`) are not supported.
    pub(crate) fn read(text: &str, host: &str, port: u16) -> Self {
        let mut found = Self::default();
        // A key without a port holds for all ports, as ssh takes it.
        let names = [format!("[{host}]:{port}"), host.to_owned()];
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
        {
            let mut words = line.split_whitespace();
            let Some(mut hosts) = words.next() else {
                continue;
            };
            let marker = hosts.strip_prefix('@');
            if marker.is_some() {
                hosts = words.next().unwrap_or_default();
            }
            let (Some(kind), Some(key)) = (words.next(), words.next()) else {
                continue;
            };
            if !names.iter().any(|name| is_of(hosts, name)) {
                continue;
            }
            match marker {
                None => found.keys.push((kind.to_owned(), key.to_owned())),
                Some("revoked") => found.revoked.push(key.to_owned()),
                Some(_) => {}
            }
        }
        found
    }

    /// The kinds of the keys, so that the server shows one that is known.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(kind, _)| kind.as_str())
    }

    /// Whether a server with this key, in base64, is the one.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|(_, known)| known == key)
            && !self.revoked.iter().any(|known| known == key)
    }
}

/// Whether a line is about a host: a name hashed with a salt, or patterns of which one with `!` goes before all others.
fn is_of(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return hashed_is(hashed, name).unwrap_or_default();
    }
    let mut found = false;
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            Some(not) if fits(not.as_bytes(), name.as_bytes()) => return false,
            None if fits(pattern.as_bytes(), name.as_bytes()) => found = true,
            _ => {}
        }
    }
    found
}

fn hashed_is(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let key = hmac::Key::new(
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        &STANDARD.decode(salt).ok()?,
    );
    Some(hmac::verify(&key, name.as_bytes(), &STANDARD.decode(hash).ok()?).is_ok())
}

/// `*` for anything, `?` for one character.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last star is, and how much of the name it has taken.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || c.eq_ignore_ascii_case(&name[n]) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(text: &str, host: &str, port: u16) -> bool {
        Known::read(text, host, port).has("AAAA")
    }

    #[test]
    fn a_line_is_about_the_hosts_that_it_names() {
        for (line, host, port, expected) in [
            ("h ssh-ed25519 AAAA", "h", 22, true),
            ("h ssh-ed25519 AAAA comment", "h", 2222, true),
            ("[h]:2222 ssh-ed25519 AAAA", "h", 2222, true),
            ("[h]:2222 ssh-ed25519 AAAA", "h", 22, false),
            ("a,h,b ssh-ed25519 AAAA", "h", 22, true),
            (
                "*.example.com ssh-ed25519 AAAA",
                "git.example.com",
                22,
                true,
            ),
            ("*.example.com ssh-ed25519 AAAA", "example.com", 22, false),
            (
                "*.example.com,!git.example.com ssh-ed25519 AAAA",
                "git.example.com",
                22,
                false,
            ),
            (
                "GIT.example.com ssh-ed25519 AAAA",
                "git.example.com",
                22,
                true,
            ),
            ("g?t ssh-ed25519 AAAA", "git", 22, true),
            ("# h ssh-ed25519 AAAA", "h", 22, false),
            ("@cert-authority h ssh-ed25519 AAAA", "h", 22, false),
            ("h ssh-ed25519", "h", 22, false),
            ("h ssh-ed25519 BBBB", "h", 22, false),
        ] {
            assert_eq!(has(line, host, port), expected, "{line}: {host}:{port}");
        }
    }

    #[test]
    fn a_hashed_name_is_found() {
        // What `ssh-keygen -H` makes of `[h.example]:2222`.
        let name = "|1|0UgT/0kDuZfsGesqki7CVv25aL8=|yF9VDbE9yDUss6Wub9qN1q2fKk8=";
        let line = format!("{name} ssh-ed25519 AAAA");
        assert!(has(&line, "h.example", 2222));
        assert!(!has(&line, "h.example", 22));
        assert!(!has("|1|x|y ssh-ed25519 AAAA", "h.example", 2222));
    }

    #[test]
    fn a_revoked_key_is_not_trusted() {
        let text = "h ssh-ed25519 AAAA\n@revoked h ssh-ed25519 AAAA\n";
        assert!(!has(text, "h", 22));
        assert_eq!(
            Known::read(text, "h", 22).kinds().collect::<Vec<_>>(),
            ["ssh-ed25519"]
        );
    }
}
