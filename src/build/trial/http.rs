//! Questions to the program that is tried, which shares this container's network: as the kubelet asks them in probes.

use std::time::Duration;

use bytes::Bytes;
use reqwest::redirect::Policy;
use tokio::net::TcpStream;
use whittle_api::{Grpc, HttpGet, Scheme};
use whittle_registry::causes;

/// How long one answer may take.
const TIME: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read: what follows them is of no interest.
const MOST: usize = 1 << 20;

/// Where a program answers that shares this network.
pub const LOOPBACK: &str = "127.0.0.1";

/// Asks over HTTP; an error where the answer is not 200 to 399. A certificate is not checked, and redirections to other
/// hosts are not followed.
pub async fn get(host: &'static str, asked: &HttpGet) -> Result<(), String> {
    let redirects = Policy::custom(move |attempt| {
        let own = attempt.url().host_str() == Some(host);
        match own && attempt.previous().len() < 10 {
            true => attempt.follow(),
            false => attempt.stop(),
        }
    });
    let client = reqwest::Client::builder()
        .redirect(redirects)
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .user_agent("whittle-trial")
        .timeout(TIME)
        .build()
        .map_err(|error| causes(&error))?;
    let scheme = match asked.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let url = format!("{scheme}://{host}:{}{}", asked.port, asked.path);
    let said = |error: reqwest::Error| causes(&error.without_url());
    let mut answer = client.get(url).send().await.map_err(said)?;
    let status = answer.status();
    let mut read = 0;
    while let Some(part) = answer.chunk().await.map_err(said)? {
        read += part.len();
        if read > MOST {
            break;
        }
    }
    match status.as_u16() {
        200..400 => Ok(()),
        code => Err(format!("answered {code}")),
    }
}

/// Connects.
pub async fn connect(host: &str, port: i32) -> Result<TcpStream, String> {
    let port = u16::try_from(port).map_err(|_| "invalid port".to_owned())?;
    let stream = tokio::time::timeout(TIME, TcpStream::connect((host, port)));
    let stream = stream.await.map_err(|_| "timed out".to_owned())?;
    stream.map_err(|error| error.to_string())
}

/// Asks `grpc.health.v1.Health/Check`.
pub async fn check(host: &str, asked: &Grpc) -> Result<(), String> {
    let answer = tokio::time::timeout(TIME, checked(host, asked)).await;
    answer.map_err(|_| "timed out".to_owned())?
}

async fn checked(host: &str, asked: &Grpc) -> Result<(), String> {
    let stream = connect(host, asked.port).await?;
    let said = |error: h2::Error| error.to_string();
    let (client, connection) = h2::client::handshake(stream).await.map_err(said)?;
    let connection = tokio::spawn(connection);
    let result = async {
        let mut client = client.ready().await.map_err(said)?;
        let request = http::Request::post(format!("http://{host}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|error| error.to_string())?;
        let (answer, mut body) = client.send_request(request, false).map_err(said)?;
        body.send_data(question(asked.service.as_deref()), true)
            .map_err(said)?;
        let mut answer = answer.await.map_err(said)?;
        let mut read = Vec::new();
        while let Some(part) = answer.body_mut().data().await {
            let part = part.map_err(said)?;
            let _ = answer
                .body_mut()
                .flow_control()
                .release_capacity(part.len());
            if read.len() + part.len() > MOST {
                return Err("the answer is too large".into());
            }
            read.extend_from_slice(&part);
        }
        judged(&read)
    };
    let result = result.await;
    connection.abort();
    result
}

/// A `HealthCheckRequest` as a message of gRPC: a flag, four bytes of length, and field 1, a text.
fn question(service: Option<&str>) -> Bytes {
    let mut message = Vec::new();
    if let Some(service) = service.filter(|it| !it.is_empty()) {
        message.push(0x0a);
        // Two bytes of a varint: a service has at most 253 characters.
        let length = service.len();
        if length >= 0x80 {
            message.extend([length as u8 & 0x7f | 0x80, (length >> 7) as u8]);
        } else {
            message.push(length as u8);
        }
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// A `HealthCheckResponse`: field 1 is the status, 1 is SERVING.
fn judged(answer: &[u8]) -> Result<(), String> {
    match answer.get(5..) {
        Some([0x08, 1, ..]) => Ok(()),
        Some([0x08, status, ..]) => Err(format!("not serving (status {status})")),
        Some([]) => Err("not serving (status 0)".into()),
        _ => Err("no answer of the gRPC health protocol".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_protocol_is_written_and_read() {
        assert_eq!(&question(None)[..], [0; 5]);
        assert_eq!(
            &question(Some("ab"))[..],
            [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']
        );
        let long = question(Some(&"a".repeat(200)));
        assert_eq!(&long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
        assert_eq!(judged(&[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        assert!(
            judged(&[0, 0, 0, 0, 2, 8, 2])
                .unwrap_err()
                .contains("status 2")
        );
        assert!(judged(&[0; 5]).unwrap_err().contains("status 0"));
        assert!(judged(&[]).is_err());
    }
}
