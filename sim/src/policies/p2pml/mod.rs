//! Models of p2p-media-loader's policies, 2.3 and 5.0, behind the engine's contract.
//!
//! What they share: whole segments, each from one neighbour, passed on only when complete; full-state announcements;
//! HTTP at once inside the high-demand window. 2.3 fetches random segments over HTTP ahead of it; 5.0 elects by FNV
//! among the neighbourhood, backups by rank. Left out: resuming a broken transfer, errors, bitrate switches.

mod contract;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use headwater_swarm::{Config, DeliveryReport, DemandId, FetchId, MediaTime, Now, Output, PlaylistSegment, Stats};
use headwater_wire::{ChunkId, PeerId, SegmentId, SegmentLen, frame};

use super::talk::Talk;
use crate::rng::{Rng, mix};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V2,
    V5,
}

/// Its default is 15 s, which on live means HTTP alone. With this it comes nearest to what was measured in browsers at a
/// player's own delay: 1.5 copies for six viewers, 2.6 for sixteen (figures of docs/simulator.md).
const HIGH_DEMAND: Duration = Duration::from_millis(1_500);

/// Defaults of 2.3.
const HTTP_AT_ONCE: usize = 2;
const P2P_AT_ONCE: usize = 3;
const SILENT_PEER: Duration = Duration::from_secs(2);

/// How often the queue is looked at when nothing happens.
const LOOK: Duration = Duration::from_millis(500);

/// From one rank of 5.0's election to the next.
const RANK_STEP: Duration = Duration::from_millis(500);

/// Chunks given to the transport at once.
const SENDING: usize = 2;

/// Segments looked at ahead of the one last demanded.
const AHEAD: usize = 15;

#[derive(Debug, Default)]
struct Neighbour {
    has: BTreeSet<SegmentId>,
    loading: BTreeSet<SegmentId>,
    uploads: VecDeque<(ChunkId, u32)>,
    sending: usize,
    /// Its number in elections.
    id: u64,
}

#[derive(Debug)]
struct Download {
    from: PeerId,
    since: Now,
    heard: Now,
    len: Option<SegmentLen>,
    got: u32,
}

/// The model.
#[derive(Debug)]
pub(crate) struct P2pml {
    version: Version,
    uploads: bool,
    wanted_neighbours: u16,
    id: u64,
    rng: Rng,
    now: Now,
    neighbours: BTreeMap<PeerId, Neighbour>,
    held: BTreeMap<SegmentId, (SegmentLen, DeliveryReport)>,
    listed: BTreeMap<SegmentId, (PlaylistSegment, Now)>,
    position: Option<(Now, MediaTime, MediaTime)>,
    demand: Option<(DemandId, SegmentId)>,
    latest: Option<SegmentId>,
    http: BTreeMap<FetchId, (SegmentId, Now)>,
    p2p: BTreeMap<SegmentId, Download>,
    next: u64,
    next_random: Now,
    outputs: VecDeque<Output>,
    wake: Option<Now>,
    dirty: bool,
    stats: Stats,
}

impl P2pml {
    pub(crate) fn new(version: Version, config: &Config, seed: u64, now: Now) -> Self {
        Self {
            version,
            uploads: config.uploads,
            wanted_neighbours: config.neighbours,
            id: mix(seed),
            rng: Rng::new(seed),
            now,
            neighbours: BTreeMap::new(),
            held: BTreeMap::new(),
            listed: BTreeMap::new(),
            position: None,
            demand: None,
            latest: None,
            http: BTreeMap::new(),
            p2p: BTreeMap::new(),
            next: 0,
            next_random: now,
            outputs: VecDeque::new(),
            wake: None,
            dirty: true,
            stats: Stats::default(),
        }
    }

    fn send(&mut self, peer: PeerId, talk: &Talk) {
        self.outputs.push_back(Output::Send { peer, frame: talk.encode() });
    }

    fn announcement(&self) -> Talk {
        Talk::Announce {
            id: self.id,
            has: if self.uploads { self.held.keys().copied().collect() } else { Vec::new() },
            loading: if self.uploads { self.http.values().map(|(id, _)| *id).collect() } else { Vec::new() },
        }
    }

    fn announce(&mut self) {
        let talk = self.announcement();
        let peers: Vec<PeerId> = self.neighbours.keys().copied().collect();
        for peer in peers {
            self.send(peer, &talk);
        }
    }

    fn is_here_or_coming(&self, id: SegmentId) -> bool {
        self.held.contains_key(&id) || self.is_http(id) || self.p2p.contains_key(&id)
    }

    fn is_http(&self, id: SegmentId) -> bool {
        self.http.values().any(|(other, _)| *other == id)
    }

    fn someone_has_or_loads(&self, id: SegmentId) -> bool {
        self.neighbours.values().any(|n| n.has.contains(&id) || n.loading.contains(&id))
    }

    /// Segments that the player will come to, nearest first.
    fn queue(&self) -> Vec<SegmentId> {
        let Some(latest) = self.demand.map(|(_, id)| id).or(self.latest) else { return Vec::new() };
        let missing = |id: &&SegmentId| id.track == latest.track && !self.held.contains_key(id);
        self.listed.range(latest..).map(|(id, _)| id).take(AHEAD).filter(missing).copied().collect()
    }

    fn is_urgent(&self, id: SegmentId) -> bool {
        let (Some((at, position, buffered)), Some((listed, _))) = (self.position, self.listed.get(&id)) else {
            return true;
        };
        let here = position.after(self.now.since(at)).min(buffered.max(position));
        listed.start.ahead_of(here) < HIGH_DEMAND
    }

    /// Its place in 5.0's election; the time it waits for those before it counts from when the segment was listed.
    fn may_elect_itself(&self, id: SegmentId) -> bool {
        let score = |peer: u64| fnv1a(peer, id.seq.0);
        let own = score(self.id);
        let rank = self.neighbours.values().filter(|neighbour| score(neighbour.id) < own).count() as u32;
        let since = self.listed.get(&id).map_or(self.now, |(_, at)| *at);
        self.now.since(since) >= RANK_STEP * rank
    }

    fn look(&mut self) {
        self.give_up_silent();
        let queue = self.queue();
        for id in &queue {
            if self.is_http(*id) {
                continue;
            }
            if self.is_urgent(*id) && self.http.len() < HTTP_AT_ONCE {
                self.abort_p2p(*id);
                self.load_http(*id);
            } else if !self.p2p.contains_key(id) && self.p2p.len() < P2P_AT_ONCE {
                self.load_p2p(*id);
            }
        }
        match self.version {
            Version::V2 => self.load_random(&queue),
            Version::V5 => {
                for id in queue {
                    let free = !self.is_here_or_coming(id) && !self.someone_has_or_loads(id);
                    if free && self.http.len() < HTTP_AT_ONCE && self.may_elect_itself(id) {
                        self.load_http(id);
                    }
                }
            }
        }
        self.wake = Some(self.now + LOOK);
    }

    fn load_random(&mut self, queue: &[SegmentId]) {
        if self.now < self.next_random || self.neighbours.is_empty() {
            return;
        }
        // About once a second, as it does.
        self.next_random = self.now + Duration::from_millis(750 + self.rng.below(500));
        let mut free: Vec<SegmentId> = queue
            .iter()
            .filter(|id| !self.is_here_or_coming(**id) && !self.someone_has_or_loads(**id))
            .copied()
            .collect();
        let peers = self.neighbours.len() + 1;
        free.truncate(HTTP_AT_ONCE * peers);
        let mut probability = free.len() as f64 / peers as f64;
        while !free.is_empty() && self.http.len() < HTTP_AT_ONCE && self.rng.chance(probability) {
            let place = self.rng.below(free.len() as u64) as usize;
            let id = free.swap_remove(place);
            self.load_http(id);
            probability -= 1.0;
        }
    }

    fn load_http(&mut self, id: SegmentId) {
        self.next += 1;
        let fetch = FetchId(self.next);
        self.http.insert(fetch, (id, self.now));
        self.outputs.push_back(Output::Fetch { fetch, segment: id, range: None });
        self.announce();
    }

    fn load_p2p(&mut self, id: SegmentId) {
        let holders: Vec<PeerId> =
            self.neighbours.iter().filter(|(_, n)| n.has.contains(&id)).map(|(peer, _)| *peer).collect();
        if holders.is_empty() {
            return;
        }
        let from = holders[self.rng.below(holders.len() as u64) as usize];
        let download = Download { from, since: self.now, heard: self.now, len: None, got: 0 };
        self.p2p.insert(id, download);
        self.send(from, &Talk::Request(id));
    }

    fn abort_p2p(&mut self, id: SegmentId) {
        if let Some(download) = self.p2p.remove(&id) {
            self.stats.wasted_bytes += u64::from(download.got);
            self.send(download.from, &Talk::Cancel(id));
        }
    }

    fn give_up_silent(&mut self) {
        let now = self.now;
        let silent = self.p2p.iter().filter(|(_, download)| now.since(download.heard) > SILENT_PEER);
        let silent: Vec<(SegmentId, PeerId)> = silent.map(|(id, download)| (*id, download.from)).collect();
        for (id, from) in silent {
            self.abort_p2p(id);
            if let Some(neighbour) = self.neighbours.get_mut(&from) {
                neighbour.has.remove(&id);
            }
        }
    }

    fn complete(&mut self, id: SegmentId, len: SegmentLen, requested: Now, http: bool) {
        let (bytes, now) = (len.bytes(), self.now);
        let report = DeliveryReport {
            len,
            requested,
            first_byte: requested,
            complete: now,
            http_bytes: if http { bytes } else { 0 },
            seed_bytes: 0,
            viewer_bytes: if http { 0 } else { bytes },
        };
        self.held.insert(id, (len, report));
        self.announce();
        self.deliver();
    }

    fn deliver(&mut self) {
        let Some((demand, segment)) = self.demand else { return };
        let Some((_, report)) = self.held.get(&segment) else { return };
        self.outputs.push_back(Output::Deliver { demand, segment, report: *report });
        self.demand = None;
    }

    fn heard(&mut self, peer: PeerId, talk: Talk) {
        match talk {
            Talk::Announce { id, has, loading } => {
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.has = has.into_iter().collect();
                    neighbour.loading = loading.into_iter().collect();
                    neighbour.id = id;
                }
            }
            Talk::Request(id) => match self.held.get(&id).map(|(len, _)| *len) {
                Some(len) if self.uploads => {
                    self.send(peer, &Talk::Data(id, len.bytes()));
                    let chunks = len
                        .chunks()
                        .iter()
                        .filter_map(|index| Some((ChunkId { segment: id, index }, len.chunk_len(index)?)));
                    if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                        neighbour.uploads.extend(chunks);
                    }
                    self.give(peer);
                }
                _ => self.send(peer, &Talk::Absent(id)),
            },
            Talk::Data(id, len) => {
                let (now, len) = (self.now, SegmentLen::new(len).ok());
                if let Some(download) = self.p2p.get_mut(&id).filter(|download| download.from == peer) {
                    download.len = len;
                    download.heard = now;
                }
            }
            Talk::Absent(id) => {
                self.p2p.remove(&id);
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.has.remove(&id);
                }
            }
            Talk::Cancel(id) => {
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.uploads.retain(|(chunk, _)| chunk.segment != id);
                }
            }
        }
    }

    fn give(&mut self, peer: PeerId) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        while neighbour.sending < SENDING
            && let Some((chunk, len)) = neighbour.uploads.pop_front()
        {
            neighbour.sending += 1;
            let piece_len = frame::piece_len(len, headwater_wire::limits::MAX_FRAME);
            self.outputs.push_back(Output::SendChunk { peer, chunk, offset: 0, len, piece_len });
        }
    }

    fn lost(&mut self, peer: PeerId) {
        self.neighbours.remove(&peer);
        let theirs = self.p2p.extract_if(.., |_, download| download.from == peer);
        let wasted: u64 = theirs.map(|(_, download)| u64::from(download.got)).sum();
        self.stats.wasted_bytes += wasted;
        if self.neighbours.len() < usize::from(self.wanted_neighbours) {
            let count = self.wanted_neighbours - self.neighbours.len() as u16;
            self.outputs.push_back(Output::WantNeighbours { count });
        }
    }

    fn http_ended(&mut self, fetch: FetchId, len: Option<SegmentLen>) {
        let Some((id, since)) = self.http.remove(&fetch) else { return };
        if let Some(len) = len {
            self.complete(id, len, since, true);
        }
    }
}

/// 5.0's hash.
fn fnv1a(peer: u64, seq: u64) -> u32 {
    let bytes = peer.to_le_bytes().into_iter().chain(seq.to_le_bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
