//! Whatever peers do, in whatever order: no panic, and every introduction is sound.

// A test may panic.
#![allow(clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{World, fresh, rejoin};
use headwater_rendezvous::{ConnId, Duration, Input, Output};
use headwater_wire::signal::{ClientMessage, ServerMessage, SignalData, StatsReport};
use headwater_wire::{PeerId, Role};
use proptest::prelude::*;

/// Indexes stand for connections and names opened so far, modulo their number.
#[derive(Debug, Clone)]
enum Op {
    Open,
    Join { conn: usize, swarm: u8, seed: bool, want: u16, resume: Option<usize>, connected: Vec<usize> },
    Want { conn: usize, count: u16 },
    Watching { conn: usize, position_s: u32 },
    Signal { conn: usize, to: usize },
    Lost { conn: usize, to: usize },
    Stats { conn: usize },
    Leave { conn: usize },
    Closed { conn: usize },
    Wait { millis: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let index = || 0..64usize;
    let want = || prop_oneof![9 => 0..12u16, 1 => any::<u16>()];
    prop_oneof![
        6 => Just(Op::Open),
        10 => (index(), 0..2u8, any::<bool>(), want(), prop::option::of(index()), prop::collection::vec(index(), 0..4))
            .prop_map(|(conn, swarm, seed, want, resume, connected)| {
                Op::Join { conn, swarm, seed, want, resume, connected }
            }),
        6 => (index(), want()).prop_map(|(conn, count)| Op::Want { conn, count }),
        2 => (index(), any::<u32>()).prop_map(|(conn, position_s)| Op::Watching { conn, position_s }),
        4 => (index(), index()).prop_map(|(conn, to)| Op::Signal { conn, to }),
        4 => (index(), index()).prop_map(|(conn, to)| Op::Lost { conn, to }),
        1 => index().prop_map(|conn| Op::Stats { conn }),
        2 => index().prop_map(|conn| Op::Leave { conn }),
        2 => index().prop_map(|conn| Op::Closed { conn }),
        1 => (0..12_000u64).prop_map(|millis| Op::Wait { millis }),
    ]
}

/// What the test knows by itself of who is where, who is whose neighbour.
#[derive(Default)]
struct Model {
    conns: Vec<ConnId>,
    names: Vec<PeerId>,
    resumes: Vec<String>,
    members: BTreeMap<ConnId, (u8, PeerId, Role)>,
    pairs: BTreeSet<(PeerId, PeerId)>,
}

fn couple(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    (a.min(b), a.max(b))
}

fn pick<T: Clone>(list: &[T], index: usize) -> Option<T> {
    list.get(index.checked_rem(list.len())?).cloned()
}

impl Model {
    fn member_named(&self, swarm: u8, peer: PeerId) -> Option<(ConnId, Role)> {
        let mut members = self.members.iter();
        members.find(|(_, (of, name, _))| *of == swarm && *name == peer).map(|(conn, (_, _, role))| (*conn, *role))
    }

    fn remove(&mut self, conn: ConnId) {
        if let Some((_, peer, _)) = self.members.remove(&conn) {
            self.pairs.retain(|&(a, b)| a != peer && b != peer);
        }
    }

    /// Checks the outputs of one input, in their order. `joining` is what the connection asked for, if it joins.
    fn check(&mut self, outputs: &[Output], joining: Option<(ConnId, u8, Role, Vec<PeerId>)>) {
        let mut outputs = outputs.iter();
        while let Some(output) = outputs.next() {
            match output {
                Output::Close { conn } => self.remove(*conn),
                Output::Send { conn, message: ServerMessage::Welcome { peer, resume, swarm_size, .. } } => {
                    let (joined, swarm, role, connected) = joining.clone().expect("a welcome answers a join");
                    assert_eq!(*conn, joined);
                    assert_eq!(self.member_named(swarm, *peer), None);
                    // Whoever has not proven to have been here has no neighbours.
                    let came_back = *peer != fresh(*conn);
                    for other in connected.into_iter().filter(|_| came_back) {
                        if let Some((_, other_role)) = self.member_named(swarm, other)
                            && !(role == Role::Seed && other_role == Role::Seed)
                        {
                            self.pairs.insert(couple(*peer, other));
                        }
                    }
                    self.members.insert(*conn, (swarm, *peer, role));
                    self.names.push(*peer);
                    self.resumes.push(resume.clone());
                    let size = self.members.values().filter(|(of, _, _)| *of == swarm).count();
                    assert_eq!(usize::try_from(*swarm_size), Ok(size));
                }
                Output::Send { conn, message: ServerMessage::Connect { peer, offer, role } } => {
                    let Some(Output::Send {
                        conn: other_conn,
                        message: ServerMessage::Connect { peer: other_peer, offer: other_offer, role: other_role },
                    }) = outputs.next()
                    else {
                        panic!("a connect without its counterpart")
                    };
                    let (swarm, this_name, this_role) = self.members[conn];
                    let (other_swarm, other_name, role_of_other) = self.members[other_conn];
                    assert_eq!(swarm, other_swarm);
                    assert_eq!((*peer, *other_peer), (other_name, this_name));
                    assert_eq!((*role, *other_role), (role_of_other, this_role));
                    assert_ne!(this_name, other_name);
                    assert!(offer ^ other_offer);
                    assert!(self.pairs.insert(couple(this_name, other_name)), "paired twice");
                }
                Output::Send { conn, message: ServerMessage::Signal { from, .. } } => {
                    assert!(self.pairs.contains(&couple(*from, self.members[conn].1)));
                }
                Output::Send { .. } => {}
                Output::Timeout(_) => unreachable!("the world keeps it apart"),
            }
        }
    }
}

fn run(ops: &[Op]) -> Vec<Output> {
    let mut world = World::with(|config| config.max_connections = 40);
    let mut model = Model::default();
    let mut all = Vec::new();
    for op in ops {
        let mut joining = None;
        let mut relayed = None;
        let input = match op.clone() {
            Op::Open => {
                let conn = world.open();
                model.conns.push(conn);
                model.names.push(fresh(conn));
                model.check(&world.outputs.clone(), None);
                continue;
            }
            Op::Wait { millis } => {
                world.now = world.now.plus(Duration::from_millis(millis));
                Some(Input::Timeout)
            }
            Op::Join { conn, swarm, seed, want, resume, connected } => pick(&model.conns, conn).map(|conn| {
                let role = if seed { Role::Seed } else { Role::Viewer };
                let connected: Vec<_> = connected.into_iter().filter_map(|index| pick(&model.names, index)).collect();
                joining = Some((conn, swarm, role, connected.clone()));
                let resume = resume.and_then(|index| pick(&model.resumes, index));
                let message = rejoin(&format!("swarm {swarm}"), role, want, resume, connected);
                Input::Message { conn, message }
            }),
            Op::Want { conn, count } => {
                pick(&model.conns, conn).map(|conn| Input::Message { conn, message: ClientMessage::Want { count } })
            }
            Op::Watching { conn, position_s } => pick(&model.conns, conn)
                .map(|conn| Input::Message { conn, message: ClientMessage::Watching { position_s } }),
            Op::Signal { conn, to } => pick(&model.conns, conn).zip(pick(&model.names, to)).map(|(conn, to)| {
                let sender = model.members.get(&conn);
                relayed = sender.map(|(_, name, _)| model.pairs.contains(&couple(*name, to)));
                let data = SignalData::Offer { sdp: String::new() };
                Input::Message { conn, message: ClientMessage::Signal { to, data } }
            }),
            Op::Lost { conn, to } => pick(&model.conns, conn).zip(pick(&model.names, to)).map(|(conn, peer)| {
                if let Some((_, name, _)) = model.members.get(&conn) {
                    model.pairs.remove(&couple(*name, peer));
                }
                Input::Message { conn, message: ClientMessage::Lost { peer } }
            }),
            Op::Stats { conn } => pick(&model.conns, conn).map(|conn| {
                let report = StatsReport::default();
                Input::Message { conn, message: ClientMessage::Stats { report } }
            }),
            Op::Leave { conn } => {
                pick(&model.conns, conn).map(|conn| Input::Message { conn, message: ClientMessage::Leave })
            }
            Op::Closed { conn } => pick(&model.conns, conn).map(|conn| {
                model.remove(conn);
                Input::Closed { conn }
            }),
        };
        let Some(input) = input else { continue };
        world.input(input);
        model.check(&world.outputs, joining);
        if let Some(relayed) = relayed {
            let [Output::Send { message, .. }] = world.outputs.as_slice() else { panic!("{:?}", world.outputs) };
            assert_eq!(matches!(message, ServerMessage::Signal { .. }), relayed, "{message:?}");
        }
        all.append(&mut world.outputs);

        assert!(world.core.connection_count() <= 40);
        assert!(model.members.len() <= world.core.connection_count());
        let swarms: BTreeSet<u8> = model.members.values().map(|(swarm, _, _)| *swarm).collect();
        assert_eq!(world.core.swarm_count(), swarms.len());
    }
    all
}

proptest! {
    #[test]
    fn every_introduction_is_sound_and_the_same_again(ops in prop::collection::vec(op(), 0..200)) {
        prop_assert_eq!(run(&ops), run(&ops));
    }
}
