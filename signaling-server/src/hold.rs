//! Messages that wait for a moment: the first ones about a swarm that is new on this node, until it is known what the other
//! nodes have of it. Each connection's stay in their order.

use std::collections::{BTreeMap, VecDeque};

use headwater_rendezvous::{ConnId, Grant, Now};
use headwater_wire::signal::ClientMessage;

/// Most connections with messages that wait. Beyond it, messages are handled at once, with what is known.
const MAX_CONNECTIONS: usize = 4096;

/// Most bytes that wait, roughly.
const MAX_BYTES: usize = 16 << 20;

/// Most messages of one connection: a client may send some behind its first without waiting for the answer.
const MAX_MESSAGES: usize = 64;

/// What waits.
#[derive(Debug)]
pub(crate) enum Held {
    /// A message of the native protocol.
    Native(ClientMessage, Option<Grant>),
    /// A message of the tracker protocol.
    Tracker {
        /// As it came.
        text: String,
        /// What the connection's token allows.
        grant: Option<Grant>,
        /// How many of its offers are within the limits.
        offers: usize,
    },
}

impl Held {
    fn bytes(&self) -> usize {
        /// Those of a joined peer before its welcome: few and small, as their sender knows nobody yet.
        const NATIVE: usize = 1024;
        match self {
            Self::Native(..) => NATIVE,
            Self::Tracker { text, .. } => text.len(),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// In the order in which they are due: all wait for as long.
    due: VecDeque<(Now, ConnId)>,
    waiting: BTreeMap<ConnId, Vec<Held>>,
    bytes: usize,
}

impl Hold {
    /// Whether messages of this connection wait, so that later ones have to wait behind them.
    pub(crate) fn holds(&self, conn: ConnId) -> bool {
        self.waiting.contains_key(&conn)
    }

    /// Keeps a message until then, or as long as those before it; gives it back where there is no room.
    pub(crate) fn push(&mut self, conn: ConnId, until: Now, held: Held) -> Option<Held> {
        let bytes = held.bytes();
        if self.bytes + bytes > MAX_BYTES {
            return Some(held);
        }
        let is_full = self.waiting.len() >= MAX_CONNECTIONS;
        match self.waiting.get_mut(&conn) {
            Some(messages) if messages.len() >= MAX_MESSAGES => return Some(held),
            Some(messages) => messages.push(held),
            None if is_full => return Some(held),
            None => {
                self.waiting.insert(conn, vec![held]);
                self.due.push_back((until, conn));
            }
        }
        self.bytes += bytes;
        None
    }

    /// When the first is due.
    pub(crate) fn first(&self) -> Option<Now> {
        self.due.front().map(|(until, _)| *until)
    }

    /// The next connection whose messages are due. They are taken with [`Self::take_more`], until there are none.
    pub(crate) fn take_due(&mut self, now: Now) -> Option<ConnId> {
        let &(_, conn) = self.due.front().filter(|(until, _)| *until <= now)?;
        self.due.pop_front();
        Some(conn)
    }

    /// The messages of a connection; once there are none, later ones need not wait any more.
    pub(crate) fn take_more(&mut self, conn: ConnId) -> Option<Vec<Held>> {
        let messages = std::mem::take(self.waiting.get_mut(&conn)?);
        self.bytes -= messages.iter().map(Held::bytes).sum::<usize>();
        if messages.is_empty() {
            self.waiting.remove(&conn);
            return None;
        }
        Some(messages)
    }

    /// The connection is gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        if !self.holds(conn) {
            return;
        }
        while self.take_more(conn).is_some() {}
        self.due.retain(|(_, other)| *other != conn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(len: usize) -> Held {
        Held::Tracker { text: "x".repeat(len), grant: None, offers: 0 }
    }

    fn lens(messages: &[Held]) -> Vec<usize> {
        messages.iter().map(Held::bytes).collect()
    }

    #[test]
    fn messages_come_out_by_connection_in_their_order_when_due() {
        let mut hold = Hold::default();
        for (conn, until, len) in [(1, 10, 1), (2, 20, 2), (1, 30, 3), (3, 20, 4)] {
            assert!(hold.push(ConnId(conn), Now(until), text(len)).is_none());
        }
        assert_eq!((hold.first(), hold.take_due(Now(9))), (Some(Now(10)), None));
        assert_eq!(hold.take_due(Now(10)), Some(ConnId(1)));
        assert_eq!(lens(&hold.take_more(ConnId(1)).unwrap()), [1, 3]);
        // What comes while those are handled is next, and only then the way is free.
        assert!(hold.push(ConnId(1), Now(10), text(5)).is_none());
        assert_eq!(lens(&hold.take_more(ConnId(1)).unwrap()), [5]);
        assert!(hold.holds(ConnId(1)) && hold.take_more(ConnId(1)).is_none() && !hold.holds(ConnId(1)));
        assert_eq!(hold.take_due(Now(10)), None);
        hold.forget(ConnId(2));
        assert_eq!(hold.take_due(Now(20)), Some(ConnId(3)));
        assert_eq!(lens(&hold.take_more(ConnId(3)).unwrap()), [4]);
        assert!(hold.take_due(Now(99)).is_none() && hold.bytes == 0 && hold.first().is_none());
    }

    #[test]
    fn what_waits_is_bounded_and_given_back_beyond() {
        let mut hold = Hold::default();
        assert_eq!((0..100).filter(|_| hold.push(ConnId(0), Now(1), text(1)).is_none()).count(), MAX_MESSAGES);
        let large = (1..10_000).filter(|n| hold.push(ConnId(*n), Now(1), text(64 * 1024)).is_none()).count();
        assert!(large * 64 * 1024 <= MAX_BYTES);
        let mut many = Hold::default();
        assert_eq!((0..10_000).filter(|n| many.push(ConnId(*n), Now(1), text(1)).is_none()).count(), MAX_CONNECTIONS);
    }
}
