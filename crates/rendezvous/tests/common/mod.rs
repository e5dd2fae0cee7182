//! A core and the shell's part in it: connections that join, and what the core answered, by connection.

// Not every test file uses all of it, and a test may panic.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use headwater_rendezvous::{Config, ConnId, Input, Now, Output, Rendezvous, Timeout};
use headwater_wire::signal::{ClientMessage, ErrorCode, SIGNAL_VERSION, ServerMessage};
use headwater_wire::{PeerId, Role, SwarmName};

pub struct World {
    pub core: Rendezvous,
    pub now: Now,
    pub timeout: Option<Timeout>,
    pub outputs: Vec<Output>,
    next: u64,
}

/// What one connection got from one input.
#[derive(Debug, Default)]
pub struct Got {
    pub messages: Vec<ServerMessage>,
    pub closed: bool,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new([7; 32]);
        change(&mut config);
        Self { core: Rendezvous::new(config, 1), now: Now(0), timeout: None, outputs: Vec::new(), next: 0 }
    }

    /// Hands in one input and sorts what comes out.
    pub fn input(&mut self, input: Input) -> BTreeMap<ConnId, Got> {
        self.core.handle_input(self.now, input);
        let mut got: BTreeMap<ConnId, Got> = BTreeMap::new();
        self.outputs.clear();
        loop {
            let output = self.core.poll_output();
            match &output {
                Output::Send { conn, message } => got.entry(*conn).or_default().messages.push(message.clone()),
                Output::Close { conn } => got.entry(*conn).or_default().closed = true,
                Output::Timeout(timeout) => {
                    self.timeout = *timeout;
                    return got;
                }
            }
            self.outputs.push(output);
        }
    }

    /// Opens a connection; its fresh name is its number plus 1000.
    pub fn open(&mut self) -> ConnId {
        self.next += 1;
        let conn = ConnId(self.next);
        self.input(Input::Opened { conn, fresh: fresh(conn) });
        conn
    }

    pub fn say(&mut self, conn: ConnId, message: ClientMessage) -> BTreeMap<ConnId, Got> {
        self.input(Input::Message { conn, message })
    }

    pub fn join(&mut self, role: Role, want: u16) -> (ConnId, BTreeMap<ConnId, Got>) {
        let conn = self.open();
        let got = self.say(conn, join("s", role, want));
        (conn, got)
    }
}

pub fn fresh(conn: ConnId) -> PeerId {
    PeerId(conn.0 + 1000)
}

pub fn join(swarm: &str, role: Role, want: u16) -> ClientMessage {
    rejoin(swarm, role, want, None, Vec::new())
}

pub fn rejoin(swarm: &str, role: Role, want: u16, resume: Option<String>, connected: Vec<PeerId>) -> ClientMessage {
    let swarm = SwarmName::new(swarm).unwrap();
    ClientMessage::Join { version: SIGNAL_VERSION, swarm, role, token: None, want, resume, connected, position_s: None }
}

impl Got {
    /// The peers it is to connect to, and whether it offers.
    pub fn connects(&self) -> Vec<(PeerId, bool, Role)> {
        let connects = self.messages.iter().filter_map(|message| match message {
            ServerMessage::Connect { peer, offer, role } => Some((*peer, *offer, *role)),
            _ => None,
        });
        connects.collect()
    }

    pub fn error(&self) -> Option<ErrorCode> {
        self.messages.iter().find_map(|message| match message {
            ServerMessage::Error { code, .. } => Some(*code),
            _ => None,
        })
    }

    pub fn welcome(&self) -> Option<(PeerId, String, u32)> {
        self.messages.iter().find_map(|message| match message {
            ServerMessage::Welcome { peer, resume, swarm_size, .. } => Some((*peer, resume.clone(), *swarm_size)),
            _ => None,
        })
    }
}
