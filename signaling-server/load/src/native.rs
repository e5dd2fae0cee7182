//! The native protocol: pairs of viewers, each in a swarm of its own. The first joins and waits; measured is the time from
//! the second's join until both were told to connect. Then both leave, and their sockets close.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use memchr::memmem;
use serde_json::{Value, json};

use crate::figures::Latencies;
use crate::pool::{Event, Id, Pool, Target};

/// Before measuring.
const WARM_UP: Duration = Duration::from_secs(1);

/// Pairs under way at most: a server that cannot keep up with a rate is not flooded for ever.
const MAX_PAIRS: usize = 4000;

#[derive(Debug, Clone, Copy)]
struct Pair {
    first: Id,
    second: Id,
    opened: usize,
    told: usize,
    joined: Option<Instant>,
}

struct Run<'a> {
    pool: Pool<'a>,
    pairs: BTreeMap<u64, Pair>,
    by_id: BTreeMap<Id, u64>,
    next: u64,
    latencies: Latencies,
    done: u64,
    failed: u64,
}

pub(crate) fn run(target: &Target, time: Duration, concurrency: usize, rate: Option<f64>) -> Result<Value> {
    let mut run = Run {
        pool: Pool::new(target, "/v1/signal")?,
        pairs: BTreeMap::new(),
        by_id: BTreeMap::new(),
        next: 0,
        latencies: Latencies::default(),
        done: 0,
        failed: 0,
    };
    run.pool.never_sleep();
    let begin = Instant::now();
    let warm = begin + WARM_UP;
    let mut events = Vec::new();
    let mut is_warm = false;
    let mut before = 0;
    while Instant::now() < warm + time {
        if !is_warm && Instant::now() >= warm {
            is_warm = true;
            before = run.done;
            run.latencies.clear();
        }
        let due = match rate {
            None => run.done + run.failed + concurrency as u64,
            Some(rate) => (begin.elapsed().as_secs_f64() * rate) as u64,
        };
        while run.next < due && run.pairs.len() < MAX_PAIRS {
            run.start()?;
        }
        let most = if rate.is_some() { Duration::from_millis(1) } else { Duration::from_millis(20) };
        run.pool.turn(most, &mut events)?;
        for event in events.drain(..) {
            run.happened(&event);
        }
    }
    if run.done == 0 {
        bail!("no pair was told to connect");
    }
    Ok(json!({
        "pairs_per_second": (run.done - before) as f64 / time.as_secs_f64(), "failures": run.failed,
        "p50_us": run.latencies.percentile(0.5), "p99_us": run.latencies.percentile(0.99),
    }))
}

impl Run<'_> {
    fn start(&mut self) -> Result<()> {
        let (first, second) = (self.pool.open()?, self.pool.open()?);
        self.by_id.insert(first, self.next);
        self.by_id.insert(second, self.next);
        self.pairs.insert(self.next, Pair { first, second, opened: 0, told: 0, joined: None });
        self.next += 1;
        Ok(())
    }

    fn happened(&mut self, event: &Event) {
        let (Event::Open(id) | Event::Text(id, _) | Event::Closed(id)) = *event;
        let Some(&key) = self.by_id.get(&id) else { return };
        let Some(pair) = self.pairs.get_mut(&key) else { return };
        match event {
            Event::Open(_) => {
                pair.opened += 1;
                if pair.opened == 2 {
                    self.pool.send(pair.first, join(key).as_bytes());
                }
            }
            Event::Text(_, range) => {
                let text = self.pool.text(range);
                let is = |kind: &str| memmem::find(text, kind.as_bytes()).is_some();
                if is(r#""type":"welcome""#) {
                    if id == pair.first {
                        pair.joined = Some(Instant::now());
                        self.pool.send(pair.second, join(key).as_bytes());
                    }
                } else if is(r#""type":"connect""#) {
                    pair.told += 1;
                    if pair.told == 2 {
                        if let Some(joined) = pair.joined {
                            self.latencies.add(joined.elapsed());
                        }
                        self.done += 1;
                        self.end(key);
                    }
                } else {
                    self.failed += 1;
                    self.end(key);
                }
            }
            Event::Closed(_) => {
                self.failed += 1;
                self.end(key);
            }
        }
    }

    fn end(&mut self, key: u64) {
        if let Some(pair) = self.pairs.remove(&key) {
            for id in [pair.first, pair.second] {
                self.by_id.remove(&id);
                self.pool.close(id);
            }
        }
    }
}

fn join(pair: u64) -> String {
    format!(r#"{{"type":"join","version":1,"swarm":"load/{pair}","role":"viewer","want":1}}"#)
}
