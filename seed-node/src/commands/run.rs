//! `headwater-seed run`: one process, one UDP port, one or many streams.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use headwater_seed::cache::DiskCache;
use headwater_seed::http::Http;
use headwater_seed::key::Key;
use headwater_seed::node::NodeEvent;
use headwater_seed::operation::{Streams, Watched, serve};
use headwater_seed::origin::Source;
use headwater_seed::seed::{Seed, SeedConfig};
use headwater_seed::serve::Served;
use headwater_seed::settings::{Settings, SettingsError, Stream};
use headwater_seed::transport::{DataChannels, MuxOptions};
use headwater_wire::SwarmName;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::{CommandError, say, stopped, swarm_name};
use crate::RunArgs;

/// How often the line for a person who watches is drawn anew.
const DRAW_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: RunArgs) -> Result<(), CommandError> {
    let file = args.file.as_deref().map(Settings::load).transpose()?;
    let folder = args.file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    let settings = args.settings.over(args.stream, file)?;
    if settings.signal.is_none() {
        return Err(SettingsError::NoSignal.into());
    }
    if settings.key.is_empty() && settings.stream.iter().any(|stream| stream.integrity.is_none()) {
        return Err(SettingsError::NoKey.into());
    }
    let stack = settings.stack.unwrap_or_default();
    if settings.tcp_port.is_some() && !stack.has_tcp() {
        return Err(SettingsError::StackWithoutTcp(stack).into());
    }
    let options = MuxOptions {
        port: settings.udp_port.unwrap_or(0),
        tcp_port: settings.tcp_port,
        bind: settings.bind.clone(),
        public: settings.public_ip.clone(),
    };
    let transport = DataChannels::new(options, stack);
    for address in transport.bind().map_err(CommandError::Bind)? {
        tracing::debug!(%address, "bound");
    }
    let caches: Vec<Option<Arc<DiskCache>>> = match &settings.cache {
        Some(folder) => {
            let streams: Vec<String> = settings.stream.iter().map(|stream| format!("{:?}", stream.src)).collect();
            let opened = DiskCache::open_shared(folder, settings.cache_size(), &streams);
            let opened = opened.map_err(|cause| CommandError::Cache { folder: folder.clone(), cause })?;
            opened.into_iter().map(Some).collect()
        }
        None => vec![None; settings.stream.len()],
    };
    let shared = Shared { http: Http::new()?, settings: settings.clone(), folder, transport };
    let mut seeds = Vec::new();
    let mut watched = Vec::new();
    let mut served = Vec::new();
    let mut watching = JoinSet::new();
    for (stream, cache) in settings.stream.iter().zip(caches) {
        let opened = open(&shared, stream, cache).await;
        let Opened { seed, parts, tracks, addresses } = match opened {
            // One stream that cannot be opened does not keep the others from starting.
            Err(error) if settings.stream.len() > 1 => {
                tracing::error!(src = ?stream.src.as_ref().map(url::Url::as_str), "{error}");
                continue;
            }
            opened => opened?,
        };
        let (src, from) = addresses;
        served.push(Served::new(src, from, seed.puller().clone(), Arc::clone(seed.published())));
        for ((swarm, events), handle) in parts.into_iter().zip(seed.handles()) {
            let one = Arc::new(Watched::new(swarm.to_string(), handle.clone(), Arc::clone(seed.published())));
            watching.spawn(watch(Arc::clone(&one), events, swarm, tracks));
            watched.push(one);
        }
        seeds.push(seed);
    }
    if seeds.is_empty() {
        return Err(CommandError::NothingOpened);
    }
    let streams: Streams = Arc::new(watched);
    if let Some(address) = settings.http {
        let bound =
            serve(address, Arc::clone(&streams)).await.map_err(|cause| CommandError::Listen { address, cause })?;
        tracing::info!(%bound, "answering /metrics and /healthz");
    }
    if let Some(address) = settings.serve {
        let served = headwater_seed::serve::serve(address, served).await;
        let bound = served.map_err(|cause| CommandError::Listen { address, cause })?;
        tracing::info!(%bound, "serving the content over HTTP");
    }
    let drawing = io::stderr().is_terminal().then(|| tokio::spawn(draw(Arc::clone(&streams))));
    let result = tokio::select! {
        () = stopped() => Ok(()),
        Some(ended) = watching.join_next() => ended.unwrap_or(Err(CommandError::Stopped)),
    };
    if let Some(drawing) = drawing {
        drawing.abort();
    }
    let mut leaving: JoinSet<()> = seeds.into_iter().map(Seed::shutdown).collect();
    while leaving.join_next().await.is_some() {}
    result
}

/// A stream that is being seeded.
struct Opened {
    seed: Seed,
    /// A swarm a key, and what happens in it.
    parts: Vec<(SwarmName, Receiver<NodeEvent>)>,
    tracks: usize,
    /// As viewers know it, and where it is pulled from.
    addresses: (url::Url, url::Url),
}

/// What the streams share.
struct Shared {
    http: Http,
    settings: Settings,
    /// Where the settings file lies.
    folder: PathBuf,
    transport: DataChannels,
}

async fn open(shared: &Shared, stream: &Stream, cache: Option<Arc<DiskCache>>) -> Result<Opened, CommandError> {
    let Shared { http, settings, folder, transport } = shared;
    let src = stream.src.clone().ok_or(SettingsError::NoSource)?;
    let signal = settings.signal.clone().ok_or(SettingsError::NoSignal)?;
    let mut keys = match stream.integrity {
        Some(_) => Vec::new(),
        None => settings.key.iter().map(|file| Key::load(file)).collect::<Result<Vec<_>, _>>()?,
    };
    // The stream is in a swarm a key, so that viewers with the embed code of either find it.
    let key = if keys.is_empty() { None } else { Some(keys.remove(0)) };
    let swarm = swarm_name(stream.swarm.clone(), &src, key.as_ref())?;
    let further = keys.into_iter().map(|key| Ok((swarm_name(stream.swarm.clone(), &src, Some(&key))?, key)));
    let further = further.collect::<Result<Vec<_>, CommandError>>()?;
    let swarms: Vec<SwarmName> =
        std::iter::once(swarm.clone()).chain(further.iter().map(|(swarm, _)| swarm.clone())).collect();
    let from = stream.origin(&src, folder)?;
    let mut source = Source::open_from(http, &src, &from).await?;
    source.pick(&stream.track)?;
    let tracks = source.tracks.len();
    let (live, integrity) = (source.is_live(), if key.is_some() { "signed" } else { "open" });
    tracing::info!(url = %from, tracks, live, integrity, "stream found");
    let config = SeedConfig {
        source,
        swarm,
        signal,
        token: settings.token.clone(),
        key,
        further,
        memory: stream.memory(),
        upload_cap: stream.upload_cap,
        viewers: stream.viewers(),
        cache,
        transport: transport.clone(),
    };
    let (seed, events) = Seed::start_all(http.clone(), config);
    Ok(Opened { seed, parts: swarms.into_iter().zip(events).collect(), tracks, addresses: (src, from) })
}

/// Follows one stream; ends with it.
async fn watch(
    stream: Arc<Watched>,
    mut events: Receiver<NodeEvent>,
    swarm: SwarmName,
    tracks: usize,
) -> Result<(), CommandError> {
    let mut serving = false;
    loop {
        match events.recv().await {
            Ok(event) => {
                stream.note(&event);
                if matches!(event, NodeEvent::Joined(_)) && !std::mem::replace(&mut serving, true) {
                    say(&format!("headwater-seed serving {swarm} ({tracks} tracks)"))?;
                }
            }
            Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "too many events at once"),
            Err(RecvError::Closed) => return Err(CommandError::Stopped),
        }
    }
}

/// One line that changes in place, for a person who watches.
async fn draw(streams: Streams) {
    let mut ticks = interval(DRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<u64> = None;
    loop {
        ticks.tick().await;
        let (mut viewers, mut held, mut sent) = (0, 0, 0);
        for stream in streams.iter() {
            if let Some(stats) = stream.stats().await {
                viewers += stats.neighbours;
                held += stats.held_bytes;
                sent += stats.uploaded_bytes;
            }
        }
        let rate = sent.saturating_sub(before.replace(sent).unwrap_or(sent));
        let [held, sent, rate] = [held, sent, rate].map(|bytes| bytes as f64 / 1e6);
        // Where the terminal is gone, there is nobody to tell.
        let mut err = io::stderr().lock();
        let _ = write!(err, "\r\x1b[2K{viewers} viewers, {rate:.1} MB/s, {sent:.0} MB sent, {held:.0} MB held\r");
        let _ = err.flush();
    }
}
