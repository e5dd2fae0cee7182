//! What a machine needs before anything builds or runs: Rust targets, Node and npm packages, browsers, servers.
//! Each is checked in milliseconds and installed only where it is missing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{capture, describe, program, run, which};
use crate::repo::Repo;
use crate::stamp::Fingerprint;

/// The browser's target.
pub(crate) const WASM: &str = "wasm32-unknown-unknown";

/// The target whose tests run in Node: wasm32 with a standard output.
pub(crate) const WASI: &str = "wasm32-wasip1";

/// The oldest Node that runs the web tools.
const NODE_MAJOR: u32 = 20;

/// Names that Chromium goes by.
const CHROMIUM_NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// Names that Firefox goes by: the one with long support first, as tests on the newest may break any day.
const FIREFOX_NAMES: [&str; 2] = ["firefox-esr", "firefox"];

const CHROMIUM_MACOS: [&str; 2] = [
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/// What is installed where a program is not there.
#[derive(Clone, Copy)]
struct Package {
    name: &'static str,
    /// With what it recommends, and not only what it needs.
    recommended: bool,
}

impl Package {
    fn alone(name: &'static str) -> Self {
        Self { name, recommended: false }
    }
}

/// Makes sure that Rust can build for a target.
pub(crate) fn rust_target(repo: &Repo, target: &str) -> Result<()> {
    let sysroot = capture(program(repo, "rustc").args(["--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir() {
        return Ok(());
    }
    let by_hand = format!("add it with `rustup target add {target}`, or by your system's package of Rust's {target}");
    ensure!(which("rustup").is_some(), "Rust cannot build for {target} here, and there is no rustup: {by_hand}");
    println!("adding Rust's target {target}");
    run(program(repo, "rustup").args(["target", "add", target]))
        .with_context(|| format!("rustup could not add it: {by_hand}"))
}

/// Makes sure that the packages of www/package-lock.json are in www/node_modules.
pub(crate) fn npm_packages(repo: &Repo) -> Result<()> {
    npm_packages_in(repo, "www")
}

/// The same for the tests of the signalling server, which have packages of their own.
pub(crate) fn npm_packages_of_signal_tests(repo: &Repo) -> Result<()> {
    npm_packages_in(repo, "www/tests-signal")
}

fn npm_packages_in(repo: &Repo, folder: &str) -> Result<()> {
    let packages = repo.path(folder);
    let stamp = packages.join("node_modules/.headwater-stamp");
    let inputs = Fingerprint::default().file(&packages.join("package-lock.json")).file(&packages.join("package.json"));
    let version = capture(program(repo, "node").arg("--version"))
        .with_context(|| format!("Node {NODE_MAJOR} or newer is needed: https://nodejs.org"))?;
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    ensure!(
        major.is_none_or(|major: u32| major >= NODE_MAJOR),
        "Node {} is too old: {NODE_MAJOR} or newer is needed (https://nodejs.org)",
        version.trim()
    );
    if inputs.is_in(&stamp) {
        return Ok(());
    }
    println!("installing npm packages into {folder}/node_modules");
    let mut npm = program(repo, if cfg!(windows) { "npm.cmd" } else { "npm" });
    run(npm.current_dir(&packages).args(["ci", "--no-audit", "--no-fund"]))
        .context("npm could not install the packages: is the network there?")?;
    inputs.write_to(&stamp)
}

/// A Chromium that starts: $CHROMIUM, one on the PATH, or a fresh one where this is root on Debian or Ubuntu.
pub(crate) fn chromium(repo: &Repo) -> Result<PathBuf> {
    let by_hand = "install Chromium or Chrome (Debian: apt-get install chromium), or name one with CHROMIUM=path";
    browser(repo, "CHROMIUM", Package::alone("chromium"), by_hand, || {
        let in_folders = CHROMIUM_MACOS.iter().map(PathBuf::from).filter(|path| path.exists());
        CHROMIUM_NAMES.iter().filter_map(|name| which(name)).chain(in_folders).find(|path| starts(repo, path))
    })
}

/// A Firefox that starts: $FIREFOX, one on the PATH, or a fresh one where this is root on Debian.
pub(crate) fn firefox(repo: &Repo) -> Result<PathBuf> {
    let by_hand = "install Firefox (Debian: apt-get install firefox-esr), or name one with FIREFOX=path";
    // It plays H.264 with a library that it merely recommends.
    browser(repo, "FIREFOX", Package { name: "firefox-esr", recommended: true }, by_hand, || {
        FIREFOX_NAMES.iter().filter_map(|name| which(name)).find(|path| starts(repo, path))
    })
}

/// The browser that `variable` names, or else one that `find` finds, if need be once `package` is installed.
fn browser(
    repo: &Repo,
    variable: &str,
    package: Package,
    by_hand: &str,
    find: impl Fn() -> Option<PathBuf>,
) -> Result<PathBuf> {
    if let Some(named) = env::var_os(variable).map(PathBuf::from) {
        ensure!(starts(repo, &named), "{variable}={} does not start: name a working browser", named.display());
        return Ok(named);
    }
    if let Some(found) = find() {
        return Ok(found);
    }
    install(repo, package, "the browser tests", by_hand)?;
    find().with_context(|| format!("the installed {} does not start: {by_hand}", package.name))
}

/// Servers that the tests of the signalling server speak with: NATS, and an ACME server.
pub(crate) fn test_servers(repo: &Repo) -> Result<()> {
    for (name, by_hand) in [
        ("nats-server", "install it (Debian: apt-get install nats-server, others: https://nats.io/download)"),
        ("pebble", "install it (Debian: apt-get install pebble, others: https://github.com/letsencrypt/pebble)"),
    ] {
        server(repo, name, name, "the tests of the signalling server", by_hand)?;
    }
    Ok(())
}

/// coturn, through which viewers of the browser tests reach each other.
pub(crate) fn turn_server(repo: &Repo) -> Result<PathBuf> {
    let by_hand = "install it (Debian: apt-get install coturn, others: https://github.com/coturn/coturn)";
    server(repo, "turnserver", "coturn", "the browser tests", by_hand)
}

/// ffmpeg, which makes the streams of the benches.
pub(crate) fn ffmpeg(repo: &Repo) -> Result<PathBuf> {
    let by_hand = "install it (Debian: apt-get install ffmpeg, others: https://ffmpeg.org)";
    server(repo, "ffmpeg", "ffmpeg", "what makes streams", by_hand)
}

/// Where a server's program is, after its package was installed where it was not there.
fn server(repo: &Repo, name: &str, package: &'static str, who: &str, by_hand: &str) -> Result<PathBuf> {
    // Debian has some servers where only root looks for programs.
    let find = || which(name).or_else(|| Some(Path::new("/usr/sbin").join(name)).filter(|path| path.is_file()));
    if let Some(found) = find() {
        return Ok(found);
    }
    install(repo, Package::alone(package), who, by_hand)?;
    find().with_context(|| format!("{package} was installed and {name} is not there: {by_hand}"))
}

/// Installs a package where this is root on Debian or Ubuntu.
fn install(repo: &Repo, package: Package, who: &str, by_hand: &str) -> Result<()> {
    let Package { name: package, recommended } = package;
    if !Path::new("/etc/debian_version").exists() || which("apt-get").is_none() {
        bail!("{who} need {package}: {by_hand}");
    }
    let user = capture(program(repo, "id").arg("-u"))?;
    ensure!(user.trim() == "0", "{who} need {package}, and only root can install it: {by_hand}");
    println!("installing {package}");
    let recommends = if recommended { "--install-recommends" } else { "--no-install-recommends" };
    for arguments in [&["update"][..], &["install", "--yes", recommends, package]] {
        let mut apt = program(repo, "apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        run(&mut apt).with_context(|| format!("`{}` did not work: {by_hand}", describe(&apt)))?;
    }
    Ok(())
}

/// Whether it is more than a stub that asks for a snap.
fn starts(repo: &Repo, browser: &Path) -> bool {
    capture(program(repo, browser).arg("--version")).is_ok()
}
