//! The signalling server: the real pairing core, and the messages to and from it.

use headwater_rendezvous::{Config, ConnId, Input, Now, Output, Rendezvous};
use headwater_wire::signal::ClientMessage;

use crate::clock::Micros;
use crate::event::{Event, NodeIndex, What};
use crate::world::Desk;

/// The signalling server.
#[derive(Debug)]
pub(crate) struct Server {
    core: Rendezvous,
    number: u32,
    pub(crate) messages: u64,
}

impl Server {
    pub(crate) fn new(seed: u64) -> Self {
        Self { core: Rendezvous::new(Config::new([7; 32]), seed), number: 0, messages: 0 }
    }

    pub(crate) fn handle(&mut self, event: Event, desk: &mut Desk<'_>) {
        let now = Now(event.at);
        let conn = ConnId(u64::from(event.from));
        match event.what {
            What::ToServer(message) => {
                self.messages += 1;
                if matches!(*message, ClientMessage::Join { .. }) {
                    let fresh = desk.shared.population.id(event.from);
                    self.core.handle_input(now, Input::Opened { conn, fresh });
                }
                self.core.handle_input(now, Input::Message { conn, message: *message });
            }
            What::Hangup => self.core.handle_input(now, Input::Closed { conn }),
            _ => return,
        }
        self.drain(event.at, desk);
    }

    fn drain(&mut self, now: Micros, desk: &mut Desk<'_>) {
        loop {
            match self.core.poll_output() {
                // Only for connections that never join: there are none here.
                Output::Timeout(_) => return,
                Output::Close { .. } => {}
                Output::Send { conn, message } => {
                    self.messages += 1;
                    let (to, from) = (conn.0 as NodeIndex, desk.shared.population.server());
                    self.number = self.number.wrapping_add(1);
                    let at = now + desk.shared.population.latency(to, from);
                    let what = What::FromServer(Box::new(message));
                    desk.post(Event { at, to, from, number: self.number, what });
                }
            }
        }
    }
}
