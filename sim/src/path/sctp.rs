//! One direction of a data channel as Chromium has it: what dcsctp does about its window, losses and acknowledgements,
//! packet by packet. Left out: heartbeats, the set-up, streams, path MTU.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use headwater_wire::DataHeader;

use crate::clock::Micros;

/// Payload of one packet, and what DTLS, UDP and IP put around it.
const PAYLOAD: u32 = 1_163;
pub(super) const HEADERS: u32 = 28 + 37 + 28;

/// A packet that carries an acknowledgement alone.
pub(super) const SACK_LEN: u32 = 100;

const FIRST_WINDOW: u32 = 10 * PAYLOAD;
const LEAST_WINDOW: u32 = 4 * PAYLOAD;

/// What the receiver holds back for the sender at most.
const RECEIVE_WINDOW: u32 = 5 << 20;

/// Packets that leave at one occasion.
const MAX_BURST: usize = 4;

/// Reports of later packets after which one is taken for lost.
const MISSING: u32 = 3;

const LEAST_TIMEOUT: Micros = 400_000;
const FIRST_TIMEOUT: Micros = 500_000;
const LONGEST_TIMEOUT: Micros = 60_000_000;

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
    pub(super) len: u32,
    /// Where it is the last of a message.
    message: Option<Rc<Payload>>,
}

/// What has arrived: all before `next`, and the later ones given.
#[derive(Debug)]
pub(super) struct Sack {
    next: u64,
    later: Vec<u64>,
}

#[derive(Debug)]
struct Outstanding {
    packet: Packet,
    sent: Micros,
    acked: bool,
    lost: bool,
    again: bool,
    missing: u32,
}

/// The sending half.
#[derive(Debug)]
pub(super) struct Sender {
    next: u64,
    unsent: VecDeque<Packet>,
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
            expires: None,
        }
    }

    /// What the browser calls `bufferedAmount`.
    pub(super) fn buffered(&self) -> u32 {
        self.unsent_bytes
    }

    pub(super) fn push(&mut self, payload: Payload) {
        let mut left = match &payload {
            Payload::Control(frame) => frame.len() as u32,
            Payload::Data { len, .. } => len + headwater_wire::frame::DATA_HEADER_LEN as u32,
        };
        let mut message = Some(Rc::new(payload));
        self.unsent_bytes += left;
        while left > 0 {
            let len = left.min(PAYLOAD);
            left -= len;
            let message = if left == 0 { message.take() } else { None };
            self.unsent.push_back(Packet { number: self.next, len, message });
            self.next += 1;
        }
    }

    /// What leaves now.
    pub(super) fn send(&mut self, now: Micros, out: &mut Vec<Packet>) {
        for _ in 0..MAX_BURST {
            let again =
                if self.lost == 0 { None } else { self.outstanding.iter_mut().find(|outstanding| outstanding.lost) };
            let fits = |len: u32, flight: u32, window: u32| flight == 0 || flight + len <= window;
            if let Some(outstanding) = again {
                if !fits(outstanding.packet.len, self.flight, self.window) {
                    break;
                }
                (outstanding.lost, outstanding.again, outstanding.sent) = (false, true, now);
                outstanding.missing = 0;
                self.lost -= 1;
                self.flight += outstanding.packet.len;
                out.push(outstanding.packet.clone());
            } else if let Some(packet) = self.unsent.front() {
                if !fits(packet.len, self.flight, self.window) || self.held + packet.len > RECEIVE_WINDOW {
                    break;
                }
                let Some(packet) = self.unsent.pop_front() else { break };
                self.unsent_bytes -= packet.len;
                self.flight += packet.len;
                self.held += packet.len;
                out.push(packet.clone());
                let fresh = Outstanding { packet, sent: now, acked: false, lost: false, again: false, missing: 0 };
                self.outstanding.push_back(fresh);
            } else {
                break;
            }
        }
        if !self.outstanding.is_empty() && self.expires.is_none() {
            self.expires = Some(now + self.timeout);
        }
    }

    pub(super) fn on_sack(&mut self, now: Micros, sack: &Sack) {
        let flight = self.flight;
        let mut acked = 0;
        let mut advanced = false;
        let mut round_trip = None;
        let mut ack = |outstanding: &mut Outstanding, flight: &mut u32, losses: &mut usize| {
            if outstanding.acked {
                return;
            }
            outstanding.acked = true;
            acked += outstanding.packet.len;
            if outstanding.lost {
                *losses -= 1;
            } else {
                *flight -= outstanding.packet.len;
            }
            outstanding.lost = false;
            if !outstanding.again {
                round_trip = Some(now - outstanding.sent);
            }
        };
        while self.outstanding.front().is_some_and(|outstanding| outstanding.packet.number < sack.next) {
            let Some(mut outstanding) = self.outstanding.pop_front() else { break };
            self.held -= outstanding.packet.len;
            ack(&mut outstanding, &mut self.flight, &mut self.lost);
            advanced = true;
        }
        let highest = sack.later.last().copied().unwrap_or(0);
        let mut later = sack.later.iter().copied().peekable();
        let mut lost = false;
        for outstanding in self.outstanding.iter_mut().take_while(|outstanding| outstanding.packet.number <= highest) {
            let number = outstanding.packet.number;
            while later.next_if(|other| *other < number).is_some() {}
            if later.peek() == Some(&number) {
                ack(outstanding, &mut self.flight, &mut self.lost);
            } else if !outstanding.acked && !outstanding.lost && !outstanding.again {
                outstanding.missing += 1;
                if outstanding.missing >= MISSING {
                    outstanding.lost = true;
                    self.flight -= outstanding.packet.len;
                    self.lost += 1;
                    lost = true;
                }
            }
        }
        if let Some(sample) = round_trip {
            self.note_round_trip(sample);
        }
        if self.recovery.is_some_and(|until| sack.next > until) {
            self.recovery = None;
        }
        if lost && self.recovery.is_none() {
            self.threshold = (self.window / 2).max(LEAST_WINDOW);
            self.window = self.threshold;
            self.partial = 0;
            self.recovery = Some(self.next - self.unsent.len() as u64 - 1);
        } else if advanced && self.recovery.is_none() {
            self.grow(acked, flight);
        }
        if advanced {
            self.expires = (!self.outstanding.is_empty()).then_some(now + self.timeout);
        }
    }

    fn grow(&mut self, acked: u32, flight: u32) {
        // A window that was not filled does not grow.
        let full = flight + PAYLOAD > self.window;
        if self.window <= self.threshold {
            if full {
                self.window += acked.min(PAYLOAD);
            }
            return;
        }
        self.partial += acked;
        if self.partial >= self.window && full {
            self.partial -= self.window;
            self.window += PAYLOAD;
        }
    }

    fn note_round_trip(&mut self, sample: Micros) {
        let sample = sample as f64;
        let (smooth, varies) = match self.smooth {
            None => (sample, sample / 2.0),
            Some((smooth, varies)) => (smooth * 0.875 + sample * 0.125, varies * 0.75 + (smooth - sample).abs() * 0.25),
        };
        self.smooth = Some((smooth, varies));
        self.timeout = ((smooth + 4.0 * varies) as Micros).clamp(LEAST_TIMEOUT, LONGEST_TIMEOUT);
    }

    /// The oldest has not been acknowledged in time.
    pub(super) fn expire(&mut self) {
        self.threshold = (self.window / 2).max(LEAST_WINDOW);
        self.window = PAYLOAD;
        self.partial = 0;
        self.recovery = None;
        self.timeout = (self.timeout * 2).min(LONGEST_TIMEOUT);
        for outstanding in self.outstanding.iter_mut().filter(|outstanding| !outstanding.acked) {
            (outstanding.lost, outstanding.again) = (true, false);
        }
        self.lost = self.outstanding.iter().filter(|outstanding| outstanding.lost).count();
        self.flight = 0;
        self.expires = None;
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
        // What fills a gap is acknowledged at once, as what makes one.
        let in_order = packet.number == self.next && self.later.is_empty();
        if is_new {
            self.later.insert(packet.number, packet);
        }
        let mut messages = Vec::new();
        while let Some(packet) = self.later.remove(&self.next) {
            self.next += 1;
            messages.extend(packet.message);
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

    fn push(sender: &mut Sender, bytes: usize) {
        sender.push(Payload::Control(vec![0; bytes]));
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

    #[test]
    fn a_lost_packet_halves_the_window_is_sent_again_and_the_order_stays() {
        let (mut sender, mut receiver) = (Sender::new(), Receiver::default());
        push(&mut sender, 8 * PAYLOAD as usize);
        push(&mut sender, PAYLOAD as usize);
        let mut packets = send(&mut sender, 0);
        assert_eq!(packets.len(), 9);
        let before = sender.window;
        packets.remove(2);
        for packet in packets {
            let (messages, at_once) = receiver.receive(1_000, packet);
            assert!(messages.is_empty(), "the first message is not whole, the second comes after it");
            if at_once {
                let sack = receiver.sack();
                sender.on_sack(1_000, &sack);
            }
        }
        // It had grown for the first two.
        assert!(sender.window < before && sender.window >= before / 2, "{} of {before}", sender.window);
        let again = send(&mut sender, 2_000);
        assert_eq!(again.iter().map(|packet| packet.number).collect::<Vec<_>>(), [2]);
        let (messages, at_once) = receiver.receive(3_000, again[0].clone());
        assert!(at_once && messages.len() == 2);
        sender.on_sack(3_000, &receiver.sack());
        assert_eq!((sender.flight, sender.held, sender.outstanding.len()), (0, 0, 0));
    }

    #[test]
    fn what_is_never_acknowledged_is_sent_again_one_packet_at_first() {
        let mut sender = Sender::new();
        push(&mut sender, 5 * PAYLOAD as usize);
        assert_eq!(send(&mut sender, 0).len(), 5);
        assert_eq!(sender.expires, Some(FIRST_TIMEOUT));
        sender.expire();
        let again = send(&mut sender, FIRST_TIMEOUT);
        assert_eq!(again.iter().map(|packet| packet.number).collect::<Vec<_>>(), [0]);
    }
}
