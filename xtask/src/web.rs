//! `cargo xtask web`: the client's WASM, its glue, and the bundle of www/build.mjs. Nothing changed: nothing is done.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use wasm_bindgen_cli_support::Bindgen;

use crate::command::{capture, cargo, node, run as run_program};
use crate::repo::Repo;
use crate::stamp::Fingerprint;
use crate::{panics, setup, sizes};

/// How the web side is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Quick to build, with source maps.
    Dev,
    /// What ships.
    Release,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Dev => "dev",
            Mode::Release => "release",
        }
    }

    /// Cargo's profile and the folder it builds into.
    fn profile(self) -> (&'static str, &'static str) {
        match self {
            Mode::Dev => ("dev", "debug"),
            Mode::Release => ("web", "web"),
        }
    }
}

/// The player's entry, written by hand.
const ENTRY: &str = "www/player/src/headwater.ts";

/// What a finished build has at least.
const MADE: [&str; 4] = ["headwater.js", "headwater.d.ts", "headwater_client_bg.wasm", "hls.mjs"];

/// Instructions that every browser has had for years and that Rust's default WASM uses.
const WASM_FEATURES: [&str; 7] = [
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// What makes the client small. A large function that is called from one place is left where it is: within its caller it is
/// a few bytes less, and compresses worse by more (3 % of the client).
const SMALLER: [&str; 8] = [
    "--flatten",
    "--rereloop",
    "-Oz",
    "-Oz",
    "--converge",
    "--one-caller-inline-max-function-size=25",
    "--strip-debug",
    "--strip-producers",
];

/// Builds what changed and prints what it weighs.
pub(crate) fn run(repo: &Repo, mode: Mode) -> Result<()> {
    build(repo, mode)?;
    sizes::print_table(repo)
}

/// Builds what changed.
pub(crate) fn build(repo: &Repo, mode: Mode) -> Result<()> {
    ensure!(repo.path(ENTRY).is_file(), "the player's entry {ENTRY} does not exist: write it first");
    setup::rust_target(repo, setup::WASM)?;
    setup::npm_packages(repo)?;
    client(repo, mode)?;
    bundle(repo, mode)
}

/// Compiles the client to WASM and generates its glue into www/generated.
fn client(repo: &Repo, mode: Mode) -> Result<()> {
    let (profile, folder) = mode.profile();
    // A target folder of its own: it neither waits for the lock of the native builds nor throws their work away.
    let target = repo.target().join("web-client");
    // wasm-bindgen has to read the names and the list of features; it and wasm-opt strip them afterwards.
    let keep_sections = ("CARGO_PROFILE_WEB_STRIP", "none");
    // Small functions copied to where they are called compress better than their calls do: 1 % of the download.
    let inlining = ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", "-Cllvm-args=-inline-threshold=50");
    let arguments = ["build", "--package", "headwater-client", "--lib", "--profile", profile, "--target", setup::WASM];
    run_program(
        cargo(repo)
            .env(keep_sections.0, keep_sections.1)
            .env(inlining.0, inlining.1)
            .args(arguments)
            .arg("--target-dir")
            .arg(&target),
    )?;
    let compiled = target.join(setup::WASM).join(folder).join("headwater_client.wasm");
    ensure!(compiled.is_file(), "cargo made no {}: is headwater-client still a cdylib?", compiled.display());

    let generated = repo.path("www/generated");
    let stamp = repo.scratch().join("client.stamp");
    let inputs = Fingerprint::default()
        .text(mode.name())
        .text(env!("CARGO_PKG_VERSION"))
        .text(&SMALLER.join(" "))
        .file(&compiled)
        .file(&repo.path("www/package-lock.json"))
        .file(&repo.path("Cargo.lock"));
    if inputs.is_in(&stamp) && generated.join("headwater_client_bg.wasm").is_file() {
        return Ok(());
    }
    println!("generating the client's glue");
    let names = generated.join("names.json");
    glue(&compiled, &generated, mode)?;
    if mode == Mode::Release {
        println!("optimising the client for size");
        optimise(repo, &generated.join("headwater_client_bg.wasm"), &names)?;
    } else if names.is_file() {
        fs::remove_file(names)?;
    }
    inputs.write_to(&stamp)
}

fn glue(compiled: &Path, generated: &Path, mode: Mode) -> Result<()> {
    fs::create_dir_all(generated)?;
    let release = mode == Mode::Release;
    let module = if release { panics::become_traps(compiled)? } else { fs::read(compiled)? };
    Bindgen::new()
        .input_bytes("headwater_client", module)
        .out_name("headwater_client")
        .web(true)?
        .typescript(true)
        // The player fetches the WASM itself, when it wants it.
        .omit_default_module_path(true)
        .keep_debug(!release)
        .remove_name_section(release)
        .remove_producers_section(release)
        .generate(generated)
        .context("wasm-bindgen refused the client: does its version in Cargo.lock match wasm-bindgen-cli-support's?")
}

/// Optimises for size, and gives what the client and its glue call each other the shortest names there are. `names` says
/// which, for www/glue.mjs to do the same to the glue.
fn optimise(repo: &Repo, wasm: &Path, names: &Path) -> Result<()> {
    wasm_opt(repo, wasm, &SMALLER)?;
    // Apart from the rest, which is done several times over.
    let said = wasm_opt(repo, wasm, &["--minify-imports-and-exports-and-modules"])?;
    Ok(fs::write(names, said)?)
}

/// Runs passes over the client; what they say.
fn wasm_opt(repo: &Repo, wasm: &Path, passes: &[&str]) -> Result<String> {
    let optimised = PathBuf::from(format!("{}.opt", wasm.display()));
    let mut wasm_opt = node(repo);
    wasm_opt.arg(repo.path("www/node_modules/binaryen/bin/wasm-opt")).args(passes).args(WASM_FEATURES);
    let said = capture(wasm_opt.arg(wasm).arg("-o").arg(&optimised))?;
    fs::rename(&optimised, wasm)?;
    Ok(said)
}

/// Bundles into www/dist.
fn bundle(repo: &Repo, mode: Mode) -> Result<()> {
    let stamp = repo.scratch().join("bundle.stamp");
    let mut inputs = Fingerprint::default().text(mode.name());
    for folder in ["www/player", "www/demo", "www/dashboard", "www/shared", "www/generated"] {
        inputs = inputs.folder(&repo.path(folder))?;
    }
    for file in ["www/build.mjs", "www/glue.mjs", "www/pack.mjs", "www/package-lock.json", "www/tsconfig.json"] {
        inputs = inputs.file(&repo.path(file));
    }
    if inputs.is_in(&stamp) && MADE.iter().all(|name| repo.dist().join(name).is_file()) {
        return Ok(());
    }
    println!("bundling into www/dist");
    let mut script = node(repo);
    script.arg("build.mjs");
    if mode == Mode::Dev {
        script.arg("--dev");
    }
    run_program(&mut script)?;
    inputs.write_to(&stamp)
}
