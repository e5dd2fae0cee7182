//! The catalogue as this peer knows it: which segments have a signed entry, and the batches to pass on.

use alloc::vec::Vec;

use headwater_wire::{
    BatchBody, ChunkHash, RootHash, Scope, SegmentId, SegmentLen, SeqNo, SeqRange, SignedBatch, TrackId,
};

use crate::io::{BatchSource, Verdict, VerifyId};
use crate::map::{SegmentMap, SortedMap, SortedSet};

/// Most entries kept: two days of two-second segments in one rendition, 6 MiB. The oldest numbers go first.
const MAX_ENTRIES: usize = 100_000;

/// Entries of a live track that are kept behind the first segment listed: neighbours' playlists may be older.
const KEPT_BEHIND: u64 = 128;

/// Most batches whose signature is being verified: more from a peer are not looked at until some are done.
const MAX_VERIFYING: usize = 64;

/// Most of them from one peer, so that none takes the others' places.
const MAX_VERIFYING_OF_PEER: usize = 8;

/// Most batches sent in answer to one question.
const MAX_ANSWER: usize = 8;

/// What the publisher says of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) len: SegmentLen,
    pub(crate) root: RootHash,
    issued_ms: u64,
    batch: u64,
}

#[derive(Debug)]
struct Kept {
    batch: SignedBatch,
    /// Entries that still point here; the batch goes with the last.
    entries: usize,
    /// Whether peers may have it: what is not bound to this swarm convinces nobody.
    scoped: bool,
}

/// What to do with an offered batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It says nothing new, or is about other content.
    Ignore,
    /// Its signature must be verified first.
    Verify(VerifyId, SignedBatch),
    /// It was signed here and is in force.
    Accepted {
        /// The segments it newly speaks of.
        segments: Vec<SegmentId>,
        batch: SignedBatch,
        scope: Scope,
    },
}

/// A batch that has been verified.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) source: BatchSource,
    pub(crate) batch: SignedBatch,
    /// The segments it newly speaks of.
    pub(crate) segments: Vec<SegmentId>,
    /// What it is about; [`Scope::Any`] is not passed on.
    pub(crate) scope: Scope,
}

/// Entries and batches.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    entries: SegmentMap<Known>,
    batches: SortedMap<u64, Kept>,
    verifying: SortedMap<VerifyId, (BatchSource, SignedBatch, BatchBody)>,
    next: u64,
}

impl Catalogue {
    pub(crate) fn get(&self, segment: SegmentId) -> Option<Known> {
        self.entries.get(&segment).copied()
    }

    /// The chunk hashes of a segment, where the publisher signed them along.
    pub(crate) fn hashes(&self, segment: SegmentId) -> Option<Vec<ChunkHash>> {
        let known = self.get(segment)?;
        let (_, body) = SignedBatch::parse(self.batches.get(&known.batch)?.batch.as_bytes()).ok()?;
        let entry = body.entries.into_iter().find(|entry| entry.seq == segment.seq && !entry.hashes.is_empty())?;
        // The publisher's own mistake would otherwise cost every sender its connection.
        (RootHash::of_chunks(entry.len, &entry.hashes) == entry.root).then_some(entry.hashes)
    }

    /// Looks at a batch of anybody's, whose shape has been checked, in a swarm of `scope`.
    pub(crate) fn offer(&mut self, source: BatchSource, scope: Scope, batch: SignedBatch, body: BatchBody) -> Offered {
        let about_this = match (body.scope, source) {
            (Scope::Any, BatchSource::Peer(_)) => false,
            (Scope::Any, _) => true,
            (given, _) => given == scope,
        };
        if !about_this || !self.says_something_new(&body) || self.is_being_verified(&batch) {
            return Offered::Ignore;
        }
        if source == BatchSource::Own {
            let segments = self.accept(&batch, &body);
            return Offered::Accepted { segments, batch, scope: body.scope };
        }
        let of_same = self.verifying.values().filter(|(other, ..)| *other == source).count();
        let share = if matches!(source, BatchSource::Peer(_)) { MAX_VERIFYING_OF_PEER } else { MAX_VERIFYING };
        if self.verifying.len() >= MAX_VERIFYING || of_same >= share {
            return Offered::Ignore;
        }
        self.next += 1;
        let verify = VerifyId(self.next);
        self.verifying.insert(verify, (source, batch.clone(), body));
        Offered::Verify(verify, batch)
    }

    /// Takes the answer to a verification; `Err` holds the source of a false batch. `None` for questions never asked.
    pub(crate) fn verified(&mut self, verify: VerifyId, verdict: Verdict) -> Option<Result<Verified, BatchSource>> {
        let (source, batch, body) = self.verifying.remove(&verify)?;
        match verdict {
            Verdict::Signed => {}
            Verdict::Forged => return Some(Err(source)),
            // The publisher's own file with nothing but other keys' batches is worth a word; a peer may know more keys.
            Verdict::OtherKey if source == BatchSource::Origin => return Some(Err(source)),
            Verdict::OtherKey => return None,
        }
        let segments = self.accept(&batch, &body);
        Some(Ok(Verified { source, batch, segments, scope: body.scope }))
    }

    /// The batches that speak of segments in `range`, as many as one answer may have.
    pub(crate) fn covering(&self, track: TrackId, range: SeqRange) -> Vec<&SignedBatch> {
        let from = SegmentId { track, seq: range.first };
        let mut numbers = SortedSet::default();
        // A batch has at most a few hundred entries, so that this looks at a few thousand at most.
        let most = MAX_ANSWER * headwater_wire::limits::MAX_BATCH_ENTRIES;
        for (_, known) in self.entries.from(from).take_while(|(id, _)| range.contains(id.seq)).take(most) {
            numbers.insert(known.batch);
            if numbers.len() >= MAX_ANSWER {
                break;
            }
        }
        numbers
            .iter()
            .filter_map(|number| self.batches.get(&number))
            .filter(|kept| kept.scoped)
            .map(|kept| &kept.batch)
            .collect()
    }

    /// In open mode: what a peer, or this peer's own HTTP load, says of a segment, where nothing is known yet.
    pub(crate) fn assume(&mut self, segment: SegmentId, len: SegmentLen, root: RootHash) {
        if !self.entries.contains_key(&segment) {
            self.entries.insert(segment, Known { len, root, issued_ms: 0, batch: 0 });
        }
        self.bound();
    }

    fn says_something_new(&self, body: &BatchBody) -> bool {
        body.segments().any(|(segment, entry)| {
            self.entries.get(&segment).is_none_or(|known| {
                known.issued_ms < body.issued_ms && (known.len, known.root) != (entry.len, entry.root)
            })
        })
    }

    fn is_being_verified(&self, batch: &SignedBatch) -> bool {
        self.verifying.values().any(|(_, other, _)| other == batch)
    }

    /// Puts the entries in force and tells which are new.
    fn accept(&mut self, batch: &SignedBatch, body: &BatchBody) -> Vec<SegmentId> {
        self.next += 1;
        let number = self.next;
        let mut segments = Vec::new();
        for (segment, entry) in body.segments() {
            let old = self.entries.get(&segment).copied();
            if old.is_some_and(|old| old.issued_ms >= body.issued_ms) {
                continue;
            }
            if let Some(old) = old {
                self.release(old.batch);
            }
            let known = Known { len: entry.len, root: entry.root, issued_ms: body.issued_ms, batch: number };
            self.entries.insert(segment, known);
            segments.push(segment);
        }
        if !segments.is_empty() {
            let scoped = body.scope != Scope::Any;
            self.batches.insert(number, Kept { batch: batch.clone(), entries: segments.len(), scoped });
        }
        self.bound();
        // What is older than all that there is room for is forgotten at once, and nobody's news.
        segments.retain(|segment| self.entries.contains_key(segment));
        segments
    }

    /// Lets go of what lies behind a live track's window, whose first segment is `first`: a stream may run for years. Gives
    /// the first that may stay.
    pub(crate) fn forget_behind(&mut self, track: TrackId, first: SeqNo) -> SeqNo {
        let floor = SeqNo(first.0.saturating_sub(KEPT_BEHIND));
        while let Some((seq, _)) = self.entries.ends(track)
            && seq < floor
        {
            if let Some(known) = self.entries.remove(&SegmentId { track, seq }) {
                self.release(known.batch);
            }
        }
        floor
    }

    fn bound(&mut self) {
        /// Forgotten at once: finding the track that has the most looks through all that there is.
        const AT_ONCE: u32 = 256;
        while self.entries.len() > MAX_ENTRIES {
            let Some(SegmentId { track, .. }) = self.entries.first_of_longest() else { return };
            for _ in 0..AT_ONCE {
                let Some((seq, _)) = self.entries.ends(track) else { break };
                if let Some(known) = self.entries.remove(&SegmentId { track, seq }) {
                    self.release(known.batch);
                }
            }
        }
    }

    fn release(&mut self, number: u64) {
        let Some(kept) = self.batches.get_mut(&number) else { return };
        kept.entries -= 1;
        if kept.entries == 0 {
            self.batches.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_wire::catalogue::BATCH_VERSION;
    use headwater_wire::{Entry, PublicKey, Signature, SwarmName};

    use super::*;

    #[test]
    fn a_live_stream_that_runs_for_days_leaves_nothing_behind_its_window() {
        let scope = Scope::of_swarm(&SwarmName::new("K/l.m3u8").unwrap());
        let mut catalogue = Catalogue::default();
        let tracks = [TrackId(1), TrackId(2)];
        for seq in (0..5000).map(SeqNo) {
            for track in tracks {
                let entries = alloc::vec![Entry::of_segment(seq, &seq.0.to_le_bytes(), true).unwrap()];
                let body = BatchBody { version: BATCH_VERSION, scope, track, issued_ms: seq.0, entries };
                let bytes = body.signing_bytes().unwrap();
                let batch = SignedBatch::assemble(PublicKey([1; 32]), Signature([2; 64]), &bytes).unwrap();
                assert!(matches!(catalogue.offer(BatchSource::Own, scope, batch, body), Offered::Accepted { .. }));
                catalogue.forget_behind(track, SeqNo(seq.0.saturating_sub(5)));
            }
        }
        // A number of its own: what the constant is must not matter to whether memory is bounded.
        assert!(catalogue.entries.len() <= 300, "{}", catalogue.entries.len());
        assert_eq!(catalogue.batches.iter().count(), catalogue.entries.len());
        for track in tracks {
            assert!(catalogue.get(SegmentId { track, seq: SeqNo(4999) }).is_some());
        }
    }
}
