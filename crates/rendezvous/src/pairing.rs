//! Who is told to connect to whom.

use std::collections::BTreeSet;

use headwater_wire::{PeerId, Role};

use crate::cluster::{Figures, NodeId};
use crate::config::{MAX_WAITING_SERVED, SAMPLE, SEED_GREETING, SEEDS_FIRST, VIEWER_TARGET};
use crate::place::{CostMap, Distance, Place};
use crate::rng::Rng;
use crate::swarm::{Member, Swarm};
use crate::time::Now;
use crate::watching::Watching;

/// Two members that were just paired, to be told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Introduction {
    pub(crate) offerer: PeerId,
    pub(crate) answerer: PeerId,
}

/// What decides besides the swarm itself.
pub(crate) struct Chance<'a> {
    pub(crate) costs: &'a CostMap,
    pub(crate) rng: &'a mut Rng,
    pub(crate) now: Now,
}

/// A member of another node that looks for neighbours here.
pub(crate) struct Stranger {
    pub(crate) peer: PeerId,
    pub(crate) role: Role,
    pub(crate) place: Place,
    pub(crate) watching: Option<Watching>,
    pub(crate) node: NodeId,
}

/// Whom candidates are ranked for.
struct Asker<'a> {
    place: &'a Place,
    watching: Option<Watching>,
    is_hard_to_reach: bool,
    lost: &'a dyn Fn(&PeerId) -> bool,
    may: &'a dyn Fn(PeerId) -> bool,
}

/// How good a candidate is: the least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    failed_before: bool,
    /// Is elsewhere in the content: what the asker wants next it does not hold, however near it is.
    is_elsewhere: bool,
    reach: Reach,
    /// Has as many neighbours as it keeps: one that is near is no use if it is everybody's.
    has_enough: bool,
    distance: Distance,
    is_taker: bool,
    load: usize,
    lot: u64,
}

/// How likely a connection is, as far as those that there were tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// The asker is hard to reach, and the candidate has met such a one; or there is no reason for doubt.
    Likely,
    /// The asker is hard to reach.
    Unknown,
    /// The candidate is hard to reach.
    Unlikely,
}

/// One in so many is chosen among the far ones.
const ONE_FAR_IN: usize = 4;

/// Pairs a member that just came: with whom it wants, with those who have waited for someone like it, and, if it is a
/// seed, with viewers that have none. A part of the wish is left open where there are members on other nodes: for seeds that
/// only those have, and so that the swarm does not fall apart into nodes.
pub(crate) fn on_join(
    swarm: &mut Swarm,
    peer: PeerId,
    want: u16,
    elsewhere: &Figures,
    chance: &mut Chance<'_>,
) -> Vec<Introduction> {
    swarm.set_wants(peer, want);
    let mut made = Vec::new();
    ask_seeds(swarm, peer, SEEDS_FIRST, chance, &mut made);
    let most = usize::from(want).saturating_sub(left_open(swarm, peer, elsewhere)).saturating_sub(made.len());
    ask(swarm, peer, Role::Viewer, most, chance, &mut made);
    serve_waiting(swarm, peer, chance, &mut made);
    greet(swarm, peer, chance, &mut made);
    made
}

/// Pairs a member that asks for more. Where viewers run out, more than [`SEEDS_FIRST`] seeds are given.
pub(crate) fn on_want(swarm: &mut Swarm, peer: PeerId, want: u16, chance: &mut Chance<'_>) -> Vec<Introduction> {
    swarm.set_wants(peer, want);
    let mut made = Vec::new();
    ask_seeds(swarm, peer, SEEDS_FIRST, chance, &mut made);
    ask(swarm, peer, Role::Viewer, usize::MAX, chance, &mut made);
    ask_seeds(swarm, peer, usize::MAX, chance, &mut made);
    made
}

/// How much of a wish is not met here at once.
fn left_open(swarm: &Swarm, peer: PeerId, elsewhere: &Figures) -> usize {
    let Some(member) = swarm.member(peer) else { return 0 };
    let count = |members: u64| usize::try_from(members).unwrap_or(usize::MAX);
    let seeds = seeds_missing(member).min(count(elsewhere.seeds.into()));
    (usize::from(member.wants) / ONE_FAR_IN).max(seeds).min(count(elsewhere.members()))
}

/// How many more seeds a viewer is given while there are viewers enough.
pub(crate) fn seeds_missing(member: &Member) -> usize {
    match member.role {
        Role::Viewer => SEEDS_FIRST.saturating_sub(member.seed_pairs()),
        Role::Seed => 0,
    }
}

/// Keeps places for a stranger: up to `count`, of which up to `seeds` are seeds. For a seed, with viewers that miss one.
pub(crate) fn on_seek(
    swarm: &mut Swarm,
    now: Now,
    stranger: &Stranger,
    count: usize,
    seeds: usize,
    chance: &mut Chance<'_>,
) -> Vec<(PeerId, Role)> {
    let mut found = Vec::new();
    let wishes = match stranger.role {
        Role::Viewer => [(Role::Seed, seeds), (Role::Viewer, count)],
        Role::Seed => [(Role::Seed, 0), (Role::Viewer, count)],
    };
    for (role, most) in wishes {
        let most = most.min(count.saturating_sub(found.len()));
        let may = |other| {
            swarm.may_pair_elsewhere(other, stranger.peer, stranger.role)
                && (stranger.role == Role::Viewer || needs_seed(swarm, other))
        };
        let asker = Asker {
            place: &stranger.place,
            watching: stranger.watching,
            is_hard_to_reach: false,
            lost: &|_| false,
            may: &may,
        };
        for other in choose(swarm, &asker, role, most, chance) {
            swarm.keep_place(now, other, stranger.peer, stranger.role, stranger.node);
            swarm.fulfil_one(other);
            found.push((other, role));
        }
    }
    found
}

/// Gives a viewer what it wants in seeds, until it has `most`.
fn ask_seeds(swarm: &mut Swarm, peer: PeerId, most: usize, chance: &mut Chance<'_>, made: &mut Vec<Introduction>) {
    let Some(member) = swarm.member(peer).filter(|member| member.role == Role::Viewer) else { return };
    let missing = most.saturating_sub(member.seed_pairs());
    ask(swarm, peer, Role::Seed, missing, chance, made);
}

/// Gives a member what it wants in peers of one role, at most `most`.
fn ask(
    swarm: &mut Swarm,
    peer: PeerId,
    role: Role,
    most: usize,
    chance: &mut Chance<'_>,
    made: &mut Vec<Introduction>,
) {
    let Some(member) = swarm.member(peer) else { return };
    let count = usize::from(member.wants).min(member.room()).min(most);
    if count == 0 {
        return;
    }
    let (lost, may) = (|other: &PeerId| member.lost.contains(other), |other| swarm.may_pair(peer, other));
    let is_hard_to_reach = member.is_hard_to_reach(chance.now);
    let asker = Asker { place: &member.place, watching: member.watching, is_hard_to_reach, lost: &lost, may: &may };
    for other in choose(swarm, &asker, role, count, chance) {
        introduce(swarm, chance.now, peer, other, made);
    }
}

fn choose(swarm: &Swarm, asker: &Asker<'_>, role: Role, count: usize, chance: &mut Chance<'_>) -> Vec<PeerId> {
    if count == 0 {
        return Vec::new();
    }
    let mut candidates: Vec<(Rank, PeerId)> = Vec::new();
    for other in sample(swarm.of_role(role), chance.rng) {
        let Some(member) = swarm.member(other).filter(|_| (asker.may)(other)) else { continue };
        let rank = Rank {
            failed_before: (asker.lost)(&other),
            has_enough: role == Role::Viewer && member.pairs.len() >= VIEWER_TARGET,
            is_elsewhere: is_elsewhere(asker.watching, member.watching, chance.now),
            reach: match asker.is_hard_to_reach {
                _ if member.is_hard_to_reach(chance.now) => Reach::Unlikely,
                true if !swarm.is_easy_to_reach(other, chance.now) => Reach::Unknown,
                _ => Reach::Likely,
            },
            distance: chance.costs.distance(asker.place, &member.place),
            is_taker: member.is_taker(),
            load: member.pairs.len(),
            lot: chance.rng.next_u64(),
        };
        candidates.push((rank, other));
    }
    candidates.sort_unstable();
    let far = if count < candidates.len() { count / ONE_FAR_IN } else { 0 };
    let rest = candidates.split_off(count.saturating_sub(far).min(candidates.len()));
    let near = candidates.iter().map(|(rank, _)| rank.distance).max();
    candidates.extend(far_first(rest, near).into_iter().take(far));
    candidates.into_iter().map(|(_, other)| other).collect()
}

/// Those left over with the far ones first. How far does not count among these: were the nearest of them chosen always, two
/// groups near each other would never meet a third.
fn far_first(rest: Vec<(Rank, PeerId)>, near: Option<Distance>) -> Vec<(Rank, PeerId)> {
    let is_far = |rank: &Rank| near.is_some_and(|near| rank.distance.is_far_beside(near)) && !rank.failed_before;
    let (mut far, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(rank, _)| is_far(rank));
    far.sort_by_key(|(rank, _)| (rank.is_elsewhere, rank.reach, rank.has_enough, rank.is_taker, rank.load, rank.lot));
    far.extend(others);
    far
}

/// Whether it is known of both where they are, and the candidate does not hold what the asker wants next.
fn is_elsewhere(asker: Option<Watching>, candidate: Option<Watching>, now: Now) -> bool {
    let fresh = |watching: Option<Watching>| watching.filter(|watching| watching.is_fresh(now));
    fresh(asker).zip(fresh(candidate)).is_some_and(|(asker, candidate)| !candidate.serves(&asker, now))
}

/// Up to [`SAMPLE`] distinct members of a list, by lot; all of a short one.
fn sample(list: &[PeerId], rng: &mut Rng) -> Vec<PeerId> {
    if list.len() <= SAMPLE {
        return list.to_vec();
    }
    let mut drawn = BTreeSet::new();
    // Twice as many draws as places: at worst, in a list barely longer than the sample, a few places stay empty.
    for _ in 0..2 * SAMPLE {
        drawn.insert(rng.below(list.len()));
        if drawn.len() == SAMPLE {
            break;
        }
    }
    drawn.into_iter().filter_map(|index| list.get(index).copied()).collect()
}

/// Introduces a newcomer to those whose wish the swarm could not fulfil before it came. They asked, so they offer.
fn serve_waiting(swarm: &mut Swarm, peer: PeerId, chance: &mut Chance<'_>, made: &mut Vec<Introduction>) {
    let Some(newcomer) = swarm.member(peer) else { return };
    let is_seed = newcomer.role == Role::Seed;
    let room = match newcomer.role {
        Role::Viewer => VIEWER_TARGET.saturating_sub(newcomer.pairs.len()),
        Role::Seed => newcomer.room(),
    };
    let mut waiting: Vec<(bool, Distance, PeerId)> = swarm
        .waiting_from(PeerId(chance.rng.next_u64()))
        .take(SAMPLE)
        .filter(|&other| swarm.may_pair(peer, other))
        .filter(|&other| !is_seed || needs_seed(swarm, other))
        .filter_map(|other| {
            let member = swarm.member(other)?;
            let is_elsewhere = is_elsewhere(member.watching, newcomer.watching, chance.now);
            Some((is_elsewhere, chance.costs.distance(&newcomer.place, &member.place), other))
        })
        .collect();
    // Among those as far, the order stays that of the lot.
    waiting.sort_by_key(|(is_elsewhere, distance, _)| (*is_elsewhere, *distance));
    waiting.truncate(room.min(MAX_WAITING_SERVED));
    for (_, _, other) in waiting {
        introduce(swarm, chance.now, other, peer, made);
    }
}

/// Introduces a newcomer that is a seed to viewers that have too few, as if they had asked.
fn greet(swarm: &mut Swarm, peer: PeerId, chance: &mut Chance<'_>, made: &mut Vec<Introduction>) {
    if swarm.member(peer).is_none_or(|member| member.role != Role::Seed) {
        return;
    }
    let mut candidates: Vec<(usize, u64, PeerId)> = Vec::new();
    for other in sample(swarm.of_role(Role::Viewer), chance.rng) {
        if let Some(member) = swarm.member(other)
            && swarm.may_pair(peer, other)
            && needs_seed(swarm, other)
        {
            candidates.push((member.seed_pairs(), chance.rng.next_u64(), other));
        }
    }
    candidates.sort_unstable();
    let missing = SEED_GREETING.saturating_sub(swarm.member(peer).map_or(0, |member| member.pairs.len()));
    for (_, _, other) in candidates.into_iter().take(missing) {
        introduce(swarm, chance.now, other, peer, made);
    }
}

fn needs_seed(swarm: &Swarm, peer: PeerId) -> bool {
    swarm.member(peer).is_some_and(|member| member.role == Role::Viewer && member.seed_pairs() < SEEDS_FIRST)
}

fn introduce(swarm: &mut Swarm, now: Now, offerer: PeerId, answerer: PeerId, made: &mut Vec<Introduction>) {
    if swarm.pair(now, offerer, answerer) {
        swarm.fulfil_one(offerer);
        swarm.fulfil_one(answerer);
        made.push(Introduction { offerer, answerer });
    }
}
