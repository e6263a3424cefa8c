//! Sites that builds have made, for those who may see the project: a folder of its workspace, where the
//! settings name one.
//!
//! A site is somebody's program on this server's address, so it is kept away from everything else here:
//! the browser is told to treat it as a stranger (`sandbox`), which also means that it brings no cookie
//! along when it asks for its own pictures and styles. So who may see the project is sent to an address
//! that nobody can guess, and that is good for a while without a cookie.

mod folder;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use buildlock::ProjectId;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

use crate::app::App;
use crate::caller::Caller;
use crate::http::extract::Query;
use crate::problem::Problem;

/// How long a site's address is good: a working day.
const LINK_LASTS: Duration = Duration::from_secs(12 * 60 * 60);

/// How many addresses are good at once; the oldest go first.
const MAX_LINKS: usize = 10_000;

/// The bytes of an address that nobody can guess.
const LINK_BYTES: usize = 16;

/// What a site may do in a browser: anything but be this server's page, or leave its window.
const POLICY: &str = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads";

/// Where sites are, and the addresses under which they are shown.
#[derive(Debug)]
pub(crate) struct Sites {
    /// The folder in a project's workspace.
    folder: PathBuf,
    links: Mutex<HashMap<String, Link>>,
}

#[derive(Debug)]
struct Link {
    project: ProjectId,
    until: Instant,
}

impl Sites {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, links: Mutex::default() }
    }

    /// A new address for a project's site.
    fn link(&self, project: ProjectId) -> io::Result<String> {
        let mut bytes = [0; LINK_BYTES];
        getrandom::fill(&mut bytes)?;
        let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let now = Instant::now();
        self.with(|links| {
            if links.len() >= MAX_LINKS {
                links.retain(|_, link| now < link.until);
            }
            if links.len() >= MAX_LINKS {
                let oldest = links.iter().min_by_key(|(_, link)| link.until).map(|(name, _)| name.clone());
                oldest.map(|name| links.remove(&name));
            }
            links.insert(name.clone(), Link { project, until: now + LINK_LASTS });
        });
        Ok(name)
    }

    /// The project whose site is under an address.
    fn project(&self, name: &str) -> Option<ProjectId> {
        self.with(|links| links.get(name).filter(|link| Instant::now() < link.until).map(|link| link.project.clone()))
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Link>) -> T) -> T {
        // No statement under the lock can panic half-way.
        work(&mut self.links.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/sites", get(enter))
        .route("/sites/{link}/", get(first_page))
        .route("/sites/{link}/{*path}", get(file))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Site {
    // Not in the path: a browser takes `..` out of one, and it is a project's id like any other.
    project: ProjectId,
}

async fn enter(State(app): State<App>, caller: Caller, Query(site): Query<Site>) -> Result<Redirect, Problem> {
    let project = site.project;
    caller.own(&project, app.store.status(&project).await?)?;
    let sites = app.sites.as_ref().ok_or_else(|| Problem::site_not_found(&project))?;
    open(&app, sites, &project, "").await.ok_or_else(|| Problem::site_not_found(&project))?;
    let link = sites.link(project).map_err(|error| {
        tracing::error!(%error, "no random bytes for a site's address");
        Problem::internal()
    })?;
    Ok(Redirect::to(&format!("/sites/{link}/")))
}

async fn first_page(State(app): State<App>, uri: Uri, Path(link): Path<String>) -> Response {
    show(&app, &uri, &link, "").await
}

async fn file(State(app): State<App>, uri: Uri, Path((link, path)): Path<(String, String)>) -> Response {
    show(&app, &uri, &link, &path).await
}

async fn show(app: &App, uri: &Uri, link: &str, path: &str) -> Response {
    let found = async {
        let sites = app.sites.as_ref()?;
        let project = sites.project(link)?;
        open(app, sites, &project, path).await
    };
    let mut response = match found.await {
        // What a page names beside itself is looked for beside its folder otherwise.
        Some(file) if file.is_index && !uri.path().ends_with('/') => {
            Redirect::to(&format!("{}/", uri.path())).into_response()
        }
        Some(file) => {
            let content = ReaderStream::new(tokio::fs::File::from_std(file.content).take(file.bytes));
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(file.kind)),
                (header::CONTENT_LENGTH, HeaderValue::from(file.bytes)),
            ];
            (headers, Body::from_stream(content)).into_response()
        }
        None => {
            let text =
                "There is no such page here. A site's address is good for some hours: open it from its project.\n";
            (StatusCode::NOT_FOUND, text).into_response()
        }
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // The address is a secret.
        (header::REFERRER_POLICY, "no-referrer"),
        // To a stranger all is from elsewhere, what is its own as well.
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn open(app: &App, sites: &Sites, project: &ProjectId, path: &str) -> Option<folder::File> {
    let root = app.builds.workspace(project);
    let inside = sites.folder.join(path);
    spawn_blocking(move || folder::open(&root, &inside)).await.ok()?
}
