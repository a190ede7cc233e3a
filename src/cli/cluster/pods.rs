//! The runners' Pods of a build, and their logs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use whittle_api::ImageBuild;
use whittle_controller::imagebuild::job::CONTAINER;
use whittle_controller::names;

use super::Cluster;
use super::answer::{self, Failed};
use super::logs::Sink;

/// Between two looks at whether a Pod's log can be read.
const LOOK: Duration = Duration::from_millis(500);
/// So many looks at a Job that is not there are enough.
const MISSING: u32 = 20;
/// Bytes of one line of a log that are shown.
const LINE: usize = 64 << 10;

/// The runners' Pods of one build, the oldest first.
pub(super) async fn of_build(
    cluster: &Cluster,
    build: &ImageBuild,
    number: i64,
) -> Result<Vec<Pod>, Failed> {
    let uid = build.uid().unwrap_or_default();
    let labels = format!(
        "{}={uid},{}={}",
        names::IMAGE_BUILD_UID,
        names::COMPONENT,
        names::RUNNER
    );
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let listed = api.list(&ListParams::default().labels(&labels)).await;
    let mut pods = listed.map_err(|error| answer::api(&error, "Pods"))?.items;
    let number = number.to_string();
    pods.retain(|pod| pod.annotations().get(names::BUILD) == Some(&number));
    pods.sort_by_key(|pod| (pod.creation_timestamp(), pod.name_any()));
    Ok(pods)
}

/// True once the container has started, or never will.
fn has_begun(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|it| it.container_statuses.as_ref());
    let mut states = containers
        .into_iter()
        .flatten()
        .filter_map(|it| it.state.as_ref());
    states.any(|it| it.running.is_some() || it.terminated.is_some())
}

/// Prints the logs of a build that has ended.
pub(super) async fn print_all(
    cluster: &Cluster,
    build: &ImageBuild,
    number: i64,
    sink: &Sink,
) -> Result<usize, Failed> {
    let pods = of_build(cluster, build, number).await?;
    for pod in &pods {
        if pods.len() > 1 {
            sink.note(&format!("Pod {}", pod.name_any()));
        }
        print(cluster, &pod.name_any(), false, sink).await?;
    }
    Ok(pods.len())
}

/// Prints a Pod's log to its end. A log that breaks off while the Pod runs is read on from where it was.
pub(super) async fn print(
    cluster: &Cluster,
    pod: &str,
    follow: bool,
    sink: &Sink,
) -> Result<(), Failed> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let params = LogParams {
        // Others may have put containers beside it.
        container: Some(CONTAINER.into()),
        follow,
        timestamps: true,
        ..LogParams::default()
    };
    let mut shown: Option<Timestamp> = None;
    loop {
        // What was shown before the log broke off comes again.
        let again = shown;
        let broken = match api.log_stream(pod, &params).await {
            Ok(stream) => {
                let mut stream = Box::pin(stream);
                let mut skips = again.is_some();
                loop {
                    match line(&mut stream).await {
                        Ok(Some(line)) => {
                            let (time, text) = line.split_once(' ').unwrap_or((&line, ""));
                            let time: Option<Timestamp> = time.parse().ok();
                            skips &= time.is_some() && time <= again;
                            if !skips {
                                sink.line(time, text);
                                shown = time.or(shown);
                            }
                        }
                        Ok(None) => break false,
                        Err(_) => break true,
                    }
                }
            }
            Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(()),
            Err(error) if !follow || is_final(&error) => {
                return Err(answer::api(&error, &format!("log of Pod {pod}")));
            }
            // The API server, or the kubelet, may come back.
            Err(_) => true,
        };
        if !follow {
            return Ok(());
        }
        let runs = match api.get_opt(pod).await {
            Ok(found) => found.is_some_and(|pod| {
                pod.status.and_then(|it| it.phase).as_deref() == Some("Running")
            }),
            Err(_) => true,
        };
        if !(runs || broken) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// True for what asking again does not change.
fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(answer) if matches!(answer.code, 400 | 401 | 403))
}

/// The next line, without its end and without what lies beyond [`LINE`].
async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<String>> {
    let mut bytes = vec![];
    loop {
        let chunk = stream.fill_buf().await?;
        if chunk.is_empty() {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Ok((!bytes.is_empty()).then_some(text));
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        bytes.extend_from_slice(&part[..part.len().min(LINE.saturating_sub(bytes.len()))]);
        let read = end.map_or(chunk.len(), |end| end + 1);
        stream.consume_unpin(read);
        if end.is_some() {
            return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}

/// The logs of a build's attempts, one after the other, while they come to be.
pub(super) struct Streams {
    cluster: Cluster,
    sink: Sink,
    jobs: BTreeSet<String>,
    tasks: JoinSet<()>,
    /// One log is printed at a time, in the order in which they began.
    turn: Arc<Mutex<()>>,
}

impl Streams {
    pub(super) fn new(cluster: Cluster, sink: Sink) -> Self {
        Self {
            cluster,
            sink,
            jobs: BTreeSet::new(),
            tasks: JoinSet::new(),
            turn: Arc::default(),
        }
    }

    /// True where no attempt was seen.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Begins with the log of the attempt that runs, where that is a new one.
    pub(super) fn see(&mut self, build: &ImageBuild) {
        let status = build.status.as_ref();
        // The Job of one that waits may not be there yet.
        let status = status.filter(|it| it.waiting().is_none());
        let current = status.and_then(|it| it.current.as_ref());
        let Some(current) = current.filter(|it| it.started) else {
            return;
        };
        if !self.jobs.insert(current.job.clone()) {
            return;
        }
        if self.jobs.len() > 1 {
            self.sink.note(&format!("attempt {}", current.attempt));
        }
        let (cluster, sink, turn) = (self.cluster.clone(), self.sink.clone(), self.turn.clone());
        let job = current.job.clone();
        self.tasks.spawn(async move {
            let _turn = turn.lock().await;
            let printed = match pod_of(&cluster, &job).await {
                Ok(Some(pod)) => print(&cluster, &pod, true, &sink).await,
                Ok(None) => Ok(()),
                Err(failed) => Err(failed),
            };
            if let Err(failed) = printed {
                sink.note(&format!("no log: {failed}"));
            }
        });
    }

    /// Waits until all logs are read, for so long; true where they are.
    pub(super) async fn rest(mut self, within: Duration) -> bool {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

/// The name of a Job's Pod, once its container has started; none where the Job is gone.
async fn pod_of(cluster: &Cluster, job: &str) -> Result<Option<String>, Failed> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let jobs: Api<Job> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let params = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let mut missing = 0;
    while missing < MISSING {
        let found = match pods.list(&params).await {
            Ok(found) => found.items,
            Err(error) if is_final(&error) => return Err(answer::api(&error, "Pods")),
            Err(_) => vec![],
        };
        if let Some(pod) = found.iter().find(|pod| has_begun(pod)) {
            return Ok(Some(pod.name_any()));
        }
        match jobs.get_opt(job).await {
            Ok(Some(job)) => {
                let status = job.status.unwrap_or_default();
                if status.completion_time.is_some() || status.failed.unwrap_or(0) > 0 {
                    return Ok(None);
                }
            }
            // It may be about to be made. Whoever may read no Jobs waits no longer for it.
            Ok(None) | Err(_) => missing += 1,
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_without_end_takes_no_more_than_its_bound() {
        let text = [vec![b'x'; 3 * LINE], b"\nshort\nlast".to_vec()].concat();
        let mut read = futures::io::BufReader::new(futures::io::Cursor::new(text));
        assert_eq!(line(&mut read).await.unwrap().unwrap().len(), LINE);
        assert_eq!(line(&mut read).await.unwrap().as_deref(), Some("short"));
        assert_eq!(line(&mut read).await.unwrap().as_deref(), Some("last"));
        assert_eq!(line(&mut read).await.unwrap(), None);
    }
}
