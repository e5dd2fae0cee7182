//! ICE over TCP (RFC 6544), for viewers whose network lets no UDP through: one port for all, as with UDP.
//!
//! A viewer connects and sends ICE checks in frames (RFC 4571). The first one names whose connection it is, and the stream
//! is handed to that one. Whoever says nothing, or names nobody, is closed soon.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use webrtc::runtime::{AsyncTcpListener, AsyncTcpStream, Runtime, TokioRuntime};

use super::branch::Branch;
use super::routes::Routes;

/// Streams that have not said whose they are: more wait to be accepted.
const MAX_STRANGERS: usize = 64;

/// How long a stream may take to say it.
const INTRODUCTION: Duration = Duration::from_secs(5);

/// Longest first frame: an ICE check has some hundred bytes.
const MAX_FIRST_FRAME: usize = 1500;

/// Streams of one connection that wait to be accepted: a viewer opens one, or a few at once.
const QUEUE: usize = 8;

/// How long to wait after accepting failed: descriptors may have run out for a while.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A stream, the address it comes from, and the bytes of it that were read already.
#[derive(Debug)]
struct Introduced {
    stream: Arc<dyn AsyncTcpStream>,
    from: SocketAddr,
    first: Vec<u8>,
}

/// Where streams for one connection are handed in: those that came to one local address.
#[derive(Debug)]
pub(super) struct Door {
    ip: IpAddr,
    streams: mpsc::Sender<Introduced>,
}

/// One shared listener.
#[derive(Debug)]
pub(super) struct TcpTrunk {
    address: SocketAddr,
    reader: AbortHandle,
}

impl TcpTrunk {
    /// Shares a bound listener.
    pub(super) fn start(listener: TcpListener, routes: &Arc<Routes>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TokioRuntime.wrap_tcp_listener(listener)?;
        let reader = tokio::spawn(accept(listener, address.ip(), Arc::clone(routes))).abort_handle();
        Ok(Self { address, reader })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TcpTrunk {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn accept(listener: Arc<dyn AsyncTcpListener>, ip: IpAddr, routes: Arc<Routes>) {
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&strangers).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let routes = Arc::clone(&routes);
                tokio::spawn(async move {
                    let first = timeout(INTRODUCTION, first_frame(&*stream)).await;
                    drop(place);
                    if let Ok(Ok(first)) = first
                        && let Some(branch) = routes.find_named(first.get(2..).unwrap_or_default())
                    {
                        branch.hand_in(ip, Introduced { stream, from, first });
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%ip, %error, "cannot accept");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// The bytes up to the end of the first frame, or a little more.
async fn first_frame(stream: &dyn AsyncTcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; MAX_FIRST_FRAME + 2];
    loop {
        let room = buffer.len() - bytes.len();
        let count = stream.read(&mut buffer[..room]).await?;
        bytes.extend_from_slice(&buffer[..count]);
        let wanted = bytes.first_chunk::<2>().map(|len| usize::from(u16::from_be_bytes(*len)) + 2);
        match wanted {
            Some(wanted) if wanted <= bytes.len() => return Ok(bytes),
            Some(wanted) if wanted > MAX_FIRST_FRAME => return Err(io::ErrorKind::InvalidData.into()),
            _ if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
}

impl Branch {
    /// Takes streams that come to the local address `ip` from now on.
    pub(super) fn open_door(self: &Arc<Self>, local_addr: SocketAddr) -> BranchListener {
        let (streams, introduced) = mpsc::channel(QUEUE);
        self.add_door(Door { ip: local_addr.ip(), streams });
        BranchListener { branch: Arc::clone(self), local_addr, introduced: tokio::sync::Mutex::new(introduced) }
    }

    fn hand_in(&self, ip: IpAddr, introduced: Introduced) {
        self.doors(|doors| {
            if let Some(door) = doors.iter().find(|door| door.ip == ip) {
                // Where there is no room, or nobody accepts any more, the stream is closed.
                let _ = door.streams.try_send(introduced);
            }
        });
    }
}

/// The listener that `webrtc` believes to own.
#[derive(Debug)]
pub(super) struct BranchListener {
    branch: Arc<Branch>,
    /// The address of the listener that it bound.
    local_addr: SocketAddr,
    introduced: tokio::sync::Mutex<mpsc::Receiver<Introduced>>,
}

type Accepted = (Arc<dyn AsyncTcpStream>, SocketAddr);

impl AsyncTcpListener for BranchListener {
    fn accept<'a>(&'a self) -> Pin<Box<dyn Future<Output = io::Result<Accepted>> + Send + 'a>> {
        Box::pin(async move {
            let introduced = self.introduced.lock().await.recv().await;
            let Introduced { stream, from, first } = introduced.ok_or(io::ErrorKind::BrokenPipe)?;
            let (branch, local_addr) = (Arc::clone(&self.branch), self.local_addr);
            let stream: Arc<dyn AsyncTcpStream> =
                Arc::new(BranchStream { branch, stream, local_addr, first: Mutex::new(first) });
            Ok((stream, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local_addr)
    }
}

/// A stream whose first bytes were read already, and which tells the writer when there may be acknowledgements.
#[derive(Debug)]
struct BranchStream {
    branch: Arc<Branch>,
    stream: Arc<dyn AsyncTcpStream>,
    /// The address by which `webrtc` knows its end.
    local_addr: SocketAddr,
    first: Mutex<Vec<u8>>,
}

impl AsyncTcpStream for BranchStream {
    fn read<'a, 'b>(&'a self, buf: &'b mut [u8]) -> Pin<Box<dyn Future<Output = io::Result<usize>> + Send + 'b>>
    where
        'a: 'b,
    {
        // What was read before is taken in by now.
        self.branch.note_taken();
        Box::pin(async move {
            {
                // Nothing panics while it holds the lock.
                let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
                if !first.is_empty() {
                    let count = first.len().min(buf.len());
                    buf[..count].copy_from_slice(&first[..count]);
                    first.drain(..count);
                    return Ok(count);
                }
            }
            self.stream.read(buf).await
        })
    }

    fn write_all<'a, 'b>(&'a self, buf: &'b [u8]) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'b>>
    where
        'a: 'b,
    {
        self.stream.write_all(buf)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local_addr)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
