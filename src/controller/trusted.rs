//! The certificates that the installation trusts besides the public ones: a file that the chart mounts, which each Builder's
//! ConfigMap has a copy of. It is read again while the controller runs, as what writes it renews it.

use std::future::Future;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::sync::watch;

use super::Context;
use whittle_image::Certificates;

/// Bytes of it: twice what all public authorities take, and half of what a ConfigMap holds.
pub const LIMIT: usize = 512 << 10;
/// How often it is read.
const LOOK: Duration = Duration::from_secs(60);

/// What is trusted now.
#[derive(Clone)]
pub struct Trusted(Arc<watch::Sender<Option<Arc<str>>>>);

impl Default for Trusted {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Trusted {
    /// The certificates, PEM; none where the installation has none of its own.
    pub fn get(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// Each time that they become others.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        let known = self.0.subscribe();
        futures::stream::unfold(known, |mut known| async {
            known.changed().await.ok()?;
            Some(((), known))
        })
    }

    /// They are these.
    pub fn is(&self, text: &str) {
        self.0.send_if_modified(|known| {
            let changes = known.as_deref() != Some(text);
            if changes {
                *known = Some(text.into());
            }
            changes
        });
    }
}

/// The certificates in a file.
///
/// # Errors
/// Where it cannot be read, is too large, or has none: a sentence that names the chart's value.
pub fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let said = |error: std::io::Error| format!("caBundle: failed to read {shown}: {error}");
    let mut bytes = vec![];
    let file = std::fs::File::open(path).map_err(said)?;
    let limit = u64::try_from(LIMIT).unwrap_or(u64::MAX);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(said)?;
    checked(bytes).map_err(|why| format!("caBundle is invalid: {why}"))
}

fn checked(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() > LIMIT {
        return Err(format!(
            "it is too large: at most {} KiB; leave the public authorities out, which are trusted anyway",
            LIMIT >> 10
        ));
    }
    if let Some(why) = Certificates::read(&bytes).fault() {
        return Err(why);
    }
    String::from_utf8(bytes).map_err(|_| "it is not a text; write certificates as PEM".into())
}

/// Reads the file again and again, until `stop`. What cannot be read leaves what was known.
pub async fn run(context: Arc<Context>, stop: impl Future<Output = ()>) {
    let Some(path) = &context.settings.ca_file else {
        return;
    };
    tokio::pin!(stop);
    let mut told = String::new();
    loop {
        match read(path) {
            Ok(text) => {
                told.clear();
                context.trusted.is(&text);
            }
            Err(error) if error != told => {
                tracing::warn!(%error, "what was trusted before stays trusted; retrying");
                told = error;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::pki::Authority;
    use futures::{FutureExt, StreamExt};

    fn pem() -> String {
        Authority::make().unwrap().certificate().to_owned()
    }

    #[test]
    fn a_file_of_certificates_is_trusted_as_it_is() {
        let text = format!("# corporate\n{}{}", pem(), pem());
        assert_eq!(checked(text.clone().into_bytes()), Ok(text));
    }

    #[test]
    fn what_is_too_large_or_without_certificates_or_broken_is_an_error_that_says_so() {
        for (bytes, words) in [
            (vec![b'\n'; LIMIT + 1], "too large: at most 512 KiB"),
            (b"hello".to_vec(), "no certificate in it"),
            (
                pem().replace("MII", "!!!").into_bytes(),
                "1 of its certificates cannot be read",
            ),
            ([pem().as_bytes(), &[0xff][..]].concat(), "it is not a text"),
        ] {
            let said = checked(bytes).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
        let missing = read(Path::new("/nowhere/ca.crt")).unwrap_err();
        assert!(
            missing.contains("caBundle: failed to read /nowhere/ca.crt"),
            "{missing}"
        );
    }

    #[tokio::test]
    async fn only_other_certificates_wake_builders() {
        let trusted = Trusted::default();
        let mut changes = Box::pin(trusted.changes());
        trusted.is("a");
        assert_eq!(changes.next().await, Some(()));
        trusted.is("a");
        assert_eq!(changes.next().now_or_never(), None);
        assert_eq!(trusted.get().as_deref(), Some("a"));
    }
}
