//! Many WebSocket connections on one epoll. What happened in a turn is a list of events; what is sent in a turn goes out
//! with one write a connection at its end.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::frame::{self, Kind};

/// Read at once.
const CHUNK: usize = 64 * 1024;

/// Where connections go.
pub(crate) struct Target {
    addr: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    /// With TLS where there is a certificate to trust.
    pub(crate) fn new(addr: SocketAddr, ca: Option<&Path>) -> Result<Self> {
        let tls = ca.map(client_config).transpose()?;
        Ok(Self { addr, tls })
    }
}

fn client_config(ca: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).with_context(|| format!("cannot read {}", ca.display()))? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// A connection by number; numbers are used again.
pub(crate) type Id = usize;

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The handshake is done.
    Open(Id),
    /// A message; its text is at this place of [`Pool::text`].
    Text(Id, Range<usize>),
    /// The connection is gone.
    Closed(Id),
}

struct Connection {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    is_open: bool,
    received: Vec<u8>,
    out: Vec<u8>,
    is_dirty: bool,
}

/// See the module.
pub(crate) struct Pool<'a> {
    target: &'a Target,
    path: &'a str,
    poll: Poll,
    ready: Events,
    connections: Vec<Option<Connection>>,
    free: Vec<Id>,
    dirty: Vec<Id>,
    chunk: Box<[u8]>,
    texts: Vec<u8>,
    never_sleeps: bool,
}

impl<'a> Pool<'a> {
    /// Looks for events all the time from now on. A generator that sleeps is woken by every answer: the server would pay for that,
    /// and the time until it is awake would count as the server's.
    pub(crate) const fn never_sleep(&mut self) {
        self.never_sleeps = true;
    }

    pub(crate) fn new(target: &'a Target, path: &'a str) -> Result<Self> {
        Ok(Self {
            target,
            path,
            poll: Poll::new()?,
            ready: Events::with_capacity(1024),
            connections: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            texts: Vec::new(),
            never_sleeps: false,
        })
    }

    /// Starts a connection.
    pub(crate) fn open(&mut self) -> Result<Id> {
        let mut stream = TcpStream::connect(self.target.addr)?;
        let id = self.free.pop().unwrap_or(self.connections.len());
        self.poll.registry().register(&mut stream, Token(id), Interest::READABLE | Interest::WRITABLE)?;
        let tls = match &self.target.tls {
            None => None,
            Some(config) => {
                let name = ServerName::try_from("localhost")?;
                Some(Box::new(ClientConnection::new(Arc::clone(config), name)?))
            }
        };
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.path
        );
        let connection = Connection {
            stream,
            tls,
            is_open: false,
            received: Vec::new(),
            out: request.into_bytes(),
            is_dirty: false,
        };
        match self.connections.get_mut(id) {
            Some(slot) => *slot = Some(connection),
            None => self.connections.push(Some(connection)),
        }
        Ok(id)
    }

    /// Opens so many, a few at a time, until all are open.
    pub(crate) fn open_all(&mut self, count: usize, mut on_open: impl FnMut(&mut Self, Id)) -> Result<()> {
        self.open_all_and_hear(count, |pool, event| {
            if let Event::Open(id) = *event {
                on_open(pool, id);
            }
        })
    }

    /// The same; what those that are open hear meanwhile is handed on as well.
    pub(crate) fn open_all_and_hear(
        &mut self,
        count: usize,
        mut on_event: impl FnMut(&mut Self, &Event),
    ) -> Result<()> {
        /// Under way at once: below any server's backlog.
        const AT_ONCE: usize = 64;
        const PATIENCE: Duration = Duration::from_secs(5);
        let (mut started, mut opened) = (0, 0);
        let mut events = Vec::new();
        let mut progress = Instant::now();
        while opened < count {
            while started < count && started - opened < AT_ONCE {
                self.open()?;
                started += 1;
            }
            self.turn(Duration::from_millis(100), &mut events)?;
            if !events.is_empty() {
                progress = Instant::now();
            } else if progress.elapsed() > PATIENCE {
                bail!("the server let handshakes wait, after {opened} of {count} connections");
            }
            for event in events.drain(..) {
                match event {
                    Event::Open(_) => opened += 1,
                    Event::Text(..) => {}
                    Event::Closed(_) => bail!("the server closed a connection after {opened} of {count} were open"),
                }
                on_event(self, &event);
            }
        }
        Ok(())
    }

    /// Ends a connection without a word.
    pub(crate) fn close(&mut self, id: Id) {
        if let Some(slot) = self.connections.get_mut(id)
            && let Some(mut connection) = slot.take()
        {
            let _ = self.poll.registry().deregister(&mut connection.stream);
            self.free.push(id);
        }
    }

    /// Queues a message, sent at the next turn.
    pub(crate) fn send(&mut self, id: Id, text: &[u8]) {
        if let Some(Some(connection)) = self.connections.get_mut(id) {
            frame::write_text(&mut connection.out, text);
            if !connection.is_dirty {
                connection.is_dirty = true;
                self.dirty.push(id);
            }
        }
    }

    /// The text of an event of the last turn.
    pub(crate) fn text(&self, range: &Range<usize>) -> &[u8] {
        self.texts.get(range.clone()).unwrap_or_default()
    }

    /// Sends what is queued, then waits for something to happen, at most so long.
    pub(crate) fn turn(&mut self, most: Duration, events: &mut Vec<Event>) -> Result<()> {
        self.texts.clear();
        for id in std::mem::take(&mut self.dirty) {
            self.write(id, events);
        }
        let began = Instant::now();
        loop {
            let patience = if self.never_sleeps { Duration::ZERO } else { most };
            match self.poll.poll(&mut self.ready, Some(patience)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
                other => other?,
            }
            if !self.never_sleeps || !self.ready.is_empty() || began.elapsed() >= most {
                break;
            }
        }
        let ready: Vec<(Id, bool, bool)> =
            self.ready.iter().map(|event| (event.token().0, event.is_readable(), event.is_writable())).collect();
        for (id, readable, writable) in ready {
            if writable {
                self.write(id, events);
            }
            if readable {
                self.read(id, events);
            }
        }
        Ok(())
    }

    fn write(&mut self, id: Id, events: &mut Vec<Event>) {
        let Some(Some(connection)) = self.connections.get_mut(id) else { return };
        connection.is_dirty = false;
        if connection.write().is_err() {
            self.close(id);
            events.push(Event::Closed(id));
        }
    }

    fn read(&mut self, id: Id, events: &mut Vec<Event>) {
        let Some(Some(connection)) = self.connections.get_mut(id) else { return };
        let was_open = connection.is_open;
        let alive = connection.read(&mut self.chunk, |text| {
            let start = self.texts.len();
            self.texts.extend_from_slice(text);
            events.push(Event::Text(id, start..self.texts.len()));
        });
        if connection.is_open && !was_open {
            // The server speaks only when it was spoken to: no text came before.
            events.push(Event::Open(id));
        }
        if alive.is_err() {
            self.close(id);
            events.push(Event::Closed(id));
        } else if !connection.out.is_empty() {
            // A pong, or the request that waited for the TLS handshake.
            self.write(id, events);
        }
    }
}

impl Connection {
    fn write(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => {
                let mut written = 0;
                let result = loop {
                    match self.out.get(written..) {
                        None | Some([]) => break Ok(()),
                        Some(rest) => match self.stream.write(rest) {
                            Ok(count) => written += count,
                            Err(error) => break pending(error),
                        },
                    }
                };
                self.out.drain(..written);
                result
            }
            Some(tls) => {
                if !tls.is_handshaking() && !self.out.is_empty() {
                    tls.writer().write_all(&self.out)?;
                    self.out = Vec::new();
                }
                while tls.wants_write() {
                    if let Err(error) = tls.write_tls(&mut self.stream) {
                        return pending(error);
                    }
                }
                Ok(())
            }
        }
    }

    /// Reads all there is.
    fn read(&mut self, chunk: &mut [u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let count = match &mut self.tls {
                None => self.stream.read(chunk),
                Some(tls) => read_tls(tls, &mut self.stream, chunk),
            };
            match count {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    let whole = count < chunk.len() && self.tls.is_none();
                    self.take(chunk.get(..count).unwrap_or_default(), &mut take)?;
                    if whole {
                        break;
                    }
                }
                Err(error) => {
                    pending(error)?;
                    break;
                }
            }
        }
        if self.tls.as_ref().is_some_and(|tls| tls.wants_write()) || (self.tls.is_some() && !self.out.is_empty()) {
            self.write()?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        self.received.extend_from_slice(bytes);
        let mut used = 0;
        if !self.is_open {
            let Some(end) = memchr::memmem::find(&self.received, b"\r\n\r\n") else { return Ok(()) };
            if !self.received.starts_with(b"HTTP/1.1 101 ") {
                return Err(ErrorKind::ConnectionRefused.into());
            }
            self.is_open = true;
            used = end + 4;
        }
        while let Some((kind, payload)) = frame::read(self.received.get(used..).unwrap_or_default()) {
            let (start, end) = (used + payload.start, used + payload.end);
            match kind {
                Kind::Text => take(self.received.get(start..end).unwrap_or_default()),
                Kind::Ping => frame::write_pong(&mut self.out),
                Kind::Close => return Err(ErrorKind::ConnectionAborted.into()),
                Kind::Other => {}
            }
            used = end;
        }
        if used == self.received.len() {
            // Ten thousand idle connections of the generator should not hold buffers either.
            self.received = Vec::new();
        } else {
            self.received.drain(..used);
        }
        Ok(())
    }
}

fn read_tls(tls: &mut ClientConnection, stream: &mut TcpStream, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match tls.reader().read(chunk) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => return other,
        }
        if tls.read_tls(stream)? == 0 {
            return Ok(0);
        }
        tls.process_new_packets().map_err(io::Error::other)?;
        if tls.wants_write() && tls.is_handshaking() {
            tls.write_tls(stream)?;
        }
    }
}

/// An error that only says that there is nothing to do now is none.
fn pending(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}
