//! What the scenarios share: a small origin, a signalling server in this process, seeds and viewers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    reason = "helpers of tests; not every test needs all"
)]

pub mod log;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use headwater_seed::cache::DiskCache;
use headwater_seed::http::Http;
use headwater_seed::key::Key;
use headwater_seed::node::{NodeEvent, NodeHandle, Tamper};
use headwater_seed::origin::Source;
use headwater_seed::seed::{Seed, SeedConfig};
use headwater_seed::transport::DataChannels;
use headwater_seed::viewer::{Viewer, ViewerConfig};
use headwater_signal::{Options, Server};
use headwater_wire::SwarmName;
use tokio::sync::broadcast::Receiver;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

/// Longer than anything here takes, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An origin in memory. Counts what is asked of it.
#[derive(Clone, Default)]
pub struct Origin(Arc<Mutex<OriginState>>);

#[derive(Default)]
struct OriginState {
    files: BTreeMap<String, Vec<u8>>,
    requests: BTreeMap<String, usize>,
    address: Option<SocketAddr>,
    /// What is wrong, and how often still; `None` for always.
    faults: BTreeMap<String, (Fault, Option<usize>)>,
    /// Whether answers have an entity tag.
    tagged: bool,
    /// Answers that had a body.
    bodies: BTreeMap<String, usize>,
}

/// What is wrong with an answer.
#[derive(Clone, Copy)]
pub enum Fault {
    /// It breaks off after this many bytes, and the connection stays.
    Stall(usize),
    /// It is this status.
    Status(u16),
    /// It is a web page, and says that all is well.
    Page,
    /// It is the whole file and has another tag, whatever was asked for.
    NoRanges,
}

impl Origin {
    /// Starts one on a free port of loopback.
    pub async fn start() -> Self {
        // Only the first test of a process gets to set it.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let origin = Self::default();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        origin.0.lock().unwrap().address = Some(listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(origin.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        origin
    }

    pub fn url(&self, path: &str) -> Url {
        let address = self.0.lock().unwrap().address.unwrap();
        Url::parse(&format!("http://{address}{path}")).unwrap()
    }

    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.0.lock().unwrap().files.insert(path.to_owned(), bytes.into());
    }

    /// From now on; `None` for all well again.
    pub fn fail(&self, path: &str, fault: Option<Fault>) {
        let mut state = self.0.lock().unwrap();
        match fault {
            Some(fault) => drop(state.faults.insert(path.to_owned(), (fault, None))),
            None => drop(state.faults.remove(path)),
        }
    }

    /// The next `times` that it is asked for.
    pub fn fail_for(&self, path: &str, fault: Fault, times: usize) {
        self.0.lock().unwrap().faults.insert(path.to_owned(), (fault, Some(times)));
    }

    /// From now on answers have an entity tag, and who knows it gets a 304.
    pub fn tag(&self) {
        self.0.lock().unwrap().tagged = true;
    }

    /// How often the file itself was the answer.
    pub fn bodies(&self, path: &str) -> usize {
        self.0.lock().unwrap().bodies.get(path).copied().unwrap_or(0)
    }

    pub fn take(&self, path: &str) -> Vec<u8> {
        self.0.lock().unwrap().files.remove(path).unwrap()
    }

    pub fn requests(&self, path: &str) -> usize {
        self.0.lock().unwrap().requests.get(path).copied().unwrap_or(0)
    }

    /// A finished stream of one track at `/v/a.m3u8`; gives its segments.
    pub fn put_vod(&self, count: u32, len: usize) -> Vec<Vec<u8>> {
        let segments: Vec<Vec<u8>> = (0..count).map(|seq| segment_bytes(seq, len)).collect();
        let mut playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n".to_owned();
        for (seq, bytes) in segments.iter().enumerate() {
            playlist += &format!("#EXTINF:4,\n{seq}.ts\n");
            self.put(&format!("/v/{seq}.ts"), bytes.clone());
        }
        self.put("/v/a.m3u8", playlist + "#EXT-X-ENDLIST\n");
        segments
    }

    /// A live stream of one track at `/l/a.m3u8` whose window is `window`.
    pub fn put_live(&self, window: std::ops::Range<u32>, len: usize, ended: bool) {
        let first = window.start;
        let mut playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        for seq in window {
            playlist += &format!("#EXTINF:1,\n{seq}.ts\n");
            self.put(&format!("/l/{seq}.ts"), segment_bytes(seq, len));
        }
        let end = if ended { "#EXT-X-ENDLIST\n" } else { "" };
        self.put("/l/a.m3u8", playlist + end);
    }
}

/// Bytes that no other segment has.
pub fn segment_bytes(seq: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(seq) + 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

async fn answer(State(origin): State<Origin>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let (file, fault, tagged) = {
        let mut state = origin.0.lock().unwrap();
        *state.requests.entry(path.clone()).or_default() += 1;
        let fault = state.faults.get_mut(&path).and_then(|(fault, times)| match times {
            Some(0) => None,
            Some(times) => {
                *times -= 1;
                Some(*fault)
            }
            None => Some(*fault),
        });
        (state.files.get(&path).cloned(), fault, state.tagged)
    };
    if let Some(Fault::Status(status)) = fault {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    if let Some(Fault::Page) = fault {
        return ([(header::CONTENT_TYPE, "text/html")], "\n<!DOCTYPE html><title>Not found</title>").into_response();
    }
    let Some(bytes) = file else { return StatusCode::NOT_FOUND.into_response() };
    if let Some(Fault::Stall(after)) = fault {
        let start = bytes::Bytes::copy_from_slice(&bytes[..after]);
        let body = futures_util::stream::once(async move { Ok::<_, std::convert::Infallible>(start) })
            .chain(futures_util::stream::pending());
        return ([(header::CONTENT_LENGTH, bytes.len().to_string())], Body::from_stream(body)).into_response();
    }
    if let Some(Fault::NoRanges) = fault {
        return ([(header::ETAG, "\"another\"")], bytes).into_response();
    }
    let tag = format!("\"{}\"", blake3::hash(&bytes).to_hex());
    if tagged && request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    *origin.0.lock().unwrap().bodies.entry(path).or_default() += 1;
    let mut response = whole_or_part(&request, bytes);
    if tagged {
        response.headers_mut().insert(header::ETAG, tag.parse().unwrap());
    }
    response
}

fn whole_or_part(request: &Request, bytes: Vec<u8>) -> Response {
    let range = request.headers().get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let range = range.and_then(|range| range.split_once('-'));
    match range.and_then(|(first, last)| Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))) {
        Some((first, last)) if first <= last && last < bytes.len() => {
            let content_range = format!("bytes {first}-{last}/{}", bytes.len());
            let headers = [(header::CONTENT_RANGE, content_range)];
            (StatusCode::PARTIAL_CONTENT, headers, Body::from(bytes[first..=last].to_vec())).into_response()
        }
        _ => bytes.into_response(),
    }
}

/// A signalling server in this process; it stops when this is dropped.
pub struct Signal {
    pub url: Url,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Signal {
    pub async fn start() -> Self {
        Self::start_at(0).await
    }

    pub async fn start_at(port: u16) -> Self {
        let options = Options::new((Ipv4Addr::LOCALHOST, port).into()).unwrap();
        let server = Server::bind(options).await.unwrap();
        let url = Url::parse(&format!("ws://{}/v1/signal", server.local_addr())).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async move { drop(stopped.await) }));
        Self { url, stop: Some(stop), task }
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        timeout(PATIENCE, &mut self.task).await.unwrap().unwrap();
    }
}

pub fn key() -> Key {
    Key::generate().unwrap()
}

pub fn clone_key(key: &Key) -> Key {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    key.save(&path).unwrap();
    Key::load(&path).unwrap()
}

pub fn swarm(source: &Url, key: &Key) -> SwarmName {
    SwarmName::derive(source.as_str(), Some(&key.public_text())).unwrap()
}

/// A seed of the stream at `source`, already in the swarm.
pub async fn seed(source: &Url, signal: &Signal, key: &Key) -> Seed {
    seed_with(source, signal, swarm(source, key), Some(clone_key(key)), None).await
}

/// A peer that says it is a seed, announces the true content, and sends something else.
pub async fn hostile_seed(source: &Url, signal: &Signal, key: &Key, tamper: impl Tamper) -> Seed {
    seed_with(source, signal, swarm(source, key), None, Some(Box::new(tamper))).await
}

/// One that signs with two keys, while they are changed: each in its own swarm.
pub async fn seed_with_two_keys(source: &Url, signal: &Signal, old: &Key, new: &Key) -> Seed {
    let opened = Source::open(&Http::new().unwrap(), source).await.unwrap();
    let mut config = config(opened, signal, swarm(source, old), Some(clone_key(old)));
    config.further = vec![(swarm(source, new), clone_key(new))];
    let (seed, events) = Seed::start_all(Http::new().unwrap(), config);
    for mut events in events {
        until(&mut events, |event| matches!(event, NodeEvent::Joined(_))).await;
    }
    seed
}

/// A seed that sends at most so many bytes a second.
pub async fn capped_seed(source: &Url, signal: &Signal, key: &Key, cap: u64) -> Seed {
    let opened = Source::open(&Http::new().unwrap(), source).await.unwrap();
    let mut config = config(opened, signal, swarm(source, key), Some(clone_key(key)));
    config.upload_cap = Some(cap);
    let (seed, mut events) = Seed::start(Http::new().unwrap(), config);
    until(&mut events, |event| matches!(event, NodeEvent::Joined(_))).await;
    seed
}

/// A seed that takes so many viewers.
pub async fn small_seed(source: &Url, signal: &Signal, key: &Key, viewers: u16) -> Seed {
    let opened = Source::open(&Http::new().unwrap(), source).await.unwrap();
    let mut config = config(opened, signal, swarm(source, key), Some(clone_key(key)));
    config.viewers = viewers;
    let (seed, mut events) = Seed::start(Http::new().unwrap(), config);
    until(&mut events, |event| matches!(event, NodeEvent::Joined(_))).await;
    seed
}

/// A seed of a source that is open already.
pub async fn seed_of(source: Source, signal: &Signal, key: &Key) -> Seed {
    let swarm = swarm(&source.url, key);
    start(Http::new().unwrap(), source, signal, swarm, Some(clone_key(key)), None).await
}

/// A seed that gives an origin up which says nothing for half a second.
pub async fn impatient_seed(source: &Url, signal: &Signal, key: &Key) -> Seed {
    let http = Http::with_patience(Duration::from_millis(500)).unwrap();
    let swarm = swarm(source, key);
    let source = Source::open(&http, source).await.unwrap();
    start(http, source, signal, swarm, Some(clone_key(key)), None).await
}

async fn seed_with(
    source: &Url,
    signal: &Signal,
    swarm: SwarmName,
    key: Option<Key>,
    tamper: Option<Box<dyn Tamper>>,
) -> Seed {
    let source = Source::open(&Http::new().unwrap(), source).await.unwrap();
    start(Http::new().unwrap(), source, signal, swarm, key, tamper).await
}

async fn start(
    http: Http,
    source: Source,
    signal: &Signal,
    swarm: SwarmName,
    key: Option<Key>,
    tamper: Option<Box<dyn Tamper>>,
) -> Seed {
    let (seed, mut events) = Seed::start_tampering(http, config(source, signal, swarm, key), tamper);
    until(&mut events, |event| matches!(event, NodeEvent::Joined(_))).await;
    seed
}

/// A seed that keeps at most `memory` bytes, and segments on disk where there is a cache.
pub async fn frugal_seed(
    source: Source,
    signal: &Signal,
    key: &Key,
    memory: u64,
    cache: Option<Arc<DiskCache>>,
) -> Seed {
    let swarm = swarm(&source.url, key);
    let config = SeedConfig { memory, cache, ..config(source, signal, swarm, Some(clone_key(key))) };
    let (seed, mut events) = Seed::start(Http::new().unwrap(), config);
    until(&mut events, |event| matches!(event, NodeEvent::Joined(_))).await;
    seed
}

fn config(source: Source, signal: &Signal, swarm: SwarmName, key: Option<Key>) -> SeedConfig {
    SeedConfig {
        source,
        swarm,
        signal: signal.url.clone(),
        token: None,
        key,
        memory: 1 << 30,
        upload_cap: None,
        viewers: 256,
        further: Vec::new(),
        cache: None,
        transport: DataChannels::default(),
    }
}

pub async fn viewer(source: &Url, signal: &Signal, key: &Key) -> (Viewer, Receiver<NodeEvent>) {
    let config = ViewerConfig {
        source: source.clone(),
        swarm: swarm(source, key),
        signal: signal.url.clone(),
        token: None,
        key: Some(key.verifying_key()),
        patience: PATIENCE,
    };
    Viewer::join(Http::new().unwrap(), config).await.unwrap()
}

/// The first event of a kind.
pub async fn until(events: &mut Receiver<NodeEvent>, mut wanted: impl FnMut(&NodeEvent) -> bool) -> NodeEvent {
    let waiting = async {
        loop {
            let event = events.recv().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(PATIENCE, waiting).await.expect("the event does not come")
}

/// Waits until the node holds this many bytes.
pub async fn holds(node: &NodeHandle, bytes: u64) {
    let waiting = async {
        while node.stats().await.unwrap().held_bytes < bytes {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the node does not get there");
}
