//! A publisher's view of a swarm: its members and what they say they carried, once or as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use headwater_rendezvous::SwarmReport;
use headwater_wire::SwarmName;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::admission::token_of;
use crate::routes::Shared;
use crate::token::TokenError;

/// Between two events. Peers report once a minute, but they come and go all the time.
const EVENT_EVERY: Duration = Duration::from_secs(2);

/// `GET /v1/swarms/{swarm}/stats`, as JSON, or as events for whoever accepts `text/event-stream`.
pub(crate) async fn stats(State(shared): State<Shared>, Path(swarm): Path<String>, request: Request) -> Response {
    let headers = request.headers();
    let token = bearer(headers).or_else(|| token_of(request.uri().query()));
    if let Err(error) = shared.admission.stats(&swarm, token.as_deref()) {
        return refused(&error);
    }
    let Ok(swarm) = SwarmName::new(swarm) else {
        return open((StatusCode::NOT_FOUND, "there is no swarm of such a name\n").into_response());
    };
    let wants_events = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/event-stream")));
    if wants_events {
        let drain = shared.drain.subscribe();
        return open(Sse::new(events(shared, swarm, token, drain)).keep_alive(KeepAlive::default()).into_response());
    }
    let body = report(&swarm, shared.hub.swarm_report(&swarm).await).to_string();
    open(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response())
}

/// `OPTIONS` of the same: a page that sends its token as a header has its browser ask first.
pub(crate) async fn preflight() -> Response {
    open(
        (
            StatusCode::NO_CONTENT,
            [
                (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, accept, cache-control, last-event-id"),
                (header::ACCESS_CONTROL_MAX_AGE, "86400"),
            ],
        )
            .into_response(),
    )
}

/// Any page may read it: what protects it is the token.
fn open(mut response: Response) -> Response {
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

fn refused(error: &TokenError) -> Response {
    let status = if error.is_forbidden() { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
    let text = match error {
        TokenError::Missing => {
            "a token with \"stats\": true is needed, and token-keys that it is checked with\n".to_owned()
        }
        other => format!("{other}\n"),
    };
    open((status, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response())
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// A report now and then, until the server stops or the token is good no longer: it expires, or its key is taken away.
fn events(
    shared: Shared,
    swarm: SwarmName,
    token: Option<String>,
    drain: watch::Receiver<bool>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut ticks: Interval = interval(EVENT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((shared, swarm, token, drain, ticks), |(shared, swarm, token, mut drain, mut ticks)| async move {
        tokio::select! {
            _ = drain.wait_for(|drain| *drain) => return None,
            _ = ticks.tick() => {}
        }
        shared.admission.stats(swarm.as_str(), token.as_deref()).ok()?;
        let report = report(&swarm, shared.hub.swarm_report(&swarm).await);
        let event = Event::default().event("stats").data(report.to_string());
        Some((Ok(event), (shared, swarm, token, drain, ticks)))
    })
}

fn report(swarm: &SwarmName, report: Option<SwarmReport>) -> Value {
    let SwarmReport { viewers, seeds, carried } = report.unwrap_or_default();
    json!({
        "swarm": swarm.as_str(), "viewers": viewers, "seeds": seeds,
        "http_bytes": carried.http_bytes, "seed_bytes": carried.seed_bytes, "viewer_bytes": carried.viewer_bytes,
        "uploaded_bytes": carried.uploaded_bytes, "neighbours": carried.neighbours,
    })
}
