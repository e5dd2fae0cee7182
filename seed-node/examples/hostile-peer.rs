//! A peer to test others with: it announces the true content of a stream and sends corrupted bytes.
//!
//! `cargo run -p headwater-seed --example hostile-peer -- --src URL --signal WS_URL --key PUBLIC_KEY`
//!
//! It says `hostile-peer ready in SWARM (N tracks)` on standard output when it is in the swarm, and runs until it is killed.

use std::process::ExitCode;

use bytes::Bytes;
use clap::Parser;
use headwater_seed::http::Http;
use headwater_seed::key::parse_public;
use headwater_seed::node::{NodeEvent, Tamper};
use headwater_seed::origin::Source;
use headwater_seed::seed::{Seed, SeedConfig};
use headwater_seed::transport::DataChannels;
use headwater_wire::{ChunkId, SwarmName};
use url::Url;

/// How much it keeps of the stream.
const MEMORY: u64 = 1 << 30;

#[derive(Debug, Parser)]
struct Cli {
    /// The stream.
    #[arg(long)]
    src: Url,
    /// The signalling server.
    #[arg(long)]
    signal: Url,
    /// The publisher's public key, which names the swarm.
    #[arg(long)]
    key: String,
    /// The swarm's name, where it has one of its own.
    #[arg(long)]
    swarm: Option<String>,
}

/// Flips a bit of each chunk, at a place that varies.
struct FlipBits;

impl Tamper for FlipBits {
    fn tamper(&mut self, chunk: ChunkId, bytes: Bytes) -> Bytes {
        let mut bytes = bytes.to_vec();
        let place = (chunk.segment.seq.0 as usize * 7919 + chunk.index.0 as usize * 104_729) % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 0x10;
        }
        bytes.into()
    }
}

async fn run(cli: Cli) -> Result<(), Box<dyn std::error::Error>> {
    parse_public(&cli.key)?;
    let swarm = match cli.swarm {
        Some(name) => SwarmName::new(name)?,
        None => SwarmName::derive(cli.src.as_str(), Some(&cli.key))?,
    };
    let http = Http::new()?;
    let source = Source::open(&http, &cli.src).await?;
    let tracks = source.tracks.len();
    // It has no key, hence signs nothing; whom it sends to, has the entries from elsewhere.
    let config = SeedConfig {
        source,
        swarm: swarm.clone(),
        signal: cli.signal,
        token: None,
        key: None,
        memory: MEMORY,
        upload_cap: None,
        viewers: 256,
        further: Vec::new(),
        cache: None,
        transport: DataChannels::default(),
    };
    let (_seed, mut events) = Seed::start_tampering(http, config, Some(Box::new(FlipBits)));
    loop {
        match events.recv().await? {
            NodeEvent::Joined(_) => println!("hostile-peer ready in {swarm} ({tracks} tracks)"),
            event => eprintln!("{event:?}"),
        }
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(Cli::parse())));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hostile-peer: {error}");
            ExitCode::FAILURE
        }
    }
}
