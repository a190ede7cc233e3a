//! An API server that answers as a test has written down, and remembers what it was asked.

use crate::watches::Trouble;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use kube::core::Selector;
use serde_json::{Value, json};
use tower_test::mock::{self, SendResponse};

use super::Cluster;

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method and path, `GET /api/v1/namespaces/team/pods`.
    pub what: String,
    /// What stands behind the `?`.
    pub query: String,
    /// JSON, where there is some.
    pub body: Value,
}

struct Answer {
    what: String,
    /// What the query contains.
    query: String,
    /// None: never.
    answer: Option<(u16, String)>,
}

#[derive(Default)]
struct State {
    answers: Vec<Answer>,
    asked: Vec<Asked>,
    unexpected: Vec<String>,
    /// Requests that are never answered.
    open: Vec<SendResponse<Response<Body>>>,
}

/// The server.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<State>>);

impl Server {
    /// One without answers, and a client of it.
    pub fn new() -> (Client, Self) {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let server = Self::default();
        let serving = server.clone();
        tokio::spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                serving.take(request, send).await;
            }
        });
        (Client::new(service, "default"), server)
    }

    /// The same, for the whole cluster.
    pub fn cluster() -> (Cluster, Self) {
        let (client, server) = Self::new();
        (
            Cluster::new(client, vec![], Selector::default(), Trouble::default()),
            server,
        )
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self, request: Request<Body>, send: SendResponse<Response<Body>>) {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap_or_default();
        let asked = Asked {
            what: format!("{} {}", head.method, head.uri.path()),
            query: head.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        };
        let mut state = self.state();
        let fits =
            |answer: &Answer| answer.what == asked.what && asked.query.contains(&answer.query);
        let answer = match state.answers.iter().position(fits) {
            Some(at) => state.answers.remove(at).answer,
            None => {
                let line = format!("{}?{}", asked.what, asked.query);
                state.unexpected.push(line);
                Some((
                    501,
                    failure(501, "NotImplemented", "not in the script").to_string(),
                ))
            }
        };
        state.asked.push(asked);
        match answer {
            Some((code, text)) => {
                let response = Response::builder().status(code);
                let response = response.body(Body::from(text.into_bytes()));
                send.send_response(response.unwrap());
            }
            None => state.open.push(send),
        }
    }

    fn add(&self, what: &str, answer: Option<(u16, String)>) -> &Self {
        let (what, query) = what.split_once('?').unwrap_or((what, ""));
        self.state().answers.push(Answer {
            what: what.to_owned(),
            query: query.to_owned(),
            answer,
        });
        self
    }

    /// Answers one request: `METHOD /path`, or `METHOD /path?part of the query`. Of several that fit, the first.
    pub fn on(&self, what: &str, answer: Value) -> &Self {
        self.add(what, Some((200, answer.to_string())))
    }

    /// Refuses one.
    pub fn refuse(&self, what: &str, code: u16, reason: &str, message: &str) -> &Self {
        self.add(
            what,
            Some((code, failure(code, reason, message).to_string())),
        )
    }

    /// Refuses one for what the kind's schema says of a field.
    pub fn invalid(&self, what: &str, field: &str, message: &str) -> &Self {
        let mut status = failure(
            422,
            "Invalid",
            &format!("it is invalid: {field}: {message}"),
        );
        status["details"] = json!({"causes": [{"reason": "FieldValueInvalid", "message": message, "field": field}]});
        self.add(what, Some((422, status.to_string())))
    }

    /// Answers a watch with these events, and ends it.
    pub fn watch(&self, what: &str, events: &[Value]) -> &Self {
        let lines = events.iter().map(|event| format!("{event}\n"));
        self.add(what, Some((200, lines.collect())))
    }

    /// Leaves one without an answer: a watch in which nothing happens.
    pub fn hang(&self, what: &str) -> &Self {
        self.add(what, None)
    }

    /// What was asked since the last time; all answers were asked for, and nothing else was.
    pub fn asked(&self) -> Vec<Asked> {
        let mut state = self.state();
        assert_eq!(state.unexpected, Vec::<String>::new(), "not in the script");
        let left: Vec<&str> = state.answers.iter().map(|it| it.what.as_str()).collect();
        assert_eq!(left, Vec::<&str>::new(), "nobody has asked for it");
        std::mem::take(&mut state.asked)
    }
}

/// What the API server says where it does not do something.
pub fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": code})
}

/// A page of a list: `next` is the token of the one behind it.
pub fn page(items: &[Value], next: Option<&str>) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "items": items,
        "metadata": {"resourceVersion": "100", "continue": next.unwrap_or_default()}})
}

/// An event of a watch.
pub fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}
