//! A deterministic world of thousands of peers on virtual time.
//!
//! Its viewers and seeds run the real [`headwater_swarm::Engine`], its signalling server the real
//! [`headwater_rendezvous::Rendezvous`]; access lines, distances, NATs, players, the origin and the coming and going of
//! people are models (docs/simulator.md has what they leave out). The same scenario and seed give the same output, byte
//! for byte, on however many threads.
//!
//! ```text
//! scenario ─▶ population, content ─▶ world: shards ─▶ peers (engine, player, links) ─▶ stats ─▶ report, JSON, HTML
//!                                      │  └─ calendar of events, tick by tick
//!                                      └─ origin, signalling server
//! ```

mod brain;
mod clock;
mod content;
mod event;
mod figures;
pub mod html;
mod origin;
pub mod path;
mod peer;
mod player;
mod policies;
mod population;
pub mod report;
mod rng;
pub mod scenario;
mod server;
mod stats;
pub mod table;
mod world;

use crate::clock::SECOND;
pub use crate::policies::Policy;
pub use crate::report::Report;
pub use crate::scenario::{Scenario, ScenarioError};

/// Runs a scenario on `threads` threads; `progress` is told the virtual time, in seconds, now and then.
///
/// # Errors
/// Where the scenario makes no sense, or the run broke off.
pub fn run(
    scenario: &Scenario,
    policy: Policy,
    threads: u32,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, ScenarioError> {
    scenario.check()?;
    let shared = world::Shared::new(scenario, policy, threads);
    let outcome = world::run(&shared, &|at| progress(at / SECOND))
        .ok_or(ScenarioError::Value("the run broke off: a thread panicked"))?;
    Ok(Report::new(&shared, &outcome))
}
