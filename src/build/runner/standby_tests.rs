use super::*;
use crate::fixtures;

fn standby_of(request: &BuildRequest) -> Standby {
    Standby {
        namespace: request.namespace.clone(),
        name: request.name.clone(),
        uid: request.uid.clone(),
        job: request.job.clone(),
        callback: "https://localhost:1".into(),
        seconds: 60,
    }
}

#[test]
fn a_request_is_taken_where_it_is_for_this_runner_and_no_other_is() {
    let request = fixtures::request();
    let text = serde_json::to_vec(&request).unwrap();
    let standby = standby_of(&request);
    assert_eq!(read(&standby, &text), Ok(request.clone()));
    let others: [fn(&mut Standby) -> &mut String; 4] = [
        |it| &mut it.namespace,
        |it| &mut it.name,
        |it| &mut it.uid,
        |it| &mut it.job,
    ];
    for other in others {
        let mut standby = standby_of(&request);
        other(&mut standby).push('x');
        let why = read(&standby, &text).unwrap_err();
        assert!(why.contains("not of"), "{why}");
    }
    assert!(read(&standby, b"{}").unwrap_err().contains("invalid"));
}

#[test]
fn those_that_a_controller_has_left_alone_come_back_one_after_the_other() {
    let pause = Duration::from_secs(1);
    let all: std::collections::BTreeSet<_> = (0..50)
        .map(|at| spread(&format!("hello-{at:010}"), pause))
        .collect();
    assert!(all.len() > 5 && all.iter().all(|it| *it < pause), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn where_no_build_begins_it_ends_by_itself() {
    let standby = standby_of(&fixtures::request());
    let nowhere = Path::new("/nonexistent");
    assert_eq!(wait(&standby, nowhere, nowhere).await, None);
}
