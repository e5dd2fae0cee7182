//! A narrow path between two programs on this machine: `cargo run -p headwater-seed --example path-emulator -- PEER
//! [MBIT [DELAY_MS [QUEUE_KIB [LOSS_PERCENT]]]]`. Whoever wants to reach PEER through it speaks to the address that it
//! prints.

#[path = "bench-seed/path.rs"]
mod path;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use path::{Path, Shape};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let peer: SocketAddr = arguments.next().context("say whose address, such as 127.0.0.1:4000")?.parse()?;
    let numbers: Vec<f64> = arguments.map(|number| number.parse()).collect::<Result<_, _>>()?;
    let number = |place: usize, default: f64| numbers.get(place).copied().unwrap_or(default);
    let shape = Shape {
        bits_a_second: number(0, 100.0) * 1e6,
        delay: Duration::from_secs_f64(number(1, 20.0) / 1000.0),
        queue: (number(2, 256.0) * 1024.0) as usize,
        loss: number(3, 0.0) / 100.0,
    };
    let path = Path::start(shape, peer)?;
    println!("{} leads to {peer}", path.far);
    tokio::signal::ctrl_c().await?;
    let overflowed = path.overflowed.load(std::sync::atomic::Ordering::Relaxed);
    let mut late = std::mem::take(&mut *path.late.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    late.sort_unstable();
    let late = late.get(late.len() * 99 / 100).copied().unwrap_or_default();
    println!("{overflowed} datagrams found the queue full; 99 of 100 left no later than {late:?} after they were due");
    Ok(())
}
