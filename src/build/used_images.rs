//! Which repositories a build may read, as far as its texts name them: buildctl wants credentials by host, and a
//! Secret may have them by pattern and by path.

use whittle_image::Repository;

/// The most that are named.
const MOST: usize = 256;

/// What looks like `host/path` or like a host in Dockerfiles and build arguments: more than there is, which does no
/// harm, as buildctl gives credentials only to hosts that are asked.
pub fn named<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Repository> {
    let ends = |c: char| c.is_whitespace() || "\"'=,()[]{}<>|;&`$\\".contains(c);
    let mut found: Vec<Repository> = vec![];
    for word in texts.into_iter().flat_map(|text| text.split(ends)) {
        let (host, path) = word.split_once('/').unwrap_or((word, ""));
        let is_host = host.len() <= 255
            && host.contains(['.', ':'])
            && host.starts_with(|c: char| c.is_ascii_alphanumeric())
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b));
        if !is_host {
            continue;
        }
        let path = path.split([':', '@']).next().unwrap_or_default();
        let repository = Repository {
            host: host.to_ascii_lowercase(),
            path: path.to_owned(),
        };
        if !found.contains(&repository) {
            found.push(repository);
        }
        if found.len() == MOST {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_wherever_a_dockerfile_has_them() {
        let dockerfile = "ARG REGISTRY=123.dkr.ecr.eu-central-1.amazonaws.com\n\
            FROM --platform=$BUILDPLATFORM registry.example.com:5000/team/base:1.2 AS build\n\
            COPY --from=Other.example.com/tools@sha256:00 /a /a\n\
            RUN --mount=type=bind,from=third.example.com/x,target=/x true\n\
            FROM ${REGISTRY}/base\nFROM busybox\nFROM scratch\n";
        let found: Vec<String> = named([dockerfile, "fourth.example.com/y"])
            .into_iter()
            .map(|it| format!("{}|{}", it.host, it.path))
            .collect();
        assert_eq!(
            found,
            [
                "123.dkr.ecr.eu-central-1.amazonaws.com|",
                "registry.example.com:5000|team/base",
                "other.example.com|tools",
                "third.example.com|x",
                "fourth.example.com|y",
            ]
        );
    }
}
