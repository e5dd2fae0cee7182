//! A narrow path whose link is the kernel's: rate and queue are `tbf`'s, so that no datagram on its way to a viewer waits for a
//! turn of this program. The viewers live in a network namespace behind it, with the queue on that side of the pair of virtual
//! interfaces: on the seed's side the kernel would hold the seed's socket back, as no router does.
//!
//! This kernel may have no `netem`. The whole round trip's delay is therefore on the way back, which carries
//! acknowledgements: the seed's address is local in the namespace too, where a helper hears what viewers send to it, and
//! this process lets it go on later, under the viewer's own address.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::path::{Shape, prefer_this_thread};

/// The two ends.
pub(crate) const SEED: Ipv4Addr = Ipv4Addr::new(10, 99, 99, 1);
const VIEWER: Ipv4Addr = Ipv4Addr::new(10, 99, 99, 2);

/// The link, in the namespace.
const LINK: &str = "link0";

/// What the link may send at once: two datagrams. What is longer, the kernel cuts first.
const BURST: usize = 3100;

/// A namespace with a link to it; gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one; only root may.
    pub(crate) fn start(shape: Shape) -> Result<Self> {
        let name = format!("hw{}", std::process::id());
        let here = Self { name: name.clone() };
        // What an earlier path of this process left.
        here.remove();
        let (near, far) = (here.near(), format!("{name}b"));
        let rate = format!("{}bit", shape.bits_a_second as u64);
        ip(&["netns", "add", &name])?;
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "address", MAC, "netns", &name])?;
        ip(&["addr", "add", &format!("{SEED}/30"), "dev", &near])?;
        ip(&["link", "set", &near, "up"])?;
        ip(&["neigh", "add", &VIEWER.to_string(), "lladdr", MAC, "dev", &near, "nud", "permanent"])?;
        ip(&["-n", &name, "addr", "add", &format!("{VIEWER}/30"), "dev", &far])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        ip(&["-n", &name, "link", "set", &far, "up"])?;
        ip(&["-n", &name, "addr", "add", &format!("{SEED}/32"), "dev", "lo"])?;
        ip(&["-n", &name, "route", "add", "default", "dev", &far])?;
        // What comes from the seed has an address that is local there as well.
        for setting in [format!("net.ipv4.conf.{far}.accept_local=1"), format!("net.ipv4.conf.{far}.rp_filter=0")] {
            run(here.inside("sysctl").args(["-q", "-w", &setting]))?;
        }
        let (limit, burst) = (shape.queue.to_string(), BURST.to_string());
        ip(&["-n", &name, "link", "add", LINK, "type", "ifb"])?;
        ip(&["-n", &name, "link", "set", LINK, "up"])?;
        here.tc(&["qdisc", "add", "dev", LINK, "root", "tbf", "rate", &rate, "burst", &burst, "limit", &limit])?;
        here.tc(&["qdisc", "add", "dev", &far, "ingress"])?;
        let all = ["protocol", "ip", "u32", "match", "u32", "0", "0"];
        let filter = ["filter", "add", "dev", &far, "ingress"].into_iter().chain(all);
        let through: Vec<&str> = filter.chain(["action", "mirred", "egress", "redirect", "dev", LINK]).collect();
        here.tc(&through)?;
        Ok(here)
    }

    fn tc(&self, arguments: &[&str]) -> Result<()> {
        run(Command::new("tc").args(["-n", &self.name]).args(arguments))
    }

    fn near(&self) -> String {
        format!("{}a", self.name)
    }

    /// A command that runs in it.
    pub(crate) fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Datagrams that found the queue full.
    pub(crate) fn overflowed(&self) -> u64 {
        let told = Command::new("tc").args(["-n", &self.name, "-s", "qdisc", "show", "dev", LINK]).output();
        let told = told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let dropped = told.split("dropped ").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
        dropped.unwrap_or(u64::MAX)
    }

    fn remove(&self) {
        // The pair of interfaces goes with it.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
        let _ = Command::new("ip").args(["link", "del", &self.near()]).stderr(Stdio::null()).status();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Of the far interface, so that nobody need ask for it.
const MAC: &str = "02:00:00:48:57:02";

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// How late the way back was: what came of each datagram's time.
pub(crate) type Lateness = Arc<Mutex<Vec<Duration>>>;

/// The way back of all viewers in a namespace to one port of the seed.
#[derive(Debug)]
pub(crate) struct WayBack {
    helper: Child,
    pub(crate) late: Lateness,
}

impl WayBack {
    pub(crate) fn start(namespace: &Namespace, port: u16, delay: Duration) -> Result<Self> {
        let program = std::env::current_exe()?;
        let Some(program) = program.to_str() else { bail!("an odd path of this program") };
        let mut helper = namespace.inside(program);
        let mut helper = helper.args(["listen", &port.to_string()]).stdout(Stdio::piped()).spawn()?;
        let mut heard = helper.stdout.take().context("no stdout")?;
        // Bounded by what viewers send in one delay.
        let (under_way, arriving) = mpsc::channel::<(Instant, u16, Vec<u8>)>();
        let late = Lateness::default();
        std::thread::spawn({
            let late = Arc::clone(&late);
            move || {
                prefer_this_thread();
                let mut senders: BTreeMap<u16, UdpSocket> = BTreeMap::new();
                while let Ok((due, from, datagram)) = arriving.recv() {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    late.lock().unwrap_or_else(PoisonError::into_inner).push(due.elapsed());
                    if let std::collections::btree_map::Entry::Vacant(place) = senders.entry(from)
                        && let Ok(socket) = disguised(from)
                    {
                        place.insert(socket);
                    }
                    if let Some(socket) = senders.get(&from) {
                        let _ = socket.send_to(&datagram, (SEED, port));
                    }
                }
            }
        });
        std::thread::spawn(move || {
            prefer_this_thread();
            let mut head = [0; 4];
            while heard.read_exact(&mut head).is_ok() {
                let [len, from] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_le_bytes);
                let mut datagram = vec![0; usize::from(len)];
                let came = heard.read_exact(&mut datagram);
                if came.is_err() || under_way.send((Instant::now() + delay, from, datagram)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { helper, late })
    }
}

impl Drop for WayBack {
    fn drop(&mut self) {
        let _ = self.helper.kill();
        let _ = self.helper.wait();
    }
}

/// A socket that sends under the viewer's address, which is none of this side's.
fn disguised(port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_ip_transparent_v4(true)?;
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(VIEWER, port)).into())?;
    Ok(socket.into())
}

/// The helper in the namespace: hands what comes for the seed to its standard output, with length and port of whom it is from.
pub(crate) fn listen(port: u16) -> Result<()> {
    prefer_this_thread();
    let socket = UdpSocket::bind((SEED, port))?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
    let mut buffer = vec![0; 4 + 2048];
    let mut out = io::stdout().lock();
    loop {
        let (len, from) = socket.recv_from(&mut buffer[4..])?;
        // A datagram's length fits.
        buffer[..2].copy_from_slice(&(len as u16).to_le_bytes());
        buffer[2..4].copy_from_slice(&from.port().to_le_bytes());
        out.write_all(&buffer[..4 + len])?;
        out.flush()?;
    }
}
