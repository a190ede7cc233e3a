//! A runner that was made in advance: it waits, over the callback's mutual TLS, for the request of an attempt that has not begun.

use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::time::{Instant, sleep};

use super::callback;
use crate::request::BuildRequest;
use crate::standby::{HELD, STANDBY_PATH, Standby};
use whittle_registry::callback::{Callback, answered};
use whittle_registry::causes;

/// How much longer than the controller holds an answer one may take: then the connection is dead.
const LATE: Duration = Duration::from_secs(5);
/// Between two tries, at first and at most.
const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(5);
/// Bytes of a request, at most: an ImageBuild has fewer.
const REQUEST: usize = 2 << 20;

/// Waits for the request; none where no attempt has begun in time. `tls` and `attempt` are as in [`crate::place::Place`].
pub(super) async fn wait(standby: &Standby, tls: &Path, attempt: &Path) -> Option<BuildRequest> {
    let until = Instant::now() + Duration::from_secs(standby.seconds);
    tokio::time::timeout_at(until, asks(standby, tls, attempt))
        .await
        .ok()
}

async fn asks(standby: &Standby, tls: &Path, attempt: &Path) -> BuildRequest {
    let (mut pause, mut known, mut complained) = (FIRST, None, false);
    loop {
        // Certificates may be others by now: the kubelet renews their files.
        let client = match known.take() {
            Some(client) => Ok(client),
            None => callback::client(tls, attempt),
        };
        let asked = match &client {
            Ok(client) => ask(standby, client).await,
            Err(why) => Err(why.clone()),
        };
        match asked {
            Ok(Some(request)) => return request,
            Ok(None) => {
                (pause, complained) = (FIRST, false);
                known = client.ok();
            }
            Err(why) => {
                if !complained {
                    complained = true;
                    println!("cannot wait at the controller: {why}; retrying");
                }
                sleep(pause + spread(&standby.job, pause)).await;
                pause = MOST.min(pause * 2);
            }
        }
    }
}

/// All that a controller has left alone do not come back at the same moment: up to as long again, by the Job's name.
fn spread(job: &str, pause: Duration) -> Duration {
    let sum: u32 = job.bytes().map(u32::from).sum();
    pause * (sum % 100) / 100
}

/// Asks once; none where no attempt has begun yet.
async fn ask(standby: &Standby, client: &Callback) -> Result<Option<BuildRequest>, String> {
    let url = format!("{}{STANDBY_PATH}", standby.callback.trim_end_matches('/'));
    let asked = client.post(&url, HELD + LATE).send().await;
    let answer = asked.map_err(|error| causes(&error))?;
    match answer.status() {
        StatusCode::NO_CONTENT => return Ok(None),
        StatusCode::OK => {}
        status => return Err(format!("{url} answered {status}")),
    }
    let text = answered(answer, REQUEST).await?;
    read(standby, &text).map(Some)
}

/// The request, where it is one for this runner.
fn read(standby: &Standby, text: &[u8]) -> Result<BuildRequest, String> {
    let request: BuildRequest = serde_json::from_slice(text)
        .map_err(|error| format!("the request that was handed over is invalid: {error}"))?;
    let of = |it: [&String; 4]| it.map(String::as_str).join("/");
    let Standby {
        namespace,
        name,
        uid,
        job,
        ..
    } = standby;
    let (mine, its) = (
        of([namespace, name, uid, job]),
        of([
            &request.namespace,
            &request.name,
            &request.uid,
            &request.job,
        ]),
    );
    match mine == its {
        true => Ok(request),
        false => Err(format!(
            "the request that was handed over is of {its}, and not of {mine}"
        )),
    }
}

#[cfg(test)]
#[path = "standby_tests.rs"]
mod tests;
