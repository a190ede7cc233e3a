//! Where CloudEvents and traces go: one POST each.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, Url, redirect};
use whittle_image::text::words;
use whittle_registry::causes;

use super::outbox::Answer;
use crate::settings::SinkSettings;

/// One that has not answered by then is asked again.
const ANSWERS: Duration = Duration::from_secs(10);
/// Bytes of a token.
const TOKEN: u64 = 16 << 10;

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// Of ends of builds, by CloudEvents.
    Events,
    /// Of what builds have come through, by OTLP: `<https://opentelemetry.io/docs/specs/otlp/#otlphttp>`.
    Traces,
}

impl Receiver {
    /// The value of the chart that names it.
    fn setting(self) -> &'static str {
        match self {
            Self::Events => "notifications.sink",
            Self::Traces => "traces.otlp",
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Events => "https://events.example.com/whittle",
            Self::Traces => "http://otel-collector.observability.svc:4318",
        }
    }

    /// What it is sent, in the words of the log.
    pub(super) fn messages(self) -> &'static str {
        match self {
            Self::Events => "notifications",
            Self::Traces => "traces",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Events => "application/cloudevents+json; charset=UTF-8",
            Self::Traces => "application/json",
        }
    }
}

/// A receiver, as it is reached.
pub struct Sink {
    receiver: Receiver,
    client: Client,
    url: Url,
    token: Option<PathBuf>,
}

impl Sink {
    /// As the settings say.
    ///
    /// # Errors
    /// Where it cannot be: a sentence that names the setting, and does not have the URL, which may hold a secret.
    pub fn new(receiver: Receiver, settings: &SinkSettings) -> Result<Self, String> {
        let setting = receiver.setting();
        let wrong = |why: &str| {
            let example = receiver.example();
            format!("{setting}.url is invalid: {why}; write for example {example}")
        };
        let mut url: Url = settings.url.parse().map_err(|_| wrong("it is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong(
                "it does not start with https:// or http:// and a host",
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(&format!(
                "credentials are not allowed in it, use {setting}.tokenSecret"
            )));
        }
        if receiver == Receiver::Traces {
            url.set_path(&traces(url.path()));
        }
        let said = |error: reqwest::Error| {
            let why = causes(&error.without_url());
            format!("{setting}.caBundle is invalid: {why}; write certificates as PEM")
        };
        // A redirect would take the token elsewhere.
        let client = Client::builder()
            .user_agent(concat!("whittle/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(ANSWERS);
        // Whoever speaks without TLS is near: neither the token nor what builds come to is shown to a proxy.
        let client = match url.scheme() {
            "http" => client.no_proxy(),
            _ => client,
        };
        let client = match &settings.ca_bundle {
            None => client,
            Some(pem) => {
                let roots = Certificate::from_pem_bundle(pem.as_bytes()).map_err(said)?;
                if roots.is_empty() {
                    return Err(format!(
                        "{setting}.caBundle is invalid: no certificate in it; write certificates as PEM"
                    ));
                }
                client.tls_certs_only(roots)
            }
        };
        Ok(Self {
            client: client.build().map_err(|error| {
                let why = causes(&error);
                format!("{setting}: failed to load certificates: {why}; set {setting}.caBundle")
            })?,
            receiver,
            url,
            token: settings.token_file.clone(),
        })
    }

    /// What of its URL may be logged.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Sends one.
    pub async fn send(&self, message: &[u8]) -> Answer {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, self.receiver.content_type())
            .body(message.to_owned());
        if let Some(path) = &self.token {
            match token(self.receiver.setting(), path) {
                Ok(token) => request = request.header(AUTHORIZATION, token),
                Err(error) => return Answer::Away(error),
            }
        }
        match request.send().await {
            Err(error) => Answer::Away(causes(&error.without_url())),
            Ok(response) if response.status().is_success() => Answer::Taken,
            Ok(mut response) => {
                let status = response.status();
                let said = response.chunk().await.ok().flatten().unwrap_or_default();
                let said = String::from_utf8_lossy(&said[..said.len().min(512)]);
                Answer::Refused(status.as_u16(), words(&format!("{status} {said}")))
            }
        }
    }
}

/// The path for traces below the one that all signals have in common, as `OTEL_EXPORTER_OTLP_ENDPOINT` is read.
fn traces(path: &str) -> String {
    let path = path.trim_end_matches('/');
    match path.ends_with("/v1/traces") {
        true => path.to_owned(),
        false => format!("{path}/v1/traces"),
    }
}

/// Read each time: the kubelet changes the file where the Secret changes.
fn token(setting: &str, path: &PathBuf) -> Result<HeaderValue, String> {
    let invalid = |why: String| format!("{setting}.tokenSecret: failed to read the token: {why}");
    let text = std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(file, TOKEN), &mut text)?;
        Ok(text)
    });
    let text = text.map_err(|error| invalid(error.to_string()))?;
    let value = HeaderValue::from_str(&format!("Bearer {}", text.trim()));
    let mut value =
        value.map_err(|_| invalid("it has characters that no header can have".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::pki::Authority;
    use k8s_openapi::jiff::Timestamp;

    fn settings(url: &str) -> SinkSettings {
        SinkSettings {
            url: url.into(),
            ca_bundle: None,
            token_file: None,
            source: None,
        }
    }

    #[test]
    fn what_is_logged_of_a_url_has_neither_its_path_nor_its_query() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sink = Sink::new(
            Receiver::Events,
            &settings("https://hooks.example.com:8443/hook/secret?key=secret"),
        );
        assert_eq!(sink.unwrap().origin(), "https://hooks.example.com:8443");
    }

    #[test]
    fn a_url_that_cannot_be_is_an_error_that_names_the_setting_and_has_no_secret() {
        for url in [
            "secret",
            "secret://a",
            "https://",
            "https://bob:secret@a",
            "ftp://secret",
        ] {
            let error = Sink::new(Receiver::Events, &settings(url))
                .map(drop)
                .expect_err(url);
            assert!(
                error.contains("notifications.sink.url is invalid"),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn traces_go_below_the_url_of_all_signals() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        for (given, expected) in [
            ("http://a:4318", "http://a:4318/v1/traces"),
            ("http://a:4318/", "http://a:4318/v1/traces"),
            ("https://a/otlp", "https://a/otlp/v1/traces"),
            ("https://a/otlp/v1/traces", "https://a/otlp/v1/traces"),
        ] {
            let sink = Sink::new(Receiver::Traces, &settings(given)).unwrap();
            assert_eq!(sink.url.as_str(), expected);
        }
        let error = Sink::new(Receiver::Traces, &settings("a:4317")).map(drop);
        let error = error.unwrap_err();
        assert!(error.contains("traces.otlp.url is invalid"), "{error}");
    }

    #[test]
    fn a_bundle_without_a_certificate_is_an_error() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut settings = settings("https://a");
        settings.ca_bundle = Some("none".into());
        let error = Sink::new(Receiver::Events, &settings)
            .map(drop)
            .unwrap_err();
        assert!(error.contains("notifications.sink.caBundle"), "{error}");
    }

    #[test]
    fn the_token_is_read_anew_and_its_line_end_is_none_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(
            token("notifications.sink", &path)
                .unwrap_err()
                .contains("tokenSecret")
        );
        std::fs::write(&path, "abc\n").unwrap();
        assert_eq!(token("notifications.sink", &path).unwrap(), "Bearer abc");
        std::fs::write(&path, "d\u{0}e").unwrap();
        let error = token("notifications.sink", &path).unwrap_err();
        assert!(
            !error.contains('d') || !error.contains("d\u{0}e"),
            "{error}"
        );
    }

    /// A receiver that answers with this status; the URL of it.
    async fn receiver(status: u16) -> String {
        let answer = move || async move {
            let status = axum::http::StatusCode::from_u16(status).unwrap();
            (
                status,
                [("location", "https://elsewhere.example.com/")],
                "it says\u{1b}[2J so",
            )
        };
        let router = axum::Router::new().fallback(answer);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://127.0.0.1:{port}/secret")
    }

    #[tokio::test]
    async fn what_a_receiver_says_is_told_without_the_url_and_nobody_is_sent_elsewhere() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        for status in [307, 400, 503] {
            let sink = Sink::new(Receiver::Events, &settings(&receiver(status).await)).unwrap();
            let Answer::Refused(found, said) = sink.send(b"{}").await else {
                panic!("{status}")
            };
            assert_eq!(found, status);
            assert!(said.contains("it says [2J so"), "{said}");
        }
        let sink = Sink::new(Receiver::Events, &settings(&receiver(202).await)).unwrap();
        assert!(matches!(sink.send(b"{}").await, Answer::Taken));
        // Nobody listens there any more.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let sink = Sink::new(
            Receiver::Events,
            &settings(&format!("http://127.0.0.1:{port}/secret")),
        )
        .unwrap();
        let Answer::Away(said) = sink.send(b"{}").await else {
            panic!()
        };
        assert!(
            said.contains("refused") && !said.contains("secret"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_receiver_is_trusted_by_the_bundle_and_by_no_other() {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Authority::make().unwrap();
        let hosts = ["localhost".to_owned()];
        let (certificate, key) = authority.server(&hosts, Timestamp::now()).unwrap();
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(chain, key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        });
        let trusting = async |bundle: &str| {
            let mut settings = settings(&format!("https://localhost:{port}/"));
            settings.ca_bundle = Some(bundle.to_owned());
            Sink::new(Receiver::Events, &settings)
                .unwrap()
                .send(b"{}")
                .await
        };
        let ours = trusting(authority.certificate()).await;
        assert!(matches!(ours, Answer::Taken), "{ours:?}");
        let other = Authority::make().unwrap();
        let Answer::Away(said) = trusting(other.certificate()).await else {
            panic!()
        };
        assert!(said.contains("certificate"), "{said}");
    }
}
