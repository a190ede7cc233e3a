//! What registries answer, and what it means: statuses and words as ECR, Artifact Registry, GHCR, Harbor, Quay,
//! Artifactory, Docker Hub, Zot, GitLab, ACR, Nexus and Gitea have them, and nginx and Cloudflare before them.
//!
//! Both what BuildKit tells of an answer and what Whittle's own client is told are read here, so that the same answer
//! has the same words and the same fix whoever met it.

use serde::Deserialize;

use whittle_image::bounded;

/// The most that is shown of an answer's own words, in bytes.
const WORDS: usize = 300;
/// The most of a page that is looked at, in bytes.
const PAGE: usize = 16 * 1024;

/// What an answer comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No tag of the repository may be moved.
    Immutable,
    /// The tag exists, and this account may not overwrite it.
    Overwrite,
    /// Something before the registry lets no body of this size through.
    TooLarge,
    /// The storage that is granted is used up.
    Quota,
    /// The repository, or what it is in, must be made first.
    Missing,
    /// It is asked too often.
    RateLimited,
    /// The credentials were valid once.
    Expired,
    /// Something before the registry refuses, whatever the credentials.
    Blocked,
    /// The credentials do not do.
    Denied,
    /// What was asked for is not there.
    NotFound,
    /// It gives, and takes nothing.
    ReadOnly,
    /// HEAD requests do not come through.
    NoHead,
    /// A web server, and no registry.
    NoRegistry,
    /// It was spoken to without TLS, and wants it.
    WantsTls,
    /// It takes no manifest of this kind.
    Format,
    /// Another 4xx: asking again gives the same.
    Refused,
    /// 5xx: asking again may help.
    Away,
    /// Nothing of these.
    Unclear,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its HTTP status, where it is known.
    pub status: Option<u16>,
    /// What it comes down to.
    pub kind: Kind,
    /// Status and words, for people, without markup.
    pub said: String,
}

/// Reads an answer. `status`: with its words, `413 Request Entity Too Large`; `server`: the header of that name.
pub fn answer(status: &str, method: &str, server: Option<&str>, body: &[u8]) -> Answer {
    let code: Option<u16> = status.get(..3).and_then(|code| code.parse().ok());
    let words = words(body, server);
    let text = match &words {
        Words::Page(page) => format!("{status}, with {page}"),
        Words::Text(text) if text.is_empty() => status.to_owned(),
        Words::Text(text) => format!("{status}: {text}"),
    };
    let whole = match &words {
        // Its title stands in quotes, as names do elsewhere.
        Words::Page(page) => page.replace('\'', " "),
        Words::Text(text) => text.clone(),
    };
    Answer {
        status: code,
        kind: kind(code, method, &whole, matches!(words, Words::Page(_))),
        said: text,
    }
}

/// Reads what an error text tells of an answer: BuildKit's, or one of our own client.
///
/// BuildKit has `unexpected status from PUT request to URL: 413 Request Entity Too Large: BODY`, or, where the body is
/// of the form that registries have for errors, its code and message alone, without the status:
/// `denied: requested access to the resource is denied`
/// (<https://github.com/moby/buildkit/blob/v0.33.1/util/errutil/details.go>).
pub fn told(error: &str) -> Answer {
    let method = ["HEAD", "POST", "PUT", "PATCH", "GET"]
        .into_iter()
        .find(|method| error.contains(&format!("from {method} request")))
        .unwrap_or_default();
    match status_in(error) {
        Some((at, end)) => {
            let status = &error[at..end];
            let rest = error[end..].trim_start_matches([':', ',']).trim();
            let rest = rest.strip_prefix("with ").unwrap_or(rest);
            answer(status, method, None, rest.as_bytes())
        }
        None => {
            let said = sentence(error);
            Answer {
                status: None,
                kind: kind(None, method, &said, false),
                said,
            }
        }
    }
}

/// Where a status with its words stands, as in `: 404 Not Found`.
fn status_in(error: &str) -> Option<(usize, usize)> {
    error.match_indices(": ").find_map(|(before, _)| {
        let at = before + 2;
        let code = error.get(at..at + 3)?;
        let plain =
            code.bytes().all(|b| b.is_ascii_digit()) && (b'1'..=b'5').contains(&code.as_bytes()[0]);
        let rest = error.get(at + 3..)?;
        let words = rest
            .strip_prefix(' ')
            .or_else(|| rest.is_empty().then_some(""))?;
        let end = words.find([':', ',', '\n', '\r']).unwrap_or(words.len());
        let named =
            words.is_empty() || words.starts_with(|c: char| c.is_ascii_uppercase() || c == '<');
        (plain && named).then(|| (at, at + 3 + (rest.len() - words.len()) + end))
    })
}

/// What a body says.
enum Words {
    /// A page for browsers.
    Page(String),
    /// Words.
    Text(String),
}

fn words(body: &[u8], server: Option<&str>) -> Words {
    let text = String::from_utf8_lossy(&body[..body.len().min(PAGE)]);
    let text = text.trim_start_matches('\u{feff}').trim();
    let lower = text.to_ascii_lowercase();
    let described = text.starts_with("an HTML page");
    if lower.starts_with("<!doctype")
        || lower.starts_with("<html")
        || lower.starts_with('<') && lower.contains("<html")
    {
        return Words::Page(page(text, &lower, server));
    }
    if described {
        return Words::Page(one_line(text));
    }
    let said = message(text).unwrap_or_else(|| text.to_owned());
    Words::Text(sentence(&said))
}

/// `an HTML page titled '413 Request Entity Too Large' (nginx)`.
fn page(text: &str, lower: &str, server: Option<&str>) -> String {
    let between = |open: &str, close: &str| {
        let from = lower.find(open)? + open.len();
        let from = from + lower[from..].find('>')? + 1;
        let end = from + lower[from..].find(close)?;
        let inside = one_line(text.get(from..end)?);
        (!inside.is_empty() && !inside.contains('<')).then_some(inside)
    };
    let title = between("<title", "</title").or_else(|| between("<h1", "</h1"));
    const SERVERS: [(&str, &str); 14] = [
        ("cloudflare", "Cloudflare"),
        ("cloudfront", "CloudFront"),
        ("openresty", "OpenResty"),
        ("nginx", "nginx"),
        ("apache", "Apache"),
        ("haproxy", "HAProxy"),
        ("traefik", "Traefik"),
        ("envoy", "Envoy"),
        ("varnish", "Varnish"),
        ("caddy", "Caddy"),
        ("akamai", "Akamai"),
        ("microsoft-iis", "IIS"),
        ("squid", "Squid"),
        ("jetty", "Jetty"),
    ];
    let header = server.unwrap_or_default().to_ascii_lowercase();
    let known = SERVERS
        .iter()
        .find(|(word, _)| header.contains(word))
        .or_else(|| SERVERS.iter().find(|(word, _)| lower.contains(word)));
    let mut said = "an HTML page".to_owned();
    if let Some(title) = title {
        said.push_str(&format!(" titled '{}'", bounded(title, 100)));
    }
    if let Some((_, name)) = known {
        said.push_str(&format!(" ({name})"));
    }
    said
}

/// The message of an error in JSON, of the forms that there are: that of the specification
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>), and those of the services
/// around registries.
fn message(text: &str) -> Option<String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Body {
        errors: Option<Vec<Said>>,
        error: serde_json::Value,
        error_description: serde_json::Value,
        message: serde_json::Value,
        details: serde_json::Value,
        detail: serde_json::Value,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Said {
        code: serde_json::Value,
        message: serde_json::Value,
        detail: serde_json::Value,
    }
    let text_of = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        _ => None,
    };
    if !text.starts_with('{') {
        return None;
    }
    let body: Body = serde_json::from_str(text).ok()?;
    let listed: Vec<String> = body
        .errors
        .unwrap_or_default()
        .iter()
        .take(3)
        .filter_map(|said| {
            let mut words = text_of(&said.message).or_else(|| text_of(&said.code))?;
            if let Some(detail) = text_of(&said.detail).filter(|detail| !words.contains(detail)) {
                words.push_str(&format!(" ({detail})"));
            }
            Some(words)
        })
        .collect();
    if !listed.is_empty() {
        return Some(listed.join("; "));
    }
    text_of(&body.error["message"])
        .or_else(|| text_of(&body.message))
        .or_else(|| text_of(&body.details))
        .or_else(|| text_of(&body.detail))
        .or_else(|| text_of(&body.error_description))
        .or_else(|| text_of(&body.error))
}

/// Words that others follow: in one line, bounded, without a full stop.
fn sentence(text: &str) -> String {
    bounded(one_line(text).trim_end_matches('.').to_owned(), WORDS)
}

/// Without line ends and control characters.
fn one_line(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Without what stands in quotes, and without paths: a repository may be called `quota`.
fn without_names(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut quote = None;
    let mut before = ' ';
    for c in text.chars() {
        match quote {
            // An apostrophe is no quote.
            None if matches!(c, '\'' | '"') && !before.is_alphanumeric() => quote = Some(c),
            None => kept.push(c),
            Some(open) if c == open => quote = None,
            Some(_) => {}
        }
        before = c;
    }
    kept.split_whitespace()
        .filter(|word| !word.contains('/') || word.contains("delete/overwrite"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn kind(status: Option<u16>, method: &str, words: &str, page: bool) -> Kind {
    let lower = words.to_lowercase();
    let success = status.is_some_and(|code| code < 400);
    if page && success
        || lower.contains("unknown type text/html")
        || lower.contains("unexpected media type text/html")
        || lower.contains("invalid character '<' looking for beginning of value")
    {
        return Kind::NoRegistry;
    }
    let lower = without_names(&lower);
    let has = |any: &[&str]| any.iter().any(|word| lower.contains(word));
    if status == Some(429)
        || has(&[
            "toomanyrequests",
            "too many requests",
            "rate limit",
            "rate exceeded",
            "throttlingexception",
            "quota metric",
        ])
    {
        return Kind::RateLimited;
    }
    if has(&[
        "http request was sent to https port",
        "client sent an http request to an https server",
        "speaking plain http to an ssl-enabled server",
    ]) {
        return Kind::WantsTls;
    }
    let lacking = has(&[
        "name unknown",
        "name_unknown",
        "repo key",
        "project_not_found",
    ]) || has(&["repository", "project", "registry", "namespace", "repo "])
        && has(&["does not exist", "not found", "doesn't exist", "not_found"])
        && !has(&[
            "may require authorization",
            "manifest unknown",
            "or it may not exist",
        ]);
    if lacking && !matches!(status, Some(401 | 403)) && !page {
        return Kind::Missing;
    }
    if has(&[
        "immutable",
        "immutability",
        "does not allow updating",
        "is locked",
        "protected tag",
        "tag is protected",
        "cannot be overwritten",
    ]) {
        return Kind::Immutable;
    }
    if has(&[
        "delete/overwrite",
        "not allowed to overwrite",
        "overwrite artifact",
    ]) {
        return Kind::Overwrite;
    }
    if status == Some(507)
        || has(&[
            "quota",
            "exceed the configured upper limit",
            "storage limit",
            "storage space",
            "insufficient storage",
            "disk usage is too high",
            "datastore is full",
            "maximum allowed number of",
            "registry contains",
        ])
    {
        return Kind::Quota;
    }
    if status == Some(413)
        || has(&[
            "request entity too large",
            "payload too large",
            "content too large",
        ])
    {
        return Kind::TooLarge;
    }
    if matches!(status, Some(408 | 425 | 500..)) {
        return Kind::Away;
    }
    // Where the page is of the kind that asks browsers for a login or for a proof, no credentials help.
    if page && status == Some(403) {
        return Kind::Blocked;
    }
    if has(&[
        "is not allowed access",
        "ip address is not",
        "not allowed from ip",
        "denied by firewall",
    ]) {
        return Kind::Blocked;
    }
    if has(&[
        "token has expired",
        "token is expired",
        "token expired",
        "credentials have expired",
        "password expired",
    ]) {
        return Kind::Expired;
    }
    if has(&[
        "proxy project",
        "proxy cache",
        "deploying to groups",
        "read-only",
        "read only",
        "readonly",
    ]) {
        return Kind::ReadOnly;
    }
    if matches!(status, Some(401 | 403 | 407))
        || status.is_none()
            && has(&[
                "denied",
                "insufficient_scope",
                "unauthorized",
                "authentication required",
                "no basic auth credentials",
                "authorization failed",
                "failed to authorize",
                "access forbidden",
                "invalid username or password",
                "not authorized",
            ])
    {
        return Kind::Denied;
    }
    match status {
        Some(404) if page => Kind::NoRegistry,
        Some(404) => Kind::NotFound,
        Some(405 | 501) if method == "HEAD" => Kind::NoHead,
        Some(405) if page => Kind::NoRegistry,
        Some(405) => Kind::ReadOnly,
        Some(415) => Kind::Format,
        _ if has(&[
            "manifest invalid",
            "manifest_invalid",
            "unsupported media type",
            "media type is not",
        ]) =>
        {
            Kind::Format
        }
        _ if has(&["unsupported: "]) => Kind::ReadOnly,
        Some(400..=499) => Kind::Refused,
        _ if has(&["not found", "manifest unknown", "manifest_unknown"]) => Kind::NotFound,
        _ => Kind::Unclear,
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
