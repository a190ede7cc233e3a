//! The lists of watchers, as they are sent to them: sooner than the kubelet brings the ConfigMap. Pure: it is told the time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use whittle_image::digest_of;

/// A list is sent once within this time, whatever its watcher says that it has.
const PACE: Duration = Duration::from_secs(1);

/// The text of a list as a JSON string, with its quotes.
pub type Text = Arc<[u8]>;

/// The list of one watcher.
#[derive(Debug)]
pub struct Listed {
    /// The UID of the Builder whose watcher may be told: one before it may have had another tenant's sources.
    uid: String,
    digest: String,
    text: Text,
    /// The one that was sent last, and when. Who reads an answer slowly keeps none but this.
    sent: Option<(Text, Instant)>,
}

/// Whether a watcher is to be sent its list.
#[derive(Clone, Debug)]
pub enum Send {
    /// It has it, or there is none for it.
    No,
    /// This one. It is gone where another one is sent meanwhile.
    Now(Weak<[u8]>),
    /// From then on.
    At(Instant),
}

impl Listed {
    /// The list of the watcher of the Builder with this UID. `before`: the one that it takes the place of.
    pub fn new(uid: &str, list: &str, before: Option<Self>) -> Self {
        let digest = digest_of(list.as_bytes());
        let before = before.filter(|before| before.uid == uid);
        let (same, sent) = match before {
            Some(before) => {
                let same = (before.digest == digest).then_some(before.text);
                (same, before.sent)
            }
            None => (None, None),
        };
        let text = || serde_json::to_vec(list).expect("text is always JSON");
        Self {
            uid: uid.to_owned(),
            text: same.unwrap_or_else(|| text().into()),
            digest,
            sent,
        }
    }

    /// Whether it is sent to a watcher that has the one with this digest. `uid`: of the Builder that its credential is for.
    pub fn send(&mut self, uid: &str, has: &str, now: Instant) -> Send {
        if self.uid != uid || self.digest == has {
            return Send::No;
        }
        if let Some((_, at)) = &self.sent
            && now < *at + PACE
        {
            return Send::At(*at + PACE);
        }
        self.sent = Some((self.text.clone(), now));
        Send::Now(Arc::downgrade(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(send: &Send) -> Option<String> {
        let Send::Now(text) = send else { return None };
        serde_json::from_slice(&text.upgrade()?).unwrap()
    }

    #[test]
    fn a_list_is_sent_to_whom_it_is_for_and_has_another_one() {
        let now = Instant::now();
        let mut listed = Listed::new("u", "one \"list\"", None);
        let digest = digest_of(b"one \"list\"");
        assert!(matches!(listed.send("u", &digest, now), Send::No));
        // The watcher of a Builder of the same name that was there before.
        assert!(matches!(listed.send("before", "", now), Send::No));
        assert_eq!(sent(&listed.send("u", "", now)).unwrap(), "one \"list\"");
        let mut listed = Listed::new("u", "another", Some(listed));
        assert_eq!(
            sent(&listed.send("u", &digest, now + PACE)).unwrap(),
            "another"
        );
    }

    #[test]
    fn one_that_always_says_that_it_has_another_is_sent_it_once_a_second_also_where_it_changes() {
        let now = Instant::now();
        let mut listed = Listed::new("u", "one", None);
        assert!(sent(&listed.send("u", "x", now)).is_some());
        let mut listed = Listed::new("u", "two", Some(listed));
        for later in [0, 500, 999] {
            let send = listed.send("u", "x", now + Duration::from_millis(later));
            assert!(matches!(send, Send::At(at) if at == now + PACE), "{send:?}");
        }
        assert_eq!(sent(&listed.send("u", "x", now + PACE)).unwrap(), "two");
    }

    #[test]
    fn what_is_being_sent_is_whole_until_the_next_is_and_then_is_kept_no_more() {
        let now = Instant::now();
        let mut listed = Listed::new("u", "one", None);
        let first = listed.send("u", "", now);
        let mut listed = Listed::new("u", "two", Some(listed));
        assert_eq!(sent(&first).unwrap(), "one");
        let second = listed.send("u", "", now + PACE);
        assert_eq!((sent(&first), sent(&second)), (None, Some("two".into())));
        // Another Builder of this name: nothing of the one before is left.
        let _listed = Listed::new("other", "three", Some(listed));
        assert_eq!(sent(&second), None);
    }
}
