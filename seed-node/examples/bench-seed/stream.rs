//! Whole seeds and viewers on a live stream: how many copies leave the seed, and how soon the first chunk is there.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use headwater_seed::http::Http;
use headwater_seed::key::Key;
use headwater_seed::node::NodeEvent;
use headwater_seed::origin::Source;
use headwater_seed::seed::{Seed, SeedConfig};
use headwater_seed::transport::DataChannels;
use headwater_seed::viewer::{Viewer, ViewerConfig};
use headwater_signal::{Options, Server};
use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{SeqNo, SwarmName};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use url::Url;

/// How long a segment plays.
const SEGMENT: Duration = Duration::from_secs(1);

/// Bytes of a segment: 4 Mbit/s.
const LEN: usize = 500_000;

/// Segments before it counts, and those that count.
const SEGMENTS: (u64, u64) = (3, 10);

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look whether a byte has come.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A live stream in memory.
#[derive(Default)]
struct Origin {
    /// How many segments are listed.
    listed: Mutex<u64>,
    /// Bytes a second that a segment is sent with, where it is not all at once.
    slow: Option<u32>,
    /// The last segment that was asked for, and when the first chunk of it was sent.
    served: Mutex<(u64, Option<Instant>)>,
}

fn bytes_of(seq: u64) -> Vec<u8> {
    let mut state = seq + 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(LEN).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(origin): State<Arc<Origin>>, request: Request) -> Response {
    let path = request.uri().path();
    if path.ends_with(".m3u8") {
        let listed = *lock(&origin.listed);
        let first = listed.saturating_sub(6);
        let head = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        return (first..listed).fold(head, |all, seq| all + &format!("#EXTINF:1,\n{seq}.ts\n")).into_response();
    }
    let name = path.rsplit('/').next().and_then(|name| name.strip_suffix(".ts"));
    let Some(seq) = name.and_then(|name| name.parse::<u64>().ok()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let bytes = Bytes::from(bytes_of(seq));
    let Some(slow) = origin.slow else {
        *lock(&origin.served) = (seq, Some(Instant::now()));
        return bytes.into_response();
    };
    let chunk = CHUNK_LEN as usize;
    let pieces = futures_util::stream::iter((0..bytes.len()).step_by(chunk)).then(move |start| {
        let (origin, piece) = (Arc::clone(&origin), bytes.slice(start..(start + chunk).min(LEN)));
        async move {
            sleep(Duration::from_secs_f64(piece.len() as f64 / f64::from(slow))).await;
            if start == 0 {
                *lock(&origin.served) = (seq, Some(Instant::now()));
            }
            Ok::<_, std::convert::Infallible>(piece)
        }
    });
    ([(header::CONTENT_LENGTH, LEN)], Body::from_stream(pieces)).into_response()
}

/// A seed and viewers of one live stream.
struct Party {
    origin: Arc<Origin>,
    seed: Seed,
    viewers: Vec<Arc<Viewer>>,
    _stop: oneshot::Sender<()>,
}

impl Party {
    async fn start(count: usize, slow: Option<u32>) -> Result<Self> {
        let origin = Arc::new(Origin { listed: Mutex::new(2), slow, ..Origin::default() });
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let source = Url::parse(&format!("http://{}/l/a.m3u8", listener.local_addr()?))?;
        let router = Router::new().fallback(answer).with_state(Arc::clone(&origin));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let server = Server::bind(Options::new((Ipv4Addr::LOCALHOST, 0).into())?).await?;
        let signal = Url::parse(&format!("ws://{}/v1/signal", server.local_addr()))?;
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server.run(async move { drop(stopped.await) }));

        let (http, key) = (Http::new()?, Key::generate()?);
        let swarm = SwarmName::derive(source.as_str(), Some(&key.public_text()))?;
        let public = key.verifying_key();
        let config = SeedConfig {
            source: Source::open(&http, &source).await?,
            swarm: swarm.clone(),
            signal: signal.clone(),
            token: None,
            key: Some(key),
            further: Vec::new(),
            memory: 1 << 30,
            upload_cap: None,
            viewers: 256,
            cache: None,
            transport: DataChannels::default(),
        };
        let (seed, mut events) = Seed::start(http.clone(), config);
        while !matches!(events.recv().await?, NodeEvent::Joined(_)) {}
        let mut viewers = Vec::new();
        for _ in 0..count {
            let config = ViewerConfig {
                source: source.clone(),
                swarm: swarm.clone(),
                signal: signal.clone(),
                token: None,
                key: Some(public),
                patience: PATIENCE,
            };
            viewers.push(Arc::new(Viewer::join(http.clone(), config).await?.0));
        }
        let party = Self { origin, seed, viewers, _stop: stop };
        let connected = async {
            while party.stats().await?.neighbours < count as u32 {
                sleep(Duration::from_millis(50)).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, connected).await.context("not all viewers are connected in time")??;
        Ok(party)
    }

    async fn stats(&self) -> Result<headwater_swarm::Stats> {
        self.seed.handle().stats().await.context("the seed has stopped")
    }

    /// Lists the next segment.
    fn list(&self) -> u64 {
        let mut listed = lock(&self.origin.listed);
        *listed += 1;
        *listed - 1
    }
}

/// Copies that leave the seed a segment, bytes from the origin to viewers, and the longest that a segment took to be with
/// everyone.
pub(crate) async fn copies(count: usize) -> Result<(f64, u64, Duration)> {
    let party = Party::start(count, None).await?;
    let (mut before, mut next) = (0, Instant::now());
    let mut watching = JoinSet::new();
    for place in 0..SEGMENTS.0 + SEGMENTS.1 {
        sleep_until(next.into()).await;
        next += SEGMENT;
        let seq = party.list();
        if place == SEGMENTS.0 {
            before = party.stats().await?.uploaded_bytes;
        }
        let began = Instant::now();
        for viewer in &party.viewers {
            let (viewer, counts) = (Arc::clone(viewer), place >= SEGMENTS.0);
            watching.spawn(async move {
                let track = viewer.tracks()[0].id;
                let got = timeout(PATIENCE, viewer.segment(track, SeqNo(seq))).await;
                let whole = got.is_ok_and(|got| got.is_ok_and(|got| got.bytes.len() == LEN));
                (whole, if counts { began.elapsed() } else { Duration::ZERO })
            });
        }
    }
    let mut longest = Duration::ZERO;
    while let Some(got) = watching.join_next().await {
        let (whole, took) = got?;
        anyhow::ensure!(whole, "a viewer did not get a segment");
        longest = longest.max(took);
    }
    let sent = party.stats().await?.uploaded_bytes - before;
    let mut from_origin = 0;
    for viewer in &party.viewers {
        from_origin += viewer.stats().await.context("a viewer has stopped")?.http_bytes;
    }
    Ok((sent as f64 / (SEGMENTS.1 as usize * LEN) as f64, from_origin, longest))
}

/// From when the seed has the first chunk of a live segment until a viewer has it: the longest of some. The origin sends a
/// segment at once, or with so many bytes a second.
pub(crate) async fn first_chunk(slow: Option<u32>) -> Result<Duration> {
    let party = Party::start(1, slow).await?;
    let viewer = Arc::clone(party.viewers.first().context("no viewer")?);
    let received = async || viewer.stats().await.map(|stats| stats.seed_bytes).context("the viewer has stopped");
    let mut longest = Duration::ZERO;
    for place in 0..SEGMENTS.0 + SEGMENTS.1 {
        let seq = party.list();
        let before = received().await?;
        let demanding = Arc::clone(&viewer);
        let demand = tokio::spawn(async move {
            let track = demanding.tracks()[0].id;
            demanding.segment(track, SeqNo(seq)).await
        });
        let first = async {
            while received().await? == before {
                sleep(LOOK_EVERY).await;
            }
            anyhow::Ok(Instant::now())
        };
        let first = timeout(PATIENCE, first).await.context("nothing comes")??;
        let (served, at) = *lock(&party.origin.served);
        demand.await??;
        // The seed's link to the origin is this machine: what is served is there.
        let at = at.filter(|_| served == seq).context("the segment did not come from the seed")?;
        if place >= SEGMENTS.0 {
            longest = longest.max(first.saturating_duration_since(at));
        }
    }
    Ok(longest)
}
