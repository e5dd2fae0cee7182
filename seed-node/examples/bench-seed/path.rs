//! A narrow path in userspace: a UDP relay with a rate, a delay, a queue that drops what does not fit, and random loss.
//!
//! Whoever connects through it is given the address of the end that faces it in place of the other's. The near end knows
//! its peer; the far end takes whoever speaks to it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Bytes of IP and UDP headers, which the narrow link carries too.
const HEADERS: usize = 28;

/// What a late program may catch up with at once. A link never carries faster than its rate: without this, a few
/// milliseconds in which this machine did something else would arrive as a burst that no such link can deliver.
const CATCH_UP: Duration = Duration::from_micros(500);

/// How much faster than the link what is late leaves, so that lateness does not stay for good.
const CATCH_UP_RATE: f64 = 1.1;

/// Datagrams due within this are sent together: shorter sleeps cost more than they are worth.
const TOGETHER: Duration = Duration::from_micros(100);

/// How often a reader looks whether the path is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(200);

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

/// A running path, on threads of its own so that it is late as rarely as can be. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Path {
    /// For the other side.
    pub(crate) far: SocketAddr,
    /// Datagrams that found the queue full.
    pub(crate) overflowed: Arc<AtomicU64>,
    /// How much later than they were due datagrams left.
    pub(crate) late: Arc<Mutex<Vec<Duration>>>,
    stop: Arc<AtomicBool>,
}

impl Path {
    /// Starts a path whose near end's peer is at `peer`.
    pub(crate) fn start(shape: Shape, peer: SocketAddr) -> io::Result<Self> {
        let near = Arc::new(roomy(UdpSocket::bind((peer.ip(), 0))?)?);
        let far = Arc::new(roomy(UdpSocket::bind((peer.ip(), 0))?)?);
        let address = far.local_addr()?;
        let (overflowed, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let late = Arc::default();
        let listener: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let away = Way {
            from: Arc::clone(&near),
            to: Arc::clone(&far),
            shape: Some(shape),
            delay: shape.delay,
            loss: shape.loss,
            overflowed: Arc::clone(&overflowed),
            late: Arc::clone(&late),
            stop: Arc::clone(&stop),
            link_free: Instant::now(),
            random: 0x9e37_79b9_7f4a_7c15,
        };
        let back = Way { from: far, to: near, shape: None, random: 0x2545_f491_4f6c_dd1d, ..away.clone() };
        away.start({
            let listener = Arc::clone(&listener);
            move |_| *listener.lock().unwrap_or_else(PoisonError::into_inner)
        });
        back.start(move |from| {
            *listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
            Some(peer)
        });
        Ok(Self { far: address, overflowed, late, stop })
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A router is not late because the machine is busy: where this process may, its threads go before all others.
pub(crate) fn prefer_this_thread() {
    let thread = std::fs::read_link("/proc/thread-self").ok();
    let Some(id) = thread.as_deref().and_then(|path| path.file_name()) else { return };
    let preferred = Command::new("chrt").args(["-f", "-p", "1"]).arg(id).output();
    if !preferred.is_ok_and(|output| output.status.success()) {
        eprintln!("the path has no priority over other programs: on a busy machine it loses more than it should");
    }
}

/// Buffers that never overflow before the path's own queue does.
fn roomy(socket: UdpSocket) -> io::Result<UdpSocket> {
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(8 << 20)?;
    options.set_send_buffer_size(8 << 20)?;
    socket.set_read_timeout(Some(LOOK_EVERY))?;
    Ok(socket)
}

/// A datagram on its way: when it arrives, where, and how long the link is busy with it.
type UnderWay = (Instant, SocketAddr, Vec<u8>, Duration);

/// One direction.
#[derive(Clone)]
struct Way {
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    shape: Option<Shape>,
    delay: Duration,
    loss: f64,
    overflowed: Arc<AtomicU64>,
    late: Arc<Mutex<Vec<Duration>>>,
    stop: Arc<AtomicBool>,
    link_free: Instant,
    random: u64,
}

impl Way {
    /// One thread takes datagrams in, one lets them out when they are due.
    fn start(mut self, target: impl Fn(SocketAddr) -> Option<SocketAddr> + Send + 'static) {
        // No bound of its own: what comes in is bounded by the path's queue, or by what the other side acknowledges.
        let (under_way, arriving) = mpsc::channel();
        let to = Arc::clone(&self.to);
        let late = Arc::clone(&self.late);
        std::thread::spawn(move || let_out(&to, &arriving, &late));
        std::thread::spawn(move || {
            prefer_this_thread();
            let mut buffer = vec![0; 2048];
            while !self.stop.load(Ordering::Relaxed) {
                let Ok((len, from)) = self.from.recv_from(&mut buffer) else { continue };
                let Some(target) = target(from) else { continue };
                let Some(at) = self.arrival(Instant::now(), len) else { continue };
                if under_way.send((at, target, buffer[..len].to_vec(), self.takes(len))).is_err() {
                    return;
                }
            }
        });
    }

    /// How long the narrow link is busy with a datagram.
    fn takes(&self, len: usize) -> Duration {
        let Some(shape) = self.shape else { return Duration::ZERO };
        Duration::from_secs_f64((len + HEADERS) as f64 * 8.0 / shape.bits_a_second)
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
        self.link_free = self.link_free.max(now) + self.takes(len);
        Some(self.link_free + self.delay)
    }
}

/// Sends each datagram when it is due, and never faster than the link carries.
fn let_out(to: &UdpSocket, arriving: &mpsc::Receiver<UnderWay>, late: &Mutex<Vec<Duration>>) {
    prefer_this_thread();
    let mut free = Instant::now();
    while let Ok((at, target, datagram, takes)) = arriving.recv() {
        let due = at.max(free);
        let now = Instant::now();
        if due > now + TOGETHER {
            std::thread::sleep(due - now);
        }
        late.lock().unwrap_or_else(PoisonError::into_inner).push(at.elapsed());
        let _ = to.send_to(&datagram, target);
        let earliest = Instant::now().checked_sub(CATCH_UP).unwrap_or(now);
        free = free.max(earliest) + takes.div_f64(CATCH_UP_RATE);
    }
}
