//! One direction of a data channel as Chromium has it: what dcsctp does about its window, losses and acknowledgements,
//! packet by packet. Left out: heartbeats, the set-up, streams, path MTU; a packet is lost and acknowledged as one.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use headwater_wire::DataHeader;

use crate::clock::Micros;

/// The largest packet, and what SCTP puts around all of it and around each piece of a message in it.
const MTU: u32 = 1_191;
const COMMON_HEADER: u32 = 12;
const CHUNK_HEADER: u32 = 16;
/// What a packet has room for, and the payload where one message fills it.
const ROOM: u32 = (MTU - COMMON_HEADER) / 4 * 4;
#[cfg(test)]
const PAYLOAD: u32 = ROOM - CHUNK_HEADER;

/// What DTLS, UDP and IP put around a packet, and SCTP's own.
pub(super) const HEADERS: u32 = COMMON_HEADER + 37 + 28;

/// A packet that carries an acknowledgement alone, and what each gap in it adds.
const SACK_LEN: u32 = HEADERS + 16;
const GAP_LEN: u32 = 4;

const FIRST_WINDOW: u32 = 10 * MTU;
const LEAST_THRESHOLD: u32 = 4 * MTU;

/// What the receiver holds back for the sender at most.
const RECEIVE_WINDOW: u32 = 5 << 20;

/// Packets that leave at one occasion: a message handed in, an acknowledgement, a time-out.
const MAX_BURST: usize = 4;

/// Reports of later packets after which one is taken for lost.
const MISSING: u32 = 3;

const LEAST_TIMEOUT: Micros = 400_000;
const FIRST_TIMEOUT: Micros = 500_000;
/// What the deviation of round trips is at least taken for.
const LEAST_VARIATION: f64 = 27_500.0;
/// Time-outs in a row double up to this.
const LONGEST_BACKOFF: Micros = 3_000_000;

/// How long a lone packet waits to be acknowledged.
pub(super) const ACK_DELAY: Micros = 200_000;

/// A message of the data channel.
#[derive(Debug)]
pub(super) enum Payload {
    Control(Vec<u8>),
    Data { header: DataHeader, len: u32 },
}

/// A packet of data.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    number: u64,
    /// All that it weighs but for the headers around it.
    pub(super) len: u32,
    /// The messages that end in it.
    messages: Vec<Rc<Payload>>,
}

/// What has arrived: all before `next`, and the later ones given.
#[derive(Debug)]
pub(super) struct Sack {
    next: u64,
    later: Vec<u64>,
}

impl Sack {
    /// What the packet weighs that carries it.
    pub(super) fn weight(&self) -> u32 {
        let gaps = 1 + self.later.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() as u32;
        SACK_LEN + if self.later.is_empty() { 0 } else { gaps * GAP_LEN }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UnderWay,
    /// To be sent again.
    Lost,
    Acked,
}

#[derive(Debug)]
struct Outstanding {
    packet: Packet,
    sent: Micros,
    state: State,
    again: bool,
    missing: u32,
}

/// The sending half.
#[derive(Debug)]
pub(super) struct Sender {
    /// The number of the next packet.
    next: u64,
    /// Messages, and how much of each has not left.
    unsent: VecDeque<(Rc<Payload>, u32)>,
    unsent_bytes: u32,
    outstanding: VecDeque<Outstanding>,
    /// Bytes under way, without those taken for lost.
    flight: u32,
    /// Bytes that are not acknowledged in order, which the receiver may hold; and packets taken for lost.
    held: u32,
    lost: usize,
    window: u32,
    threshold: u32,
    partial: u32,
    /// In fast recovery until this one is acknowledged.
    recovery: Option<u64>,
    smooth: Option<(f64, f64)>,
    timeout: Micros,
    /// Time-outs in a row.
    expired: u32,
    /// When the oldest is given up.
    pub(super) expires: Option<Micros>,
}

impl Sender {
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            outstanding: VecDeque::new(),
            flight: 0,
            held: 0,
            lost: 0,
            window: FIRST_WINDOW,
            threshold: RECEIVE_WINDOW,
            partial: 0,
            recovery: None,
            smooth: None,
            timeout: FIRST_TIMEOUT,
            expired: 0,
            expires: None,
        }
    }

    /// What the browser calls `bufferedAmount`.
    pub(super) fn buffered(&self) -> u32 {
        self.unsent_bytes
    }

    pub(super) fn push(&mut self, payload: Payload) {
        let len = match &payload {
            Payload::Control(frame) => frame.len() as u32,
            Payload::Data { len, .. } => len + headwater_wire::frame::DATA_HEADER_LEN as u32,
        };
        self.unsent_bytes += len;
        self.unsent.push_back((Rc::new(payload), len));
    }

    /// The next packet of what has not left.
    fn produce(&mut self) -> Packet {
        let mut packet = Packet { number: self.next, len: 0, messages: Vec::new() };
        self.next += 1;
        while let Some((_, left)) = self.unsent.front_mut() {
            let room = ROOM.saturating_sub(packet.len + CHUNK_HEADER);
            if room == 0 {
                break;
            }
            let len = room.min(*left);
            *left -= len;
            self.unsent_bytes -= len;
            packet.len += (CHUNK_HEADER + len).next_multiple_of(4);
            if *left == 0 {
                packet.messages.extend(self.unsent.pop_front().map(|(message, _)| message));
            }
        }
        packet
    }

    /// What leaves now: to be called after each message, acknowledgement and time-out.
    pub(super) fn send(&mut self, now: Micros, out: &mut Vec<Packet>) {
        for _ in 0..MAX_BURST {
            let room = self.window.saturating_sub(self.flight);
            let mut again = (0..self.outstanding.len()).filter(|_| self.lost > 0);
            if let Some(place) = again.find(|place| self.outstanding[*place].state == State::Lost) {
                if self.outstanding[place].packet.len > room {
                    break;
                }
                self.send_again(now, place, out);
            } else if !self.unsent.is_empty() {
                let len = (self.unsent_bytes + CHUNK_HEADER).min(ROOM);
                if len > room || self.held + len > RECEIVE_WINDOW {
                    break;
                }
                let packet = self.produce();
                self.flight += packet.len;
                self.held += packet.len;
                out.push(packet.clone());
                let fresh = Outstanding { packet, sent: now, state: State::UnderWay, again: false, missing: 0 };
                self.outstanding.push_back(fresh);
            } else {
                break;
            }
        }
        self.start(now);
    }

    fn send_again(&mut self, now: Micros, place: usize, out: &mut Vec<Packet>) {
        let Some(outstanding) = self.outstanding.get_mut(place) else { return };
        (outstanding.state, outstanding.again, outstanding.sent) = (State::UnderWay, true, now);
        outstanding.missing = 0;
        self.lost -= 1;
        self.flight += outstanding.packet.len;
        out.push(outstanding.packet.clone());
    }

    /// Starts the time-out where it does not run and anything is under way.
    fn start(&mut self, now: Micros) {
        if !self.outstanding.is_empty() && self.expires.is_none() {
            self.expired = 0;
            self.expires = Some(now + self.timeout);
        }
    }

    /// Takes an acknowledgement in. What is sent again at once, whatever the window, goes to `out`; [`Self::send`] is to follow.
    pub(super) fn on_sack(&mut self, now: Micros, sack: &Sack, out: &mut Vec<Packet>) {
        let flight = self.flight;
        // The round trip is told by what is the last in order, where nothing is missing.
        let round_trip = sack.next.checked_sub(1).filter(|_| sack.later.is_empty()).and_then(|last| {
            let first = self.outstanding.front()?.packet.number;
            let told = self.outstanding.get(last.checked_sub(first)? as usize)?;
            (!told.again && told.state != State::Acked).then(|| now - told.sent)
        });
        if self.recovery.is_some_and(|until| sack.next > until) {
            self.recovery = None;
        }
        let recovering = self.recovery.is_some();
        let mut acked = 0;
        let mut ack = |outstanding: &mut Outstanding, flight: &mut u32, losses: &mut usize| {
            let len = outstanding.packet.len;
            match outstanding.state {
                State::Acked => return false,
                State::Lost => *losses -= 1,
                State::UnderWay => *flight -= len,
            }
            outstanding.state = State::Acked;
            acked += len;
            true
        };
        let mut advanced = false;
        while self.outstanding.front().is_some_and(|outstanding| outstanding.packet.number < sack.next) {
            let Some(mut outstanding) = self.outstanding.pop_front() else { break };
            self.held -= outstanding.packet.len;
            ack(&mut outstanding, &mut self.flight, &mut self.lost);
            advanced = true;
        }
        let first = self.outstanding.front().map_or(sack.next, |outstanding| outstanding.packet.number);
        let mut newest = sack.next;
        for number in &sack.later {
            if let Some(outstanding) = self.outstanding.get_mut((number - first) as usize)
                && ack(outstanding, &mut self.flight, &mut self.lost)
            {
                newest = *number;
            }
        }
        // A packet is missing where a later one is acknowledged for the first time, and in fast recovery wherever the
        // first gap was filled (RFC 9260, 7.2.4). One that was sent again is counted anew: it may be lost again.
        let highest = sack.later.last().copied().unwrap_or(0);
        let until = if recovering && advanced { highest } else { newest };
        let mut lost = None;
        let reported = self.outstanding.iter_mut().enumerate();
        for (place, outstanding) in reported.take_while(|(_, outstanding)| outstanding.packet.number < until) {
            if outstanding.state == State::UnderWay {
                outstanding.missing += 1;
                if outstanding.missing >= MISSING {
                    outstanding.state = State::Lost;
                    self.flight -= outstanding.packet.len;
                    self.lost += 1;
                    lost.get_or_insert(place);
                }
            }
        }
        if advanced {
            self.expires = None;
            self.grow(acked, flight);
        }
        if let Some(place) = lost
            && !recovering
        {
            self.threshold = (self.window / 2).max(LEAST_THRESHOLD);
            self.window = self.threshold;
            self.partial = 0;
            self.recovery = Some(self.next - 1);
            if place == 0 {
                self.expires = None;
            }
            self.send_again(now, place, out);
        }
        self.start(now);
        if let Some(sample) = round_trip {
            self.note_round_trip(sample);
        }
    }

    fn grow(&mut self, acked: u32, flight: u32) {
        // A window that was not filled does not grow.
        let full = flight + MTU >= self.window;
        if self.window <= self.threshold {
            if full && self.recovery.is_none() {
                self.window += acked.min(MTU);
            }
            return;
        }
        self.partial += acked;
        if self.partial >= self.window && full {
            self.partial -= self.window;
            self.window += MTU;
        }
    }

    fn note_round_trip(&mut self, sample: Micros) {
        let sample = sample as f64;
        let (smooth, varies) = match self.smooth {
            None => (sample, sample / 2.0),
            Some((smooth, varies)) => (smooth * 0.875 + sample * 0.125, varies * 0.75 + (smooth - sample).abs() * 0.25),
        };
        let varies = varies.max(LEAST_VARIATION);
        self.smooth = Some((smooth, varies));
        self.timeout = ((smooth + 4.0 * varies) as Micros).max(LEAST_TIMEOUT);
    }

    /// The oldest has not been acknowledged in time. Fast recovery goes on, if it is on: the window stays at one packet
    /// until all that was under way when it began is acknowledged.
    pub(super) fn expire(&mut self, now: Micros) {
        self.threshold = (self.window / 2).max(LEAST_THRESHOLD);
        self.window = MTU;
        self.partial = 0;
        for outstanding in self.outstanding.iter_mut().filter(|outstanding| outstanding.state == State::UnderWay) {
            outstanding.state = State::Lost;
            self.lost += 1;
        }
        self.flight = 0;
        self.expires = Some(now + (self.timeout << self.expired.min(16)).min(LONGEST_BACKOFF));
        self.expired += 1;
    }
}

/// The receiving half.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    next: u64,
    later: BTreeMap<u64, Packet>,
    unacked: u32,
    /// When a lone packet is acknowledged.
    pub(super) due: Option<Micros>,
}

impl Receiver {
    /// Takes a packet in; gives what is complete and in order, and says whether to acknowledge at once.
    pub(super) fn receive(&mut self, now: Micros, packet: Packet) -> (Vec<Rc<Payload>>, bool) {
        let is_new = packet.number >= self.next;
        // The very first is acknowledged at once; so is what fills a gap, as what makes one.
        let in_order = packet.number == self.next && self.next > 0 && self.later.is_empty();
        if is_new {
            self.later.insert(packet.number, packet);
        }
        let mut messages = Vec::new();
        while let Some(packet) = self.later.remove(&self.next) {
            self.next += 1;
            messages.extend(packet.messages);
        }
        self.unacked += 1;
        let at_once = !in_order || self.unacked >= 2;
        if !at_once {
            self.due.get_or_insert(now + ACK_DELAY);
        }
        (messages, at_once)
    }

    pub(super) fn sack(&mut self) -> Sack {
        self.unacked = 0;
        self.due = None;
        Sack { next: self.next, later: self.later.keys().copied().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(sender: &mut Sender, packets: u32) {
        for _ in 0..packets {
            sender.push(Payload::Control(vec![0; PAYLOAD as usize]));
        }
    }

    fn send(sender: &mut Sender, now: Micros) -> Vec<Packet> {
        let mut out = Vec::new();
        loop {
            let before = out.len();
            sender.send(now, &mut out);
            if out.len() == before {
                return out;
            }
        }
    }

    fn on_sack(sender: &mut Sender, now: Micros, next: u64, later: &[u64]) -> Vec<u64> {
        let mut again = Vec::new();
        sender.on_sack(now, &Sack { next, later: later.to_vec() }, &mut again);
        numbers(&again)
    }

    fn numbers(packets: &[Packet]) -> Vec<u64> {
        packets.iter().map(|packet| packet.number).collect()
    }

    #[test]
    fn a_lost_packet_halves_the_window_is_sent_again_at_once_and_the_order_stays() {
        let (mut sender, mut receiver) = (Sender::new(), Receiver::default());
        push(&mut sender, 9);
        let mut packets = send(&mut sender, 0);
        assert_eq!(packets.len(), 9);
        let before = sender.window;
        packets.remove(2);
        let (mut came, mut again) = (0, Vec::new());
        for packet in packets {
            let (messages, at_once) = receiver.receive(1_000, packet);
            came += messages.len();
            if at_once {
                let sack = receiver.sack();
                sender.on_sack(1_000, &sack, &mut again);
            }
        }
        assert_eq!(came, 2, "those after the lost one wait for it");
        assert!(sender.window < before && sender.window >= before / 2, "{} of {before}", sender.window);
        assert_eq!(numbers(&again), [2]);
        let (messages, at_once) = receiver.receive(3_000, again[0].clone());
        assert!(at_once && messages.len() == 7);
        sender.on_sack(3_000, &receiver.sack(), &mut again);
        assert_eq!((sender.flight, sender.held, sender.outstanding.len()), (0, 0, 0));
    }

    #[test]
    fn what_is_never_acknowledged_is_sent_again_one_packet_at_first() {
        let mut sender = Sender::new();
        push(&mut sender, 5);
        assert_eq!(send(&mut sender, 0).len(), 5);
        assert_eq!(sender.expires, Some(FIRST_TIMEOUT));
        sender.expire(FIRST_TIMEOUT);
        assert_eq!(numbers(&send(&mut sender, FIRST_TIMEOUT)), [0]);
    }

    #[test]
    fn what_was_sent_again_and_is_lost_again_needs_no_time_out() {
        let mut sender = Sender::new();
        push(&mut sender, 10);
        assert_eq!(send(&mut sender, 0).len(), 10);
        let later: Vec<u64> = (1..10).collect();
        let mut again = Vec::new();
        for count in 1..=9 {
            again.extend(on_sack(&mut sender, 1_000, 0, &later[..count]));
            again.extend(numbers(&send(&mut sender, 1_000)));
        }
        assert_eq!(again, [0, 0, 0], "every third report");
    }

    #[test]
    fn a_report_that_brings_nothing_new_counts_for_nothing() {
        let mut sender = Sender::new();
        push(&mut sender, 4);
        assert_eq!(send(&mut sender, 0).len(), 4);
        for _ in 0..5 {
            assert!(on_sack(&mut sender, 1_000, 1, &[3]).is_empty());
        }
        assert_eq!((sender.lost, sender.recovery), (0, None));
    }

    #[test]
    fn after_a_time_out_in_recovery_the_window_stays_at_one_packet() {
        let mut sender = Sender::new();
        push(&mut sender, 10);
        assert_eq!(send(&mut sender, 0).len(), 10);
        for later in [[8, 8], [7, 8], [6, 8]] {
            on_sack(&mut sender, 1_000, 1, &later);
        }
        assert_eq!(sender.recovery, Some(9));
        sender.expire(600_000);
        assert_eq!(numbers(&send(&mut sender, 600_000)), [1]);
        on_sack(&mut sender, 700_000, 3, &[6, 7, 8]);
        assert_eq!(sender.window, MTU);
        on_sack(&mut sender, 800_000, 10, &[]);
        assert_eq!(sender.recovery, None);
    }

    #[test]
    fn four_packets_leave_at_one_occasion() {
        let mut sender = Sender::new();
        push(&mut sender, 10);
        let mut out = Vec::new();
        sender.send(0, &mut out);
        assert_eq!(numbers(&out), [0, 1, 2, 3]);
    }

    #[test]
    fn short_messages_share_a_packet() {
        let mut sender = Sender::new();
        for _ in 0..5 {
            sender.push(Payload::Control(vec![0; 100]));
        }
        let out = send(&mut sender, 0);
        assert_eq!((out.len(), out[0].messages.len()), (1, 5));
    }
}
