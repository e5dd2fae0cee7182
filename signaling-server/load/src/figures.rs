//! Percentiles, and the memory of a process.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Durations of one kind.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// In microseconds; the share is of one.
    pub(crate) fn percentile(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        let place = (share * last as f64).round() as usize;
        self.0.get(place).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    }
}

/// The resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("cannot read the memory of process {pid}: is it running, and is this Linux?"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the process has no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// Processor time that a process has used, user and system.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    /// Linux tells in hundredths of a second, whatever the kernel's own tick is.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("cannot read the time of process {pid}: is it running, and is this Linux?"))?;
    // Behind the name in parentheses, which may hold anything: fields 14 and 15 of all.
    let (_, fields) = stat.rsplit_once(") ").context("/proc has another form here")?;
    let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_secs_f64(ticks.iter().sum::<u64>() as f64 / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_list() {
        let mut latencies = Latencies::default();
        for micros in (1..=101).rev() {
            latencies.add(Duration::from_micros(micros));
        }
        assert!((latencies.percentile(0.5) - 51.0).abs() < 1e-6);
        assert!((latencies.percentile(1.0) - 101.0).abs() < 1e-6);
    }
}
