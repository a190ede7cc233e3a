//! Tells the controller, over mutual TLS, how far the build is and what came of it. A convenience: where
//! it does not get through, the termination message still does.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::course::Course;
use crate::report;
use crate::report::{CALLBACK_PATH, CallbackBody, Progress, Report};
use crate::request::{BuildRequest, paths};
use whittle_api::CacheStatus;
use whittle_registry::{callback, causes};

/// Progress is sent at most this often.
const EVERY: Duration = Duration::from_secs(2);
/// And where the controller does not take it, at least this often.
const MOST: Duration = Duration::from_secs(16);
/// Pauses between the tries to send the report: three tries.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(300)];
/// The longest that the report may take in all.
const REPORT_WITHIN: Duration = Duration::from_millis(4500);
/// The same where the record has no room for all of it: a controller that starts anew is there again by then, and
/// without the callback nobody knows the image's programs.
const WHOLE_WITHIN: Duration = Duration::from_secs(30);
/// Between two tries then.
const LATER: Duration = Duration::from_secs(1);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// A client of the controller: the certificate of the Builder's runners from `tls`, the credential of the attempt from `attempt`.
pub(super) fn client(tls: &Path, attempt: &Path) -> Result<callback::Callback, String> {
    let credential = attempt.join(paths::TOKEN_KEY);
    callback::Callback::new(tls, &credential, Duration::from_secs(1))
}

/// Why something was not told.
enum Untold {
    /// The controller does not answer.
    Away(String),
    /// It does, and does not take it.
    Refused(String),
}

impl std::fmt::Display for Untold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Away(why) | Self::Refused(why)) = self;
        f.write_str(why)
    }
}

/// Sends in the background.
pub(super) struct Callback {
    sender: Option<Sender>,
    progress: watch::Sender<Option<Progress>>,
    task: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Sender {
    client: callback::Callback,
    url: String,
    namespace: String,
    name: String,
    job: String,
}

impl Callback {
    /// Starts to send progress for this request; does nothing where it names no callback.
    pub(super) fn start(request: &BuildRequest) -> Self {
        let sender = match Sender::new(request, &request.place.tls, &request.place.attempt) {
            Ok(sender) => sender,
            Err(error) => {
                println!("cannot report progress to the controller: {error}");
                None
            }
        };
        let (progress, receiver) = watch::channel(None);
        let task = sender.clone().map(|sender| {
            let send = move |progress| {
                let sender = sender.clone();
                async move { sender.send(CallbackBody::Progress(progress)).await }
            };
            tokio::spawn(send_progress(send, receiver))
        });
        Self {
            sender,
            progress,
            task,
        }
    }

    /// Notes the progress; it is sent when it is due.
    pub(super) fn progress(&self, progress: Progress) {
        self.progress.send_if_modified(|known| {
            let new = progress.total > 0 && known.as_ref() != Some(&progress);
            if new {
                *known = Some(progress);
            }
            new
        });
    }

    /// Sends the report: in a few quick tries, and for longer where the termination message has no room for all of it.
    pub(super) async fn report(&mut self, report: &Report) {
        // The report is the last word: no progress may come after it.
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
        let Some(sender) = &self.sender else {
            return;
        };
        let body = CallbackBody::Report(Box::new(report.clone()));
        let patient = !report::fits(report);
        let tries = async {
            let mut pauses = PAUSES.iter();
            loop {
                let error = match sender.send(body.clone()).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                };
                match (pauses.next(), &error) {
                    (Some(pause), _) => tokio::time::sleep(*pause).await,
                    (None, Untold::Away(_)) if patient => tokio::time::sleep(LATER).await,
                    (None, _) => return Err(error),
                }
            }
        };
        let within = if patient { WHOLE_WITHIN } else { REPORT_WITHIN };
        match tokio::time::timeout(within, tries).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => println!("cannot send the early report to the controller: {error}"),
            Err(_) => println!("cannot send the early report to the controller: timed out"),
        }
    }

    /// Tells once what the attempt has come through: before its report, with which it ends.
    pub(super) async fn course(&self, course: Course) {
        if let Some(sender) = &self.sender
            && let Err(error) = sender.send(CallbackBody::Course(Box::new(course))).await
        {
            println!("cannot tell the controller what the attempt has come through: {error}");
        }
    }

    /// Tells once what the builder's cache holds.
    pub(super) async fn cache(&self, cache: CacheStatus) {
        if let Some(sender) = &self.sender
            && let Err(error) = sender.send(CallbackBody::Cache(cache)).await
        {
            println!("cannot tell the controller what the builder's cache holds: {error}");
        }
    }
}

/// Sends the progress as it changes, by `send`. What the controller was too busy for is sent again: a step may take an hour, in which
/// nothing changes.
async fn send_progress<F>(
    send: impl Fn(Progress) -> F,
    mut receiver: watch::Receiver<Option<Progress>>,
) where
    F: Future<Output = Result<(), Untold>>,
{
    let (mut complained, mut pause) = (false, EVERY);
    let mut again = false;
    while (again && receiver.has_changed().is_ok()) || receiver.changed().await.is_ok() {
        let progress = receiver.borrow_and_update().clone();
        let Some(progress) = progress else { continue };
        let told = send(progress).await;
        if let Err(error) = &told
            && !complained
        {
            complained = true;
            println!("cannot report progress to the controller: {error}");
        }
        again = matches!(told, Err(Untold::Away(_)));
        tokio::time::sleep(pause).await;
        pause = if again { MOST.min(pause * 2) } else { EVERY };
    }
}

impl Sender {
    fn new(request: &BuildRequest, tls: &Path, attempt: &Path) -> Result<Option<Self>, String> {
        let Some(callback) = &request.callback else {
            return Ok(None);
        };
        Ok(Some(Self {
            client: client(tls, attempt)?,
            url: format!("{}{CALLBACK_PATH}", callback.trim_end_matches('/')),
            namespace: request.namespace.clone(),
            name: request.name.clone(),
            job: request.job.clone(),
        }))
    }

    async fn send(&self, body: CallbackBody) -> Result<(), Untold> {
        let callback = report::Callback {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            job: self.job.clone(),
            body,
        };
        let request = self.client.post(&self.url, ANSWER).json(&callback);
        let answer = request.send().await;
        let answer = answer.map_err(|error| Untold::Away(causes(&error)))?;
        let status = answer.status();
        let said = format!("{} answered {status}", self.url);
        match status {
            _ if status.is_success() => Ok(()),
            _ if status.is_server_error() || status.as_u16() == 429 => Err(Untold::Away(said)),
            _ => Err(Untold::Refused(said)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// After the first step, the controller is away for a while, and nothing changes.
    #[tokio::test(start_paused = true)]
    async fn progress_that_did_not_get_through_is_told_again_though_nothing_changes() {
        let (progress, receiver) = watch::channel(None);
        let told = Mutex::new(vec![]);
        let send = |progress: Progress| {
            let mut told = told.lock().unwrap();
            told.push(progress.done);
            let away = told.len() < 4;
            async move {
                match away {
                    true => Err(Untold::Away("busy".into())),
                    false => Ok(()),
                }
            }
        };
        let step = Progress {
            done: 1,
            total: 2,
            step: "RUN sleep 3600".into(),
        };
        progress.send_replace(Some(step));
        let sends = send_progress(send, receiver);
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, sends).await.is_err());
        assert_eq!(*told.lock().unwrap(), [1; 4]);
    }
}
