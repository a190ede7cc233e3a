//! What becomes of watches, one scene a test.

use std::time::Duration;

use futures::StreamExt;
use kube::ResourceExt;
use kube::runtime::watcher::{Config, Event};
use serde_json::{Value, json};

use super::scripted::{Server, event, failure, page};
use super::scripted_tests::{BUILDERS, json_of};
use super::watch::Events;
use super::*;
use crate::fixtures;

/// What there is to be had of a watch until it waits.
async fn said<K: Resource<DynamicType = ()>>(events: &mut Events<K>) -> Vec<String> {
    let mut all = vec![];
    // Longer than any pause between two attempts.
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(40), events.next()).await {
        all.push(match event {
            Ok(Event::Init) => "init".to_owned(),
            Ok(Event::InitApply(object)) => format!("listed {}", object.name_any()),
            Ok(Event::InitDone) => "done".to_owned(),
            Ok(Event::Apply(object)) => format!("is {}", object.name_any()),
            Ok(Event::Delete(object)) => format!("gone {}", object.name_any()),
            Err(_) => "error".to_owned(),
        });
    }
    all
}

fn made(name: &str, version: &str) -> Value {
    let change = json!({"metadata": {"name": name, "resourceVersion": version}});
    json_of(&fixtures::builder(), change)
}

const ALL: &str = "GET /apis/whittle.dev/v1alpha1/builders";

fn list(limit: u32) -> String {
    format!("{ALL}?limit={limit}")
}

fn watch(version: &str) -> String {
    format!("{ALL}?resourceVersion={version}")
}

fn watched(cluster: &Cluster) -> Events<whittle_api::Builder> {
    cluster.watch(Config::default().page_size(8))
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_where_it_ended_without_a_list() {
    let (cluster, server) = Server::cluster();
    server
        .on(&list(8), page(&[made("a", "5")], None))
        .watch(
            &watch("100"),
            &[
                event("MODIFIED", &made("a", "101")),
                event("ADDED", &made("b", "102")),
            ],
        )
        .watch(&watch("102"), &[event("DELETED", &made("a", "103"))])
        .hang(&watch("103"));
    let mut events = watched(&cluster);
    assert_eq!(
        said(&mut events).await,
        ["init", "listed a", "done", "is a", "is b", "gone a"]
    );
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_moves_the_place_where_a_watch_goes_on() {
    let (cluster, server) = Server::cluster();
    let bookmark = json!({"type": "BOOKMARK", "object": {"apiVersion": "whittle.dev/v1alpha1", "kind": "Builder",
        "metadata": {"resourceVersion": "200"}}});
    server
        .on(&list(8), page(&[], None))
        .watch(&watch("100"), &[bookmark])
        .hang(&watch("200"));
    let mut events = watched(&cluster);
    assert_eq!(said(&mut events).await, ["init", "done"]);
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn where_the_past_of_a_watch_is_gone_all_is_listed_anew() {
    let (cluster, server) = Server::cluster();
    let gone = failure(410, "Expired", "too old resource version: 100 (200)");
    server
        .on(&list(8), page(&[made("a", "5"), made("b", "6")], None))
        .watch(&watch("100"), &[event("ERROR", &gone)])
        .on(&list(8), page(&[made("b", "6")], None))
        .hang(&watch("100"));
    let mut events = watched(&cluster);
    assert_eq!(
        said(&mut events).await,
        [
            "init", "listed a", "listed b", "done", "error", "init", "listed b", "done"
        ]
    );
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn a_list_of_a_watch_that_expires_between_two_pages_begins_again() {
    let (cluster, server) = Server::cluster();
    server
        .on(&list(8), page(&[made("a", "5")], Some("two")))
        .refuse(
            &format!("{ALL}?continue=two"),
            410,
            "Expired",
            "the token is too old",
        )
        .on(&list(8), page(&[made("a", "5")], Some("three")))
        .on(
            &format!("{ALL}?continue=three"),
            page(&[made("b", "6")], None),
        )
        .hang(&watch("100"));
    let mut events = watched(&cluster);
    assert_eq!(
        said(&mut events).await,
        [
            "init", "listed a", "error", "init", "listed a", "listed b", "done"
        ]
    );
    server.asked();
}

#[tokio::test(start_paused = true)]
async fn of_two_namespaces_one_that_is_forbidden_holds_up_no_other_and_is_tried_again() {
    let (client, server) = Server::new();
    let namespaces = vec!["team".to_owned(), "other".to_owned()];
    let cluster = Cluster::new(client, namespaces, Selector::default(), Trouble::default());
    let other = "/apis/whittle.dev/v1alpha1/namespaces/other/builders";
    let forbidden = "builders.whittle.dev is forbidden: User cannot list it in the namespace other";
    server
        .on(
            &format!("GET {BUILDERS}?limit=8"),
            page(&[made("a", "5")], None),
        )
        .hang(&format!("GET {BUILDERS}?resourceVersion=100"))
        .refuse(&format!("GET {other}?limit=8"), 403, "Forbidden", forbidden)
        .on(
            &format!("GET {other}?limit=8"),
            page(&[made("b", "6")], None),
        )
        .hang(&format!("GET {other}?resourceVersion=100"));
    let mut events = watched(&cluster);
    assert_eq!(
        said(&mut events).await,
        ["init", "listed a", "done", "is b"]
    );
    server.asked();
}
