//! What a watcher is to look at comes with the controller's answers, and to nobody else. There is no kubelet: what is mounted once
//! stays as it was.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::json;
use whittle_api::{TRIGGERS, find};
use whittle_controller::names;
use whittle_git::fixtures::{Repository, Server};
use whittle_watch::wire::{Asked, List, WAIT_PATH, Wanted, paths};

use crate::callback::client;
use crate::stage::Stage;
use crate::triggers::{polled, push};
use crate::watcher::Watcher;

/// Waits until this is said of its triggers, without mounting anything.
async fn says(stage: &Stage, name: &str, reason: &str) {
    let what = format!("the triggers of {name} are {reason}");
    let said = async || {
        let status = stage.get(name).await.status?;
        let told = find(&status.conditions, TRIGGERS)?;
        (told.reason == reason).then_some(())
    };
    stage.until(&what, said).await;
}

/// Plays the kubelet once the list says where the controller is.
async fn is_mounted(stage: &Stage, watcher: &Watcher) {
    let port = format!(":{}", stage.callback_port);
    let written = async || {
        let (lists, name) = (stage.api::<ConfigMap>(), names::watcher("default"));
        let data = lists.get_opt(&name).await.unwrap()?.data?;
        let list: List = serde_json::from_str(&data[paths::LIST_KEY]).unwrap();
        list.callback.ends_with(&port).then_some(())
    };
    stage.until("the list is written", written).await;
    let mounted = async || {
        watcher.mount(stage).await;
        watcher.has(paths::TOKEN).then_some(())
    };
    stage.until("the watcher's files are there", mounted).await;
}

#[tokio::test]
async fn a_new_image_build_is_looked_at_though_the_mounted_list_stays_as_it_was() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut stage = Stage::new().await;
    let repository = Repository::new("sha1");
    let server = Server::start(&repository).await;
    let url = format!("http://127.0.0.1:{}/open/team/hello.git", server.port);
    let mut watcher = Watcher::new();
    stage.start_controller().await;
    let suspended = json!({"suspend": true});
    polled(&stage, "a", &url, suspended.clone()).await;
    // It makes its Builder, without which there is no watcher.
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    is_mounted(&stage, &watcher).await;
    watcher.start();
    // Its branch does not exist.
    says(&stage, "a", "SourceNotFound").await;
    polled(&stage, "b", &url, suspended.clone()).await;
    says(&stage, "b", "SourceNotFound").await;
    push(&repository, "c");
    polled(&stage, "c", &url, suspended.clone()).await;
    says(&stage, "c", "TriggersWork").await;
    // The next controller is somewhere else, which is what the mounted list is for still. It sends what comes after that, also to a
    // watcher that has just started.
    stage.kill_controller();
    stage.start_controller().await;
    is_mounted(&stage, &watcher).await;
    polled(&stage, "d", &url, suspended.clone()).await;
    says(&stage, "d", "SourceNotFound").await;
    watcher.kill();
    watcher.start();
    polled(&stage, "e", &url, suspended).await;
    says(&stage, "e", "SourceNotFound").await;
    watcher.kill();

    // Who has its credential is told what is its own, and nobody else is told anything.
    let token = async || {
        let (secrets, name) = (stage.api::<Secret>(), names::watcher("default"));
        let secret = secrets.get_opt(&name).await.unwrap()?;
        Some(String::from_utf8(secret.data?["token"].0.clone()).unwrap())
    };
    let token = stage.until("its credential is there", token).await;
    let (client, port) = (client(&stage).await, stage.callback_port);
    let ask = async |token: &str| {
        let request = client.post(format!("https://localhost:{port}{WAIT_PATH}"));
        let nothing = Asked {
            list: Some(String::new()),
        };
        let request = request.bearer_auth(token).json(&nothing);
        request.send().await.unwrap()
    };
    let wanted: Wanted = ask(&token).await.json().await.unwrap();
    let list: List = serde_json::from_str(&wanted.list.unwrap()).unwrap();
    assert_eq!(list.sources.len(), 5);
    for forged in [
        token.replace('-', "0"),
        token.replace("-default-", "-other-"),
    ] {
        assert_eq!(ask(&forged).await.status(), 401);
    }
}
