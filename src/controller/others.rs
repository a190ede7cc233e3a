//! What belongs to other installations, as far as this one has come upon it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt;

/// Objects that are remembered, so that each is told of once.
const MOST: usize = 10_000;

/// A kind, and `namespace/name`.
type Key = (&'static str, String);

/// Objects that are left alone, whose they are, and since when that is known.
#[derive(Default)]
pub struct Others(Mutex<BTreeMap<Key, (String, Instant)>>);

impl Others {
    /// Leaves an object to the installation `other`: says so once. Returns for how long that is known.
    pub fn leave<K: ResourceExt>(&self, kind: &'static str, object: &K, other: &str) -> Duration {
        let key = key(kind, object);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((whose, since)) = known.get(&key)
            && whose == other
        {
            return since.elapsed();
        }
        tracing::warn!(
            kind,
            object = key.1,
            other,
            "left alone: its Builder belongs to another installation"
        );
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, (other.to_owned(), Instant::now()));
        Duration::ZERO
    }

    /// It is ours.
    pub fn take<K: ResourceExt>(&self, kind: &'static str, object: &K) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&key(kind, object));
    }

    /// True for an object that was left alone when it was last looked at.
    pub fn has(&self, kind: &'static str, namespace: &str, name: &str) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains_key(&(kind, format!("{namespace}/{name}")))
    }
}

fn key<K: ResourceExt>(kind: &'static str, object: &K) -> Key {
    let namespace = object.namespace().unwrap_or_default();
    (kind, format!("{namespace}/{}", object.name_any()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_builder_is_left_alone_until_it_is_handed_over() {
        let (others, builder) = (Others::default(), fixtures::builder());
        assert!(!others.has("Builder", "team", "default"));
        assert_eq!(others.leave("Builder", &builder, "a/w"), Duration::ZERO);
        assert!(others.leave("Builder", &builder, "a/w") > Duration::ZERO);
        assert!(others.has("Builder", "team", "default"));
        assert!(!others.has("ImageBuild", "team", "default"));
        // To a third one: that is told anew.
        assert_eq!(others.leave("Builder", &builder, "b/w"), Duration::ZERO);
        others.take("Builder", &builder);
        assert!(!others.has("Builder", "team", "default"));
    }
}
