use super::*;
use crate::sharing::{self, Own};
use whittle_api::Sharing;

fn shared(sharing: Sharing, build: ImageBuild) -> Observed {
    let mut observed = observed(build);
    observed.builder.as_mut().unwrap().spec.sharing = sharing;
    observed
}

/// What is read of the Builder that an attempt has to itself, which takes builds.
fn own(observed: &Observed, job: &str) -> Own {
    let named = observed.builder.as_ref().unwrap();
    let wanted = sharing::own(&observed.build, named, job).unwrap();
    let mut stands = wanted.clone();
    stands.metadata.generation = Some(1);
    stands.status = ready_builder().status;
    Own {
        wanted,
        stands: Some(stands),
    }
}

#[test]
fn a_new_build_does_not_start_on_the_builder_that_its_own_is_made_after() {
    for sharing in [Sharing::ImageBuild, Sharing::Build] {
        let mut seen = shared(sharing, fixtures::inline());
        let step = next(&seen, now());
        assert!(matches!(step.action, Action::None), "{:?}", step.action);
        let reason = condition(&step.status, RECONCILING);
        assert_eq!(reason, Some(("True", "WaitingForBuilder")));
        let job = step.status.current.as_ref().unwrap().job.clone();
        seen.build.status = Some(step.status);
        seen.own = Some(own(&seen, &job));
        let Action::Start(attempt) = next(&seen, later(1)).action else {
            panic!("it starts");
        };
        let request = format!("{:?}", attempt.config_map);
        let name = seen.own.unwrap().wanted.name_any();
        assert!(request.contains(&name), "{request}");
    }
}

#[test]
fn an_attempt_does_not_start_on_the_builder_of_the_one_before() {
    let mut seen = shared(Sharing::Build, fixtures::inline());
    seen.build.status = Some(next(&seen, now()).status);
    seen.own = Some(own(&seen, "an-earlier-one"));
    let step = next(&seen, later(1));
    assert!(matches!(step.action, Action::None), "{:?}", step.action);
}
