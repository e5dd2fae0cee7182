//! The runtime that `webrtc` runs a connection on: Tokio, but for its sockets.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

use super::branch::{Branch, BranchSocket};
use super::trunk::Trunk;

/// Gives one connection its share of the sockets in place of those that it binds.
#[derive(Debug)]
pub(in crate::transport) struct BranchRuntime {
    tokio: TokioRuntime,
    branch: Arc<Branch>,
    trunks: Arc<BTreeMap<IpAddr, Arc<Trunk>>>,
}

impl BranchRuntime {
    pub(super) fn new(branch: Arc<Branch>, trunks: Arc<BTreeMap<IpAddr, Arc<Trunk>>>) -> Self {
        Self { tokio: TokioRuntime, branch, trunks }
    }
}

impl Runtime for BranchRuntime {
    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let local_addr = socket.local_addr()?;
        let trunk = self.trunks.get(&local_addr.ip()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Arc::new(BranchSocket { branch: Arc::clone(&self.branch), trunk: Arc::clone(trunk), local_addr }))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        self.tokio.spawn(future)
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        Ok(Arc::new(self.branch.open_door(listener.local_addr()?)))
    }

    fn connect_tcp<'a>(
        &'a self,
        remote_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        self.tokio.connect_tcp(remote_addr)
    }

    fn resolve_host<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        self.tokio.resolve_host(host)
    }

    fn now(&self) -> Instant {
        self.tokio.now()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.tokio.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.tokio.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.tokio.block_on(future);
    }

    fn yield_now(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.tokio.yield_now()
    }

    fn name(&self) -> &'static str {
        self.tokio.name()
    }
}
