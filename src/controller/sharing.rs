//! Builders that ImageBuilds have to themselves: `sharing` of the Builder that they name says for what.
//!
//! One that an ImageBuild, or an attempt at it, has to itself is a Builder like any other, made after the one that is named,
//! and goes with the ImageBuild. The one that is named has no daemon then: it says how many builds may run, and keeps the
//! keys with which tags are moved.

use kube::{Resource, ResourceExt};

use crate::names;
use whittle_api::{Builder, BuilderSpec, ImageBuild, PRUNE, Sharing};

/// Label of a Builder that an ImageBuild has to itself: the name of the one that it is made after.
pub const MADE_AFTER: &str = "whittle.dev/made-after";
/// Annotation of one that is thrown away: the attempt that it is for.
pub const ATTEMPT: &str = "whittle.dev/attempt";

/// What a build runs on where it has a Builder to itself.
#[derive(Clone, Debug)]
pub struct Own {
    /// As it should be.
    pub wanted: Builder,
    /// As it is.
    pub stands: Option<Builder>,
}

/// True for a Builder that an ImageBuild has to itself.
pub fn is_own(builder: &Builder) -> bool {
    builder.labels().contains_key(MADE_AFTER) && owner(builder).is_some()
}

/// True where a Builder has a daemon, and is not just what others are made after.
pub fn has_daemon(builder: &Builder) -> bool {
    builder.spec.sharing == Sharing::Namespace || is_own(builder)
}

/// True for a Builder whose cache goes with its Pod.
pub fn is_thrown_away(builder: &Builder) -> bool {
    builder.spec.sharing == Sharing::Build && is_own(builder)
}

/// Name and UID of the ImageBuild that has this Builder to itself.
pub fn owner(builder: &Builder) -> Option<(&str, &str)> {
    let owners = builder.owner_references().iter();
    let mut owners = owners.filter(|it| it.kind == "ImageBuild" && it.controller == Some(true));
    owners
        .next()
        .map(|owner| (owner.name.as_str(), owner.uid.as_str()))
}

/// The Builder that an attempt has to itself, as `named` says; none where it shares that one.
pub fn own(build: &ImageBuild, named: &Builder, attempt: &str) -> Option<Builder> {
    let uid = build.uid().unwrap_or_default();
    let whose = match named.spec.sharing {
        Sharing::Namespace => return None,
        Sharing::ImageBuild => &uid,
        Sharing::Build => attempt,
    };
    let of = named.name_any();
    let mut spec = named.spec.clone();
    if spec.sharing == Sharing::Build {
        // It is deleted as soon as it has no more use.
        spec.idle_timeout = BuilderSpec::default().idle_timeout;
    }
    let mut builder = Builder::new(&names::own_builder(&of, whose), spec);
    builder.metadata.namespace = build.namespace();
    builder.metadata.owner_references = build.controller_owner_ref(&()).map(|owner| vec![owner]);
    let labels = [
        ("app.kubernetes.io/managed-by", "whittle"),
        (MADE_AFTER, &of),
        (names::IMAGE_BUILD_UID, &uid),
    ];
    builder.metadata.labels = Some(labels.map(|(key, value)| (key.into(), value.into())).into());
    let annotation = match named.spec.sharing {
        Sharing::Build => Some((ATTEMPT.to_owned(), attempt.to_owned())),
        // Who has it emptied has all of them emptied.
        _ => named
            .annotations()
            .get(PRUNE)
            .map(|value| (PRUNE.to_owned(), value.clone())),
    };
    builder.annotations_mut().extend(annotation);
    Some(builder)
}

/// True where the Builder that stands is not as it should be, and can be.
pub fn differs(own: &Own) -> bool {
    own.stands.as_ref().is_none_or(|stands| {
        let asked = own.wanted.annotations().get(PRUNE);
        let differs = stands.spec != own.wanted.spec
            || asked.is_some() && asked != stands.annotations().get(PRUNE);
        differs && stands.metadata.deletion_timestamp.is_none()
    })
}

/// True where a Builder that an ImageBuild has to itself is still of use, given both as they stand: else nothing ever asks
/// for it again.
pub fn is_of_use(builder: &Builder, build: Option<&ImageBuild>, named: Option<&Builder>) -> bool {
    let (Some(build), Some(named)) = (build, named) else {
        return false;
    };
    if owner(builder).map(|(_, uid)| uid) != build.metadata.uid.as_deref() {
        return false;
    }
    if build.spec.builder_ref.name != named.name_any() || named.spec.sharing != builder.spec.sharing
    {
        return false;
    }
    match builder.spec.sharing {
        Sharing::Namespace => false,
        Sharing::ImageBuild => true,
        Sharing::Build => {
            let current = build
                .status
                .as_ref()
                .and_then(|status| status.current.as_ref());
            current.map(|current| &current.job) == builder.annotations().get(ATTEMPT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use whittle_api::{Current, ImageBuildStatus, Stage};

    fn named(sharing: Sharing) -> Builder {
        let mut named = fixtures::builder();
        named.spec.sharing = sharing;
        named
    }

    fn building(job: &str) -> ImageBuild {
        let mut build = fixtures::inline();
        build.status = Some(ImageBuildStatus {
            current: Some(Current {
                replica: None,
                last_replica: None,
                attempt: 1,
                job: job.into(),
                generation: 1,
                message: None,
                retry_at: None,
                last_failure: None,
                since: None,
                started: true,
                waiting: None,
                progress: None,
                waiting_since: None,
                standby: None,
                stage: Stage::Building,
            }),
            ..ImageBuildStatus::default()
        });
        build
    }

    #[test]
    fn builds_share_a_builder_unless_it_says_otherwise() {
        let build = fixtures::inline();
        assert!(own(&build, &named(Sharing::Namespace), "a-1").is_none());
        assert!(has_daemon(&named(Sharing::Namespace)));
        for sharing in [Sharing::ImageBuild, Sharing::Build] {
            let named = named(sharing);
            let own = own(&build, &named, "a-1").unwrap();
            assert!(!has_daemon(&named) && has_daemon(&own) && is_own(&own));
            assert_eq!(is_thrown_away(&own), sharing == Sharing::Build);
        }
    }

    #[test]
    fn an_image_build_keeps_its_builder_and_each_attempt_has_another() {
        let build = fixtures::inline();
        let name = |sharing, attempt| own(&build, &named(sharing), attempt).unwrap().name_any();
        assert_eq!(
            name(Sharing::ImageBuild, "a-1"),
            name(Sharing::ImageBuild, "a-2")
        );
        assert_ne!(name(Sharing::Build, "a-1"), name(Sharing::Build, "a-2"));
        let mut long = named(Sharing::ImageBuild);
        long.metadata.name = Some("b".repeat(36));
        let own = own(&build, &long, "a-1").unwrap().name_any();
        assert!(names::check_builder(&own).is_ok(), "{own}");
    }

    #[test]
    fn one_that_is_thrown_away_is_of_use_for_its_attempt_alone() {
        let named = named(Sharing::Build);
        let own = own(&building("a-1"), &named, "a-1").unwrap();
        assert!(is_of_use(&own, Some(&building("a-1")), Some(&named)));
        for build in [Some(building("a-2")), Some(fixtures::inline()), None] {
            assert!(!is_of_use(&own, build.as_ref(), Some(&named)));
        }
    }

    #[test]
    fn one_of_an_image_build_is_of_use_as_long_as_its_spec_asks_for_it() {
        let build = fixtures::inline();
        let own = own(&build, &named(Sharing::ImageBuild), "a-1").unwrap();
        assert!(is_of_use(
            &own,
            Some(&build),
            Some(&named(Sharing::ImageBuild))
        ));
        assert!(!is_of_use(
            &own,
            Some(&build),
            Some(&named(Sharing::Namespace))
        ));
        let mut moved = build.clone();
        moved.spec.builder_ref.name = "other".into();
        assert!(!is_of_use(
            &own,
            Some(&moved),
            Some(&named(Sharing::ImageBuild))
        ));
        let mut again = build;
        again.metadata.uid = Some("another".into());
        assert!(!is_of_use(
            &own,
            Some(&again),
            Some(&named(Sharing::ImageBuild))
        ));
    }

    #[test]
    fn one_follows_the_builder_that_it_is_made_after() {
        let build = fixtures::inline();
        let mut named = named(Sharing::ImageBuild);
        let stands = own(&build, &named, "a-1");
        let own_of = |named: &Builder, stands: &Option<Builder>| Own {
            wanted: own(&build, named, "a-1").unwrap(),
            stands: stands.clone(),
        };
        assert!(differs(&own_of(&named, &None)));
        assert!(!differs(&own_of(&named, &stands)));
        named.annotations_mut().insert(PRUNE.into(), "now".into());
        assert!(differs(&own_of(&named, &stands)));
        let stands = Some(own_of(&named, &stands).wanted);
        assert!(!differs(&own_of(&named, &stands)));
        named.spec.cache.size = "7Gi".into();
        assert!(differs(&own_of(&named, &stands)));
    }
}
