//! One repository of one registry.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER, SERVER,
    WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;

use super::auth::{Challenge, challenge};
use super::{Credentials, Patience, RegistryError, callback, causes};
use crate::answer::{Kind, answer};
use crate::layout::Layout;
use whittle_image::{
    DOCKER_LIST, DOCKER_MANIFEST, Hasher, OCI_INDEX, OCI_MANIFEST, Repository, digest_of,
};

/// The largest manifest that is read, in bytes; registries take up to this size
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests>).
const MANIFEST_LIMIT: usize = 4 * 1024 * 1024;
/// How long a blob may take: builds have a deadline of their own.
const BLOB_WITHIN: Duration = Duration::from_secs(3600);
/// The most that is read of an error's body.
const ERROR_LIMIT: usize = 64 * 1024;
/// The header that says that a manifest's subject was noted
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests-with-subject>).
const SUBJECT: &str = "OCI-Subject";
/// The header with a manifest's digest
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>).
const DIGEST: &str = "Docker-Content-Digest";
/// How we call ourselves.
const AGENT: &str = concat!("whittle/", env!("CARGO_PKG_VERSION"));

/// How to reach a registry.
#[derive(Clone, Debug)]
pub struct Settings {
    /// True speaks HTTP without TLS.
    pub plain_http: bool,
    /// Certificates that sign the registry's, PEM, besides those of the system.
    pub ca: Option<Vec<u8>>,
    /// What proves who asks.
    pub credentials: Option<Credentials>,
    /// How long to keep trying after transient faults.
    pub patience: Patience,
    /// What token servers are asked for.
    pub access: Access,
}

/// What is to be done in a repository, as token servers name it
/// (<https://distribution.github.io/distribution/spec/auth/scope/#resource-provider-use>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    PullPush,
}

impl Access {
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::PullPush => "pull,push",
        }
    }
}

/// A client for one repository. Remembers the authorization that the registry gave.
pub struct Client {
    pub(super) repository: Repository,
    pub(super) settings: Settings,
    plain: reqwest::Client,
    secure: Arc<OnceLock<Result<reqwest::Client, String>>>,
    authorization: Mutex<Option<String>>,
    fresh: bool,
    /// What answers in the registry's place.
    layout: Option<Layout>,
}

/// One request, so that it can be sent again.
pub(super) struct Ask<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(HeaderName, String)>,
    pub body: &'a [u8],
}

impl Client {
    /// A client for `repository`; nothing is sent yet. A process-wide rustls provider must be installed.
    pub fn new(repository: Repository, settings: Settings) -> Result<Self, RegistryError> {
        let plain = builder()
            // No roots: this client never speaks TLS, so the system's need not be read.
            .tls_certs_only([])
            .build()
            .map_err(|error| RegistryError::Other(causes(&error)))?;
        Ok(Self {
            repository,
            settings,
            plain,
            secure: Arc::default(),
            authorization: Mutex::new(None),
            fresh: false,
            layout: None,
        })
    }

    /// For what was pushed a moment ago: what is not there by its digest may not be seen everywhere yet, and is asked
    /// for again.
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Has the folder of an OCI layout answer in the registry's place. `image`: the repository that tags are entered with.
    pub fn in_layout(mut self, folder: PathBuf, image: String) -> Self {
        self.layout = Some(Layout::new(folder, image));
        self
    }

    /// For what is of use and not needed: asked for once.
    pub fn hasty(mut self) -> Self {
        self.settings.patience = Patience {
            tries: 1,
            ..Patience::USUAL
        };
        self
    }

    /// A client for another repository of the same registry, or with other credentials: the same connections and
    /// certificates, and nothing of the authorization.
    pub fn beside(&self, repository: Repository, credentials: Option<Credentials>) -> Self {
        Self {
            repository,
            settings: Settings {
                credentials,
                ..self.settings.clone()
            },
            plain: self.plain.clone(),
            secure: self.secure.clone(),
            authorization: Mutex::new(None),
            fresh: self.fresh,
            layout: None,
        }
    }

    /// The digest of what a tag names. By HEAD, which registries count least; by GET where a registry does not say it so.
    pub async fn digest(&self, tag: &str) -> Result<String, RegistryError> {
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
        let what = format!("manifest {tag} of {}", self.repository.path);
        let asked = self
            .settings
            .patience
            .retry(async || {
                let ask = Ask {
                    method: Method::HEAD,
                    url: self.manifest_url(tag)?,
                    headers: vec![(ACCEPT, accept.clone())],
                    body: &[],
                };
                let response = self.ask(&ask, &what).await?;
                let digest = response.headers().get(DIGEST);
                Ok(digest
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned))
            })
            .await;
        match asked {
            Ok(Some(digest)) if is_sha256(&digest) => Ok(digest),
            Ok(_) | Err(RegistryError::Other(_)) => Ok(digest_of(&self.manifest(tag).await?)),
            Err(error) => Err(error),
        }
    }

    /// The bytes of a manifest or index, by digest or tag. The caller checks the digest.
    pub async fn manifest(&self, reference: &str) -> Result<Vec<u8>, RegistryError> {
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
        let what = format!("manifest {reference} of {}", self.repository.path);
        self.settings
            .patience
            .retry(async || {
                let ask = Ask {
                    method: Method::GET,
                    url: self.manifest_url(reference)?,
                    headers: vec![(ACCEPT, accept.clone())],
                    body: &[],
                };
                let response = self.ask(&ask, &what).await?;
                let (status, server) = (response.status(), server(&response));
                let (bytes, whole) = body(response, MANIFEST_LIMIT).await?;
                if bytes.trim_ascii_start().starts_with(b"<") {
                    let found = answer(&status.to_string(), "GET", server.as_deref(), &bytes);
                    return Err(RegistryError::Other(format!("{what}: {}", found.said)));
                }
                if !whole {
                    return Err(RegistryError::Other(format!(
                        "{what} is too large: more than {MANIFEST_LIMIT} bytes"
                    )));
                }
                Ok(bytes)
            })
            .await
    }

    /// Puts the bytes of a manifest or index under a tag, or under their digest. True where the registry
    /// says that it has entered them into the list of what refers to their subject.
    pub async fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<bool, RegistryError> {
        let what = match reference.contains(':') {
            true => format!("manifest {reference} of {}", self.repository.path),
            false => format!("tag {reference} of {}", self.repository.path),
        };
        self.settings
            .patience
            .retry(async || {
                let ask = Ask {
                    method: Method::PUT,
                    url: self.manifest_url(reference)?,
                    headers: vec![(CONTENT_TYPE, media_type.to_owned())],
                    body: bytes,
                };
                let response = self.ask(&ask, &what).await?;
                Ok(response.headers().contains_key(SUBJECT))
            })
            .await
    }

    /// Whether a push may begin now: asks for the upload of a blob, and gives it up. Nothing is remembered of earlier
    /// authorizations.
    pub async fn may_push(&self) -> Result<(), RegistryError> {
        *self.authorization.lock().expect("no panic while held") = None;
        let what = format!("an upload to {}", self.repository.path);
        let begin = Ask {
            method: Method::POST,
            url: self.url("blobs", "uploads/")?,
            headers: vec![],
            body: &[],
        };
        let response = self.ask(&begin, &what).await?;
        let location = response.headers().get(LOCATION);
        let location = location.and_then(|value| response.url().join(value.to_str().ok()?).ok());
        // No credential goes to another server, nor to this one without TLS.
        let location = location.filter(|url| url.origin() == begin.url.origin());
        if let Some(url) = location {
            let give_up = Ask {
                method: Method::DELETE,
                url,
                headers: vec![],
                body: &[],
            };
            // Registries give up by themselves what is never ended.
            let _ = self.ask(&give_up, &what).await;
        }
        Ok(())
    }

    /// The bytes of a blob of at most `limit` bytes, checked against its digest.
    pub async fn blob(&self, digest: &str, limit: u64) -> Result<Vec<u8>, RegistryError> {
        self.settings
            .patience
            .retry(async || {
                let mut bytes = vec![];
                self.read_blob(digest, limit, &mut bytes).await?;
                Ok(bytes)
            })
            .await
    }

    /// Writes a blob of at most `limit` bytes into a file, checked against its digest.
    pub async fn blob_into(
        &self,
        digest: &str,
        limit: u64,
        path: &Path,
    ) -> Result<(), RegistryError> {
        self.settings
            .patience
            .retry(async || {
                let file = std::fs::File::create(path).map_err(local)?;
                self.read_blob(digest, limit, &mut std::io::BufWriter::new(file))
                    .await
            })
            .await
    }

    async fn read_blob(
        &self,
        digest: &str,
        limit: u64,
        into: &mut impl Write,
    ) -> Result<(), RegistryError> {
        let mut hash = Hasher::of(digest).ok_or_else(|| {
            RegistryError::Other(format!(
                "unsupported digest {digest}: neither sha256 nor sha512"
            ))
        })?;
        let what = format!("blob {digest} of {}", self.repository.path);
        let ask = Ask {
            method: Method::GET,
            url: self.url("blobs", digest)?,
            headers: vec![(ACCEPT, "*/*".into())],
            body: &[],
        };
        let mut response = self.ask(&ask, &what).await?;
        let mut size = 0_u64;
        while let Some(chunk) = response.chunk().await.map_err(network)? {
            size += chunk.len() as u64;
            if size > limit {
                let message = format!("{what} is too large: more than {limit} bytes");
                return Err(RegistryError::Other(message));
            }
            hash.update(&chunk);
            into.write_all(&chunk).map_err(local)?;
        }
        into.flush().map_err(local)?;
        let actual = hash.finish();
        if actual != digest {
            // Cut short on the way, most likely.
            return Err(RegistryError::Transient {
                message: format!("{what}: digest mismatch: the registry answered with {actual}"),
                retry_after: None,
            });
        }
        Ok(())
    }

    fn manifest_url(&self, reference: &str) -> Result<Url, RegistryError> {
        self.url("manifests", reference)
    }

    pub(super) fn url(&self, kind: &str, reference: &str) -> Result<Url, RegistryError> {
        let scheme = if self.settings.plain_http {
            "http"
        } else {
            "https"
        };
        let text = format!(
            "{scheme}://{}/v2/{}/{kind}/{reference}",
            self.repository.api_host(),
            self.repository.path
        );
        Url::parse(&text).map_err(|error| RegistryError::Other(format!("{text}: {error}")))
    }

    /// Sends, proves who asks where the registry wants that, and sends again.
    pub(super) async fn ask(&self, ask: &Ask<'_>, what: &str) -> Result<Response, RegistryError> {
        if let Some(layout) = &self.layout {
            let answer = layout.answer(ask).await;
            let answer =
                answer.map_err(|error| RegistryError::Other(format!("{what}: {error}")))?;
            return checked(answer, &ask.method, what).await;
        }
        let known = self
            .authorization
            .lock()
            .expect("no panic while held")
            .clone();
        let response = self.send(ask, known.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.settled(ask, checked(response, &ask.method, what).await);
        }
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = challenge(headers.iter().filter_map(|value| value.to_str().ok()));
        let Some(fresh) = self.authorize(challenge).await? else {
            return checked(response, &ask.method, what).await;
        };
        let response = self.send(ask, Some(&fresh)).await?;
        *self.authorization.lock().expect("no panic while held") = Some(fresh);
        self.settled(ask, checked(response, &ask.method, what).await)
    }

    /// What is not there yet is a fault that passes.
    fn settled(
        &self,
        ask: &Ask<'_>,
        result: Result<Response, RegistryError>,
    ) -> Result<Response, RegistryError> {
        let by_digest = ask
            .url
            .path()
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains(':'));
        match result {
            Err(RegistryError::NotFound(message))
                if self.fresh && ask.method == Method::GET && by_digest =>
            {
                Err(RegistryError::Transient {
                    message,
                    retry_after: None,
                })
            }
            other => other,
        }
    }

    async fn send(
        &self,
        ask: &Ask<'_>,
        authorization: Option<&str>,
    ) -> Result<Response, RegistryError> {
        let mut request = self
            .http(&ask.url)?
            .request(ask.method.clone(), ask.url.clone());
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if !matches!(ask.method, Method::GET | Method::HEAD) {
            request = request.body(ask.body.to_vec());
        }
        if ask.url.path().contains("/blobs/") {
            request = request.timeout(BLOB_WITHIN);
        }
        request.send().await.map_err(network)
    }

    /// Sends what can be sent only once, with the authorization that an earlier request was given.
    pub(super) async fn send_once(
        &self,
        method: Method,
        url: Url,
        headers: &[(HeaderName, String)],
        body: reqwest::Body,
        what: &str,
    ) -> Result<Response, RegistryError> {
        let known = self
            .authorization
            .lock()
            .expect("no panic while held")
            .clone();
        let mut request = self
            .http(&url)?
            .request(method.clone(), url)
            .timeout(BLOB_WITHIN)
            .body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(known) = known {
            request = request.header(AUTHORIZATION, known);
        }
        let response = request.send().await.map_err(network)?;
        checked(response, &method, what).await
    }

    /// The value of the Authorization header that a challenge asks for; none where we have nothing to
    /// show.
    async fn authorize(
        &self,
        challenge: Option<Challenge>,
    ) -> Result<Option<String>, RegistryError> {
        match (challenge, &self.settings.credentials) {
            (None, _) | (Some(Challenge::Basic), None) => Ok(None),
            (Some(_), Some(Credentials::Bearer(token))) => Ok(Some(format!("Bearer {token}"))),
            (Some(Challenge::Basic), Some(Credentials::Basic { username, password })) => {
                Ok(Some(basic(username, password)))
            }
            (Some(Challenge::Basic), Some(Credentials::Refresh(_))) => Ok(None),
            (Some(Challenge::Bearer { realm, service }), _) => {
                let token = self.token(&realm, service.as_deref()).await?;
                Ok(Some(format!("Bearer {token}")))
            }
        }
    }

    /// Gets a token for this repository
    /// (<https://distribution.github.io/distribution/spec/auth/token/>, and for identity tokens
    /// <https://distribution.github.io/distribution/spec/auth/oauth/>).
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<String, RegistryError> {
        let mut url = Url::parse(realm)
            .map_err(|error| RegistryError::Other(format!("token server {realm}: {error}")))?;
        let actions = self.settings.access.actions();
        let scope = format!("repository:{}:{actions}", self.repository.path);
        let mut fields = vec![("scope", scope.as_str())];
        fields.extend(service.map(|service| ("service", service)));
        let what = format!("token server {}", url.host_str().unwrap_or(realm));
        let http = self.http(&url)?;
        let request = match &self.settings.credentials {
            Some(Credentials::Refresh(token)) => {
                fields.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "whittle"),
                    ("refresh_token", token),
                ]);
                http.post(url)
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form(&fields))
            }
            other => {
                url.query_pairs_mut().extend_pairs(&fields);
                let request = http.get(url);
                match other {
                    Some(Credentials::Basic { username, password }) => {
                        request.header(AUTHORIZATION, basic(username, password))
                    }
                    _ => request,
                }
            }
        };
        let response = request.send().await.map_err(network)?;
        let response = checked(response, &Method::GET, &what).await?;
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let (bytes, _) = body(response, ERROR_LIMIT).await?;
        // Some send one of both empty.
        serde_json::from_slice::<Token>(&bytes)
            .ok()
            .and_then(|answer| {
                let both = [answer.token, answer.access_token].into_iter().flatten();
                both.into_iter().find(|token| !token.is_empty())
            })
            .ok_or_else(|| RegistryError::Other(format!("{what}: no token in the answer")))
    }

    fn http(&self, url: &Url) -> Result<&reqwest::Client, RegistryError> {
        if url.scheme() == "http" {
            return Ok(&self.plain);
        }
        self.secure
            .get_or_init(|| {
                let certificates = match &self.settings.ca {
                    Some(pem) => reqwest::Certificate::from_pem_bundle(pem)
                        .map_err(|error| format!("the registry's caRef: {}", causes(&error)))?,
                    None => vec![],
                };
                let with_system = builder().tls_certs_merge(certificates.clone()).build();
                match with_system {
                    // An image without certificates of its own still reaches what caRef signs.
                    Err(_) if !certificates.is_empty() => {
                        builder().tls_certs_only(certificates).build()
                    }
                    other => other,
                }
                .map_err(|error| causes(&error))
            })
            .as_ref()
            .map_err(|error| RegistryError::Other(error.clone()))
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(AGENT)
        .connect_timeout(Duration::from_secs(10))
        .timeout(Duration::from_secs(30))
        // Requests follow one another; whoever asks many registries keeps none of them waiting.
        .pool_idle_timeout(Duration::from_secs(10))
}

fn is_sha256(digest: &str) -> bool {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn basic(username: &str, password: &str) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    )
}

fn form(fields: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://form/").expect("a constant URL");
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

/// The response where it is a success, else what it says.
async fn checked(
    response: Response,
    method: &Method,
    what: &str,
) -> Result<Response, RegistryError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(retry_after);
    let server = server(&response);
    let said = body(response, ERROR_LIMIT).await.unwrap_or_default().0;
    let found = answer(
        &status.to_string(),
        method.as_str(),
        server.as_deref(),
        &said,
    );
    let message = format!("{what}: {}", found.said);
    Err(match found.kind {
        _ if status == StatusCode::NOT_FOUND => RegistryError::NotFound(message),
        Kind::Denied | Kind::Expired | Kind::Blocked => RegistryError::Denied(message),
        Kind::Away | Kind::RateLimited => RegistryError::Transient {
            message,
            retry_after,
        },
        _ => RegistryError::Other(message),
    })
}

/// What the other end calls itself.
fn server(response: &Response) -> Option<String> {
    let value = response.headers().get(SERVER)?.to_str().ok()?;
    Some(value.to_owned())
}

/// Up to `limit` bytes of a body, and whether these are all.
pub(super) async fn body(
    response: Response,
    limit: usize,
) -> Result<(Vec<u8>, bool), RegistryError> {
    callback::body(response, limit).await.map_err(network)
}

/// Seconds, or a date (<https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>); dates are seldom and
/// count as absent.
fn retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

fn local(error: std::io::Error) -> RegistryError {
    RegistryError::Other(format!("cannot write a blob: {error}"))
}

pub(super) fn network(mut error: reqwest::Error) -> RegistryError {
    // Where registries send one on to their storage, the query is what opens it.
    if let Some(url) = error.url_mut() {
        url.set_query(None);
    }
    let message = causes(&error);
    // A certificate that is not trusted will not be so a second later.
    if message.contains("invalid peer certificate") {
        return RegistryError::Other(message);
    }
    RegistryError::Transient {
        message,
        retry_after: None,
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
pub(super) mod tests;
