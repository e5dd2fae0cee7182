//! One connection's share of the sockets: what was received for it, and the socket that `webrtc` believes to own.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::routes::BranchId;
use super::stun::{self, Stun};
use super::tcp::Door;
use super::trunk::Trunk;

/// Most bytes waiting for one connection; beyond it datagrams are lost, as in a kernel's buffer. A whole window of a
/// sender, with room to spare.
const MAX_WAITING_BYTES: usize = 2 * 1024 * 1024;

/// Most datagrams waiting for one connection: small ones cost more than their bytes.
const MAX_WAITING: usize = 4096;

/// What was received for one connection at one local address.
#[derive(Debug, Default)]
struct Inbox {
    datagrams: VecDeque<(SocketAddr, Bytes)>,
    bytes: usize,
    waker: Option<Waker>,
}

/// One connection's share.
#[derive(Debug)]
pub(in crate::transport) struct Branch {
    id: BranchId,
    ufrag: String,
    inboxes: Mutex<BTreeMap<IpAddr, Inbox>>,
    doors: Mutex<Vec<Door>>,
    taken: Notify,
    /// The shortest round trip of an ICE check in microseconds, on the way that data takes; `u32::MAX` before the first.
    round_trip_us: AtomicU32,
    /// Where data goes, and from which local address: checks of other ways say nothing of this one.
    way: Mutex<Option<(IpAddr, SocketAddr)>>,
}

impl Branch {
    pub(super) fn new(id: BranchId, ufrag: String) -> Arc<Self> {
        let round_trip_us = AtomicU32::new(u32::MAX);
        let (inboxes, doors, taken) = (Mutex::default(), Mutex::default(), Notify::new());
        Arc::new(Self { id, ufrag, inboxes, doors, taken, round_trip_us, way: Mutex::default() })
    }

    pub(super) fn id(&self) -> BranchId {
        self.id
    }

    /// The user name fragment by which checks for this connection are known.
    pub(in crate::transport) fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Returns once the connection has taken in what was received for it: acknowledgements may have come.
    pub(in crate::transport) async fn taken_in(&self) {
        self.taken.notified().await;
    }

    /// What was received is taken in.
    pub(super) fn note_taken(&self) {
        self.taken.notify_one();
    }

    /// The ways in for TCP streams.
    pub(super) fn doors<T>(&self, f: impl FnOnce(&mut Vec<Door>) -> T) -> T {
        // Nothing panics while it holds the lock.
        f(&mut self.doors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn add_door(&self, door: Door) {
        self.doors(|doors| doors.push(door));
    }

    /// The shortest round trip of an ICE check so far.
    pub(in crate::transport) fn round_trip(&self) -> Option<Duration> {
        let us = self.round_trip_us.load(Ordering::Relaxed);
        (us != u32::MAX).then(|| Duration::from_micros(u64::from(us)))
    }

    /// A check to `to` was answered.
    pub(super) fn note_round_trip(&self, from: IpAddr, to: SocketAddr, round_trip: Duration) {
        // Nothing panics while it holds the lock.
        let way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        if way.is_none_or(|way| way == (from, to)) {
            let us = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
            self.round_trip_us.fetch_min(us, Ordering::Relaxed);
        }
    }

    /// Data goes to `to`.
    fn note_way(&self, from: IpAddr, to: SocketAddr) {
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        if way.replace((from, to)) != Some((from, to)) {
            self.round_trip_us.store(u32::MAX, Ordering::Relaxed);
        }
    }

    fn inbox<T>(&self, ip: IpAddr, f: impl FnOnce(&mut Inbox) -> T) -> T {
        // Nothing panics while it holds the lock.
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        f(inboxes.entry(ip).or_default())
    }

    /// Takes in datagrams of `stride` bytes each (the last may be shorter) that came to the local address `ip`.
    pub(super) fn deliver(&self, ip: IpAddr, from: SocketAddr, batch: &Bytes, stride: usize) {
        let waker = self.inbox(ip, |inbox| {
            for start in (0..batch.len()).step_by(stride.max(1)) {
                let datagram = batch.slice(start..(start + stride).min(batch.len()));
                if inbox.datagrams.len() >= MAX_WAITING || inbox.bytes + datagram.len() > MAX_WAITING_BYTES {
                    break;
                }
                inbox.bytes += datagram.len();
                inbox.datagrams.push_back((from, datagram));
            }
            inbox.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The socket that `webrtc` believes to own: one connection at one local address.
#[derive(Debug)]
pub(in crate::transport) struct BranchSocket {
    pub(super) branch: Arc<Branch>,
    pub(super) trunk: Arc<Trunk>,
    /// The address of the socket that it bound.
    pub(super) local_addr: SocketAddr,
}

#[cfg(feature = "str0m")]
impl BranchSocket {
    /// All that was received and not taken yet.
    pub(in crate::transport) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<VecDeque<(SocketAddr, Bytes)>> {
        self.branch.inbox(self.trunk.ip(), |inbox| {
            if inbox.datagrams.is_empty() {
                inbox.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            inbox.bytes = 0;
            Poll::Ready(std::mem::take(&mut inbox.datagrams))
        })
    }
}

impl AsyncUdpSocket for BranchSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local_addr)
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        if let Some(Stun::Request { transaction, .. }) = stun::parse(transmit.contents) {
            self.trunk.routes().note_request(self.branch.id, self.trunk.ip(), transaction);
        } else if transmit.contents.first().is_some_and(|first| *first > 3) {
            self.branch.note_way(self.trunk.ip(), transmit.destination);
        }
        self.trunk.poll_send(self.branch.id, cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buf), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else { return Poll::Ready(Ok(0)) };
        let received = self.branch.inbox(self.trunk.ip(), |inbox| {
            while let Some((from, datagram)) = inbox.datagrams.pop_front() {
                inbox.bytes -= datagram.len();
                // One that does not fit is none of WebRTC's.
                if datagram.len() <= buf.len() {
                    return Some((from, datagram));
                }
            }
            inbox.waker = Some(cx.waker().clone());
            None
        });
        let Some((from, datagram)) = received else {
            self.branch.note_taken();
            return Poll::Pending;
        };
        buf[..datagram.len()].copy_from_slice(&datagram);
        *meta = RecvMeta::default();
        (meta.addr, meta.len, meta.stride) = (from, datagram.len(), datagram.len().max(1));
        Poll::Ready(Ok(1))
    }

    fn max_gso_segments(&self) -> usize {
        self.trunk.max_gso_segments()
    }
}

impl Drop for BranchSocket {
    fn drop(&mut self) {
        self.trunk.forget(self.branch.id);
    }
}
