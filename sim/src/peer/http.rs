//! A peer's HTTP requests: for its player, for its engine, for a seed's mirror, for the catalogue.

use headwater_swarm::{BatchSource, FetchId, Input};
use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{ByteRange, ChunkIndex, SegmentId};

use super::Peer;
use crate::clock::{Micros, SECOND};
use crate::event::{Requester, Resource, SegmentRef, What};
use crate::stats::Source;
use crate::world::Desk;

/// For whom a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Player,
    Fetch(FetchId),
    Mirror,
    Catalogue,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: u32,
    purpose: Purpose,
    segment: SegmentRef,
    since: Micros,
    head: Micros,
    /// For the catalogue: when the response was made.
    published: u32,
}

impl Peer {
    fn request(&mut self, purpose: Purpose, resource: Resource, desk: &mut Desk<'_>) -> u32 {
        self.next_request += 1;
        let id = self.next_request;
        let segment = match resource {
            Resource::Segment { segment, .. } => segment,
            Resource::Catalogue => SegmentRef { seq: 0, track: 0 },
        };
        self.requests.push(Request { id, purpose, segment, since: self.now, head: 0, published: 0 });
        self.send(desk.shared.population.origin(), What::HttpRequest { request: id, resource }, desk);
        id
    }

    fn whole(segment: SegmentRef, by: Requester, desk: &Desk<'_>) -> Resource {
        Resource::Segment { segment, start: 0, end: desk.shared.content.len(segment).bytes(), by }
    }

    /// The player's own load.
    pub(super) fn load(&mut self, segment: SegmentRef, desk: &mut Desk<'_>) -> u32 {
        let resource = Self::whole(segment, Requester::Player, desk);
        self.request(Purpose::Player, resource, desk)
    }

    pub(super) fn mirror(&mut self, segment: SegmentRef, desk: &mut Desk<'_>) {
        let resource = Self::whole(segment, Requester::Seed, desk);
        self.request(Purpose::Mirror, resource, desk);
    }

    pub(super) fn fetch(&mut self, fetch: FetchId, id: SegmentId, range: Option<ByteRange>, desk: &mut Desk<'_>) {
        let segment = SegmentRef::of(id);
        let total = desk.shared.content.len(segment).bytes();
        let (start, end) = range.map_or((0, total), |range| (range.start, range.end));
        let resource = Resource::Segment { segment, start, end, by: Requester::Engine };
        self.request(Purpose::Fetch(fetch), resource, desk);
    }

    pub(super) fn is_under_way(&self, id: u32) -> bool {
        self.requests.iter().any(|request| request.id == id)
    }

    pub(super) fn abort_fetch(&mut self, fetch: FetchId, desk: &mut Desk<'_>) {
        self.abort(|request| request.purpose == Purpose::Fetch(fetch), desk);
    }

    pub(super) fn abort_load(&mut self, id: u32, desk: &mut Desk<'_>) {
        self.abort(|request| request.id == id, desk);
    }

    fn abort(&mut self, which: impl Fn(&Request) -> bool, desk: &mut Desk<'_>) {
        let Some(place) = self.requests.iter().position(which) else { return };
        let request = self.requests.swap_remove(place).id;
        self.send(desk.shared.population.origin(), What::HttpAbort { request }, desk);
    }

    pub(super) fn fetch_catalogue(&mut self, desk: &mut Desk<'_>) {
        self.request(Purpose::Catalogue, Resource::Catalogue, desk);
    }

    pub(super) fn http_head(&mut self, id: u32, status: u16, published: u32, desk: &mut Desk<'_>) {
        let Some(place) = self.requests.iter().position(|request| request.id == id) else { return };
        let (purpose, segment) = (self.requests[place].purpose, self.requests[place].segment);
        self.requests[place].published = published;
        self.requests[place].head = self.now;
        if status < 300 {
            if let Purpose::Fetch(fetch) = purpose {
                let total = Some(desk.shared.content.len(segment));
                self.input(Input::FetchHead { fetch, ranged: status == 206, total });
            }
            return;
        }
        self.requests.swap_remove(place);
        match purpose {
            Purpose::Fetch(fetch) => self.input(Input::FetchFailed { fetch, status: Some(status) }),
            Purpose::Catalogue => self.input(Input::CatalogueFetched { found: false }),
            Purpose::Player => self.load_failed(desk),
            Purpose::Mirror => self.later(self.now + SECOND / 2, What::Mirror { segment }, desk),
        }
    }

    pub(super) fn http_piece(&mut self, id: u32, marked: bool, start: u32, len: u32, last: bool, desk: &mut Desk<'_>) {
        let Some(place) = self.requests.iter().position(|request| request.id == id) else { return };
        let Request { purpose, segment, since, head, published, .. } = self.requests[place];
        if last {
            self.requests.swap_remove(place);
        } else {
            self.send(desk.shared.population.origin(), What::HttpAck { request: id, marked }, desk);
        }
        let source = match purpose {
            Purpose::Player => Source::PlainHttp,
            Purpose::Fetch(_) => Source::EngineHttp,
            Purpose::Mirror => Source::MirrorHttp,
            Purpose::Catalogue => Source::Catalogue,
        };
        self.record.add(source, len);
        desk.stats.received(self.now, source, len);
        match purpose {
            Purpose::Fetch(fetch) => {
                let index = ChunkIndex(start / CHUNK_LEN);
                let hash = desk.shared.content.hash(segment, index);
                self.input(Input::FetchChunk { fetch, index, len, hash });
                if last {
                    self.input(Input::FetchDone { fetch, total: desk.shared.content.len(segment) });
                }
            }
            Purpose::Player if last => self.loaded(segment, since, head, desk),
            Purpose::Mirror if last => {
                self.sign(segment, desk);
                self.stored(segment, desk);
            }
            Purpose::Catalogue if last => {
                // The head says, in ticks, when the file was read.
                let at = Micros::from(published) * crate::clock::TICK;
                for batch in desk.shared.content.catalogue(at) {
                    self.input(Input::Batch { source: BatchSource::Origin, bytes: batch.as_bytes() });
                }
                self.input(Input::CatalogueFetched { found: true });
            }
            _ => {}
        }
    }
}
