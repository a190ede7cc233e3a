//! Runners that were made in advance wait here for their request: each with the credential of its own Job, and for that one alone.

use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::callback::{Desk, Runner, attempt_of};
use crate::names;
use whittle_build::standby::HELD;

/// Answers once an attempt is carried out by the Job that asks, or after [`HELD`].
pub(super) async fn wait(
    State(desk): State<Desk>,
    Extension(runner): Extension<Runner>,
    request: Request,
) -> Response {
    let namespace = &*runner.namespace;
    let refuse = |status, reason, why| desk.refuse(status, reason, namespace, why).into_response();
    // A watcher's credential is of no Job.
    let attempt = attempt_of(&desk, namespace, &request);
    let Some(attempt) = attempt.filter(|it| names::is_attempt(&it.job)) else {
        let why = "the attempt's credential is invalid or belongs to another namespace";
        return refuse(StatusCode::UNAUTHORIZED, "NoCredential", why);
    };
    drop(request);
    if desk.is_stopping() {
        let why = "this controller is stopping: retry with the next one";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "Stopping", why);
    }
    if !desk.pace.hears(namespace) {
        let why = "too many requests from its namespace";
        return refuse(StatusCode::TOO_MANY_REQUESTS, "TooMany", why);
    }
    let _counted = desk.metrics.standby();
    // It is not busy: where seats are few, its connection ends for another, and it comes back.
    match desk.waiting.request(&attempt, HELD).await {
        Some(request) => {
            let json = [(CONTENT_TYPE, "application/json")];
            (json, request.to_string()).into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    }
}
