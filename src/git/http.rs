//! Asking over HTTP (<https://git-scm.com/docs/http-protocol>).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};

use crate::pkt::Talk;
use crate::{AGENT, Auth, Error, Kind};

/// Where a repository tells what it is capable of.
const INFO: &str = "info/refs";
const SERVICE: &str = "service=git-upload-pack";
/// How often a server may send one on.
const REDIRECTS: usize = 5;

/// Connections to git servers over HTTP.
#[derive(Clone)]
pub struct Http(reqwest::Client);

impl Http {
    /// None is open yet. A process-wide rustls provider must be installed.
    pub fn new() -> Result<Self, Error> {
        let client = reqwest::Client::builder()
            .user_agent(AGENT)
            .connect_timeout(Duration::from_secs(10))
            // Where a server sends one on to is looked at here, for the credentials.
            .redirect(reqwest::redirect::Policy::none())
            // The second request follows at once.
            .pool_idle_timeout(Duration::from_secs(5))
            .pool_max_idle_per_host(1)
            .build();
        client.map(Self).map_err(unreachable)
    }

    pub(crate) async fn look(
        &self,
        url: &Url,
        auth: &Auth,
        talk: &mut impl Talk,
    ) -> Result<(), Error> {
        let authorization = match auth {
            Auth::Basic { username, password } => Some(basic(username, password)?),
            _ => None,
        };
        let ask = |request: RequestBuilder| {
            let request = request.header("Git-Protocol", "version=2");
            match &authorization {
                Some(value) => request.header(AUTHORIZATION, value.clone()),
                None => request,
            }
        };
        let mut base = url.clone();
        let mut sent_on = 0;
        let mut response = loop {
            let info = format!("{}/{INFO}?{SERVICE}", base.as_str().trim_end_matches('/'));
            let response = ask(self.0.get(info)).send().await.map_err(unreachable)?;
            if !response.status().is_redirection() {
                break response;
            }
            sent_on += 1;
            if sent_on > REDIRECTS {
                return Err(Error::new(Kind::Redirect, "the server redirects too often"));
            }
            base = next(&response, url, authorization.is_some())?;
        };
        checked(&response, "advertisement", auth)?;
        while let Some(piece) = response.chunk().await.map_err(unreachable)? {
            // What comes after what was asked for is not read.
            if talk.take(&piece)? {
                break;
            }
        }
        drop(response);
        let Some(question) = talk.question() else {
            return Ok(());
        };
        let place = format!("{}/git-upload-pack", base.as_str().trim_end_matches('/'));
        let request = self.0.post(place).body(question);
        let request = request.header(CONTENT_TYPE, "application/x-git-upload-pack-request");
        let mut response = ask(request).send().await.map_err(unreachable)?;
        checked(&response, "result", auth)?;
        while let Some(piece) = response.chunk().await.map_err(unreachable)? {
            // What comes after what was asked for is not read.
            if talk.take(&piece)? {
                break;
            }
        }
        Ok(())
    }
}

/// Where a repository is that its server sends one on for. Never from https to http, and with credentials to no other
/// server than the one that they are for.
fn next(response: &Response, url: &Url, credentials: bool) -> Result<Url, Error> {
    let redirect = |said: String| Error::new(Kind::Redirect, said);
    let location = response.headers().get(LOCATION);
    let location = location.and_then(|value| value.to_str().ok());
    let found = location.and_then(|text| response.url().join(text).ok());
    let mut found =
        found.ok_or_else(|| redirect("the server redirects to an invalid URL".into()))?;
    let host = found.host_str().unwrap_or_default().to_owned();
    if !matches!(found.scheme(), "http" | "https")
        || url.scheme() == "https" && found.scheme() != "https"
    {
        return Err(redirect(format!(
            "the server redirects from https to {}",
            found.scheme()
        )));
    }
    let same = found.origin() == url.origin()
        || found.host_str() == url.host_str() && url.port().is_none() && found.port().is_none();
    if credentials && !same {
        return Err(redirect(format!(
            "the server redirects to {host}, which must not get the credentials"
        )));
    }
    let path = found
        .path()
        .strip_suffix(INFO)
        .map(|path| path.trim_end_matches('/').to_owned());
    let path = path.ok_or_else(|| {
        redirect("the server redirects to a page that is not a git repository".into())
    })?;
    found.set_path(&path);
    found.set_query(None);
    found.set_fragment(None);
    let _ = (found.set_username(""), found.set_password(None));
    Ok(found)
}

fn checked(response: &Response, part: &str, auth: &Auth) -> Result<(), Error> {
    let status = response.status();
    if !status.is_success() {
        return Err(refused(response, auth));
    }
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    // A proxy may have added parameters.
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind != format!("application/x-git-upload-pack-{part}") {
        return Err(Error::protocol(
            "the server answered with something that is not a git repository",
        ));
    }
    Ok(())
}

fn refused(response: &Response, auth: &Auth) -> Error {
    let status = response.status();
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let retry_after = header(RETRY_AFTER.as_str())
        .and_then(|value| value.trim().parse().ok())
        .map(Duration::from_secs);
    // GitHub and others say it with 403 as well.
    let spent = header("x-ratelimit-remaining") == Some("0");
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => Kind::RateLimited,
        StatusCode::FORBIDDEN if spent || retry_after.is_some() => Kind::RateLimited,
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED => Kind::Denied,
        StatusCode::NOT_FOUND | StatusCode::GONE => Kind::NotFound,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Kind::Unreachable,
        _ if status.is_server_error() => Kind::Unreachable,
        _ => Kind::Protocol,
    };
    let with = match (kind, auth) {
        (Kind::Denied, Auth::None) => " to a request without credentials",
        _ => "",
    };
    Error {
        kind,
        said: format!("the server answered {status}{with}"),
        retry_after,
    }
}

fn basic(username: &str, password: &str) -> Result<HeaderValue, Error> {
    let text = format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    );
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Error::new(Kind::Denied, "the credentials are invalid"))?;
    // Never printed, whatever prints a request.
    value.set_sensitive(true);
    Ok(value)
}

/// An error of the connection, with its causes, and without the URL: who asked knows it.
fn unreachable(error: reqwest::Error) -> Error {
    let timed_out = error.is_timeout();
    let error = error.without_url();
    let mut said = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        next = cause.source();
    }
    let words = if timed_out {
        format!("timed out: {said}")
    } else {
        said
    };
    Error::unreachable(words)
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
