//! What is streamed: sizes, hashes and signed catalogue entries of all segments, made once and shared by all peers.
//!
//! There are no media bytes. A chunk's hash is a function of its name, so that peers hash nothing; roots and batches
//! are real.

use headwater_swarm::{Integrity, MediaTime, PlaylistSegment};
use headwater_wire::catalogue::BATCH_VERSION;
use headwater_wire::limits::{CHUNK_LEN, MAX_BATCH_ENTRIES, MAX_SEGMENT_LEN};
use headwater_wire::{
    BatchBody, ChunkHash, ChunkIndex, Entry, PublicKey, RootHash, Scope, SegmentLen, SeqNo, Signature, SignedBatch,
    SwarmName, TrackId,
};

use crate::clock::{Micros, SECOND, micros};
use crate::event::SegmentRef;
use crate::rng::mix;
use crate::scenario::Scenario;

/// Segments signed at once where the content is not live.
const VOD_BATCH: usize = if MAX_BATCH_ENTRIES < 200 { MAX_BATCH_ENTRIES } else { 200 };

/// Longer segments have their hashes told on request: the batch would not fit a frame.
const MAX_HASHES_ALONG: usize = headwater_wire::limits::MAX_HASHES;

/// One segment's facts.
#[derive(Debug)]
struct Facts {
    len: SegmentLen,
    hashes: Vec<ChunkHash>,
}

/// All segments of all renditions.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) live: bool,
    pub(crate) segment: Micros,
    pub(crate) window: u32,
    /// Segments that are published when the run begins.
    pub(crate) preroll: u32,
    /// Segments that there will ever be.
    pub(crate) count: u32,
    pub(crate) tracks: u8,
    pub(crate) scope: Scope,
    signing: Micros,
    facts: Vec<Vec<Facts>>,
    /// By track; a live one has one batch a segment.
    batches: Vec<Vec<SignedBatch>>,
}

impl Content {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let stream = &scenario.stream;
        let preroll = if stream.live { stream.window } else { (stream.length_s / stream.segment_s).ceil() as u32 };
        let preroll = preroll.max(1);
        let more = if stream.live { (scenario.duration_s / stream.segment_s) as u32 + 2 } else { 0 };
        let count = preroll + more;
        let scope = scope();
        let tracks = stream.renditions_kbps.len() as u8;
        let mut facts = Vec::new();
        let mut batches = Vec::new();
        for (track, rate) in (0..).zip(&stream.renditions_kbps) {
            let all: Vec<Facts> = (0..count)
                .map(|seq| {
                    // All renditions of a moment are harder or easier to encode alike.
                    let luck = (mix(scenario.seed ^ mix(u64::from(seq))) >> 11) as f64 / (1_u64 << 53) as f64;
                    let size = rate * 125.0 * stream.segment_s * (1.0 + stream.variation * (2.0 * luck - 1.0));
                    facts_of(SegmentRef { seq, track }, size)
                })
                .collect();
            let per_batch = if stream.live { 1 } else { VOD_BATCH };
            let numbers: Vec<u32> = (0..count).collect();
            let signed = numbers.chunks(per_batch).filter_map(|part| sign(scope, track, part, &all, stream.live));
            batches.push(signed.collect());
            facts.push(all);
        }
        Self {
            live: stream.live,
            segment: micros(stream.segment_s),
            window: stream.window,
            preroll,
            count,
            tracks,
            scope,
            signing: micros(scenario.origin.signing_ms / 1000.0),
            facts,
            batches,
        }
    }

    pub(crate) fn track_id(track: u8) -> TrackId {
        TrackId(0x7ac4_0000_0000_0000 | u64::from(track))
    }

    pub(crate) fn track_index(id: TrackId) -> u8 {
        id.0 as u8
    }

    pub(crate) fn integrity(&self) -> Integrity {
        Integrity::Signed(self.scope)
    }

    /// How many segments are published at a time: the number after the last.
    pub(crate) fn published(&self, at: Micros) -> u32 {
        if self.live { (self.preroll + (at / self.segment) as u32).min(self.count) } else { self.count }
    }

    /// When a segment is published; zero where it is from the beginning.
    pub(crate) fn published_at(&self, seq: u32) -> Micros {
        if self.live { u64::from((seq + 1).saturating_sub(self.preroll)) * self.segment } else { 0 }
    }

    /// The first segment that a playlist lists when so many are published.
    pub(crate) fn first_listed(&self, published: u32) -> u32 {
        if self.live { published.saturating_sub(self.window) } else { 0 }
    }

    /// The media time at which a live encoder is now.
    pub(crate) fn live_edge(&self, at: Micros) -> Micros {
        u64::from(self.preroll) * self.segment + at
    }

    pub(crate) fn start_of(&self, seq: u32) -> Micros {
        u64::from(seq) * self.segment
    }

    pub(crate) fn listed(&self, seq: u32) -> PlaylistSegment {
        PlaylistSegment {
            seq: SeqNo(u64::from(seq)),
            start: MediaTime::from_micros(self.start_of(seq) as i64),
            duration: std::time::Duration::from_micros(self.segment),
        }
    }

    pub(crate) fn len(&self, segment: SegmentRef) -> SegmentLen {
        self.facts_of(segment).len
    }

    pub(crate) fn hashes(&self, segment: SegmentRef) -> &[ChunkHash] {
        &self.facts_of(segment).hashes
    }

    pub(crate) fn hash(&self, segment: SegmentRef, index: ChunkIndex) -> ChunkHash {
        self.facts_of(segment).hashes.get(index.0 as usize).copied().unwrap_or(ChunkHash([0; 32]))
    }

    /// The batches of the catalogue file at a time, of all tracks: those about segments that are listed then.
    pub(crate) fn catalogue(&self, at: Micros) -> impl Iterator<Item = &SignedBatch> {
        let signed = if self.live { self.published(at.saturating_sub(self.signing)) } else { self.count };
        let first = self.first_listed(signed);
        let per_batch = if self.live { 1 } else { VOD_BATCH };
        let (from, to) = (first as usize / per_batch, (signed as usize).div_ceil(per_batch));
        self.batches.iter().flat_map(move |batches| batches.get(from..to.min(batches.len())).unwrap_or_default())
    }

    /// The batch that has a segment.
    pub(crate) fn batch(&self, segment: SegmentRef) -> Option<&SignedBatch> {
        let per_batch = if self.live { 1 } else { VOD_BATCH };
        self.batches.get(usize::from(segment.track))?.get(segment.seq as usize / per_batch)
    }

    /// Length of the catalogue file in bytes.
    pub(crate) fn catalogue_len(&self, at: Micros) -> u32 {
        8 + self.catalogue(at).map(|batch| batch.as_bytes().len() as u32 + 4).sum::<u32>()
    }

    /// Seconds that a segment plays.
    pub(crate) fn segment_s(&self) -> f64 {
        self.segment as f64 / SECOND as f64
    }

    fn facts_of(&self, segment: SegmentRef) -> &Facts {
        &self.facts[usize::from(segment.track)][segment.seq as usize]
    }
}

/// The name of the only swarm.
pub(crate) fn swarm() -> Option<SwarmName> {
    SwarmName::new("simulated/stream.m3u8").ok()
}

fn scope() -> Scope {
    swarm().map_or(Scope::Any, |name| Scope::of_swarm(&name))
}

fn facts_of(segment: SegmentRef, size: f64) -> Facts {
    let bytes = (size as u32).clamp(1, MAX_SEGMENT_LEN);
    // In range by the clamp: the error cannot happen.
    let len = SegmentLen::new(bytes).unwrap_or_else(|_| unreachable_len());
    let hashes = (0..len.chunk_count()).map(|index| chunk_hash(segment, index)).collect();
    Facts { len, hashes }
}

/// A chunk of length one: what a length out of bounds would become.
fn unreachable_len() -> SegmentLen {
    const ONE: Option<SegmentLen> = match SegmentLen::new(CHUNK_LEN) {
        Ok(len) => Some(len),
        Err(_) => None,
    };
    const { ONE.unwrap() }
}

fn chunk_hash(segment: SegmentRef, index: u32) -> ChunkHash {
    let mut hash = [0; 32];
    let mut state = mix(u64::from(segment.seq) | u64::from(segment.track) << 32 | u64::from(index) << 40);
    for part in hash.chunks_mut(8) {
        state = mix(state);
        part.copy_from_slice(&state.to_le_bytes());
    }
    ChunkHash(hash)
}

/// Live entries carry chunk hashes, as those that `headwater-seed` signs do.
fn sign(scope: Scope, track: u8, numbers: &[u32], all: &[Facts], live: bool) -> Option<SignedBatch> {
    let entries = numbers
        .iter()
        .map(|&seq| {
            let facts = &all[seq as usize];
            let along = live && facts.hashes.len() <= MAX_HASHES_ALONG;
            Entry {
                seq: SeqNo(u64::from(seq)),
                len: facts.len,
                root: RootHash::of_chunks(facts.len, &facts.hashes),
                hashes: if along { facts.hashes.clone() } else { Vec::new() },
            }
        })
        .collect();
    let body = BatchBody { version: BATCH_VERSION, scope, track: Content::track_id(track), issued_ms: 1, entries };
    let bytes = body.signing_bytes().ok()?;
    SignedBatch::assemble(PublicKey([1; 32]), Signature([1; 64]), &bytes).ok()
}
