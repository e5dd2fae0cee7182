//! A narrow path in userspace: a UDP relay with a rate, a delay, a queue that drops what does not fit, and random loss.
//!
//! Whoever connects through it is given the address of the end that faces it in place of the other's. The near end knows
//! its peer; the far end takes whoever speaks to it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

/// Bytes of IP and UDP headers, which the narrow link carries too.
const HEADERS: usize = 28;

/// What a path is like, in the direction away from its near end. The way back has the same delay and loss, and no
/// narrow link: it carries acknowledgements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Of the narrow link.
    pub(crate) bits_a_second: f64,
    /// One way.
    pub(crate) delay: Duration,
    /// Bytes that wait for the narrow link at most.
    pub(crate) queue: usize,
    /// Share of datagrams that vanish, each way.
    pub(crate) loss: f64,
}

/// A running path, on a thread of its own so that it is late as rarely as can be. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Path {
    /// For the other side.
    pub(crate) far: SocketAddr,
    /// Datagrams that found the queue full.
    pub(crate) overflowed: Arc<AtomicU64>,
    _stop: oneshot::Sender<()>,
}

impl Path {
    /// Starts a path whose near end's peer is at `peer`.
    pub(crate) async fn start(shape: Shape, peer: SocketAddr) -> io::Result<Self> {
        let (started, starting) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let overflowed = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&overflowed);
        std::thread::spawn(move || {
            prefer_this_thread();
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            runtime.block_on(async {
                match relay(shape, peer, counter).await {
                    Ok((address, _tasks)) => {
                        let _ = started.send(Ok(address));
                        // Ends with an error once the path is dropped.
                        let _ = stopped.await;
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            });
        });
        let far = starting.await.map_err(|_| io::ErrorKind::BrokenPipe)??;
        Ok(Self { far, overflowed, _stop: stop })
    }
}

/// A router is not late because the machine is busy: where this process may, its threads go before all others.
fn prefer_this_thread() {
    let thread = std::fs::read_link("/proc/thread-self").ok();
    let Some(id) = thread.as_deref().and_then(|path| path.file_name()) else { return };
    let preferred = std::process::Command::new("chrt").args(["-f", "-p", "1"]).arg(id).output();
    if !preferred.is_ok_and(|output| output.status.success()) {
        eprintln!("the path has no priority over other programs: on a busy machine it loses more than it should");
    }
}

async fn relay(
    shape: Shape,
    peer: SocketAddr,
    overflowed: Arc<AtomicU64>,
) -> io::Result<(SocketAddr, JoinSet<io::Result<()>>)> {
    let near = Arc::new(roomy(UdpSocket::bind((peer.ip(), 0)).await?)?);
    let far = Arc::new(roomy(UdpSocket::bind((peer.ip(), 0)).await?)?);
    let address = far.local_addr()?;
    let listener: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
    let mut tasks = JoinSet::new();
    let away = Way {
        from: Arc::clone(&near),
        to: Arc::clone(&far),
        shape: Some(shape),
        delay: shape.delay,
        loss: shape.loss,
        overflowed,
        link_free: Instant::now(),
        random: 0x9e37_79b9_7f4a_7c15,
    };
    let back = Way { from: far, to: near, shape: None, random: 0x2545_f491_4f6c_dd1d, ..away.clone() };
    tasks.spawn(away.run({
        let listener = Arc::clone(&listener);
        move |_| *listener.lock().unwrap_or_else(PoisonError::into_inner)
    }));
    tasks.spawn(back.run(move |from| {
        *listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
        Some(peer)
    }));
    Ok((address, tasks))
}

/// Buffers that never overflow before the path's own queue does.
fn roomy(socket: UdpSocket) -> io::Result<UdpSocket> {
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(8 << 20)?;
    options.set_send_buffer_size(8 << 20)?;
    Ok(socket)
}

/// One direction.
#[derive(Clone)]
struct Way {
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    shape: Option<Shape>,
    delay: Duration,
    loss: f64,
    overflowed: Arc<AtomicU64>,
    link_free: Instant,
    random: u64,
}

impl Way {
    async fn run(mut self, target: impl Fn(SocketAddr) -> Option<SocketAddr> + Send) -> io::Result<()> {
        let mut under_way: VecDeque<(Instant, SocketAddr, Vec<u8>)> = VecDeque::new();
        let mut buffer = vec![0; 2048];
        loop {
            let next = under_way.front().map(|(at, ..)| *at);
            tokio::select! {
                received = self.from.recv_from(&mut buffer) => {
                    let Ok((len, from)) = received else { continue };
                    let Some(target) = target(from) else { continue };
                    if let Some(at) = self.arrival(Instant::now(), len) {
                        under_way.push_back((at, target, buffer[..len].to_vec()));
                    }
                }
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {
                    let now = Instant::now();
                    while under_way.front().is_some_and(|(at, ..)| *at <= now) {
                        let Some((_, target, datagram)) = under_way.pop_front() else { break };
                        let _ = self.to.send_to(&datagram, target).await;
                    }
                }
            }
        }
    }

    /// When a datagram that comes now arrives at the other end, if it does.
    fn arrival(&mut self, now: Instant, len: usize) -> Option<Instant> {
        // xorshift64*: the same losses in every run.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let share = (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64;
        if share < self.loss {
            return None;
        }
        let Some(shape) = self.shape else { return Some(now + self.delay) };
        let bytes_a_second = shape.bits_a_second / 8.0;
        let waiting = self.link_free.saturating_duration_since(now).as_secs_f64() * bytes_a_second;
        if waiting as usize + len + HEADERS > shape.queue {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let takes = Duration::from_secs_f64((len + HEADERS) as f64 / bytes_a_second);
        self.link_free = self.link_free.max(now) + takes;
        Some(self.link_free + self.delay)
    }
}
