//! Two peers of one swarm: how long from an announce with an offer until its answer is there.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::figures::Latencies;
use crate::pool::{Event, Pool, Target};
use crate::texts::{self, Heard, hear};

pub(crate) fn run(target: &Target, time: Duration, sdp: usize) -> Result<Value> {
    let mut pool = Pool::new(target, "/announce")?;
    pool.open_all(2, |pool, id| pool.send(id, texts::announce(0, id, &[]).as_bytes()))?;
    let mut events = Vec::new();
    for _ in 0..10 {
        pool.turn(Duration::from_millis(20), &mut events)?;
    }
    events.clear();
    pool.never_sleep();
    let sdp = texts::sdp(sdp);
    let mut latencies = Latencies::default();
    let warm = Instant::now() + Duration::from_millis(500);
    let end = warm + time;
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        if Instant::now() < warm {
            latencies.clear();
        }
        let offer_id = texts::offer_id(0, round, 0);
        let announce = texts::announce(0, 0, &[(offer_id, &sdp)]);
        let started = Instant::now();
        pool.send(0, announce.as_bytes());
        let mut answered = false;
        while !answered {
            if started.elapsed() > Duration::from_secs(2) {
                bail!("an offer was not answered in 2 seconds: it or its answer was lost");
            }
            pool.turn(Duration::from_millis(100), &mut events)?;
            for event in events.drain(..) {
                let Event::Text(id, range) = event else { bail!("the server closed a connection") };
                let reply = match (id, hear(pool.text(&range))) {
                    (1, Heard::Offer { peer, offer_id }) => {
                        let (peer, offer_id) = (String::from_utf8_lossy(peer), String::from_utf8_lossy(offer_id));
                        Some(texts::answer(0, 1, &peer, &offer_id, &sdp))
                    }
                    (0, Heard::Answer { .. }) => {
                        latencies.add(started.elapsed());
                        answered = true;
                        None
                    }
                    _ => None,
                };
                if let Some(reply) = reply {
                    pool.send(1, reply.as_bytes());
                }
            }
        }
    }
    Ok(json!({
        "exchanges": latencies.len(), "p50_us": latencies.percentile(0.5), "p99_us": latencies.percentile(0.99),
    }))
}
