//! Many connections on one UDP port, and on one TCP port where there is one.
//!
//! `webrtc` 0.21 binds sockets for each connection and hands them through its runtime. Here the runtime throws them away
//! and gives it a [`branch`] of the shared sockets (a [`trunk`] for each local address) in their place; [`routes`] finds
//! whose a datagram is, and candidates are told with the shared port in place of the one that was thrown away.

mod branch;
mod routes;
mod runtime;
mod stun;
mod tcp;
mod trunk;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub(super) use branch::Branch;
#[cfg(feature = "str0m")]
pub(super) use branch::BranchSocket;
use routes::{BranchId, Routes};
pub(super) use runtime::BranchRuntime;
use tcp::TcpTrunk;
use trunk::Trunk;

/// How often a port that is free at one address is looked for at all others, where any will do.
const PORT_ATTEMPTS: usize = 16;

/// Where connections bind, and how they are known from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MuxOptions {
    /// The UDP port; 0 for any that is free.
    pub port: u16,
    /// The TCP port for viewers whose network lets no UDP through; `None` for none, 0 for any that is free.
    pub tcp_port: Option<u16>,
    /// Addresses to bind; none for all of this machine.
    pub bind: Vec<IpAddr>,
    /// Addresses of this machine as others see them, where a router translates: the port is the same there.
    pub public: Vec<IpAddr>,
}

/// The shared sockets.
#[derive(Debug)]
pub(super) struct Mux {
    options: MuxOptions,
    trunks: Mutex<BTreeMap<IpAddr, Arc<Trunk>>>,
    tcp_trunks: Mutex<BTreeMap<IpAddr, Arc<TcpTrunk>>>,
    routes: Arc<Routes>,
    next: AtomicU64,
}

/// A connection's place among the others; the routes to it go when this does.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) branch: Arc<Branch>,
    trunks: Arc<BTreeMap<IpAddr, Arc<Trunk>>>,
    tcp_trunks: BTreeMap<IpAddr, Arc<TcpTrunk>>,
    routes: Arc<Routes>,
    public: Vec<IpAddr>,
}

impl Mux {
    pub(super) fn new(options: MuxOptions) -> Self {
        let (trunks, tcp_trunks) = (Mutex::default(), Mutex::default());
        Self { options, trunks, tcp_trunks, routes: Arc::default(), next: AtomicU64::new(0) }
    }

    /// Binds what is not bound yet: interfaces come and go. Gives the shared addresses.
    pub(super) fn bind(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses = self.trunks()?.values().map(|trunk| trunk.address()).collect();
        self.tcp_trunks()?;
        Ok(addresses)
    }

    /// A place for one more connection.
    pub(super) fn place(&self, ufrag: String) -> io::Result<Place> {
        let trunks = Arc::new(self.trunks()?);
        let tcp_trunks = self.tcp_trunks()?;
        let branch = Branch::new(BranchId(self.next.fetch_add(1, Ordering::Relaxed)), ufrag);
        self.routes.insert(&branch);
        let (routes, public) = (Arc::clone(&self.routes), self.options.public.clone());
        Ok(Place { branch, trunks, tcp_trunks, routes, public })
    }

    fn wanted(&self) -> Vec<IpAddr> {
        if self.options.bind.is_empty() { local_addresses() } else { self.options.bind.clone() }
    }

    fn tcp_trunks(&self) -> io::Result<BTreeMap<IpAddr, Arc<TcpTrunk>>> {
        let Some(port) = self.options.tcp_port else { return Ok(BTreeMap::new()) };
        let wanted = self.wanted();
        // Nothing panics while it holds the lock.
        let mut trunks = self.tcp_trunks.lock().unwrap_or_else(PoisonError::into_inner);
        trunks.retain(|ip, _| wanted.contains(ip));
        let missing: Vec<IpAddr> = wanted.into_iter().filter(|ip| !trunks.contains_key(ip)).collect();
        if !missing.is_empty() {
            let port = trunks.values().next().map_or(port, |trunk| trunk.address().port());
            for listener in bind_all::<TcpListener>(&missing, port, !self.options.bind.is_empty())? {
                let trunk = TcpTrunk::start(listener, &self.routes)?;
                trunks.insert(trunk.address().ip(), Arc::new(trunk));
            }
        }
        Ok(trunks.clone())
    }

    fn trunks(&self) -> io::Result<BTreeMap<IpAddr, Arc<Trunk>>> {
        let wanted = self.wanted();
        // Nothing panics while it holds the lock.
        let mut trunks = self.trunks.lock().unwrap_or_else(PoisonError::into_inner);
        // A trunk whose address is gone stays with the connections that have it.
        trunks.retain(|ip, _| wanted.contains(ip));
        let missing: Vec<IpAddr> = wanted.into_iter().filter(|ip| !trunks.contains_key(ip)).collect();
        if missing.is_empty() {
            return Ok(trunks.clone());
        }
        let port = trunks.values().next().map_or(self.options.port, |trunk| trunk.address().port());
        for socket in bind_all::<UdpSocket>(&missing, port, !self.options.bind.is_empty())? {
            let trunk = Trunk::start(socket, &self.routes)?;
            trunks.insert(trunk.ip(), Arc::new(trunk));
        }
        Ok(trunks.clone())
    }
}

/// What is bound to a port.
trait Bound: Sized {
    const KIND: &str;
    fn bind(address: SocketAddr) -> io::Result<Self>;
    fn port(&self) -> io::Result<u16>;
}

impl Bound for UdpSocket {
    const KIND: &str = "UDP";

    fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::bind(address)
    }

    fn port(&self) -> io::Result<u16> {
        self.local_addr().map(|address| address.port())
    }
}

impl Bound for TcpListener {
    const KIND: &str = "TCP";

    fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::bind(address)
    }

    fn port(&self) -> io::Result<u16> {
        self.local_addr().map(|address| address.port())
    }
}

/// Binds one port at all addresses. An interface that is going away may refuse, unless a person named its address.
fn bind_all<B: Bound>(ips: &[IpAddr], port: u16, strict: bool) -> io::Result<Vec<B>> {
    let mut failure = None;
    for _ in 0..if port == 0 { PORT_ATTEMPTS } else { 1 } {
        let (mut sockets, mut port) = (Vec::new(), port);
        failure = None;
        for ip in ips {
            match B::bind((*ip, port).into()) {
                Ok(socket) => {
                    port = socket.port()?;
                    sockets.push(socket);
                }
                Err(error) if !strict && error.kind() == io::ErrorKind::AddrNotAvailable => {}
                Err(error) => {
                    let message = format!("cannot bind {} port {port} at {ip}: {error}", B::KIND);
                    failure = Some(io::Error::new(error.kind(), message));
                    break;
                }
            }
        }
        if failure.is_none() {
            return Ok(sockets);
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

impl Place {
    /// What `webrtc` is to bind: a socket of its own at each shared address, which [`BranchRuntime`] throws away.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.trunks.keys().map(|ip| SocketAddr::new(*ip, 0)).collect()
    }

    /// The same for TCP.
    pub(super) fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.tcp_trunks.keys().map(|ip| SocketAddr::new(*ip, 0)).collect()
    }

    /// What hands it a share in place of each.
    pub(super) fn runtime(&self) -> BranchRuntime {
        BranchRuntime::new(Arc::clone(&self.branch), Arc::clone(&self.trunks))
    }

    /// Its share of each shared socket, for a stack that has no sockets of its own.
    #[cfg(feature = "str0m")]
    pub(super) fn sockets(&self) -> Vec<BranchSocket> {
        let socket = |trunk: &Arc<Trunk>| BranchSocket {
            branch: Arc::clone(&self.branch),
            trunk: Arc::clone(trunk),
            local_addr: trunk.address(),
        };
        self.trunks.values().map(socket).collect()
    }

    /// A local candidate as the other side is to know it: one or, with public addresses, more lines.
    pub(super) fn tell(&self, candidate: &str) -> Vec<String> {
        let mut words: Vec<String> = candidate.split(' ').map(str::to_owned).collect();
        let is_tcp = words.get(2).is_some_and(|transport| transport.eq_ignore_ascii_case("tcp"));
        let at = words.get(4).and_then(|ip| ip.parse::<IpAddr>().ok()).map(|ip| (ip, self.port(ip, is_tcp)));
        let kind = words.get(7).map(String::as_str);
        if words.iter().any(|word| word == "active") {
            // Viewers connect to seeds, over TCP: browsers take no streams.
            return Vec::new();
        }
        match (kind, at) {
            (Some("host"), Some((ip, Some(port)))) => {
                words[5] = port.to_string();
                let mut lines = vec![words.join(" ")];
                let seen = |public: &&IpAddr| public.is_ipv4() == ip.is_ipv4() && !ip.is_loopback();
                for public in self.public.iter().filter(seen) {
                    let mut words = words.clone();
                    words[0] += "p";
                    words[4] = public.to_string();
                    lines.push(words.join(" "));
                }
                lines
            }
            (Some("srflx"), _) => {
                // Where it was asked from is of no use to the other side, and nobody's business.
                for (word, plain) in [("raddr", "0.0.0.0"), ("rport", "0")] {
                    if let Some(value) =
                        words.iter().position(|known| known == word).and_then(|at| words.get_mut(at + 1))
                    {
                        plain.clone_into(value);
                    }
                }
                vec![words.join(" ")]
            }
            _ => vec![candidate.to_owned()],
        }
    }

    fn port(&self, ip: IpAddr, is_tcp: bool) -> Option<u16> {
        if is_tcp {
            self.tcp_trunks.get(&ip).map(|trunk| trunk.address().port())
        } else {
            self.trunks.get(&ip).map(|trunk| trunk.address().port())
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.routes.remove(self.branch.id());
    }
}

/// The addresses of all interfaces that another machine could reach, and loopback, for viewers on this very machine.
fn local_addresses() -> Vec<IpAddr> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    match rtc::shared::ifaces::ifaces() {
        Ok(interfaces) => {
            let usable = interfaces.into_iter().filter_map(|interface| interface.addr).map(|address| address.ip());
            addresses.extend(usable.filter(is_reachable));
        }
        Err(error) => tracing::warn!(%error, "cannot list the network interfaces; only this machine can connect"),
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn is_reachable(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !link_local && !ip.is_loopback() && !ip.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_bound_once_and_link_local_never() {
        assert_eq!(local_addresses().iter().filter(|address| address.is_loopback()).count(), 1);
        assert!(!is_reachable(&"169.254.1.1".parse().unwrap()));
        assert!(!is_reachable(&"fe80::1".parse().unwrap()));
        assert!(is_reachable(&"192.0.2.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn all_connections_are_told_of_by_one_port() {
        let options = MuxOptions { bind: vec![Ipv4Addr::LOCALHOST.into()], ..MuxOptions::default() };
        let mux = Mux::new(options);
        let port = mux.bind().unwrap()[0].port();
        for ufrag in ["aaaa", "bbbb"] {
            let place = mux.place(ufrag.to_owned()).unwrap();
            assert_eq!(place.addresses(), [SocketAddr::from(([127, 0, 0, 1], 0))]);
            let told = place.tell("candidate:1 1 udp 2130706431 127.0.0.1 40000 typ host");
            assert_eq!(told, [format!("candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host")]);
        }
        assert_eq!(mux.routes.len(), 0, "dropped places leave no routes");
    }

    #[tokio::test]
    async fn public_addresses_are_told_beside_the_private_ones() {
        let local = local_addresses().into_iter().find(|ip| ip.is_ipv4() && !ip.is_loopback());
        let Some(local) = local else { return };
        let public: Vec<IpAddr> = vec!["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let mux = Mux::new(MuxOptions { bind: vec![local], public, ..MuxOptions::default() });
        let place = mux.place("aaaa".to_owned()).unwrap();
        let port = mux.bind().unwrap()[0].port();
        let told = place.tell(&format!("candidate:1 1 udp 2130706431 {local} 40000 typ host"));
        assert_eq!(told[1..], [format!("candidate:1p 1 udp 2130706431 203.0.113.7 {port} typ host")]);
        let told = place.tell("candidate:2 1 udp 1694498815 198.51.100.2 5000 typ srflx raddr 10.0.0.2 rport 40000");
        assert_eq!(told, ["candidate:2 1 udp 1694498815 198.51.100.2 5000 typ srflx raddr 0.0.0.0 rport 0"]);
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind_all::<UdpSocket>(&[Ipv4Addr::LOCALHOST.into()], port, true).unwrap_err();
        assert!(error.to_string().contains(&format!("UDP port {port} at 127.0.0.1")), "{error}");
    }
}
