//! What a run is like: the scenario files, their fields and defaults.

use std::path::Path;

use serde::Deserialize;

/// A scenario, as its TOML file has it. Every field but `name` has a default; unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// A short name.
    pub name: String,
    /// What it shows, in a line.
    #[serde(default)]
    pub about: String,
    /// Decides everything that is left to chance.
    #[serde(default = "one")]
    pub seed: u64,
    /// How long the run is, in seconds.
    #[serde(default = "two_minutes")]
    pub duration_s: f64,
    /// What is streamed.
    #[serde(default)]
    pub stream: Stream,
    /// Who watches, and when.
    #[serde(default)]
    pub audience: Audience,
    /// The links.
    #[serde(default)]
    pub network: Network,
    /// The publisher's HTTP server.
    #[serde(default)]
    pub origin: Origin,
    /// The publisher's native peers.
    #[serde(default)]
    pub seeds: Vec<SeedPeer>,
    /// The player.
    #[serde(default)]
    pub player: Player,
    /// Settings of the viewers' engines, where they are not the defaults.
    #[serde(default)]
    pub engine: EngineSettings,
}

/// What is streamed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// Whether segments appear as time goes on.
    pub live: bool,
    /// Length of a segment in seconds.
    pub segment_s: f64,
    /// Length of the content in seconds, where it is not live.
    pub length_s: f64,
    /// Segments that a live playlist lists.
    pub window: u32,
    /// Bitrate of each rendition, ascending.
    pub renditions_kbps: Vec<f64>,
    /// How much segments differ in size: 0.2 is from 80 % to 120 %.
    pub variation: f64,
}

impl Default for Stream {
    fn default() -> Self {
        Self { live: true, segment_s: 2.0, length_s: 600.0, window: 15, renditions_kbps: vec![3000.0], variation: 0.15 }
    }
}

/// Who watches, and when.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audience {
    /// How many viewers.
    pub viewers: u32,
    /// They come evenly spread over so many seconds.
    pub ramp_s: f64,
    /// Share of them that leaves, each replaced by a newcomer, a minute, after the ramp. 0.1 is 10 %.
    pub churn_per_min: f64,
    /// Share of those leaving that do so without a word: their neighbours notice after `network.silence_s`.
    pub silent_leaves: f64,
    /// Share of viewers that give nothing.
    pub no_upload: f64,
    /// Where VOD viewers begin: evenly spread over this share of the content.
    pub spread: f64,
    /// How often a VOD viewer seeks, a minute.
    pub seeks_per_min: f64,
}

impl Default for Audience {
    fn default() -> Self {
        Self {
            viewers: 100,
            ramp_s: 20.0,
            churn_per_min: 0.0,
            silent_leaves: 1.0,
            no_upload: 0.0,
            spread: 0.0,
            seeks_per_min: 0.0,
        }
    }
}

/// The links.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Kinds of access, with the share of viewers that has each. See docs/simulator.md for the source of the defaults.
    pub access: Vec<Access>,
    /// Countries, all of the same size.
    pub countries: u32,
    /// Networks (autonomous systems) in a country; the first has half of the viewers, the second a quarter, and so on.
    pub networks: u32,
    /// Round trip between the access routers of one network, in milliseconds.
    pub near_ms: f64,
    /// The same between networks of one country.
    pub country_ms: f64,
    /// The same between countries.
    pub far_ms: f64,
    /// Packet loss between countries; within one there is only that of the access. Bounds a flow's rate as Mathis has it.
    pub far_loss: f64,
    /// Share of pairs that cannot connect, besides those whose NATs do not let them.
    pub unconnectable: f64,
    /// Share of viewers behind NATs that choose a new port for each destination (symmetric): two of these do not meet,
    /// nor one of these and a port-restricted one.
    pub symmetric_nat: f64,
    /// Share of viewers behind port-restricted NATs.
    pub port_restricted_nat: f64,
    /// Bytes on the wire for a byte of payload: SCTP, DTLS, UDP and IP headers.
    pub overhead: f64,
    /// Longest queue on a downlink, in milliseconds; beyond it flows are told to slow down, as by a lost packet.
    pub queue_ms: f64,
    /// How long it takes to notice that a neighbour is gone that said nothing.
    pub silence_s: f64,
    /// Round trip to the signalling server.
    pub signalling_ms: f64,
    /// A peer takes what neighbours send it only so often, in milliseconds; 0 for at once. Makes large runs cheaper, and
    /// every hop half of it slower.
    pub gather_ms: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            access: default_access(),
            countries: 4,
            networks: 4,
            near_ms: 6.0,
            country_ms: 20.0,
            far_ms: 70.0,
            far_loss: 0.0,
            unconnectable: 0.03,
            symmetric_nat: 0.08,
            port_restricted_nat: 0.6,
            overhead: 1.06,
            queue_ms: 120.0,
            silence_s: 8.0,
            signalling_ms: 40.0,
            gather_ms: 0.0,
        }
    }
}

/// A kind of access.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Its name.
    pub name: String,
    /// Share of viewers that has it; the shares are made to add up to one.
    pub share: f64,
    /// Downlink.
    pub down_mbps: f64,
    /// Uplink.
    pub up_mbps: f64,
    /// What it adds to every round trip.
    pub rtt_ms: f64,
    /// Packet loss.
    #[serde(default)]
    pub loss: f64,
}

fn default_access() -> Vec<Access> {
    let kind = |name: &str, share, down_mbps, up_mbps, rtt_ms| Access {
        name: name.to_owned(),
        share,
        down_mbps,
        up_mbps,
        rtt_ms,
        loss: 0.0,
    };
    vec![
        kind("fibre", 0.38, 300.0, 150.0, 3.0),
        kind("cable", 0.27, 200.0, 20.0, 12.0),
        kind("dsl", 0.18, 50.0, 10.0, 20.0),
        kind("mobile", 0.17, 60.0, 10.0, 40.0),
    ]
}

/// The publisher's HTTP server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Origin {
    /// Round trip to it, without the viewer's access.
    pub rtt_ms: f64,
    /// Its own time from a request to the first byte.
    pub think_ms: f64,
    /// Most that one connection gets.
    pub connection_mbps: f64,
    /// Most that all get together; 0 for no limit.
    pub total_mbps: f64,
    /// When it answers 503.
    pub outages: Vec<Outage>,
    /// Whether a catalogue file lies beside the playlist.
    pub catalogue: bool,
    /// How long after a segment its catalogue entry appears.
    pub signing_ms: f64,
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            rtt_ms: 14.0,
            think_ms: 15.0,
            connection_mbps: 100.0,
            total_mbps: 0.0,
            outages: Vec::new(),
            catalogue: true,
            signing_ms: 200.0,
        }
    }
}

/// A time in which the origin answers 503 to requests for segments and catalogues.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Seconds since the run began.
    pub from_s: f64,
    /// Seconds since the run began.
    pub to_s: f64,
    /// Whether playlists are refused too.
    #[serde(default)]
    pub playlists: bool,
}

/// A publisher's native peer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedPeer {
    /// Its upload cap.
    pub up_mbps: f64,
    /// Its line, in both directions: more than the cap, as a server's is.
    #[serde(default = "gigabit")]
    pub line_mbps: f64,
    /// Whether it has segments from the encoder (a folder) and not from the origin over HTTP.
    #[serde(default)]
    pub folder: bool,
}

/// The player, in the manner of hls.js.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Player {
    /// It demands segments until so many seconds are buffered.
    pub buffer_s: f64,
    /// A live player begins so many target durations before the end of the playlist.
    pub sync_segments: f64,
    /// How often it reports its playhead.
    pub tick_ms: f64,
    /// After the first frame the engine's files are loaded, and it begins so long after they have come. What can wait for
    /// it does; the player loads the rest over plain HTTP.
    pub engine_start_ms: f64,
    /// Whether it switches renditions.
    pub abr: bool,
}

impl Default for Player {
    fn default() -> Self {
        Self { buffer_s: 30.0, sync_segments: 3.0, tick_ms: 250.0, engine_start_ms: 150.0, abr: true }
    }
}

/// Settings of the viewers' engines, where they are not the defaults.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// How many neighbours to aim for.
    pub neighbours: Option<u16>,
    /// How many connections at most.
    pub max_neighbours: Option<u16>,
    /// How far ahead of the playhead segments are asked of peers.
    pub prefetch_s: Option<f64>,
    /// Most bytes in the store.
    pub memory_mib: Option<u64>,
    /// Most that a viewer gives.
    pub upload_mbps: Option<f64>,
}

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: String,
        /// What went wrong.
        cause: std::io::Error,
    },
    /// It is not TOML, or not a scenario.
    #[error("{path} is no scenario: {cause}")]
    Parse {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("the scenario cannot be run: {0}")]
    Value(&'static str),
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// Where it cannot be read, is no scenario, or makes no sense.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|cause| ScenarioError::Read { path: name.clone(), cause })?;
        Self::parse(&text, &name)
    }

    /// Reads a scenario from text; `name` is what errors call it.
    ///
    /// # Errors
    /// Where it is no scenario, or makes no sense.
    pub fn parse(text: &str, name: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)
            .map_err(|cause| ScenarioError::Parse { path: name.to_owned(), cause: Box::new(cause) })?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Whether it can be run.
    ///
    /// # Errors
    /// Names the value that makes no sense.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let stream = &self.stream;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let checks = [
            (positive(self.duration_s), "duration_s must be above zero"),
            (positive(stream.segment_s), "stream.segment_s must be above zero"),
            (positive(stream.length_s), "stream.length_s must be above zero"),
            (stream.window >= 3, "stream.window must be at least 3"),
            ((1..=8).contains(&stream.renditions_kbps.len()), "stream.renditions_kbps needs 1 to 8 bitrates"),
            (
                stream.renditions_kbps.iter().all(|rate| (10.0..=200_000.0).contains(rate)),
                "stream.renditions_kbps must be between 10 and 200000",
            ),
            ((0.0..1.0).contains(&stream.variation), "stream.variation must be from 0 to below 1"),
            ((1..=1_000_000).contains(&self.audience.viewers), "audience.viewers must be 1 to 1000000"),
            (!self.network.access.is_empty(), "network.access must not be empty"),
            (
                self.network.access.iter().all(|access| positive(access.down_mbps) && positive(access.up_mbps)),
                "network.access: rates must be above zero",
            ),
            (self.network.access.iter().any(|access| access.share > 0.0), "network.access: some share must be above 0"),
            (self.network.countries > 0 && self.network.networks > 0, "network.countries and networks must be above 0"),
            (positive(self.origin.connection_mbps), "origin.connection_mbps must be above zero"),
            (
                self.seeds.iter().all(|seed| positive(seed.up_mbps) && positive(seed.line_mbps)),
                "seeds: rates must be above zero",
            ),
            ((0.0..=100.0).contains(&self.network.gather_ms), "network.gather_ms must be from 0 to 100"),
            (self.player.tick_ms >= 10.0, "player.tick_ms must be at least 10"),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, text)) => Err(ScenarioError::Value(text)),
            None => Ok(()),
        }
    }
}

fn gigabit() -> f64 {
    1000.0
}

fn one() -> u64 {
    1
}

fn two_minutes() -> f64 {
    120.0
}
