//! What happens, as it happens.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use buildlock::wire::{EventJson, ProblemJson, Viewer};
use buildlock::{EventId, Holder};
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::sleep;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::sse;
use crate::app::App;
use crate::caller::Caller;
use crate::feed::{Page, Reader, Told};
use crate::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events))
}

/// How soon a reader looks again when the store could not be read.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Tells of what happens to the projects that the caller sees, as server-sent events. The name of each
/// is the kind of what happened, such as `granted`; its data is the event.
///
/// A client that comes back with `Last-Event-ID` goes on where it stood. To a user, what happened long
/// before is not told any more: an event `missed` says so, and that it is time to look for oneself.
#[utoipa::path(get, path = "/v1/events", tag = "store", params(
    ("Last-Event-ID" = Option<u64>, Header, description = "the newest event that the client knows"),
), responses(
    (status = 200, body = EventJson, content_type = "text/event-stream"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn events(State(app): State<App>, caller: Caller, headers: HeaderMap) -> Result<Response, Problem> {
    let after = last_event(&headers)?;
    let audience = match caller.viewer() {
        Viewer::All => Audience::All,
        Viewer::Holder(_) | Viewer::Anybody => Audience::User(caller.holder.clone()),
    };
    sse::respond(&app, caller.shown, follow(app.feed.follow(after), audience))
}

fn last_event(headers: &HeaderMap) -> Result<Option<EventId>, Problem> {
    let Some(id) = headers.get("last-event-id").filter(|id| !id.is_empty()) else { return Ok(None) };
    let id = id.to_str().ok().and_then(|id| id.parse().ok());
    id.map(|id| Some(EventId(id)))
        .ok_or_else(|| Problem::invalid("Last-Event-ID", "Last-Event-ID is none that this server gave; leave it out"))
}

/// Who follows.
enum Audience {
    All,
    User(Holder),
}

impl Audience {
    /// The event as it is told, if it is.
    fn event(&self, told: &Told) -> Option<Event> {
        let viewer = match self {
            Audience::All => Viewer::All,
            Audience::User(holder) if told.owner.as_ref() == Some(holder) => Viewer::Holder(holder),
            Audience::User(_) => return None,
        };
        let json = EventJson::seen_by(&told.recorded, viewer);
        let event = Event::default().id(told.recorded.id.0.to_string()).event(json.kind.as_str());
        event.json_data(json).ok()
    }
}

/// Where the stream stands: a client that comes back goes on from there. It is no event to it.
fn place(position: EventId) -> Event {
    Event::default().id(position.0.to_string())
}

fn follow(reader: Reader, audience: Audience) -> impl Stream<Item = Event> {
    let audience = Arc::new(audience);
    let begin = (reader, audience, None::<EventId>);
    stream::unfold(begin, |(mut reader, audience, stands_at)| async move {
        let Some(stands_at) = stands_at else {
            let position = reader.position().await;
            return Some((vec![place(position)], (reader, audience, Some(position))));
        };
        let mut skipped_to = None;
        loop {
            let next = reader.next(matches!(*audience, Audience::All));
            let page = tokio::select! {
                page = next => page,
                // What was skipped need not be looked at again.
                () = sleep(PLACE_AFTER), if skipped_to.is_some() => {
                    let place = place(skipped_to.unwrap_or(stands_at));
                    return Some((vec![place], (reader, audience, skipped_to)));
                }
            };
            match page {
                Ok(Page::Events(told)) => {
                    skipped_to = told.last().map(|last| last.recorded.id);
                    let events: Vec<_> = told.iter().filter_map(|told| audience.event(told)).collect();
                    if !events.is_empty() {
                        return Some((events, (reader, audience, skipped_to)));
                    }
                }
                Ok(Page::Missed(position)) => {
                    let missed = place(position).event("missed").data("{}");
                    return Some((vec![missed], (reader, audience, Some(position))));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read what happens");
                    sleep(RETRY_AFTER).await;
                }
            }
        }
    })
    .flat_map(stream::iter)
}

/// How long a user's stream is silent before it tells where it stands.
const PLACE_AFTER: Duration = Duration::from_secs(10);
