//! What controller and watcher say to each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use whittle_api::{GitRef, RegistryConfig};

/// Where things are in the watcher's Pod.
pub mod paths {
    /// What all of them are below.
    pub const ALL: &str = "/whittle";
    /// Directory of the ConfigMap with the list.
    pub const LIST: &str = "/whittle/watch";
    /// Key of the ConfigMap, and name of the file.
    pub const LIST_KEY: &str = "list.json";
    /// Directory with one directory for each Secret, named as it, with its keys as files; that of a Secret that does
    /// not exist is empty. Where it is missing, this Pod does not mount it, and the next one does.
    pub const SECRETS: &str = "/whittle/secrets";
    /// Directory with `tls.crt`, `tls.key`, and `ca.crt`, which signs the controller's certificate.
    pub const TLS: &str = "/whittle/tls";
    /// File with what the watcher is known by at the controller.
    pub const TOKEN: &str = "/whittle/attempt/token";
    /// Directory with one directory for each Builder, named as it, with one for each registry that has a `caRef`, named by
    /// the host (`:` as `_`), with one file `ca.crt`.
    pub const REGISTRY_CA: &str = "/whittle/registry-ca";
}

/// Where the watcher tells what it has seen: POST of [`Told`]. The answer is 204 once the controller has written what
/// follows from it, 401 where it does not know the credential, and 503 where it is to be told later.
pub const TELL_PATH: &str = "/v1/watch/seen";
/// Where the watcher asks what is to be looked at at once, and for its list where that is another one by now: POST of [`Asked`],
/// or without a body by watchers of earlier versions. The answer, [`Wanted`], is held for at most [`HELD`].
pub const WAIT_PATH: &str = "/v1/watch/wait";
/// How long the controller holds the answer to [`WAIT_PATH`] at most.
pub const HELD: std::time::Duration = std::time::Duration::from_secs(25);
/// The most that is told at once.
pub const TOLD: usize = 200;
/// The longest id, in characters.
pub const ID: usize = 64;
/// The longest message of a failure, in bytes.
pub const MESSAGE: usize = 512;

/// What is watched in a namespace. Fields that a watcher does not know are from a newer controller.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct List {
    /// The controller: `https://host:port`.
    pub callback: String,
    /// What is watched.
    pub sources: Vec<Watched>,
    /// How registries are reached, by Builder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub builders: BTreeMap<String, Vec<RegistryConfig>>,
}

/// One source.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Watched {
    /// What the controller knows it by; at most [`ID`] characters.
    pub id: String,
    /// How long between two looks; 0: only when wanted.
    pub interval_seconds: u64,
    /// What is looked at.
    pub what: What,
    /// The directory of a git repository that counts: its tree is told beside the revision, where the server lets it be
    /// seen without fetching files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}

/// What is looked at.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum What {
    /// A ref of a git repository.
    Git {
        /// As in `git.url`.
        url: String,
        /// As in `git.ref`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<GitRef>,
        /// Name of the Secret of `git.secretRef`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    },
    /// A tag in a registry.
    Image {
        /// `host/path:tag`.
        image: String,
        /// The Builder whose settings for registries hold.
        builder: String,
        /// Name of the Secret with credentials.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    },
}

/// What has been seen.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// At most [`TOLD`].
    pub seen: Vec<Seen>,
}

/// One source, as it was seen.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// That of the source.
    pub id: String,
    /// True where it was looked at because the controller asked.
    pub wanted: bool,
    /// How long ago that look ended: whether something came after it is told by this.
    #[serde(default)]
    pub age_seconds: u64,
    /// How many milliseconds ago it began: whether it came after something is told by this, as the answer may be from any
    /// moment in between. Watchers of earlier versions do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_millis: Option<u64>,
    /// What came of it.
    pub outcome: Outcome,
    /// Id of the tree of the source's directory there; none where it has none, or that cannot be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
}

/// What came of a look.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// What is there.
    Found {
        /// As in `status.revision`: `main@sha1:…`; of an image its digest, `sha256:…`.
        revision: String,
    },
    /// It cannot be seen.
    Failed {
        /// What it comes down to.
        reason: Reason,
        /// The thing, the cause and the next step; at most [`MESSAGE`] bytes.
        message: String,
    },
}

/// Why a source cannot be seen.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// The repository, the branch or the tag does not exist, or is hidden.
    NotFound,
    /// Credentials are missing, or are not accepted; or the host key of an ssh server cannot be verified.
    Denied,
    /// The server does not answer, or not well.
    Unreachable,
    /// It is asked too often.
    RateLimited,
    /// What the spec names, or what the server answers, is invalid.
    Invalid,
    /// No tag is in the range of versions.
    NoMatch,
}

/// What a watcher has when it asks.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The digest of the text of its list, where it takes lists in answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
}

/// What is to be looked at at once.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    /// Ids of sources.
    pub look: Vec<String>,
    /// True where lists come in answers. Controllers of earlier versions know the mounted one alone.
    #[serde(default)]
    pub lists: bool,
    /// The text of the list, as the ConfigMap has it, where its digest is not the one that was asked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_a_newer_controller_is_read() {
        let text = r#"{"callback":"https://c:8443","new":1,"sources":[
            {"id":"a","intervalSeconds":60,"what":{"git":{"url":"https://h/x","reference":{"branch":"main"},"new":1}},"new":1},
            {"id":"b","intervalSeconds":0,"what":{"image":{"image":"h/x:1","builder":"default","secret":"pull"}}}]}"#;
        let list: List = serde_json::from_str(text).unwrap();
        assert_eq!(list.sources.len(), 2);
        assert_eq!(
            list.sources[1].what,
            What::Image {
                image: "h/x:1".into(),
                builder: "default".into(),
                secret: Some("pull".into())
            }
        );
    }

    #[test]
    fn what_is_asked_and_answered_is_understood_by_earlier_and_later_versions() {
        let asked = Asked {
            list: Some("sha256:00".into()),
        };
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(text, r#"{"list":"sha256:00"}"#);
        assert_eq!(serde_json::from_str::<Asked>("{}").unwrap().list, None);
        let earlier: Wanted = serde_json::from_str(r#"{"look":["a"]}"#).unwrap();
        assert_eq!((earlier.lists, earlier.list), (false, None));
        let later = r#"{"look":[],"lists":true,"list":"{}","new":1}"#;
        let later: Wanted = serde_json::from_str(later).unwrap();
        assert_eq!((later.lists, later.list.as_deref()), (true, Some("{}")));
    }

    #[test]
    fn what_is_told_has_this_form() {
        let told = Told {
            seen: vec![
                Seen {
                    id: "a".into(),
                    wanted: true,
                    age_seconds: 0,
                    begun_millis: None,
                    outcome: Outcome::Found {
                        revision: "main@sha1:00".into(),
                    },
                    tree: None,
                },
                Seen {
                    id: "b".into(),
                    wanted: false,
                    age_seconds: 7,
                    begun_millis: Some(7_250),
                    outcome: Outcome::Failed {
                        reason: Reason::NoMatch,
                        message: "x".into(),
                    },
                    tree: None,
                },
            ],
        };
        let text = r#"{"seen":[{"id":"a","wanted":true,"ageSeconds":0,"outcome":{"found":{"revision":"main@sha1:00"}}},{"id":"b","wanted":false,"ageSeconds":7,"begunMillis":7250,"outcome":{"failed":{"reason":"noMatch","message":"x"}}}]}"#;
        assert_eq!(serde_json::to_string(&told).unwrap(), text);
        assert_eq!(serde_json::from_str::<Told>(text).unwrap(), told);
    }
}
