//! A registry for tests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use whittle_image::Repository;

use crate::{Access, Client, Credentials, Patience, Settings};

/// A registry that answers with these responses in turn, and remembers what it was asked.
pub struct Fake {
    pub(crate) host: String,
    pub(crate) asked: Arc<StdMutex<Vec<String>>>,
}

impl Fake {
    pub async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(StdMutex::new(vec![]));
        let mut answers: VecDeque<String> = answers
            .iter()
            .map(|answer| answer.replace("HOST", &host))
            .collect();
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Some(answer) = answers.pop_front() {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = vec![];
                let mut buffer = [0; 4096];
                loop {
                    let read = socket.read(&mut buffer).await.unwrap();
                    request.extend_from_slice(&buffer[..read]);
                    if read == 0 || complete(&request) {
                        break;
                    }
                }
                seen.lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&request).into_owned());
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { host, asked }
    }

    pub fn client(&self, credentials: Option<Credentials>) -> Client {
        self.client_for(Access::PullPush, credentials)
    }

    pub fn client_for(&self, access: Access, credentials: Option<Credentials>) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = Settings {
            plain_http: true,
            ca: None,
            credentials,
            patience: Patience {
                first: Duration::from_millis(1),
                ..Patience::USUAL
            },
            access,
        };
        let repository = Repository::parse(&format!("{}/team/hello", self.host));
        Client::new(repository, settings).unwrap()
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// True where the head, and a body of the length that it states, are there.
fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |value| value.trim().parse().unwrap());
    body.len() >= length
}

pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
