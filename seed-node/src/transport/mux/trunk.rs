//! One UDP socket that all connections share.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::AbortHandle;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Runtime, TokioRuntime, Transmit};

use super::routes::{BranchId, Routes};

/// Kernel buffers of the socket, each way. The default of some 200 KiB overflows within one burst of a fast sender;
/// measured natively, 4 MiB carry seven times as much.
const SOCKET_BUFFER_LEN: usize = 4 * 1024 * 1024;

/// Messages taken from the kernel at once.
const BATCH: usize = 8;

/// Room for one message: as many datagrams as the kernel joins, of the usual size.
const MESSAGE_LEN: usize = 64 * 1500;

/// How long to wait after the socket failed to receive: an interface may be gone for a while.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Wakes every connection that waits for the socket to take more: the runtime remembers one waker a socket.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<BranchId, Waker>>);

impl Waiting {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<BranchId, Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        let waiting = std::mem::take(&mut *self.map());
        waiting.into_values().for_each(Waker::wake);
    }
}

/// One shared socket.
#[derive(Debug)]
pub(super) struct Trunk {
    socket: Arc<dyn AsyncUdpSocket>,
    address: SocketAddr,
    routes: Arc<Routes>,
    waiting: Arc<Waiting>,
    all: Waker,
    reader: AbortHandle,
}

impl Trunk {
    /// Shares a bound socket.
    pub(super) fn start(socket: UdpSocket, routes: &Arc<Routes>) -> io::Result<Self> {
        let options = socket2::SockRef::from(&socket);
        // The kernel caps what is asked for (net.core.[rw]mem_max); less room is slower and no error.
        if let Err(error) = options
            .set_recv_buffer_size(SOCKET_BUFFER_LEN)
            .and_then(|()| options.set_send_buffer_size(SOCKET_BUFFER_LEN))
        {
            tracing::debug!(%error, "cannot enlarge the buffers of a UDP socket");
        }
        let address = socket.local_addr()?;
        let socket = TokioRuntime.wrap_udp_socket(socket)?;
        let waiting = Arc::new(Waiting::default());
        let all = Waker::from(Arc::clone(&waiting));
        let reader = tokio::spawn(read(Arc::clone(&socket), address.ip(), Arc::clone(routes))).abort_handle();
        Ok(Self { socket, address, routes: Arc::clone(routes), waiting, all, reader })
    }

    pub(super) fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    pub(super) fn max_gso_segments(&self) -> usize {
        self.socket.max_gso_segments()
    }

    pub(super) fn poll_send(
        &self,
        id: BranchId,
        cx: &mut Context<'_>,
        transmit: &Transmit<'_>,
    ) -> Poll<io::Result<usize>> {
        let sent = self.socket.poll_send(&mut Context::from_waker(&self.all), transmit);
        if sent.is_ready() {
            return sent;
        }
        self.waiting.map().insert(id, cx.waker().clone());
        // It may have become ready, and woken everyone, before this one was among them.
        let sent = self.socket.poll_send(&mut Context::from_waker(&self.all), transmit);
        if sent.is_ready() {
            self.forget(id);
        }
        sent
    }

    /// A connection does not wait any more.
    pub(super) fn forget(&self, id: BranchId) {
        self.waiting.map().remove(&id);
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Hands what comes to whom it is for, for as long as the socket is there.
async fn read(socket: Arc<dyn AsyncUdpSocket>, ip: IpAddr, routes: Arc<Routes>) {
    let mut buffers = vec![vec![0; MESSAGE_LEN]; BATCH];
    let mut meta = [RecvMeta::default(); BATCH];
    loop {
        let received = std::future::poll_fn(|cx| {
            let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            socket.poll_recv(cx, &mut slices, &mut meta)
        });
        let count = match received.await {
            Ok(count) => count,
            // Of one peer that is gone, told by ICMP: of no concern to the others.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset) => {
                0
            }
            Err(error) => {
                tracing::debug!(%ip, %error, "cannot receive");
                tokio::time::sleep(ERROR_PAUSE).await;
                0
            }
        };
        for (meta, buffer) in meta.iter().zip(&buffers).take(count) {
            let Some(batch) = buffer.get(..meta.len) else { continue };
            deliver(&routes, ip, meta, batch);
        }
    }
}

/// Datagrams that the kernel joined have one sender, and one receiver unless there are ICE checks among them.
fn deliver(routes: &Routes, ip: IpAddr, meta: &RecvMeta, batch: &[u8]) {
    let stride = meta.stride.max(1);
    let is_stun = |datagram: &[u8]| datagram.first().is_some_and(|first| *first < 4);
    if batch.chunks(stride).any(is_stun) {
        for datagram in batch.chunks(stride) {
            if let Some(branch) = routes.find(meta.addr, datagram) {
                branch.deliver(ip, meta.addr, &Bytes::copy_from_slice(datagram), datagram.len());
            }
        }
    } else if let Some(branch) = routes.find(meta.addr, batch) {
        branch.deliver(ip, meta.addr, &Bytes::copy_from_slice(batch), stride);
    }
}
