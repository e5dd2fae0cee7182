//! The rows of the table.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::kernel::Namespace;
use crate::path::Shape;
use crate::run::{Received, Run};
use crate::stream;
use crate::viewers::{Browser, Native, Viewers};

/// What viewers receive before it counts.
const WARM_UP: Duration = Duration::from_secs(3);

/// Connect and disconnect cycles: as many before the memory is looked at first, and as many in all.
const CYCLES: (u64, u64) = (200, 1000);

/// Idle viewers whose memory is weighed.
const IDLE: u64 = 200;

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    bar: f64,
    /// Whether less is better.
    at_most: bool,
}

struct Table {
    rows: Vec<Row>,
    seconds: f64,
}

impl Table {
    fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str, bar: f64, at_most: bool) {
        let name = name.into();
        let rounded = (value * 1000.0).round() / 1000.0;
        println!("{name}: {rounded} {unit} (bar {}{bar})", if at_most { "<= " } else { ">= " });
        self.rows.push(Row { name, value: rounded, unit, bar, at_most });
    }

    fn lasting(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// Runs the rows named in `arguments`, or all.
pub(crate) async fn run(arguments: &[String]) -> Result<Vec<Row>> {
    let seconds = arguments.iter().position(|argument| argument == "--seconds");
    let given = seconds.and_then(|at| arguments.get(at + 1)).map(|seconds| seconds.parse()).transpose();
    let seconds = given.context("--seconds takes a number")?.unwrap_or(10.0);
    let names: Vec<&String> = arguments.iter().filter(|word| word.starts_with(char::is_alphabetic)).collect();
    let wanted = |name: &str| {
        let part_of = |given: &&String| given.split(':').next() == Some(name);
        names.is_empty() || names.iter().any(part_of)
    };
    let kind = |wanted: &str| names.iter().all(|given| given.split_once(':').is_none_or(|(_, kind)| kind == wanted));
    let with_browser = arguments.iter().any(|argument| argument == "--browser") && kind("chromium");
    let with_native = kind("native");
    let mut table = Table { rows: Vec::new(), seconds };
    if wanted("loopback") {
        loopback(&mut table, with_browser).await?;
    }
    if wanted("queues") {
        for queue in [64, 256, 1024] {
            if with_native {
                long_path(&mut table, "native", Native::new(), queue).await?;
            }
            if with_browser {
                long_path_to_chromium(&mut table, queue).await?;
            }
        }
    }
    if wanted("loss") {
        for (loss, bar) in [(0.001, 2.0), (0.01, 0.8)] {
            for neighbours in [1, 3].into_iter().filter(|_| with_native) {
                lossy_path(&mut table, "native", Native::new(), loss, neighbours, bar).await?;
            }
            if with_browser {
                lossy_path(&mut table, "Chromium", Browser::start().await?, loss, 3, bar).await?;
            }
        }
    }
    if wanted("many") {
        many(&mut table).await?;
    }
    if wanted("copies") {
        for (viewers, bar) in [(1, 1.1), (10, 2.0), (50, 2.5)] {
            copies(&mut table, viewers, bar).await?;
        }
    }
    if wanted("first-chunk") {
        let longest = stream::first_chunk(None).await?;
        table.add("live, segment at the seed -> first chunk at a viewer", millis(longest), "ms", 150.0, true);
        // 10 Mbit/s: until the whole is there and signed nothing of it can be checked by a viewer.
        let longest = stream::first_chunk(Some(1_250_000)).await?;
        table.add("the same, from the first chunk of an origin of 10 Mbit/s", millis(longest), "ms", 150.0, true);
    }
    if wanted("idle") {
        idle(&mut table).await?;
    }
    if wanted("cycles") {
        cycles(&mut table).await?;
    }
    Ok(table.rows)
}

fn sum(received: &std::collections::BTreeMap<u64, Received>) -> u64 {
    received.values().map(|received| received.bytes).sum()
}

/// Megabytes a second to `ids`, and processor seconds of the seed a gigabyte.
async fn rate<V: Viewers>(run: &mut Run<V>, ids: std::ops::Range<u64>, lasting: Duration) -> Result<(f64, f64)> {
    run.pour(ids.clone(), true).await?;
    run.measure(WARM_UP).await?;
    let before = run.usage().await?;
    let (received, took) = run.measure(lasting).await?;
    let after = run.usage().await?;
    run.pour(ids, false).await?;
    let bytes = sum(&received) as f64;
    let cpu = (after.cpu_ms - before.cpu_ms) as f64 / 1000.0;
    Ok((bytes / 1e6 / took.as_secs_f64(), cpu / (bytes / 1e9)))
}

async fn loopback(table: &mut Table, with_browser: bool) -> Result<()> {
    let mut run = Run::start(Native::new(), None).await?;
    run.connect(0..1).await?;
    let (native, cpu) = rate(&mut run, 0..1, table.lasting()).await?;
    run.stop().await?;
    table.add("seed -> one native viewer, loopback", native, "MB/s", 40.0, false);
    table.add("CPU a GB sent, to a native viewer", cpu, "s", 13.0, true);
    if with_browser {
        let mut browser = Browser::start().await?;
        let before = browser.baseline(table.seconds / 2.0).await? / 1e6;
        let mut run = Run::start(browser, None).await?;
        run.connect(0..1).await?;
        let (one, cpu) = rate(&mut run, 0..1, table.lasting()).await?;
        run.close(0).await?;
        run.connect(1..9).await?;
        let (eight, _) = rate(&mut run, 1..9, table.lasting()).await?;
        let mut browser = run.stop().await?;
        let after = browser.baseline(table.seconds / 2.0).await? / 1e6;
        println!("seed -> Chromium {one:.1} MB/s, Chromium -> Chromium {before:.1} and {after:.1} MB/s");
        let baseline = f64::midpoint(before, after);
        table.add("seed -> one Chromium, loopback, against Chromium -> Chromium", one / baseline, "x", 1.5, false);
        table.add("CPU a GB sent, to Chromium", cpu, "s", 13.0, true);
        table.add("8 Chromium at once against one, in sum", eight / one, "x", 1.0, false);
    }
    Ok(())
}

fn shape(queue_kib: usize, loss: f64) -> Shape {
    Shape { bits_a_second: 100e6, delay: Duration::from_millis(20), queue: queue_kib * 1024, loss }
}

/// Through a link of the kernel where this process may make one, else through the emulator.
async fn long_path_to_chromium(table: &mut Table, queue: usize) -> Result<()> {
    match Namespace::start(shape(queue, 0.0)) {
        Ok(namespace) => {
            let namespace = Arc::new(namespace);
            let browser = Browser::start_in(&namespace).await?;
            let run = Run::behind(browser, shape(queue, 0.0), &namespace).await?;
            measure_path(table, "Chromium", run, queue).await
        }
        Err(error) => {
            eprintln!("no link of the kernel's ({error:#}): through a relay, which is late when the machine is busy");
            long_path(table, "Chromium", Browser::start().await?, queue).await
        }
    }
}

async fn long_path<V: Viewers>(table: &mut Table, kind: &str, viewers: V, queue: usize) -> Result<()> {
    let run = Run::start(viewers, Some(shape(queue, 0.0))).await?;
    measure_path(table, kind, run, queue).await
}

async fn measure_path<V: Viewers>(table: &mut Table, kind: &str, mut run: Run<V>, queue: usize) -> Result<()> {
    run.connect(0..1).await?;
    run.pour(0..1, true).await?;
    run.measure(WARM_UP).await?;
    let before = run.overflowed();
    let dropped = run.dropped_by_sockets();
    let dropped_by_kernel = Run::<V>::dropped_by_kernel();
    run.late();
    let (received, took) = run.measure(table.lasting()).await?;
    let (late, dropped) = (run.late(), run.dropped_by_sockets().saturating_sub(dropped));
    let overflowed = (before, run.overflowed() - before);
    let dropped_by_kernel = Run::<V>::dropped_by_kernel() - dropped_by_kernel;
    let one = received.get(&0).copied().unwrap_or_default();
    run.stop().await?;
    let share = one.bytes as f64 / took.as_secs_f64() / 12.5e6 * 100.0;
    let name = format!("{kind}, 40 ms, 100 Mbit/s, queue {queue} KB");
    println!(
        "{name}: {overflowed:?} datagrams found the queue full, starting and measured; {dropped} a socket's buffer, {dropped_by_kernel} the kernel's; the path \
         itself was late by {:.1} ms (p99)",
        millis(late)
    );
    table.add(format!("{name}, share of the link"), share, "%", 85.0, false);
    table.add(format!("{name}, longest standstill"), millis(one.longest_gap), "ms", 250.0, true);
    Ok(())
}

async fn lossy_path<V: Viewers>(
    table: &mut Table,
    kind: &str,
    viewers: V,
    loss: f64,
    neighbours: u64,
    bar: f64,
) -> Result<()> {
    let mut run = Run::start(viewers, Some(shape(256, loss))).await?;
    run.connect(0..neighbours).await?;
    let (rate, _) = rate(&mut run, 0..neighbours, table.lasting()).await?;
    run.stop().await?;
    let name = format!("{kind}, 40 ms, 100 Mbit/s, {} % loss, {neighbours} associations", loss * 100.0);
    // One association is told for comparison: every stack has the same there.
    table.add(name, rate, "MB/s", if neighbours == 1 { 0.0 } else { bar }, false);
    Ok(())
}

async fn many(table: &mut Table) -> Result<()> {
    let mut run = Run::start(Native::new(), None).await?;
    run.connect(0..1).await?;
    let (one, _) = rate(&mut run, 0..1, table.lasting()).await?;
    run.connect(1..64).await?;
    run.pour(0..64, true).await?;
    run.measure(WARM_UP).await?;
    let (received, took) = run.measure(table.lasting()).await?;
    run.stop().await?;
    let all = sum(&received) as f64 / 1e6 / took.as_secs_f64();
    let most = received.values().map(|received| received.bytes).max().unwrap_or(0);
    let least = (0..64).map(|id| received.get(&id).map_or(0, |received| received.bytes)).min().unwrap_or(0);
    println!("one native viewer {one:.1} MB/s, 64 together {all:.1} MB/s");
    table.add("64 native viewers at once against one, in sum", all / one, "x", 1.0, false);
    table.add("64 native viewers, most against least", most as f64 / least.max(1) as f64, "x", 2.0, true);
    Ok(())
}

async fn copies(table: &mut Table, viewers: usize, bar: f64) -> Result<()> {
    let (copies, from_origin, longest) = stream::copies(viewers).await?;
    println!("{viewers} viewers: {from_origin} bytes from the origin, a segment was with everyone in {longest:?}");
    table.add(format!("copies leaving the seed, {viewers} live viewers"), copies, "x", bar, true);
    // A segment later than three of its own durations after it was listed is late for a player at the live edge.
    table.add(format!("{viewers} live viewers, slowest segment"), millis(longest), "ms", 3000.0, true);
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

async fn idle(table: &mut Table) -> Result<()> {
    let mut run = Run::start(Native::new(), None).await?;
    run.connect(0..1).await?;
    run.measure(Duration::from_secs(1)).await?;
    let before = run.usage().await?;
    for first in (1..=IDLE).step_by(20) {
        run.connect(first..first + 20).await?;
    }
    run.measure(Duration::from_secs(5)).await?;
    let after = run.usage().await?;
    run.stop().await?;
    let each = (after.rss_kib.saturating_sub(before.rss_kib)) as f64 / IDLE as f64;
    table.add("memory a connected idle viewer, 200 of them", each, "KiB", 200.0, true);
    Ok(())
}

async fn cycles(table: &mut Table) -> Result<()> {
    let mut run = Run::start(Native::new(), None).await?;
    let mut settled = None;
    for first in (0..CYCLES.1).step_by(10) {
        run.connect(first..first + 10).await?;
        for id in first..first + 10 {
            run.close(id).await?;
        }
        if first + 10 == CYCLES.0 {
            run.measure(Duration::from_secs(8)).await?;
            settled = Some(run.usage().await?.rss_kib);
        }
    }
    run.measure(Duration::from_secs(8)).await?;
    let end = run.usage().await?.rss_kib;
    run.stop().await?;
    let settled = settled.context("too few cycles")?;
    println!("memory after {} cycles {settled} KiB, after {} {end} KiB", CYCLES.0, CYCLES.1);
    let growth = (end as f64 / settled as f64 - 1.0) * 100.0;
    table.add("memory after 1,000 connect/disconnect cycles against 200", growth, "%", 10.0, true);
    Ok(())
}
