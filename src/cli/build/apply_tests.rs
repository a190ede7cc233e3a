use std::sync::{Arc, Mutex};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};

use super::*;

/// What was asked of an API server that finds these managers in the way of what is not forced.
#[derive(Clone, Default)]
struct Server {
    managers: Vec<&'static str>,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn answer(State(server): State<Server>, uri: Uri) -> (StatusCode, Json<Value>) {
    let query = uri.query().unwrap_or_default().to_owned();
    let forced = query.contains("force=true");
    server.asked.lock().unwrap().push(query);
    if forced || server.managers.is_empty() {
        let build = json!({
            "apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": "a"},
            "spec": {"source": {"oci": {"image": "r/a"}}, "output": {"image": "r/a"}},
        });
        return (StatusCode::OK, Json(build));
    }
    let cause = |manager: &&str| {
        json!({"reason": "FieldManagerConflict", "field": ".spec.source.oci.image",
            "message": format!("conflict with \"{manager}\" using whittle.dev/v1alpha1")})
    };
    let causes: Vec<Value> = server.managers.iter().map(cause).collect();
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict",
        "message": "Apply failed with conflicts", "details": {"causes": causes},
    });
    (StatusCode::CONFLICT, Json(status))
}

/// Applies where these are in the way: what came of it, and whether each try was forced.
async fn applied(managers: &[&'static str], dry_run: bool) -> (Result<(), String>, Vec<bool>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server {
        managers: managers.to_vec(),
        ..Server::default()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(answer).with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let cluster = Cluster {
        client: kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap(),
        namespace: "shop".into(),
    };
    let how = How {
        force: false,
        dry_run,
    };
    let object = json!({"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": "a"}});
    let applied = apply(&cluster, "a", &object, how).await;
    let asked = server.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|it| it.contains("dryRun=All") == dry_run));
    let forced = asked.iter().map(|it| it.contains("force=true")).collect();
    (
        applied.map(drop).map_err(|failed| failed.to_string()),
        forced,
    )
}

#[tokio::test]
async fn what_we_have_written_in_another_way_is_taken_over_unasked() {
    assert_eq!(applied(&[], false).await, (Ok(()), vec![false]));
    for dry_run in [true, false] {
        let (done, forced) = applied(&[MANAGER, MANAGER], dry_run).await;
        assert_eq!((done, forced), (Ok(()), vec![false, true]));
    }
}

#[tokio::test]
async fn what_others_manage_besides_is_not() {
    let (done, forced) = applied(&[MANAGER, "argocd"], false).await;
    assert_eq!(forced, [false]);
    let said = done.unwrap_err();
    assert!(
        said.contains("spec.source.oci.image is set by argocd: --force-conflicts"),
        "{said}"
    );
}
