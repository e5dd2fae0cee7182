//! One large swarm of the native protocol whose members come and go; each that is told to offers, and is answered.

use std::time::{Duration, Instant};

use anyhow::Result;
use memchr::memmem;
use serde_json::{Value, json};

use crate::figures::resident;
use crate::pool::{Event, Id, Pool, Target};
use crate::texts;

const JOIN: &str = r#"{"type":"join","version":1,"swarm":"load/churn","role":"viewer","want":8}"#;

/// How often the server's memory is read.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks of the first minute: by then the joining of all at once is over.
const FIRST_LOOKS: usize = 12;

#[derive(Debug, Default)]
struct Counts {
    welcomes: u64,
    connects: u64,
    answers: u64,
    gone: u64,
    errors: u64,
    closed: u64,
}

pub(crate) fn run(target: &Target, time: Duration, connections: usize, churn: f64, pid: u32) -> Result<Value> {
    let mut pool = Pool::new(target, "/v1/signal")?;
    let sdp = texts::sdp(1024);
    let mut counts = Counts::default();
    pool.open_all_and_hear(connections, |pool, event| counts.happened(pool, event, &sdp))?;
    let started = Instant::now();
    let per_second = connections as f64 * churn / 60.0;
    // Members in the order they came: the oldest leaves first.
    let mut members: std::collections::VecDeque<Id> = (0..connections).collect();
    let mut replaced = 0_u64;
    let mut memory = Vec::new();
    let mut look_at = started + LOOK_EVERY;
    let mut events = Vec::new();
    while started.elapsed() < time {
        let due = (started.elapsed().as_secs_f64() * per_second) as u64;
        while replaced < due {
            if let Some(oldest) = members.pop_front() {
                pool.close(oldest);
            }
            members.push_back(pool.open()?);
            replaced += 1;
        }
        if Instant::now() >= look_at {
            look_at += LOOK_EVERY;
            memory.push(resident(pid)?);
        }
        pool.turn(Duration::from_millis(5), &mut events)?;
        for event in events.drain(..) {
            counts.happened(&mut pool, &event, &sdp);
        }
    }
    Ok(json!({
        "connections": connections, "replaced": replaced, "welcomes": counts.welcomes, "connects": counts.connects,
        "answers": counts.answers, "gone": counts.gone, "errors": counts.errors, "closed_by_server": counts.closed,
        "memory_first_bytes": memory.iter().take(FIRST_LOOKS).max(), "memory_last_bytes": memory.last(),
        "memory_most_bytes": memory.iter().max(),
        "memory_by_minute": memory.chunks(FIRST_LOOKS).map(|minute| minute.iter().max()).collect::<Vec<_>>(),
    }))
}

impl Counts {
    /// Joins with whoever is open, and answers as a peer does.
    fn happened(&mut self, pool: &mut Pool<'_>, event: &Event, sdp: &str) {
        match event {
            Event::Open(id) => pool.send(*id, JOIN.as_bytes()),
            Event::Closed(_) => self.closed += 1,
            Event::Text(id, range) => {
                if let Some(reply) = self.heard(pool.text(range), sdp) {
                    pool.send(*id, reply.as_bytes());
                }
            }
        }
    }

    /// Counts a message; returns what to answer.
    fn heard(&mut self, text: &[u8], sdp: &str) -> Option<String> {
        let is = |part: &str| memmem::find(text, part.as_bytes()).is_some();
        let after = |key: &str| {
            let start = memmem::find(text, key.as_bytes())? + key.len();
            std::str::from_utf8(text.get(start..start + 16)?).ok()
        };
        let signal = |to: &str, kind: &str| {
            format!(r#"{{"type":"signal","to":"{to}","data":{{"kind":"{kind}","sdp":"{sdp}"}}}}"#)
        };
        if is(r#""type":"welcome""#) {
            self.welcomes += 1;
        } else if is(r#""type":"connect""#) {
            self.connects += 1;
            return is(r#""offer":true"#).then(|| after(r#""peer":""#)).flatten().map(|peer| signal(peer, "offer"));
        } else if is(r#""kind":"offer""#) {
            return after(r#""from":""#).map(|peer| signal(peer, "answer"));
        } else if is(r#""kind":"answer""#) {
            self.answers += 1;
        } else if is(r#""type":"gone""#) {
            self.gone += 1;
        } else {
            self.errors += 1;
        }
        None
    }
}
