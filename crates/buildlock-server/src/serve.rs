//! A server from its start to its end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use buildlock::{KeyHash, StoreError};
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Parts};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use sd_notify::NotifyState;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, ServerStore};
use crate::builds::SupervisorProgram;
use crate::config::Config;
use crate::http::{self, Front};
use crate::limits::Limits;
use crate::linger::Linger;
use crate::operator::OPERATOR_KEY_VARIABLE;
use crate::{metrics, systemd};

/// How a server is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The settings. To listen on port 0 is to listen on any that is free.
    pub config: Config,
    /// How much it takes on.
    pub limits: Limits,
    /// Where each project has a folder for its builds, unless the settings say.
    pub workspaces: PathBuf,
    /// What supervises a builder's command: a program that calls
    /// [`buildlock_supervise::remote::supervise`].
    pub supervisor: SupervisorProgram,
}

impl Options {
    /// As the settings say.
    pub fn new(config: Config) -> Self {
        Self {
            limits: Limits::for_connections(config.server.max_connections),
            workspaces: config.builds.folder.join("workspaces"),
            supervisor: SupervisorProgram::default(),
            config,
        }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is taken, not this machine's, or not allowed.
    #[error("cannot listen on {address}: {error}")]
    CannotListen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Another server has the store.
    #[error(
        "the store {} is in use by another server{}; stop that one first, or name another store",
        store.display(), process.map(|process| format!(", process {process}")).unwrap_or_default()
    )]
    StoreInUse {
        /// The store's file.
        store: PathBuf,
        /// The other server's process id.
        process: Option<u32>,
    },
    /// A file that belongs beside the store cannot be read or written.
    #[error("cannot use {}: {error}", path.display())]
    Beside {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The key that was given as the operator's cannot be.
    #[error("the key in {OPERATOR_KEY_VARIABLE} {problem}")]
    OperatorKey {
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The store cannot answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A server that listens, and serves once [`Server::serve`] is called.
#[derive(Debug)]
pub struct Server {
    app: App,
    listener: TcpListener,
    address: SocketAddr,
    stop: Stop,
}

/// Stops a server; clones stop the same one.
#[derive(Debug, Clone)]
pub struct Stop {
    stopping: CancellationToken,
    now: CancellationToken,
}

impl Stop {
    /// Lets the server end what it does, then stop: waits and event streams end, running calls are
    /// answered, nobody is let in any more.
    pub fn gracefully(&self) {
        self.stopping.cancel();
    }

    /// Stops the server whatever it does.
    pub fn at_once(&self) {
        self.stopping.cancel();
        self.now.cancel();
    }
}

impl Server {
    /// Listens, and ends the builds that a server before this one has left behind. Who comes is let in when
    /// [`Server::serve`] is called.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if the server cannot listen there, or the store cannot answer.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn bind(options: Options, store: Arc<dyn ServerStore>) -> Result<Self, ServeError> {
        let refused = |error| ServeError::CannotListen { address: options.config.server.listen, error };
        let listener = TcpListener::bind(options.config.server.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        metrics::handle();
        store.begin_to_count();
        let app = App::new(store, address, options);
        app.builds.recover().await?;
        let stop = Stop { stopping: app.stopping.clone(), now: CancellationToken::new() };
        Ok(Self { app, listener, address, stop })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A link with which somebody on this machine signs in to the page, once, as the owner of this key.
    ///
    /// # Errors
    ///
    /// If the machine gives no random bytes.
    pub fn sign_in_link(&self, key: KeyHash) -> io::Result<String> {
        self.app.sign_in_link(key)
    }

    /// How to stop it.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if the server cannot go on.
    pub async fn serve(self) -> Result<(), ServeError> {
        let Self { app, listener, address, stop } = self;
        let builds = app.builds.clone();
        let drain_time = app.config.server.drain_time;
        let limits = app.limits;
        let front = http::front(app.clone());
        let connections = TaskTracker::new();
        let room = Arc::new(Semaphore::new(limits.connections));
        if let Some(jwts) = &app.auth.jwts {
            jwts.prepare();
        }
        systemd::tell(NotifyState::Ready);
        let background = [tokio::spawn(systemd::keep_in_touch(app.clone())), tokio::spawn(metrics::keep_up())];
        tracing::info!(%address, "listening");
        loop {
            let next = async {
                let slot = Arc::clone(&room).acquire_owned().await.ok()?;
                Some((accept(&listener).await, slot))
            };
            let (stream, slot) = tokio::select! {
                biased;
                () = stop.stopping.cancelled() => break,
                next = next => match next {
                    Some(next) => next,
                    None => break,
                },
            };
            connections.spawn(serve_connection(stream, front.clone(), limits, stop.clone(), slot));
        }
        systemd::tell(NotifyState::Stopping);
        drop(listener);
        connections.close();
        let orderly = async {
            builds.drain(drain_time).await;
            if timeout(LAST_ANSWERS, connections.wait()).await.is_err() {
                tracing::warn!(connections = connections.len(), "clients are cut off that do not end");
            }
        };
        tokio::select! {
            () = orderly => {}
            () = stop.now.cancelled() => {}
        }
        background.iter().for_each(tokio::task::JoinHandle::abort);
        Ok(())
    }
}

/// How long clients have to take their last answers, once there is nothing else to be done.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// How soon to try again when the machine has no room for another connection.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                // Of the client's making, such as a connection that is gone already, or of the machine's, such
                // as no file descriptor left: none ends the server.
                tracing::debug!(%error, "cannot let a client in");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, front: Front, limits: Limits, stop: Stop, _slot: OwnedSemaphorePermit) {
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let answer = front.clone().answer(request.map(Body::new));
        async { Ok::<_, Infallible>(answer.await) }
    });
    if let Err(error) = set_up(&stream) {
        tracing::debug!(%error, "a connection stays as the system has set it up");
    }
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(READ_BUFFER_BYTES)
        .serve_connection(TokioIo::new(Linger::new(stream)), service);
    let result = tokio::select! {
        result = &mut connection => result,
        () = stop.stopping.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                result = &mut connection => result,
                () = stop.now.cancelled() => return,
            }
        }
    };
    let Err(error) = result else { return };
    tracing::debug!(%error, "a connection broke off");
    if error.is_timeout() {
        let Parts { io, read_buf, .. } = connection.into_parts();
        // A client that has sent nothing at all has no request to be answered.
        if !read_buf.is_empty() {
            let mut stream = io.into_inner();
            // Whoever is too slow to send may be gone, or too slow to read.
            let _ = timeout(LAST_ANSWERS, async {
                stream.write_all(HEAD_TOO_SLOW).await?;
                stream.shutdown().await
            })
            .await;
        }
    }
}

/// How long a client may take nothing of what it is sent, or be silent to the system's own questions, before
/// it counts as gone.
const GONE_AFTER: Duration = Duration::from_secs(60);

fn set_up(stream: &TcpStream) -> io::Result<()> {
    // Without it an answer may wait for the client's acknowledgement of the one before.
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, GONE_AFTER)?;
    sockopt::set_tcp_user_timeout(stream, GONE_AFTER.as_millis() as u32)?;
    Ok(())
}

/// How much of what a client sends is kept until it is read: the largest head. What a head may have is less,
/// and one that is too large is then still answered in words.
const READ_BUFFER_BYTES: usize = 256 << 10;

/// The answer to a head that does not end.
const HEAD_TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
