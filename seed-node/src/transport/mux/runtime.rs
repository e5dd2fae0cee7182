//! Where connections bind, and how large their sockets' buffers are.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

/// Kernel buffers of a UDP socket, each way. The default of some 200 KiB overflows within one burst of a fast sender;
/// measured natively, 4 MiB carry seven times as much.
const SOCKET_BUFFER_LEN: usize = 4 * 1024 * 1024;

/// Tokio, with larger socket buffers: `webrtc` has no option for these, but hands every socket through its runtime.
#[derive(Debug)]
pub(super) struct RoomyRuntime(pub(super) TokioRuntime);

impl Runtime for RoomyRuntime {
    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let options = socket2::SockRef::from(&socket);
        // The kernel caps what is asked for (net.core.[rw]mem_max); less room is slower and no error.
        if let Err(error) = options
            .set_recv_buffer_size(SOCKET_BUFFER_LEN)
            .and_then(|()| options.set_send_buffer_size(SOCKET_BUFFER_LEN))
        {
            tracing::debug!(%error, "cannot enlarge the buffers of a UDP socket");
        }
        self.0.wrap_udp_socket(socket)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        self.0.spawn(future)
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.0.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        remote_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        self.0.connect_tcp(remote_addr)
    }

    fn resolve_host<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        self.0.resolve_host(host)
    }

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.0.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.0.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.0.block_on(future);
    }

    fn yield_now(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.0.yield_now()
    }

    fn name(&self) -> &'static str {
        self.0.name()
    }
}

/// The addresses to bind, each on a port of the system's choice: those of all interfaces that another machine could
/// reach, and loopback, for viewers on this very machine.
pub(super) fn bind_addresses() -> Vec<SocketAddr> {
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
    addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
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
        let addresses = bind_addresses();
        assert_eq!(addresses.iter().filter(|address| address.ip().is_loopback()).count(), 1);
        assert!(!is_reachable(&"169.254.1.1".parse().unwrap()));
        assert!(!is_reachable(&"fe80::1".parse().unwrap()));
        assert!(is_reachable(&"192.0.2.1".parse().unwrap()));
    }
}
