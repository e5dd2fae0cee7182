//! Announces as fast as the server answers them: every connection sends the next when the last is done.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::figures::processor_time;
use crate::pool::{Event, Id, Pool, Target};
use crate::texts::{self, Heard, hear};

/// Before measuring.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long the last answers may take.
const DRAIN: Duration = Duration::from_secs(3);

/// What is sent.
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) swarm: usize,
    pub(crate) offers: usize,
    pub(crate) sdp: usize,
    /// The server's process, to tell what it used.
    pub(crate) pid: Option<u32>,
}

/// A connection's announce under way: its reply and its answers are to come.
#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    messages: usize,
    round: u64,
}

struct Run<'a, 'b> {
    pool: &'a mut Pool<'b>,
    load: &'a Load,
    sdp: String,
    waiting: Vec<Waiting>,
    done: u64,
    failed: u64,
}

pub(crate) fn run(target: &Target, time: Duration, load: &Load) -> Result<Value> {
    ensure!(load.offers < load.swarm, "an announce has more offers than there are others in a swarm");
    let mut pool = Pool::new(target, "/announce")?;
    pool.open_all(load.connections, |pool, id| {
        pool.send(id, texts::announce(id / load.swarm, id, &[]).as_bytes());
    })?;
    let mut events = Vec::new();
    // Everyone is in the swarm before offers are counted on.
    let settled = Instant::now() + Duration::from_secs(1);
    while Instant::now() < settled {
        pool.turn(Duration::from_millis(50), &mut events)?;
    }
    events.clear();
    pool.never_sleep();
    let mut run = Run {
        pool: &mut pool,
        load,
        sdp: texts::sdp(load.sdp),
        waiting: vec![Waiting::default(); load.connections],
        done: 0,
        failed: 0,
    };
    for id in 0..load.connections {
        run.announce(id);
    }
    run.until(Instant::now() + WARM_UP, true)?;
    let used = || load.pid.map(processor_time).transpose();
    let (started, before, used_before) = (Instant::now(), run.done, used()?);
    run.until(started + time, true)?;
    let (took, done, used) = (started.elapsed().as_secs_f64(), run.done - before, used()?);
    let used = used.zip(used_before).map(|(after, before)| after.saturating_sub(before).as_secs_f64());
    run.until(Instant::now() + DRAIN, false)?;
    let lost: usize = run.waiting.iter().map(|waiting| waiting.messages).sum();
    Ok(json!({
        "announces_per_second": done as f64 / took,
        "server_cpu_us_per_announce": used.map(|used| used * 1e6 / done.max(1) as f64),
        "server_cpu_share": used.map(|used| used / took),
        "announces": run.done, "lost_messages": lost, "failures": run.failed,
    }))
}

impl Run<'_, '_> {
    fn announce(&mut self, id: Id) {
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        waiting.round += 1;
        waiting.messages = 1 + self.load.offers;
        let offers: Vec<(String, &str)> =
            (0..self.load.offers).map(|nth| (texts::offer_id(id, waiting.round, nth), self.sdp.as_str())).collect();
        self.pool.send(id, texts::announce(id / self.load.swarm, id, &offers).as_bytes());
    }

    /// Serves until then; `go_on` starts the next announce of whoever is done. Without it, ends when all are done.
    fn until(&mut self, end: Instant, go_on: bool) -> Result<()> {
        let mut events = Vec::new();
        while Instant::now() < end {
            if !go_on && self.waiting.iter().all(|waiting| waiting.messages == 0) {
                break;
            }
            self.pool.turn(Duration::from_millis(20), &mut events)?;
            for event in events.drain(..) {
                match event {
                    Event::Text(id, range) => self.heard(id, &range, go_on),
                    Event::Closed(_) => self.failed += 1,
                    Event::Open(_) => {}
                }
            }
        }
        Ok(())
    }

    fn heard(&mut self, id: Id, range: &std::ops::Range<usize>, go_on: bool) {
        let text = self.pool.text(range);
        match hear(text) {
            Heard::Reply => self.count(id, go_on),
            Heard::Answer { offer_id } => {
                // Of the announce under way, and not an earlier one's: rounds end when all is there.
                let own = self.waiting.get(id).map(|waiting| texts::offer_id(id, waiting.round, 0));
                if own.is_some_and(|own| own.as_bytes()[..16] == offer_id[..16]) {
                    self.count(id, go_on);
                } else {
                    self.failed += 1;
                }
            }
            Heard::Offer { peer, offer_id } => {
                let (peer, offer_id) = (String::from_utf8_lossy(peer), String::from_utf8_lossy(offer_id));
                let answer = texts::answer(id / self.load.swarm, id, &peer, &offer_id, &self.sdp);
                self.pool.send(id, answer.as_bytes());
            }
            Heard::Other => self.failed += 1,
        }
    }

    fn count(&mut self, id: Id, go_on: bool) {
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        waiting.messages = waiting.messages.saturating_sub(1);
        if waiting.messages == 0 {
            self.done += 1;
            if go_on {
                self.announce(id);
            }
        }
    }
}
