//! Accepts connections, speaks HTTP/1.1 and HTTP/2 on them, and closes them in order.
//!
//! It must never do a client's work (a handshake, a header, a body) on the accept loop, and never accept more than it
//! has permits for.

mod connection;
mod crowd;
mod stall;
mod tls;
mod watchdog;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::respond::ResponseBody;
use connection::{Closing, Phase};
pub(crate) use crowd::{Crowd, PER_ADDRESS_MAX};
pub(crate) use tls::Tls;

/// Connections at once, over all listeners that share the options; the next one waits in the kernel's backlog.
pub(crate) const CONNECTIONS_MAX: usize = 8_192;
/// After a failed accept (no file descriptors left, for example) the loop rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A TLS handshake must be over after this long.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Where a request came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub ip: IpAddr,
    pub door: Door,
    pub is_tls: bool,
}

/// Which port it is, and so what may be reached through it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Door {
    /// Everything but the metrics, and but the administration where that has a door of its own.
    #[default]
    Gateway,
    /// One plugin.
    Direct(Arc<str>),
    /// Administration and metrics.
    Admin,
    /// Metrics alone.
    Metrics,
}

/// What answers the requests of a listener.
pub(crate) trait Serve: Send + Sync + 'static {
    fn serve(&self, peer: &Peer, request: Request<Incoming>) -> impl Future<Output = Response<ResponseBody>> + Send;
}

/// A byte stream after its handshake.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The result of a [`Handshake`].
pub(crate) type Handshaken = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// TLS, where it is configured: turns a TCP stream into a plain one, in the connection's own task.
pub(crate) trait Handshake: Send + Sync + 'static {
    fn accept(&self, stream: TcpStream) -> Handshaken;
}

/// Limits and hooks of a listener.
#[derive(Clone)]
pub(crate) struct ListenerOptions {
    /// Shared by every listener that counts against the same maximum.
    pub permits: Arc<Semaphore>,
    /// Shared likewise: how many of them one address may have.
    pub crowd: Arc<Crowd>,
    /// How long a connection may take to send a request's headers, and how long it may stay idle between two requests: at
    /// least this, and less than twice this.
    pub header_read_timeout: Duration,
    /// How long a client may refuse to read before its connection is closed.
    pub write_stall_timeout: Duration,
    pub door: Door,
    pub handshake: Option<Arc<dyn Handshake>>,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            crowd: Crowd::new(PER_ADDRESS_MAX, Vec::new()),
            header_read_timeout: Duration::from_secs(30),
            write_stall_timeout: Duration::from_secs(120),
            door: Door::Gateway,
            handshake: None,
        }
    }
}

/// A bound port that nobody answers yet.
pub(crate) struct Listener {
    socket: TcpListener,
    options: ListenerOptions,
}

/// A port that answers.
pub(crate) struct Server {
    address: SocketAddr,
    door: Door,
    stop: CancellationToken,
    closing: Arc<Closing>,
    tasks: TaskTracker,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(crate) async fn bind(address: SocketAddr, options: ListenerOptions) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await?, options })
    }

    /// The bound address, with its real port.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Begins to answer.
    ///
    /// # Errors
    /// When the socket is already broken.
    pub(crate) fn serve<S: Serve>(self, service: Arc<S>) -> io::Result<Server> {
        let (address, door) = (self.socket.local_addr()?, self.options.door.clone());
        let (stop, closing, tasks) = (CancellationToken::new(), Arc::new(Closing::default()), TaskTracker::new());
        let accepting = accept_loop(self, service, stop.clone(), Arc::clone(&closing), tasks.clone());
        tasks.spawn(accepting);
        Ok(Server { address, door, stop, closing, tasks })
    }
}

impl Server {
    /// The address it answers on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is to be found there.
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// Connections that are open now.
    #[cfg(test)]
    pub(crate) fn connections(&self) -> usize {
        self.closing.connections()
    }

    /// Stops accepting, lets requests in flight end within `grace`, and closes what is left. True when nothing was cut
    /// off.
    pub(crate) async fn shutdown(&self, grace: Duration) -> bool {
        self.stop.cancel();
        self.closing.enter(Phase::Draining);
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_ok() {
            return true;
        }
        self.closing.enter(Phase::Closed);
        self.tasks.wait().await;
        false
    }
}

async fn accept_loop<S: Serve>(
    listener: Listener,
    service: Arc<S>,
    stop: CancellationToken,
    closing: Arc<Closing>,
    tasks: TaskTracker,
) {
    let Listener { socket, options } = listener;
    let options = Arc::new(options);
    loop {
        let accepted = stop.run_until_cancelled(async {
            let permit = Arc::clone(&options.permits).acquire_owned().await;
            (permit, socket.accept().await)
        });
        let (stream, peer, permit) = match accepted.await {
            None | Some((Err(_), _)) => return,
            Some((Ok(permit), Ok((stream, peer)))) => (stream, peer, permit),
            Some((Ok(_), Err(error))) => {
                tracing::warn!(target: "gateway", %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(seat) = options.crowd.enter(peer.ip().to_canonical()) else {
            tracing::debug!(target: "gateway", ip = %peer.ip(), "an address has too many connections; one more is closed");
            continue;
        };
        let (service, options, closing) = (Arc::clone(&service), Arc::clone(&options), Arc::clone(&closing));
        tasks.spawn(async move {
            // Small answers must not wait for the client's acknowledgement of an earlier one.
            let _ = stream.set_nodelay(true);
            let peer =
                Peer { ip: peer.ip().to_canonical(), door: options.door.clone(), is_tls: options.handshake.is_some() };
            match &options.handshake {
                None => connection::serve(stream, peer, service, &options, closing).await,
                Some(handshake) => match tokio::time::timeout(HANDSHAKE_TIME_MAX, handshake.accept(stream)).await {
                    Ok(Ok(stream)) => connection::serve(stream, peer, service, &options, closing).await,
                    Ok(Err(error)) => tracing::debug!(target: "gateway", %error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!(target: "gateway", "a TLS handshake took too long"),
                },
            }
            drop((seat, permit));
        });
    }
}

#[cfg(test)]
mod tests;
