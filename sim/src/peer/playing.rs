//! What goes on between a peer's player, its engine and the playlists; and how a seed follows the stream.

use std::time::Duration;

use headwater_swarm::{DeliveryReport, DemandId, Input, MediaKind, MediaTime, Playhead, PlaylistUpdate};
use headwater_wire::signal::ClientMessage;
use headwater_wire::{SegmentId, SeqNo};

use super::Peer;
use crate::clock::{Micros, SECOND, micros};
use crate::content::Content;
use crate::event::{SegmentRef, What};
use crate::player::{Demand, Via};
use crate::policies::Policy;
use crate::world::Desk;

/// The module with the engine in it, compressed: what `cargo xtask size` allows it.
const ENGINE_BYTES: f64 = 59_200.0;

/// A segment that the player loaded itself.
#[derive(Debug)]
pub(super) struct Load {
    segment: SegmentRef,
    first_byte: Micros,
    transfer: Micros,
}

impl Peer {
    /// From a small request to the origin to its answer.
    pub(super) fn origin_trip(&self, desk: &Desk<'_>) -> Micros {
        let population = &desk.shared.population;
        let latency = population.latency(self.index, population.origin());
        2 * latency + micros(desk.shared.scenario.origin.think_ms / 1000.0)
    }

    pub(super) fn tick_length(&self, desk: &Desk<'_>) -> Micros {
        micros(desk.shared.scenario.player.tick_ms / 1000.0)
    }

    // Playlists.

    /// Asks for the playlist after a while.
    pub(super) fn poll_playlist(&mut self, after: Micros, desk: &mut Desk<'_>) {
        let trip = self.origin_trip(desk);
        let asked = self.now + after;
        let answered = asked + trip / 2;
        self.last_poll.0 = asked;
        let refused = desk
            .shared
            .scenario
            .origin
            .outages
            .iter()
            .any(|outage| outage.playlists && (micros(outage.from_s)..micros(outage.to_s)).contains(&answered));
        let published = desk.shared.content.published(answered);
        let what = if refused { What::PlaylistFailed } else { What::Playlist { published } };
        self.later(asked + trip, what, desk);
    }

    pub(super) fn playlist(&mut self, published: u32, desk: &mut Desk<'_>) {
        let content = &desk.shared.content;
        let start = desk.shared.population.session(self.index).start;
        let Some(player) = &mut self.player else { return };
        player.advance(self.now, content);
        player.playlist(published, start, content);
        self.tell_playlist(desk);
        if content.live {
            // As hls.js does it: a target duration after the last request, or half of that where nothing was new.
            let (asked, before) = self.last_poll;
            let pause = if published > before { content.segment } else { content.segment / 2 };
            self.last_poll.1 = published;
            let after = (asked + pause).saturating_sub(self.now);
            self.poll_playlist(after, desk);
        }
    }

    /// Hands the engine what it does not know of the playlist.
    pub(super) fn tell_playlist(&mut self, desk: &Desk<'_>) {
        let content = &desk.shared.content;
        let (Some(player), true) = (&self.player, self.brain.is_some()) else { return };
        let (first, end) = (player.known_first, player.known_end);
        let from = self.told.max(first);
        if from >= end {
            return;
        }
        self.told = end;
        for track in 0..content.tracks {
            let update = PlaylistUpdate {
                track: Content::track_id(track),
                live: content.live,
                first: SeqNo(u64::from(first)),
                segments: (from..end).map(|seq| content.listed(seq)).collect(),
            };
            self.input(Input::Playlist(update));
        }
    }

    // The player.

    pub(super) fn player_tick(&mut self, desk: &mut Desk<'_>) {
        let content = &desk.shared.content;
        let Some(player) = &mut self.player else { return };
        player.advance(self.now, content);
        if player.started.is_some() && !player.ended {
            let behind = content.live.then(|| content.live_edge(self.now).saturating_sub(player.position));
            desk.stats.watching(self.now, player.is_stalled(), behind);
            let awaited = player.demand.filter(|_| player.is_stalled());
            let awaited = awaited.map(|demand| SegmentRef { track: demand.track, seq: demand.seq }.id());
            let is_held = |id| self.brain.as_ref().is_some_and(|brain| brain.is_held_nearby(id));
            self.beside_since = awaited.is_some_and(is_held).then(|| self.beside_since.unwrap_or(self.now));
            self.record.stalled_beside |= self.beside_since.is_some_and(|since| self.now - since >= SECOND);
        }
        self.tell_playhead();
        self.tell_position(desk);
        let tick = self.tick_length(desk);
        self.later(self.now + tick, What::PlayerTick, desk);
    }

    /// Where in content on demand the viewer is, in seconds, for the signalling server.
    pub(super) fn position_s(&self, desk: &Desk<'_>) -> Option<u32> {
        let is_told = desk.shared.policy == Policy::Headwater && !desk.shared.content.live;
        let player = self.player.as_ref().filter(|_| is_told)?;
        u32::try_from(player.position / SECOND).ok()
    }

    /// Tells the signalling server of a jump, and now and then, as the browser's client does it.
    fn tell_position(&mut self, desk: &mut Desk<'_>) {
        const JUMP_S: u64 = 20;
        const EVERY_S: u64 = 60;
        let Some(position_s) = self.position_s(desk).filter(|_| self.joined_swarm) else { return };
        let (at, before) = self.position_told;
        let passed = (self.now - at) / SECOND;
        if passed >= EVERY_S || (u64::from(before) + passed).abs_diff(position_s.into()) >= JUMP_S {
            self.position_told = (self.now, position_s);
            self.tell_server(ClientMessage::Watching { position_s }, desk);
        }
    }

    pub(super) fn tell_playhead(&mut self) {
        let Some(player) = &self.player else { return };
        let playhead = Playhead {
            position: MediaTime::from_micros(player.position as i64),
            buffered_to: MediaTime::from_micros(player.buffered_to as i64),
            rate_permille: 1000,
        };
        self.input(Input::Playhead(playhead));
    }

    /// Lets the player ask for its next segment, if it wants one.
    pub(super) fn demand_next(&mut self, desk: &mut Desk<'_>) {
        let Some(player) = &mut self.player else { return };
        player.advance(self.now, &desk.shared.content);
        let Some(seq) = player.wants() else { return };
        // As the browser's session does it: what the engine can have from peers waits for it while there is enough to play.
        if self.brain.is_none() && desk.shared.policy == Policy::Headwater && player.can_wait() {
            return;
        }
        let segment = SegmentRef { seq, track: player.track };
        let via = if self.brain.is_some() {
            self.next_demand += 1;
            Via::Engine(self.next_demand)
        } else {
            Via::Http(self.load(segment, desk))
        };
        if let Some(player) = &mut self.player {
            player.demand = Some(Demand { seq, track: segment.track, via });
        }
        if let Via::Engine(demand) = via {
            self.tell_playhead();
            self.input(Input::Demand { demand: DemandId(demand), segment: segment.id(), kind: MediaKind::Main });
        }
    }

    pub(super) fn delivered_by_engine(
        &mut self,
        demand: u64,
        segment: SegmentId,
        report: &DeliveryReport,
        desk: &mut Desk<'_>,
    ) {
        let sum = report.http_bytes + report.seed_bytes + report.viewer_bytes;
        self.record.delivered += u64::from(report.len.bytes());
        // Where it was here before it was demanded from outside the engine, nothing is reported.
        self.record.delivered_by_source += u64::from(if sum == 0 { report.len.bytes() } else { sum });
        let awaited = self.player.as_ref().and_then(|player| player.demand);
        if awaited.is_none_or(|awaited| awaited.via != Via::Engine(demand)) {
            return;
        }
        let took = report.complete.since(report.requested);
        self.segment_here(SegmentRef::of(segment), took, desk);
    }

    /// A load of the player's own is complete.
    pub(super) fn loaded(&mut self, segment: SegmentRef, since: Micros, head: Micros, desk: &mut Desk<'_>) {
        let len = u64::from(desk.shared.content.len(segment).bytes());
        self.record.delivered += len;
        self.record.delivered_by_source += len;
        if let Some(player) = &mut self.player {
            player.slowest = player.slowest.max(Some(self.now - since));
        }
        let load = Load { segment, first_byte: head - since, transfer: self.now - head };
        if self.brain.is_some() {
            self.tell_load(&load, desk);
        } else {
            self.loaded.push(load);
        }
        self.segment_here(segment, Duration::from_micros(self.now - since), desk);
    }

    /// Hands the engine what the player loaded without it.
    pub(super) fn tell_load(&mut self, load: &Load, desk: &Desk<'_>) {
        self.input(Input::OriginMeasured {
            first_byte: Duration::from_micros(load.first_byte),
            bytes: u64::from(desk.shared.content.len(load.segment).bytes()),
            transfer: Duration::from_micros(load.transfer),
        });
        self.stored(load.segment, desk);
    }

    fn segment_here(&mut self, segment: SegmentRef, took: Duration, desk: &mut Desk<'_>) {
        let content = &desk.shared.content;
        let Some(player) = &mut self.player else { return };
        let first = player.delivered(self.now, content);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        player.measured(content.len(segment).bytes(), took, content, &desk.shared.scenario.stream.renditions_kbps);
        if first {
            let after = self.engine_load(desk);
            self.later(self.now + after, What::Boot, desk);
            if desk.shared.policy != Policy::HttpOnly {
                self.join_swarm(desk);
            }
        }
    }

    /// From the first frame to when the engine could begin: its module, in one request, and its start. Meanwhile the peer joins.
    fn engine_load(&self, desk: &Desk<'_>) -> Micros {
        let rate = desk.shared.population.session(self.index).down;
        let start = desk.shared.scenario.player.engine_start_ms / 1000.0;
        self.origin_trip(desk) + micros(ENGINE_BYTES / rate + start)
    }

    /// The engine gives a segment up: the player's own loader gets it.
    pub(super) fn engine_failed(&mut self, demand: u64, desk: &mut Desk<'_>) {
        let awaited = self.player.as_ref().and_then(|player| player.demand);
        let Some(awaited) = awaited.filter(|awaited| awaited.via == Via::Engine(demand)) else { return };
        let via = Via::Http(self.load(SegmentRef { seq: awaited.seq, track: awaited.track }, desk));
        self.record.failed += 1;
        if let Some(player) = &mut self.player {
            player.demand = Some(Demand { via, ..awaited });
        }
    }

    /// A load of the player's own failed: it tries again after a while.
    pub(super) fn load_failed(&mut self, desk: &mut Desk<'_>) {
        self.later(self.now + SECOND, What::Retry, desk);
    }

    pub(super) fn retry(&mut self) {
        // Meanwhile the viewer may have gone elsewhere, and another load may be under way.
        let under_way = |request| self.is_under_way(request);
        let failed = |demand: &Demand| matches!(demand.via, Via::Http(request) if !under_way(request));
        if let Some(player) = self.player.as_ref()
            && player.demand.as_ref().is_some_and(failed)
            && let Some(player) = &mut self.player
        {
            player.demand = None;
        }
    }

    pub(super) fn seek(&mut self, desk: &mut Desk<'_>) {
        let content = &desk.shared.content;
        let seeks = desk.shared.scenario.audience.seeks_per_min;
        let after = micros(self.rng.exponential(60.0 / seeks.max(0.01)));
        self.later(self.now + after.max(SECOND), What::Seek, desk);
        let to = self.rng.below(u64::from(content.count)) as u32;
        let Some(player) = self.player.as_mut().filter(|player| player.started.is_some()) else { return };
        let awaited = player.demand;
        player.seek(self.now, to, content);
        self.tell_position(desk);
        self.tell_playhead();
        match awaited.map(|awaited| awaited.via) {
            Some(Via::Engine(demand)) => self.input(Input::DemandCancelled { demand: DemandId(demand) }),
            Some(Via::Http(request)) => self.abort_load(request, desk),
            None => {}
        }
    }

    // Seeds.

    /// A seed looks for new segments, and comes back when there will be more.
    pub(super) fn seed_poll(&mut self, desk: &mut Desk<'_>) {
        let content = &desk.shared.content;
        let folder = desk.shared.population.session(self.index).folder;
        let published = content.published(self.now);
        let first = self.told.max(content.first_listed(published));
        self.told = published;
        for track in 0..content.tracks {
            self.input(Input::Playlist(PlaylistUpdate {
                track: Content::track_id(track),
                live: content.live,
                first: SeqNo(u64::from(content.first_listed(published))),
                segments: (first..published).map(|seq| content.listed(seq)).collect(),
            }));
        }
        for seq in first..published {
            for track in 0..content.tracks {
                let segment = SegmentRef { seq, track };
                if folder {
                    self.sign(segment, desk);
                    self.stored(segment, desk);
                } else {
                    self.mirror(segment, desk);
                }
            }
        }
        if content.live {
            // It polls often: a seed is to have a segment before viewers know of it.
            let next = content.published_at(published).max(self.now) + SECOND / 20;
            self.later(next, What::SeedPoll, desk);
        }
    }
}
