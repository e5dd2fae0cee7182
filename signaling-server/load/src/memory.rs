//! What a connection costs the server in memory, after one announce.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::figures::resident;
use crate::pool::{Event, Pool, Target};
use crate::texts;

pub(crate) fn run(target: &Target, connections: usize, swarm: usize, pid: u32) -> Result<Value> {
    let before = resident(pid)?;
    let mut pool = Pool::new(target, "/announce")?;
    pool.open_all(connections, |pool, id| pool.send(id, texts::announce(id / swarm, id, &[]).as_bytes()))?;
    // The server is given time to answer all, and to give back what it needed for that.
    let mut events = Vec::new();
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        pool.turn(Duration::from_millis(50), &mut events)?;
    }
    ensure!(!events.iter().any(|event| matches!(event, Event::Closed(_))), "the server closed a connection");
    let after = resident(pid)?;
    Ok(json!({
        "connections": connections, "before_bytes": before, "after_bytes": after,
        "bytes_per_connection": after.saturating_sub(before) as f64 / connections as f64,
    }))
}
