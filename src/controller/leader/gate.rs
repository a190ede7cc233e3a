//! What holds a process that leads no more from writing: its requests pass here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::{Method, Request};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::time::Instant;
use tower::buffer::BufferLayer;
use tower::filter::FilterLayer;
use tower::retry::RetryLayer;

/// Requests that wait to be sent, as of kube's own client.
const QUEUED: usize = 1024;

/// Open until a moment that each renewal puts off. A process that was stopped for a while finds it closed when it goes on,
/// before it knows that it has lost the Lease.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<Option<Instant>>>);

/// Nothing is written by who does not lead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sent: this process does not lead any more")]
pub struct Closed;

impl Gate {
    /// From now on until then.
    pub fn open_until(&self, then: Instant) {
        *self.lock() = Some(then);
    }

    /// For good, or until it is opened again.
    pub fn close(&self) {
        *self.lock() = None;
    }

    /// When it closes by itself, or has.
    pub fn until(&self) -> Option<Instant> {
        *self.lock()
    }

    /// A client that reads at any time, and writes while the gate is open.
    ///
    /// # Errors
    /// As those of a client.
    pub fn client(&self, mut config: Config) -> kube::Result<Client> {
        let gate = self.clone();
        let gate = FilterLayer::new(move |request: Request<Body>| gate.pass(request));
        // A request that is sent again passes again.
        config.default_retry = false;
        Ok(ClientBuilder::try_from(config)?
            .with_layer(&BufferLayer::new(QUEUED))
            .with_layer(&gate)
            .with_layer(&RetryLayer::new(RetryPolicy::server_retry()))
            .build())
    }

    fn pass<B>(&self, request: Request<B>) -> Result<Request<B>, Closed> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let open = self.until().is_some_and(|until| Instant::now() < until);
        match reads || open {
            true => Ok(request),
            false => Err(Closed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn writes_pass_until_the_term_ends_by_our_own_clock_and_reads_pass_always() {
        let gate = Gate::default();
        let asks = |method: Method| {
            let request = Request::builder().method(method).body(()).unwrap();
            gate.pass(request).map(drop)
        };
        assert_eq!(asks(Method::PATCH), Err(Closed), "it never led");
        gate.open_until(Instant::now() + Duration::from_secs(10));
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(asks(method), Ok(()));
        }
        // As for a process that was stopped meanwhile.
        tokio::time::advance(Duration::from_secs(10)).await;
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(asks(method), Err(Closed));
        }
        assert_eq!(asks(Method::GET), Ok(()));
        gate.open_until(Instant::now() + Duration::from_secs(10));
        assert_eq!(asks(Method::POST), Ok(()));
        gate.close();
        assert_eq!(asks(Method::POST), Err(Closed));
    }
}
