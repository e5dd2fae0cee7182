//! `cargo xtask tidy`: the rules that compilers and linters do not know. Arrows between crates, what sans-IO rooms may
//! not use, how files open and how long they are, and nothing that is true of one machine only.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{capture, cargo, program};
use crate::repo::Repo;

/// Which of our crates each may depend on. One that is not here is refused until it is.
const ARROWS: [(&str, &[&str]); 9] = [
    ("headwater-wire", &[]),
    ("headwater-swarm", &["headwater-wire"]),
    ("headwater-rendezvous", &["headwater-wire"]),
    ("headwater-signal", &["headwater-wire", "headwater-rendezvous"]),
    ("headwater-seed", &["headwater-wire", "headwater-swarm"]),
    ("headwater-client", &["headwater-wire", "headwater-swarm"]),
    ("headwater-sim", &["headwater-wire", "headwater-swarm", "headwater-rendezvous"]),
    ("headwater-load", &[]),
    ("xtask", &[]),
];

/// Rooms without sockets, clocks, threads or randomness of their own.
const SANS_IO: [&str; 3] = ["headwater-wire", "headwater-swarm", "headwater-rendezvous"];
const NOT_IN_SANS_IO: [&str; 8] =
    ["async-std", "getrandom", "js-sys", "rand", "rand_core", "tokio", "wasm-bindgen", "web-sys"];

/// Words that no source of a sans-IO room holds, with what to use instead.
const WORDS_NOT_IN_SANS_IO: [(&str, &str); 4] = [
    ("Instant", "take the time as an argument"),
    ("SystemTime", "take the time as an argument"),
    ("std::thread", "leave threads to the shells"),
    ("thread_rng", "take randomness by the constructor"),
];

/// Lines of a source file without its tests: from here on a warning, and from there a failure.
const LONG: usize = 400;
const TOO_LONG: usize = 800;

/// Folders that only builds fill.
const BUILT: [&str; 4] = ["node_modules/", "target/", "www/dist/", "www/generated/"];

/// Beginnings of paths that exist on one machine only; split so that this file does not hold them itself.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("C:\\Us", "ers\\"),
];

/// What is wrong, and what is only worth a look.
#[derive(Default)]
struct Findings {
    failures: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn fail(&mut self, text: String) {
        self.failures.push(text);
    }
}

/// Fails where a rule is broken; says where.
pub(crate) fn run(repo: &Repo) -> Result<()> {
    let mut findings = Findings::default();
    let metadata = capture(cargo(repo).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
    let empty = Vec::new();
    let packages = metadata["packages"].as_array().unwrap_or(&empty);
    check_arrows(packages, &mut findings);
    check_manifests(packages, &mut findings)?;
    check_files(repo, &mut findings)?;

    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for failure in &findings.failures {
        println!("{failure}");
    }
    if !findings.failures.is_empty() {
        bail!("{} of the house's rules broken, listed above", findings.failures.len());
    }
    println!("{} crates tidy", packages.len());
    Ok(())
}

fn check_arrows(packages: &[Value], findings: &mut Findings) {
    let arrows: BTreeMap<_, _> = ARROWS.into_iter().collect();
    for package in packages {
        let name = text(&package["name"]);
        let Some(allowed) = arrows.get(name) else {
            findings.fail(format!("{name}: not in the map of arrows of xtask/src/tidy.rs: add what it may depend on"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = text(&dependency["name"]);
            let is_shell = !SANS_IO.contains(&name);
            let for_tests = text(&dependency["kind"]) == "dev";
            if arrows.contains_key(on) && !allowed.contains(&on) && !(is_shell && for_tests) {
                findings.fail(format!("{name} depends on {on}: arrows never point back (see DESIGN, rooms)"));
            }
            if !is_shell && !for_tests && NOT_IN_SANS_IO.contains(&on) {
                findings
                    .fail(format!("{name} depends on {on}: sans-IO rooms take time, bytes and chance from outside"));
            }
        }
    }
}

fn check_manifests(packages: &[Value], findings: &mut Findings) -> Result<()> {
    for package in packages {
        let manifest = Path::new(text(&package["manifest_path"]));
        if !inherits_lints(&fs::read_to_string(manifest)?) {
            findings.fail(format!("{}: add `[lints]` with `workspace = true`", text(&package["name"])));
        }
    }
    Ok(())
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true")
}

fn check_files(repo: &Repo, findings: &mut Findings) -> Result<()> {
    let listed = capture(program(repo, "git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        if BUILT.iter().any(|built| name.starts_with(built) || name.contains(&format!("/{built}"))) {
            findings.fail(format!("{name}: builds are never committed: remove it and keep it in .gitignore"));
            continue;
        }
        // Media are no text, and a file may be gone from the tree before its removal is committed.
        let Ok(content) = fs::read_to_string(repo.path(name)) else { continue };
        check_text(name, &content, findings);
        if name.ends_with(".rs") {
            check_source(name, &content, findings);
        }
    }
    Ok(())
}

fn check_text(name: &str, content: &str, findings: &mut Findings) {
    for (number, line) in (1..).zip(content.lines()) {
        if let Some(path) = machine_path(line) {
            findings.fail(format!("{name}:{number}: {path}… exists on one machine only"));
        }
    }
    if name.ends_with("package-lock.json") && content.contains("\"resolved\": \"http") {
        findings.fail(format!("{name}: names a registry's host: make it with the .npmrc beside it"));
    }
}

/// A path of somebody's machine, where it begins a word.
fn machine_path(line: &str) -> Option<&'static str> {
    MACHINE_PATHS.into_iter().find(|path| {
        line.match_indices(path).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + path.len()..].chars().next();
            before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '}' | ')' | '*'))
                && after.is_some_and(char::is_alphanumeric)
        })
    })
}

fn check_source(name: &str, content: &str, findings: &mut Findings) {
    if !content.starts_with("//!") {
        findings.fail(format!("{name}: open with `//!`: what lives here, what does not"));
    }
    let is_test = name.contains("/tests/");
    let lines = lines_without_tests(content);
    if !is_test && lines > TOO_LONG {
        findings.fail(format!("{name}: {lines} lines without tests: split it by responsibility (at most {TOO_LONG})"));
    } else if !is_test && lines > LONG {
        findings.warnings.push(format!("{name}: {lines} lines without tests, over {LONG}"));
    }
    let sans_io = ["crates/wire/src/", "crates/swarm/src/", "crates/rendezvous/src/"];
    if sans_io.iter().any(|folder| name.starts_with(folder)) {
        check_sans_io(name, content, findings);
    }
}

fn check_sans_io(name: &str, content: &str, findings: &mut Findings) {
    for (number, line) in (1..).zip(content.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        for (word, instead) in WORDS_NOT_IN_SANS_IO {
            if has_word(code, word) {
                findings.fail(format!("{name}:{number}: {word}: {instead}"));
            }
        }
    }
}

fn has_word(code: &str, word: &str) -> bool {
    let in_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word)
        .any(|(at, _)| !in_word(code[..at].chars().next_back()) && !in_word(code[at + word.len()..].chars().next()))
}

fn lines_without_tests(content: &str) -> usize {
    content.lines().take_while(|line| line.trim_end() != "#[cfg(test)]").count()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn failures(package: Value) -> Vec<String> {
        let mut findings = Findings::default();
        check_arrows(&[package], &mut findings);
        findings.failures
    }

    #[test]
    fn arrows_that_point_back_are_found() {
        let on = |name: &str, kind: Value, on: &str| {
            failures(json!({
                "name": name, "dependencies": [{ "name": on, "kind": kind }]
            }))
        };
        assert_eq!(on("headwater-swarm", Value::Null, "headwater-wire").len(), 0);
        assert_eq!(on("headwater-wire", Value::Null, "headwater-swarm").len(), 1);
        assert_eq!(on("headwater-wire", json!("dev"), "headwater-swarm").len(), 1);
        assert_eq!(on("headwater-seed", Value::Null, "headwater-signal").len(), 1);
        assert_eq!(on("headwater-seed", json!("dev"), "headwater-signal").len(), 0);
        assert_eq!(on("headwater-swarm", Value::Null, "tokio").len(), 1);
        assert_eq!(on("headwater-swarm", json!("dev"), "proptest").len(), 0);
        assert_eq!(on("headwater-new", Value::Null, "serde").len(), 1);
    }

    #[test]
    fn words_are_found_whole() {
        assert!(has_word("use std::time::{Duration, Instant};", "Instant"));
        assert!(!has_word("struct Instantaneous;", "Instant"));
        assert!(has_word("std::thread::spawn", "std::thread"));
    }

    #[test]
    fn paths_of_one_machine_are_found_but_not_in_addresses() {
        let home = MACHINE_PATHS[0];
        assert!(machine_path(&format!("see {home}me/file")).is_some());
        assert!(machine_path(&format!("https://example.org{home}page")).is_none());
        assert!(machine_path(&format!("`{home}…`")).is_none());
    }

    #[test]
    fn lints_are_inherited_only_by_their_own_table() {
        assert!(inherits_lints("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\nversion.workspace = true\n"));
    }
}
