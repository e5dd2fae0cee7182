//! `cargo xtask bench NAME --json FILE`: measurements with a bar each, written as `[{name, value, unit, bar, met}]`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::repo::Repo;
use crate::{bench_browser, bench_engine, bench_seed, bench_signal, bench_sim, sizes, web};

/// What `bench` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which one; without it, they are listed
    name: Option<String>,
    /// Where to write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Of `sim`, `seed`, `signal`, `browser` and `player`: this scenario or part alone
    #[arg(long, value_name = "SCENARIO")]
    only: Option<String>,
    /// Of `signal`: how many minutes its part `churn` takes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    minutes: u32,
    /// Of `seed`: the WebRTC stack of the seed, `webrtc` or `str0m`
    #[arg(long, value_parser = ["webrtc", "str0m"], default_value = "webrtc")]
    stack: String,
    #[command(flatten)]
    browser: bench_browser::BrowserOptions,
}

/// One measurement.
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) bar: f64,
    pub(crate) met: bool,
}

struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Repo, &Options) -> Result<Vec<Measured>>,
}

const BENCHES: [Bench; 7] = [
    Bench {
        name: "size",
        about: "what a page downloads for the player and its WASM, brotli",
        run: |repo, _| size(repo),
    },
    Bench {
        name: "browser",
        about: "Chromium viewers over HTTP alone, with Headwater and (--vs p2pml) with p2p-media-loader",
        run: |repo, options| bench_browser::browser(repo, &options.browser, options.only.as_deref()),
    },
    Bench {
        name: "player",
        about: "what a viewer's page pays, beside HTTP alone: first frame, main thread, CPU, an hour's memory",
        run: |repo, options| bench_browser::player(repo, options.only.as_deref()),
    },
    Bench {
        name: "engine",
        about: "what an input costs the engine, with few segments and with many",
        run: |repo, _| bench_engine::engine(repo),
    },
    Bench {
        name: "seed",
        about: "a seed's connections, through narrow paths and to a real Chromium",
        run: |repo, options| bench_seed::seed(repo, options.only.as_deref(), &options.stack),
    },
    Bench {
        name: "signal",
        about: "the signalling server, beside npm's bittorrent-tracker",
        run: |repo, options| bench_signal::signal(repo, options.only.as_deref(), options.minutes),
    },
    Bench {
        name: "sim",
        about: "the engine with thousands of simulated viewers",
        run: |repo, options| bench_sim::sim(repo, options.only.as_deref()),
    },
];

/// Runs one, or lists them all.
pub(crate) fn run(repo: &Repo, options: &Options) -> Result<()> {
    let Some(name) = &options.name else {
        print!("{}", list());
        return Ok(());
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        bail!("there is no bench \"{name}\". There are:\n{}", list().trim_end());
    };
    let results = (bench.run)(repo, options)?;
    for result in &results {
        let verdict = if result.met { "met" } else { "MISSED" };
        println!("{}: {} {} (bar {}: {verdict})", result.name, result.value, result.unit, result.bar);
    }
    if let Some(file) = &options.json {
        let text = format!("{:#}\n", Value::from(results.iter().map(Measured::to_json).collect::<Vec<_>>()));
        fs::write(file, text).with_context(|| format!("cannot write {}: does its folder exist?", file.display()))?;
    }
    Ok(())
}

fn list() -> String {
    BENCHES.iter().fold(String::new(), |mut lines, bench| {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "  {:10} {}", bench.name, bench.about);
        lines
    })
}

impl Measured {
    fn to_json(&self) -> Value {
        json!({ "name": self.name, "value": self.value, "unit": self.unit, "bar": self.bar, "met": self.met })
    }
}

fn size(repo: &Repo) -> Result<Vec<Measured>> {
    web::build(repo, web::Mode::Release)?;
    let weight = sizes::weigh(repo)?;
    let kilobytes = |bytes: u64| bytes as f64 / 1000.0;
    Ok(vec![Measured {
        name: "player and WASM, brotli".to_owned(),
        value: kilobytes(weight.total()),
        unit: "kB",
        bar: kilobytes(weight.bar),
        met: weight.total() <= weight.bar,
    }])
}
