//! What a git server has under a branch, a tag or a range of versions: protocol v2 `ls-refs`
//! (<https://git-scm.com/docs/protocol-v2#_ls_refs>) over HTTP and ssh, and what older servers advertise. Nothing is
//! cloned, and no program is started.

mod auth;
mod error;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
mod http;
mod known_hosts;
mod pack;
mod pkt;
mod refs;
mod remote;
mod ssh;
mod trees;
mod versions;
mod wanted;

pub use auth::Auth;
pub use error::{Error, Kind};
pub use http::Http;
pub use remote::Remote;
pub use versions::{Range, newest};
pub use wanted::{Ref, Wanted, resolve};

use std::time::Duration;

/// The longest that one look may take.
const WITHIN: Duration = Duration::from_secs(30);
/// The most that is read of a server's answers in one look, in bytes: some 700,000 refs.
const LIMIT: usize = 64 << 20;
/// How we call ourselves.
const AGENT: &str = concat!("whittle/", env!("CARGO_PKG_VERSION"));

/// The revision that `wanted` stands for at `remote` now, as `status.revision` names it. A process-wide rustls provider
/// must be installed.
pub async fn look(
    http: &Http,
    remote: &Remote,
    auth: &Auth,
    wanted: &Wanted,
) -> Result<String, Error> {
    if let Wanted::Commit(commit) = wanted {
        return Ok(wanted::revision(None, commit));
    }
    let mut reading = refs::Reading::new(wanted);
    talk(http, remote, auth, &mut reading).await?;
    reading.end()
}

/// The id of the tree that a directory is at a commit, or of what else is at that path; none where nothing is. Nothing but
/// the trees above it is fetched.
pub async fn folder_tree(
    http: &Http,
    remote: &Remote,
    auth: &Auth,
    commit: &str,
    path: &str,
) -> Result<Option<String>, Error> {
    let mut fetching = trees::Fetching::new(commit, path);
    talk(http, remote, auth, &mut fetching).await?;
    fetching.end()
}

async fn talk(
    http: &Http,
    remote: &Remote,
    auth: &Auth,
    talk: &mut impl pkt::Talk,
) -> Result<(), Error> {
    let talking = async {
        match remote {
            Remote::Http(url) => http.look(url, auth, talk).await,
            Remote::Ssh(server) => ssh::look(server, auth, talk).await,
        }
    };
    tokio::time::timeout(WITHIN, talking)
        .await
        .unwrap_or_else(|_| {
            let said = format!(
                "timed out: the server did not answer within {} s",
                WITHIN.as_secs()
            );
            Err(Error::unreachable(said))
        })
}
