//! Hints on layers that travel by a registry: it never fails a build, and is told where it does not work.

use crate::rawjson::{IMPORTING, State};
use whittle_api::{CacheRegistry, bounded};
use whittle_dockerfile::advice::{Hint, HintKind};

/// Bytes of a message.
const MESSAGE: usize = 600;

/// What went wrong. That nothing is there is no fault: a first build has nothing to import.
pub fn hints(registry: &CacheRegistry, state: &State) -> Vec<Hint> {
    let image = &registry.image;
    let told = state.cache_errors().filter_map(|(step, error)| {
        let imports = step.starts_with(IMPORTING);
        if imports && error.trim_end().ends_with("not found") {
            return None;
        }
        Some(match imports {
            true => format!(
                "layers cannot be imported from {image}, so more steps ran than had to: {error}"
            ),
            false => format!(
                "layers cannot be exported to {image}, so later builds find none there: {error}"
            ),
        })
    });
    told.map(|text| hint(&text)).collect()
}

/// A hint on the registry of the Builder's cache.
pub fn hint(text: &str) -> Hint {
    let message = format!(
        "cache.registry of the Builder: {}; check that the repository exists, and that the Secret of \
         cache.registry.secretRef may push to it. The image is not affected",
        bounded(text.to_owned(), MESSAGE - 200).trim_end_matches('.')
    );
    Hint {
        kind: HintKind::CacheRegistryFailed,
        line: None,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A build in which this step of BuildKit's ended with these words.
    fn after(step: &str, error: &str) -> State {
        let mut state = State::default();
        let at = "2026-11-26T15:08:10Z";
        let line = json!({"vertexes": [{"digest": "sha256:a", "name": step, "started": at, "completed": at,
            "error": error}]});
        state.line(&line.to_string(), &str::to_owned);
        state
    }

    fn registry() -> CacheRegistry {
        CacheRegistry {
            image: "registry.example.com/team/cache".into(),
            secret_ref: None,
        }
    }

    #[test]
    fn what_a_registry_does_not_take_is_told_and_fails_no_step() {
        let denied = "error writing manifest blob: failed commit on ref \"sha256:aa\": unexpected status: 403 Forbidden";
        let state = after("exporting cache to registry", denied);
        assert_eq!(state.failed(), None);
        let [hint] = &hints(&registry(), &state)[..] else {
            panic!("one hint")
        };
        assert!(
            hint.message
                .contains("cannot be exported to registry.example.com/team/cache")
        );
        assert!(hint.message.contains("403 Forbidden") && hint.message.len() <= MESSAGE);
        let state = after(
            "importing cache manifest from registry.example.com/team/cache:a",
            "failed to configure registry cache importer: 401 Unauthorized",
        );
        assert!(
            hints(&registry(), &state)[0]
                .message
                .contains("cannot be imported from")
        );
    }

    #[test]
    fn that_a_first_build_finds_nothing_is_no_fault() {
        let state = after(
            "importing cache manifest from registry.example.com/team/cache:a",
            "failed to configure registry cache importer: registry.example.com/team/cache:a: not found",
        );
        assert!(hints(&registry(), &state).is_empty());
        assert_eq!(state.failed(), None);
    }
}
