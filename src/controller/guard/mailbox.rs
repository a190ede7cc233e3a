//! What the guard is told of ImageBuilds. It takes its time over a round, and nobody waits for it meanwhile: what has not
//! been taken is kept once for each ImageBuild, as it was last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::runtime::watcher::Event;
use tokio::sync::Notify;

use super::image::{Image, key};
use whittle_api::ImageBuild;

/// What is kept of one ImageBuild that has changed.
pub struct Letter {
    /// `namespace/name`.
    pub key: String,
    /// What it holds; none where it has no image.
    pub image: Option<Box<Image>>,
}

/// From the watch to the guard.
#[derive(Clone, Default)]
pub struct Mailbox(Arc<Inner>);

#[derive(Default)]
struct Inner {
    mail: Mutex<Mail>,
    come: Notify,
}

#[derive(Default)]
struct Mail {
    /// All are listed anew: what comes after this is all that there is.
    begins: bool,
    changed: BTreeMap<String, Changed>,
    /// All have been listed.
    ends: bool,
}

enum Changed {
    Is(Option<Box<Image>>),
    Gone,
}

impl Mailbox {
    /// The watch has told this. The ImageBuild is whole: its reports are looked at here, and dropped.
    pub fn put(&self, event: &Event<ImageBuild>) {
        let mut mail = self.lock();
        match event {
            Event::Init => {
                *mail = Mail {
                    begins: true,
                    ..Mail::default()
                }
            }
            Event::InitApply(build) | Event::Apply(build) => {
                let image = Image::of(build).map(Box::new);
                mail.changed.insert(key(build), Changed::Is(image));
            }
            Event::Delete(build) => drop(mail.changed.insert(key(build), Changed::Gone)),
            Event::InitDone => mail.ends = true,
        }
        drop(mail);
        self.0.come.notify_one();
    }

    /// The next change, for one reader. Whoever stops to wait loses nothing.
    pub async fn next(&self) -> Event<Letter> {
        loop {
            if let Some(event) = self.taken() {
                return event;
            }
            self.0.come.notified().await;
        }
    }

    fn taken(&self) -> Option<Event<Letter>> {
        let mut mail = self.lock();
        if std::mem::take(&mut mail.begins) {
            return Some(Event::Init);
        }
        if let Some((key, changed)) = mail.changed.pop_first() {
            return Some(match changed {
                Changed::Is(image) => Event::Apply(Letter { key, image }),
                Changed::Gone => Event::Delete(Letter { key, image: None }),
            });
        }
        std::mem::take(&mut mail.ends).then_some(Event::InitDone)
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.0.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn build(name: &str, digest: &str) -> ImageBuild {
        let mut build = fixtures::inline();
        build.metadata.name = Some(name.into());
        let image = format!("registry.example.com/team/hello@{digest}");
        let status = serde_json::json!({"image": image, "digest": digest});
        build.status = Some(serde_json::from_value(status).unwrap());
        build
    }

    fn all(mailbox: &Mailbox) -> Vec<String> {
        std::iter::from_fn(|| mailbox.taken())
            .map(|event| match event {
                Event::Init => "begins".to_owned(),
                Event::Apply(seen) | Event::InitApply(seen) => {
                    format!("{} {}", seen.key, seen.image.unwrap().digest)
                }
                Event::Delete(seen) => format!("{} gone", seen.key),
                Event::InitDone => "ends".to_owned(),
            })
            .collect()
    }

    #[test]
    fn of_a_thousand_changes_that_nobody_took_the_last_of_each_is_kept() {
        let mailbox = Mailbox::default();
        for number in 0..1000 {
            let digest = format!("sha256:{number}");
            mailbox.put(&Event::Apply(build("a", &digest)));
        }
        mailbox.put(&Event::Delete(build("b", "sha256:aa")));
        assert_eq!(all(&mailbox), ["team/a sha256:999", "team/b gone"]);
        assert!(all(&mailbox).is_empty());
    }

    #[test]
    fn a_new_list_takes_the_place_of_what_was_not_taken() {
        let mailbox = Mailbox::default();
        mailbox.put(&Event::Apply(build("gone", "sha256:aa")));
        mailbox.put(&Event::Init);
        mailbox.put(&Event::InitApply(build("a", "sha256:bb")));
        assert_eq!(all(&mailbox), ["begins", "team/a sha256:bb"]);
        mailbox.put(&Event::InitApply(build("b", "sha256:cc")));
        mailbox.put(&Event::InitDone);
        assert_eq!(all(&mailbox), ["team/b sha256:cc", "ends"]);
    }
}
