//! The end of a build as a CloudEvent: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>.

use kube::ResourceExt;
use serde::Serialize;

use crate::imagebuild::Ended;
use whittle_api::ImageBuild;

/// Bytes of one: what every receiver has to take.
const MOST: usize = 64 << 10;

/// In structured mode: all of it is in the body.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    namespace: &'a str,
    name: &'a str,
    #[serde(flatten)]
    ended: &'a Ended,
}

/// Its JSON. The same end has the same `id`, however often it is sent; the end that corrects another one has its own.
pub fn of(build: &ImageBuild, ended: &Ended, source: &str) -> Vec<u8> {
    let text = write(build, ended, source);
    if text.len() <= MOST {
        return text;
    }
    // More tags than the definition allows: by an older one.
    let mut fewer = ended.clone();
    fewer.tags.clear();
    write(build, &fewer, source)
}

fn write(build: &ImageBuild, ended: &Ended, source: &str) -> Vec<u8> {
    let (namespace, name) = (build.namespace().unwrap_or_default(), build.name_any());
    let uid = build.uid().unwrap_or_default();
    let event = CloudEvent {
        specversion: "1.0",
        id: match ended.corrects {
            true => format!("{uid}-{}-corrected", ended.build),
            false => format!("{uid}-{}", ended.build),
        },
        source,
        kind: match ended.succeeded() {
            true => "dev.whittle.imagebuild.succeeded",
            false => "dev.whittle.imagebuild.failed",
        },
        subject: format!("{namespace}/{name}"),
        time: ended.at.as_ref().map(|at| at.0.to_string()),
        datacontenttype: "application/json",
        data: Data {
            namespace: &namespace,
            name: &name,
            ended,
        },
    };
    serde_json::to_vec(&event).expect("a CloudEvent is always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{self, ended};
    use serde_json::{Value, json};

    fn read(ended: &Ended) -> Value {
        serde_json::from_slice(&of(&fixtures::inline(), ended, "/whittle/a/b")).unwrap()
    }

    #[test]
    fn an_end_has_all_attributes_and_its_data() {
        let expected = json!({
            "specversion": "1.0", "id": "11111111-1111-1111-1111-111111111111-3", "source": "/whittle/a/b",
            "type": "dev.whittle.imagebuild.succeeded", "subject": "team/hello", "time": "1970-01-12T13:46:40Z",
            "datacontenttype": "application/json",
            "data": {"namespace": "team", "name": "hello", "reason": "Succeeded", "message": "m", "build": 3, "generation": 2,
                "image": "registry.example.com/team/hello@sha256:aa", "digest": "sha256:aa", "tags": ["latest"],
                "revision": "main@sha1:bb", "durationSeconds": 12, "queuedSeconds": 0,
                "trigger": {"reason": "Commit", "detail": "main@sha1:bb", "since": "1970-01-12T13:30:00Z"}},
        });
        assert_eq!(read(&ended()), expected);
    }

    #[test]
    fn an_end_that_corrects_another_one_is_no_duplicate_of_it() {
        let failed = Ended {
            reason: "StepFailed",
            corrects: true,
            ..ended()
        };
        let event = read(&failed);
        assert_ne!(event["id"], read(&ended())["id"]);
        assert_eq!(event["type"], "dev.whittle.imagebuild.failed");
        assert_eq!(event["data"]["corrects"], true);
    }

    #[test]
    fn one_that_is_too_large_goes_without_its_tags() {
        let many = Ended {
            tags: vec!["t".repeat(128); 1000],
            ..ended()
        };
        let text = of(&fixtures::inline(), &many, "/s");
        assert!(text.len() < MOST);
        assert_eq!(read(&many)["data"]["tags"], json!([]));
    }
}
