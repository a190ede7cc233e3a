//! An answer that is given before the request's body was read would be lost: the connection is closed with bytes that nobody
//! read, the kernel resets it, and the sender sees a broken pipe and not why it was rejected (RFC 9112, 9.6). So what is left
//! of a body is read and thrown away before the answer goes out, within bounds of bytes and of time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures::channel::oneshot;
use futures::{FutureExt, Stream, StreamExt};

/// Bytes of a body that are thrown away at the most: whoever sends more loses the answer.
const MOST: usize = 5 * 1024 * 1024;
/// How long they may take to come.
const WITHIN: Duration = Duration::from_secs(1);

/// A body that comes back, once it is dropped, with what was not read of it.
struct Lent {
    body: Option<BodyDataStream>,
    back: Option<oneshot::Sender<BodyDataStream>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let next = body.poll_next_unpin(context);
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        next
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Whoever lent it may have gone with the connection.
            let _ = back.send(body);
        }
    }
}

/// Middleware for all that answer strangers.
pub(super) async fn heard_out(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let (back, mut left) = oneshot::channel();
    let lent = Lent {
        body: Some(body.into_data_stream()),
        back: Some(back),
    };
    let answer = next
        .run(Request::from_parts(head, Body::from_stream(lent)))
        .await;
    // Handlers drop their request before they answer. One that was read to its end does not come back.
    if let Some(Ok(rest)) = (&mut left).now_or_never() {
        let _ = tokio::time::timeout(WITHIN, throw_away(rest)).await;
    }
    answer
}

async fn throw_away(mut rest: BodyDataStream) {
    let mut thrown = 0;
    while let Some(Ok(part)) = rest.next().await {
        thrown += part.len();
        if thrown > MOST {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// What comes back for a body of so many bytes, of which the handler reads none.
    async fn answered(bytes: usize) -> std::io::Result<String> {
        let app = Router::new()
            .route("/", post(|_: Request| async { StatusCode::UNAUTHORIZED }))
            .layer(axum::middleware::from_fn(heard_out));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            super::super::serve_plain(&listener, app, "a test").await;
        });
        let mut stream = TcpStream::connect(address).await?;
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {bytes}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        // In parts, the last of them late: as from a sender that is busy with others.
        for part in vec![b'x'; bytes].chunks(64 * 1024) {
            stream.write_all(part).await?;
            tokio::task::yield_now().await;
        }
        let mut answer = vec![0; 256];
        let read = stream.read(&mut answer).await?;
        server.abort();
        Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
    }

    #[tokio::test]
    async fn who_is_rejected_before_the_body_was_read_gets_the_answer() {
        for bytes in [0, 1, 100_000, 4 * 1024 * 1024] {
            let answer = answered(bytes).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 401 "), "{bytes}: {answer}");
        }
    }

    #[tokio::test]
    async fn no_more_than_the_bound_is_thrown_away() {
        let read = Arc::new(AtomicUsize::new(0));
        let endless = futures::stream::repeat_with({
            let read = read.clone();
            move || {
                read.fetch_add(1024 * 1024, Ordering::Relaxed);
                Ok::<_, std::io::Error>(Bytes::from_static(&[0; 1024 * 1024]))
            }
        });
        throw_away(Body::from_stream(endless).into_data_stream()).await;
        assert_eq!(read.load(Ordering::Relaxed), 6 * 1024 * 1024);
    }
}
