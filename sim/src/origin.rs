//! The publisher's HTTP server: answers with the bytes of segments, paced by connection and in all, and counts them.
//!
//! A response leaves chunk by chunk, as many under way as the connection's window allows; the window grows with what
//! comes through and halves when a chunk stood in a long queue, as TCP's does.

use std::collections::BTreeMap;

use headwater_wire::limits::CHUNK_LEN;

use crate::clock::{Micros, TICK, micros, transfer};
use crate::event::{Event, NodeIndex, Resource, What};
use crate::population::MBPS;
use crate::stats::OriginCount;
use crate::world::{Desk, Shared};

/// A connection's window: a chunk at first, a megabyte at most.
const FIRST_WINDOW: u32 = 1;
const MAX_WINDOW: u32 = 16;

/// A response under way.
#[derive(Debug)]
struct Response {
    resource: Resource,
    next: u32,
    end: u32,
    in_flight: u32,
    window: u32,
    grows_fast: bool,
    /// When this connection may send more.
    free_at: Micros,
    rate: f64,
}

/// The origin.
#[derive(Debug)]
pub(crate) struct Origin {
    number: u32,
    responses: BTreeMap<(NodeIndex, u32), Response>,
    rate: f64,
    total: Option<f64>,
    free_at: Micros,
    think: Micros,
    outages: Vec<(Micros, Micros)>,
    has_catalogue: bool,
    pub(crate) count: OriginCount,
}

impl Origin {
    pub(crate) fn new(shared: &Shared) -> Self {
        let origin = &shared.scenario.origin;
        Self {
            number: 0,
            responses: BTreeMap::new(),
            rate: origin.connection_mbps * MBPS,
            total: (origin.total_mbps > 0.0).then_some(origin.total_mbps * MBPS),
            free_at: 0,
            think: micros(origin.think_ms / 1000.0),
            outages: origin.outages.iter().map(|outage| (micros(outage.from_s), micros(outage.to_s))).collect(),
            has_catalogue: origin.catalogue,
            count: OriginCount::new(shared),
        }
    }

    pub(crate) fn handle(&mut self, event: Event, desk: &mut Desk<'_>) {
        let peer = event.from;
        match event.what {
            What::HttpRequest { request, resource } => self.request(event.at, peer, request, resource, desk),
            What::HttpAbort { request } => {
                self.responses.remove(&(peer, request));
            }
            What::HttpAck { request, marked } => {
                let Some(response) = self.responses.get_mut(&(peer, request)) else { return };
                response.in_flight -= 1;
                if marked {
                    response.window = (response.window / 2).max(FIRST_WINDOW);
                    response.grows_fast = false;
                } else if response.grows_fast {
                    response.window = (response.window + 1).min(MAX_WINDOW);
                }
                self.send_more(event.at, peer, request, desk);
            }
            _ => {}
        }
    }

    fn request(&mut self, now: Micros, peer: NodeIndex, request: u32, resource: Resource, desk: &mut Desk<'_>) {
        let content = &desk.shared.content;
        let ready = now + self.think;
        let down = self.outages.iter().any(|(from, to)| (*from..*to).contains(&now));
        let (status, next, end) = match resource {
            _ if down => (503, 0, 0),
            Resource::Segment { segment, .. } if segment.seq >= content.published(now) => (404, 0, 0),
            Resource::Segment { segment, start, end, .. } => {
                let whole = start == 0 && end == content.len(segment).bytes();
                (if whole { 200 } else { 206 }, start, end)
            }
            Resource::Catalogue if !self.has_catalogue => (404, 0, 0),
            Resource::Catalogue => (200, 0, content.catalogue_len(now)),
        };
        self.count.requests += 1;
        self.count.refused += u64::from(status >= 400);
        let published = (now / TICK) as u32;
        self.send(ready, peer, What::HttpHead { request, status, published }, desk);
        if status >= 400 {
            return;
        }
        let shared = desk.shared;
        let lossy = shared.population.rate_limit(peer, shared.population.origin());
        let response = Response {
            resource,
            next,
            end,
            in_flight: 0,
            window: FIRST_WINDOW,
            grows_fast: true,
            free_at: ready,
            rate: self.rate.min(lossy),
        };
        self.responses.insert((peer, request), response);
        self.send_more(ready, peer, request, desk);
    }

    fn send_more(&mut self, now: Micros, peer: NodeIndex, request: u32, desk: &mut Desk<'_>) {
        let Some(mut response) = self.responses.remove(&(peer, request)) else { return };
        while response.in_flight < response.window && response.next < response.end {
            let start = response.next;
            let len = (CHUNK_LEN - start % CHUNK_LEN).min(response.end - start);
            let mut left = response.free_at.max(now);
            if let Some(total) = self.total {
                left = left.max(self.free_at) + transfer(len, total);
                self.free_at = left;
            }
            left = left.max(response.free_at.max(now) + transfer(len, response.rate));
            response.free_at = left;
            response.next += len;
            response.in_flight += 1;
            self.count.sent(left, response.resource, len, desk.shared);
            let last = response.next == response.end;
            let piece = What::HttpPiece { request, exited: false, marked: false, start, len, last };
            self.send(left, peer, piece, desk);
        }
        if response.next < response.end {
            self.responses.insert((peer, request), response);
        }
    }

    fn send(&mut self, left: Micros, to: NodeIndex, what: What, desk: &mut Desk<'_>) {
        let from = desk.shared.population.origin();
        self.number = self.number.wrapping_add(1);
        let at = left + desk.shared.population.latency(to, from);
        desk.post(Event { at, to, from, number: self.number, what });
    }
}
