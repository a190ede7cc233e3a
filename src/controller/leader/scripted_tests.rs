//! The election against an API server whose answers are written down.

use super::*;
use crate::cluster::scripted::Server;
use serde_json::{Value, json};

const ALL: &str = "/apis/coordination.k8s.io/v1/namespaces/whittle-system/leases";
const ONE: &str =
    "/apis/coordination.k8s.io/v1/namespaces/whittle-system/leases/whittle-controller";

fn election(name: &str) -> (Election, Gate, Server) {
    let (client, server) = Server::new();
    let leases = Leases::new(client, "whittle-system", "whittle-controller");
    let (gate, address) = (Gate::default(), "10.0.0.2:8443".parse().ok());
    let me = Candidate {
        name: name.into(),
        address,
    };
    (Election::new(leases, me, gate.clone()), gate, server)
}

fn lease(holder: &str, version: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "whittle-controller",
        "resourceVersion": version, "annotations": {"whittle.dev/address": "10.0.0.1:8443"}},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2026-11-26T12:00:00.000000Z"}})
}

fn get() -> String {
    format!("GET {ONE}")
}

fn put() -> String {
    format!("PUT {ONE}")
}

/// One that leads.
async fn leader() -> (Election, Gate, Server) {
    let (mut election, gate, server) = election("b");
    server
        .refuse(&get(), 404, "NotFound", "not found")
        .on(&format!("POST {ALL}"), lease("b", "1"));
    election.win().await;
    let made = server.asked().pop().unwrap();
    assert_eq!(made.body["spec"]["holderIdentity"], "b");
    assert_eq!(made.body["metadata"]["name"], "whittle-controller");
    let address = &made.body["metadata"]["annotations"]["whittle.dev/address"];
    assert_eq!(address, "10.0.0.2:8443");
    (election, gate, server)
}

fn is_open(gate: &Gate) -> bool {
    gate.until().is_some_and(|until| until > Instant::now())
}

#[tokio::test(start_paused = true)]
async fn a_standby_knows_the_leader_and_leads_a_term_after_its_last_renewal() {
    let (mut election, gate, server) = election("b");
    let role = election.role();
    assert_eq!(*role.borrow(), Role::Starting);
    let begun = Instant::now();
    for _ in 0..=decide::TERM.as_secs() {
        server.on(&get(), lease("a", "5"));
    }
    server.on(&put(), lease("b", "6"));
    let standby = Role::Standby {
        leader: "a".into(),
        address: "10.0.0.1:8443".parse().ok(),
    };
    tokio::select! {
        () = election.win() => panic!("it leads at once"),
        () = sleep(Duration::from_secs(1)) => {}
    }
    assert_eq!(*role.borrow(), standby);
    assert!(!is_open(&gate));
    election.win().await;
    assert_eq!(begun.elapsed(), decide::TERM);
    assert!(is_open(&gate));
    assert_eq!(*role.borrow(), Role::Leader);
    let asked = server.asked();
    let taken = &asked.last().unwrap().body;
    assert_eq!(taken["metadata"]["resourceVersion"], "5");
    assert_eq!(taken["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_take_a_lease_at_once_one_leads_and_the_other_stands_by() {
    let (mut election, gate, server) = election("b");
    server
        .refuse(&get(), 404, "NotFound", "not found")
        .refuse(&format!("POST {ALL}"), 409, "AlreadyExists", "it exists")
        .on(&get(), lease("a", "1"));
    tokio::select! {
        () = election.win() => panic!("it does not lead"),
        () = sleep(Duration::from_millis(1500)) => {}
    }
    assert!(!is_open(&gate));
    assert!(matches!(&*election.role().borrow(), Role::Standby { leader, .. } if leader == "a"));
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn a_leader_renews_over_the_version_that_it_wrote_and_by_one_request() {
    let (mut election, gate, server) = leader().await;
    for version in 2..7 {
        server.on(&put(), lease("b", &version.to_string()));
    }
    server.hang(&put());
    tokio::select! {
        lost = election.keep() => panic!("{lost}"),
        () = sleep(RENEW * 5 + RENEW + Duration::from_millis(1)) => {}
    }
    assert!(is_open(&gate));
    let asked = server.asked();
    let versions = asked
        .iter()
        .map(|it| it.body["metadata"]["resourceVersion"].clone());
    assert_eq!(versions.collect::<Vec<_>>(), ["1", "2", "3", "4", "5", "6"]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_another_one_has_taken_ends_and_writes_nothing_more() {
    let (mut election, gate, server) = leader().await;
    server
        .refuse(&put(), 409, "Conflict", "the object has been modified")
        .on(&get(), lease("a", "9"));
    let lost = election.keep().await;
    assert!(matches!(lost, Lost::Taken(_)), "{lost}");
    assert!(!is_open(&gate));
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_ends_before_another_one_may_lead() {
    let (mut election, gate, server) = leader().await;
    let begun = Instant::now();
    // Hangs, is gone, has trouble; and is tried again as long as there is time.
    server.hang(&put());
    server.refuse(&get(), 503, "ServiceUnavailable", "no etcd");
    server.hang(&get());
    let lost = election.keep().await;
    assert!(matches!(lost, Lost::Late(_)), "{lost}");
    assert_eq!(begun.elapsed(), DEADLINE);
    assert!(!is_open(&gate));
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn one_renewal_in_time_is_enough() {
    let (mut election, _, server) = leader().await;
    server
        .hang(&put())
        .on(&get(), lease("b", "1"))
        .on(&put(), lease("b", "2"))
        .hang(&put());
    tokio::select! {
        lost = election.keep() => panic!("{lost}"),
        () = sleep(Duration::from_millis(8500)) => {}
    }
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn who_gives_the_lease_back_names_nobody_and_no_address() {
    let (election, gate, server) = leader().await;
    server.on(&put(), lease("", "2"));
    election.release().await;
    assert!(!is_open(&gate));
    let body = &server.asked()[0].body;
    assert_eq!(body["metadata"]["resourceVersion"], "1");
    let holder = &body["spec"]["holderIdentity"];
    assert!(holder.is_null(), "{holder}");
    let address = &body["metadata"]["annotations"]["whittle.dev/address"];
    assert!(address.is_null(), "{address}");
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_given_back_though_a_renewal_was_cut_off() {
    let (election, _, server) = leader().await;
    server
        .refuse(&put(), 409, "Conflict", "the object has been modified")
        .on(&get(), lease("b", "2"))
        .on(&put(), lease("", "3"));
    election.release().await;
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[2].body["metadata"]["resourceVersion"], "2");
    assert!(asked[2].body["spec"]["holderIdentity"].is_null());
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_another_is_left_alone() {
    let (election, _, server) = leader().await;
    server
        .refuse(&put(), 409, "Conflict", "the object has been modified")
        .on(&get(), lease("a", "2"));
    election.release().await;
    assert_eq!(server.asked().len(), 2);
}
