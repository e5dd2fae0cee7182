//! The parts of `cargo xtask test`, in the order they run: what is quick and says most comes first.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::counts::{files_with_failures, tally};
use super::{Machine, Tally};
use crate::command::{capture, cargo, node, program, run, tee};
use crate::repo::Repo;
use crate::stamp::files_below;
use crate::{fuzz, sample, setup, sizes, tidy};

/// The crates whose tests also run as WASM: what the browser runs.
const WASM_TESTED: [&str; 3] = ["headwater-wire", "headwater-swarm", "headwater-rendezvous"];

/// How long one browser test may take, in ms, that does not say so itself: as long as a suite (`SUITE_MS` in the tests' harness).
const BROWSER_TEST_LIMIT: &str = "--test-timeout=900000";

/// What has to be there before a part runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Wasm,
    Wasi,
    Npm,
    NpmSignal,
    Servers,
    Chromium,
    Firefox,
    Turn,
    Web,
    Binaries,
}

impl Need {
    /// In the order they are provided.
    pub(crate) const ALL: [Self; 10] = [
        Self::Wasm,
        Self::Wasi,
        Self::Npm,
        Self::NpmSignal,
        Self::Servers,
        Self::Chromium,
        Self::Firefox,
        Self::Turn,
        Self::Web,
        Self::Binaries,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wasm => "Rust for the browser",
            Self::Wasi => "Rust for WASM under Node",
            Self::Npm => "npm packages",
            Self::NpmSignal => "npm packages of the signalling tests",
            Self::Servers => "servers that tests speak with",
            Self::Chromium => "Chromium",
            Self::Firefox => "Firefox",
            Self::Turn => "TURN server",
            Self::Web => "web build",
            Self::Binaries => "servers",
        }
    }
}

/// One step.
pub(crate) struct Part {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether `--quick` leaves it out.
    pub(crate) slow: bool,
    pub(crate) needs: &'static [Need],
    pub(crate) run: fn(&Machine<'_>) -> Result<Tally>,
}

const fn part(
    name: &'static str,
    about: &'static str,
    needs: &'static [Need],
    run: fn(&Machine<'_>) -> Result<Tally>,
) -> Part {
    Part { name, about, slow: false, needs, run }
}

const fn slow(part: Part) -> Part {
    Part { slow: true, ..part }
}

pub(crate) const PARTS: [Part; 19] = [
    part("fmt", "Rust formatting", &[], |machine| {
        check(run(cargo(machine.repo).args(["fmt", "--all", "--check"])).context("run `cargo fmt`"))
    }),
    part("tidy", "rules of the house", &[], |machine| check(tidy::run(machine.repo))),
    part("sample", "bundled sample", &[], |machine| check(sample::check(machine.repo))),
    part("format", "web formatting", &[Need::Npm], |machine| {
        check(
            tool(machine.repo, "prettier", &["--check", "--log-level=warn", "."])
                .context("run `npm run format` in www"),
        )
    }),
    // They need the web build: the client's glue has types of its own.
    part("types", "TypeScript types", &[Need::Npm, Need::Wasm, Need::Web], |machine| {
        check(tool(machine.repo, "tsc", &["--noEmit"]))
    }),
    part("lint", "ESLint", &[Need::Npm, Need::Wasm, Need::Web], |machine| {
        check(tool(machine.repo, "eslint", &["--max-warnings=0", "."]))
    }),
    part("size", "size budget", &[Need::Npm, Need::Wasm, Need::Web], |machine| check(sizes::check(machine.repo))),
    part("api", "API report", &[Need::Npm, Need::Wasm, Need::Web], |machine| {
        check(run(node(machine.repo).args(["api.mjs", "--check"])))
    }),
    part("clippy", "clippy, native", &[], |machine| clippy(machine.repo, &["--workspace", "--all-targets"])),
    part("clippy-web", "clippy, browser", &[Need::Wasm], |machine| {
        clippy(machine.repo, &["--package", "headwater-client", "--lib", "--target", setup::WASM])
    }),
    part("fuzz", "fuzz targets compile", &[], |machine| check(fuzz::check(machine.repo))),
    part("rust", "Rust tests", &[Need::Servers], |machine| rust_tests(machine.repo)),
    slow(part("stack", "a seed's connections with the feature str0m", &[], |machine| stack_tests(machine.repo))),
    slow(part("wasm", "core tests as WASM (wasm32-wasip1, run by Node)", &[Need::Wasi], |machine| {
        wasm_tests(machine.repo)
    })),
    slow(part("doc", "documentation", &[], |machine| {
        let mut doc = cargo(machine.repo);
        doc.env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--no-deps", "--workspace"]);
        check(run(&mut doc))
    })),
    part("origin", "origin tests", &[], |machine| node_tests(machine, "www/origin")),
    part("bench", "arithmetic of the browser bench", &[], |machine| node_tests(machine, "www/bench")),
    slow(part(
        "signal",
        "signalling with WebTorrent clients and p2p-media-loader",
        &[Need::Npm, Need::NpmSignal, Need::Chromium, Need::Binaries],
        |machine| node_tests(machine, "www/tests-signal"),
    )),
    slow(part(
        "browser",
        "browser tests",
        &[Need::Wasm, Need::Npm, Need::Chromium, Need::Firefox, Need::Turn, Need::Web, Need::Binaries],
        |machine| node_tests(machine, "www/tests"),
    )),
];

/// A check is one test.
fn check(result: Result<()>) -> Result<Tally> {
    result.map(|()| Tally::PASSED)
}

fn clippy(repo: &Repo, what: &[&str]) -> Result<Tally> {
    check(run(cargo(repo).args(["clippy"]).args(what).args(["--", "-D", "warnings"])))
}

/// Runs a tool of www/node_modules.
fn tool(repo: &Repo, name: &str, arguments: &[&str]) -> Result<()> {
    let script = match name {
        "prettier" => "node_modules/prettier/bin/prettier.cjs",
        "eslint" => "node_modules/eslint/bin/eslint.js",
        _ => "node_modules/typescript/bin/tsc",
    };
    run(node(repo).arg(script).args(arguments))
}

/// The servers, with the features that the tests' build gives them: one build for both.
pub(crate) fn build_binaries(repo: &Repo) -> Result<()> {
    run(cargo(repo).args(["build", "--workspace", "--exclude", "headwater-client", "--bins", "--examples"]))
}

fn rust_tests(repo: &Repo) -> Result<Tally> {
    const WHAT: [&str; 4] = ["--workspace", "--exclude", "headwater-client", "--no-fail-fast"];
    if capture(cargo(repo).args(["nextest", "--version"])).is_err() {
        println!("cargo-nextest is not here, so `cargo test` runs them: slower, with the same verdict");
        return count(cargo(repo).arg("test").args(WHAT));
    }
    let unit = count(cargo(repo).args(["nextest", "run", "--no-tests", "pass"]).args(WHAT))?;
    // nextest runs no examples of the documentation.
    let doc = count(cargo(repo).args(["test", "--doc", "--quiet"]).args(WHAT))?;
    Ok(Tally { passed: unit.passed + doc.passed, failed: unit.failed + doc.failed })
}

/// What the seed's other stack can do: it knows no TCP, and asks no server for its address.
fn stack_tests(repo: &Repo) -> Result<Tally> {
    const FEATURE: [&str; 5] = ["--workspace", "--exclude", "headwater-client", "--features", "headwater-seed/str0m"];
    run(cargo(repo).arg("clippy").args(FEATURE).args(["--all-targets", "--", "-D", "warnings"]))?;
    let mut test = cargo(repo);
    test.arg("test").args(FEATURE).args(["--test", "data_channels", "--test", "one_port", "--"]);
    count(test.args(["--skip", "over_tcp", "--skip", "stun_server"]).env("HEADWATER_STACK", "str0m"))
}

/// Compiles the cores' tests to WASM and runs each in Node.
fn wasm_tests(repo: &Repo) -> Result<Tally> {
    let mut build = cargo(repo);
    build.args(["test", "--no-run", "--lib", "--tests", "--target", setup::WASI]);
    for package in WASM_TESTED {
        build.args(["--package", package]);
    }
    run(&mut build)?;
    // The second run builds nothing: it only says where the tests are.
    let said = capture(build.arg("--message-format=json"))?;
    let mut sum = Tally::default();
    for (wasm, package) in test_binaries(&said) {
        let mut test = program(repo, "node");
        test.args(["--no-warnings", "xtask/wasi-test.mjs"]).args([wasm.as_os_str(), repo.root().as_os_str()]);
        // Node 20 may crash while it takes a WASI instance down, after all is said. A test that fails traps before the
        // closing line, so that the line tells.
        let ran = tee(test.arg(package))?;
        let tally = tally(&ran.output, ran.output.contains("test result: ok."));
        sum.passed += tally.passed;
        sum.failed += tally.failed;
    }
    ensure!(sum.passed + sum.failed > 0, "no tests found for {}", setup::WASI);
    Ok(sum)
}

/// Test binaries and their packages' folders, from cargo's JSON messages.
fn test_binaries(messages: &str) -> Vec<(PathBuf, PathBuf)> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| {
            let binary = PathBuf::from(message["executable"].as_str()?);
            let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
            Some((binary, folder))
        })
        .collect()
}

/// Runs the *.test.mjs of a folder, one file at a time; those of installed packages are their authors'. Files with a failure run
/// once more: a machine that stands still for seconds, as shared ones do, lets any video stall. What is broken fails twice.
fn node_tests(machine: &Machine<'_>, folder: &str) -> Result<Tally> {
    let files: Vec<PathBuf> = files_below(&machine.repo.path(folder))?
        .into_iter()
        .filter(|file| file.to_string_lossy().ends_with(".test.mjs"))
        .filter(|file| !file.components().any(|part| part.as_os_str() == "node_modules"))
        .collect();
    ensure!(!files.is_empty(), "there is no *.test.mjs in {folder} yet");
    let first = tee(&mut node_test(machine, &files))?;
    let tally = tally(&first.output, first.success);
    let failed = files_with_failures(&first.output, &files);
    if failed.is_empty() {
        return Ok(tally);
    }
    let names: Vec<_> = failed.iter().filter_map(|file| file.file_name()).map(|name| name.to_string_lossy()).collect();
    println!("once more, since {} of their tests failed: {}", tally.failed, names.join(", "));
    let again = count(&mut node_test(machine, &failed))?;
    let recovered = tally.failed.saturating_sub(again.failed);
    println!("FLAKY: {recovered} passed at the second attempt, {} failed again", again.failed);
    Ok(Tally { passed: tally.passed + recovered, failed: again.failed })
}

fn node_test(machine: &Machine<'_>, files: &[PathBuf]) -> std::process::Command {
    let repo = machine.repo;
    let mut test = program(repo, "node");
    test.args(["--test", "--test-concurrency=1", "--test-reporter=spec", BROWSER_TEST_LIMIT]).args(files);
    let paths: [(&str, OsString); 4] = [
        ("HEADWATER_SIGNAL_BIN", repo.binary("headwater-signal").into_os_string()),
        ("HEADWATER_SEED_BIN", repo.binary("headwater-seed").into_os_string()),
        ("HEADWATER_BIN_DIR", repo.target().join("debug").into_os_string()),
        ("HEADWATER_DIST", repo.dist().into_os_string()),
    ];
    test.envs(paths).envs(machine.programs.iter().map(|(name, path)| (name, path)));
    test
}

fn count(command: &mut std::process::Command) -> Result<Tally> {
    let ran = tee(command)?;
    Ok(tally(&ran.output, ran.success))
}
