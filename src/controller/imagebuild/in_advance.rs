//! A Job that is made in advance: its Pod waits for the request of an attempt that has not begun (`Builder.spec.standby`).
//!
//! It is the Job of an ordinary attempt in all but the request, which is not in its ConfigMap: it is handed over by the callback once
//! the status names this Job.

use kube::ResourceExt;

use super::job::{Attempt, AttemptId, at, attempt, metadata, pod, request};
use super::kueue;
use crate::names;
use crate::settings::Settings;
use whittle_api::quantity;
use whittle_api::{Builder, ImageBuild};
use whittle_build::request::{Tagging, paths};
use whittle_build::standby::Standby;
use whittle_image::digest_of;

/// The request of an attempt whose Job was made in advance, as JSON.
///
/// # Errors
/// Where it cannot be written as JSON; it always can.
pub fn handed(
    build: &ImageBuild,
    builder: &Builder,
    id: &AttemptId,
    settings: &Settings,
) -> serde_json::Result<String> {
    serde_json::to_string(&request(&at(build, id), builder, id, settings))
}

/// After its time to wait and that of a build, a Job that was made in advance ends, whoever looks after it.
const MORE: i64 = 600;

/// The objects of an attempt at the build of this number that has not begun: its runner waits so many seconds for its request.
/// None where it could not ask for one.
///
/// # Errors
/// As for [`attempt`].
pub fn in_advance(
    build: &ImageBuild,
    builder: &Builder,
    (number, seconds): (i64, i64),
    settings: &Settings,
) -> serde_json::Result<Option<Attempt>> {
    let Some(callback) = &settings.callback else {
        return Ok(None);
    };
    let template = template(build, builder, settings)?;
    let (name, uid) = (build.name_any(), build.uid().unwrap_or_default());
    let timeout = quantity::duration(&build.spec.timeout).as_secs();
    let id = AttemptId {
        build: number,
        job: names::standby(&name, &uid, number, &template),
        // The attempt's own time begins when it does: the controller ends it then.
        seconds_left: seconds + timeout + MORE,
        ..any()
    };
    let standby = Standby {
        namespace: build.namespace().unwrap_or_default(),
        name,
        uid,
        job: id.job.clone(),
        callback: callback.url.clone(),
        seconds: u64::try_from(seconds).unwrap_or(0),
    };
    let mut attempt = attempt(build, builder, &id, settings)?;
    let text = serde_json::to_string(&standby)?;
    attempt.config_map.data = Some([(paths::STANDBY_KEY.to_owned(), text)].into());
    let label = || (names::STANDBY.to_owned(), "true".to_owned());
    attempt.job.labels_mut().extend([label()]);
    let of_job = (names::TEMPLATE.to_owned(), template);
    attempt.job.annotations_mut().extend([of_job]);
    let pod = attempt.job.spec.as_mut().map(|spec| &mut spec.template);
    if let Some(metadata) = pod.and_then(|pod| pod.metadata.as_mut()) {
        metadata.labels.get_or_insert_default().extend([label()]);
    }
    Ok(Some(attempt))
}

/// Digest of all that the Pod of an attempt is made from but for its name, its number and its request: where it is the same, the
/// attempt may be carried out by a Pod that was made for another one.
///
/// # Errors
/// As for [`attempt`].
pub fn template(
    build: &ImageBuild,
    builder: &Builder,
    settings: &Settings,
) -> serde_json::Result<String> {
    let id = any();
    let metadata = metadata(build, &id);
    // The kubelet takes a while until it has replaced certificates in a Pod that runs.
    let status = builder.status.as_ref();
    let certificates = status.and_then(|status| status.certificates.as_ref());
    let all = serde_json::to_vec(&(
        pod(build, builder, &id, settings),
        settings.runner.pod_labels.with(metadata.labels),
        settings.runner.pod_annotations.with(metadata.annotations),
        kueue::labels(build, &id.tagging),
        certificates.map(|certificates| &certificates.digest),
        settings.callback.as_ref().map(|callback| &callback.url),
        &build.spec.timeout,
    ))?;
    let digest = digest_of(&all);
    Ok(digest["sha256:".len()..].to_owned())
}

/// An attempt that builds, of no number.
fn any() -> AttemptId {
    AttemptId {
        build: 0,
        job: String::new(),
        seconds_left: 0,
        tagging: Tagging::Now,
        flux: None,
        no_cache: false,
        // Of which Pod the runner is a client stands in the request.
        replica: None,
        natives: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::settings::CallbackSettings;
    use serde_json::Value;
    use whittle_api::LocalRef;

    fn made(build: &ImageBuild, builder: &Builder) -> Attempt {
        let all = (4, 600);
        in_advance(build, builder, all, &fixtures::settings())
            .unwrap()
            .unwrap()
    }

    #[test]
    fn it_is_an_attempt_in_all_but_its_request_and_its_labels() {
        let (build, builder) = (fixtures::git_with_secrets(), fixtures::builder());
        let made = made(&build, &builder);
        let job = made.job.name_any();
        assert!(names::is_attempt(&job), "{job}");
        let id = AttemptId {
            build: 4,
            job: job.clone(),
            seconds_left: 600 + 1800 + MORE,
            ..any()
        };
        let ordinary = attempt(&build, &builder, &id, &fixtures::settings()).unwrap();
        assert_eq!(made.secret, ordinary.secret);
        let mut job_made = made.job.clone();
        assert_eq!(
            job_made.labels_mut().remove(names::STANDBY).unwrap(),
            "true"
        );
        let template = job_made.annotations_mut().remove(names::TEMPLATE);
        let template_now = template_of(&build, &builder);
        assert_eq!(template, Some(template_now));
        let of_pod = job_made.spec.as_mut().unwrap().template.metadata.as_mut();
        let labels = of_pod.unwrap().labels.as_mut().unwrap();
        assert_eq!(labels.remove(names::STANDBY).unwrap(), "true");
        assert_eq!(job_made, ordinary.job);
        let data = made.config_map.data.unwrap();
        assert_eq!(data.len(), 1);
        let standby: Standby = serde_json::from_str(&data[paths::STANDBY_KEY]).unwrap();
        assert_eq!((standby.job.as_str(), standby.seconds), (&*job, 600));
        // What it will be handed is for it.
        let text = handed(&build, &builder, &id, &fixtures::settings()).unwrap();
        let text: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text["job"], job);
    }

    fn template_of(build: &ImageBuild, builder: &Builder) -> String {
        template(build, builder, &fixtures::settings()).unwrap()
    }

    #[test]
    fn what_its_pod_is_made_from_makes_it_another_and_what_stands_in_the_request_does_not() {
        let (build, builder) = (fixtures::git_with_secrets(), fixtures::builder());
        let known = template_of(&build, &builder);
        let mut same = build.clone();
        same.spec.dockerfile = "other".into();
        same.spec.source.git.as_mut().unwrap().url += "x";
        same.metadata.generation = Some(9);
        assert_eq!(template_of(&same, &builder), known);
        let changes: [fn(&mut ImageBuild, &mut Builder); 6] = [
            |build, _| build.spec.output.secret_ref.as_mut().unwrap().name += "x",
            |build, _| build.spec.secrets[0].secret_ref.name += "x",
            |build, _| build.spec.secrets[0].secret_ref.key += "x",
            |build, _| {
                let git = build.spec.source.git.as_mut().unwrap();
                git.secret_ref = Some(LocalRef { name: "x".into() });
            },
            |build, _| build.spec.timeout = "2h".into(),
            |_, builder| {
                let mut certificates = fixtures::certificates();
                certificates.digest += "x";
                let status = builder.status.get_or_insert_default();
                status.certificates = Some(certificates);
            },
        ];
        for (at, change) in changes.iter().enumerate() {
            let (mut build, mut builder) = (build.clone(), builder.clone());
            change(&mut build, &mut builder);
            assert_ne!(template_of(&build, &builder), known, "{at}");
        }
        let mut settings = fixtures::settings();
        settings.runner.image += "x";
        assert_ne!(template(&build, &builder, &settings).unwrap(), known);
    }

    #[test]
    fn each_build_has_one_of_another_name() {
        let uid = "11111111-1111-1111-1111-111111111111";
        let name = names::standby("hello", uid, 4, "t");
        assert_eq!(name, names::standby("hello", uid, 4, "t"));
        for other in [
            names::standby("hello", uid, 5, "t"),
            names::standby("hello", uid, 4, "u"),
            names::standby("hello", "u", 4, "t"),
            names::attempt("hello", uid, 0, 4, 0),
        ] {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn without_a_callback_there_is_none() {
        let settings = Settings {
            callback: None::<CallbackSettings>,
            ..fixtures::settings()
        };
        let (build, builder) = (fixtures::inline(), fixtures::builder());
        assert_eq!(
            in_advance(&build, &builder, (1, 1), &settings).unwrap(),
            None
        );
    }
}
