//! What an operator has: a settings file with several streams, metrics, health, the check of a catalogue, the snippet.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headwater_seed::http::Http;
use support::{Origin, PATIENCE, Signal, key};
use tokio::time::{sleep, timeout};
use url::Url;

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater-seed"));
    command.args(arguments).current_dir(folder).env_remove("RUST_LOG").env_remove("HEADWATER_TOKEN");
    command
}

async fn output(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = program(folder, arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Ends its program with itself.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn get(url: &str) -> Option<String> {
    let file = Http::new().unwrap().get(&Url::parse(url).unwrap(), None, 1 << 20, 1).await.ok()?;
    Some(String::from_utf8_lossy(&file.bytes).into_owned())
}

async fn until_it_says(url: &str, wanted: &[&str]) -> String {
    let waiting = async {
        loop {
            if let Some(text) = get(url).await
                && wanted.iter().all(|wanted| text.contains(wanted))
            {
                return text;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{url} never says {wanted:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_seeds_the_streams_of_a_file_and_is_watched_over_http() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    origin.put_vod(3, 100_000);
    origin.put_live(0..2, 50_000, false);
    let folder = tempfile::tempdir().unwrap();
    key.save(&folder.path().join("key")).unwrap();
    let (http, udp) = (free_port(), free_port());
    let settings = format!(
        "signal = \"{}\"\nkey = [\"key\"]\nudp-port = {udp}\nhttp = \"127.0.0.1:{http}\"\n\
         [[stream]]\nsrc = \"{}\"\nswarm = \"film\"\n[[stream]]\nsrc = \"{}\"\nswarm = \"live\"\n\
         [[stream]]\nsrc = \"{}\"\nswarm = \"absent\"\n",
        signal.url,
        origin.url("/v/a.m3u8"),
        origin.url("/l/a.m3u8"),
        origin.url("/absent.m3u8"),
    );
    std::fs::write(folder.path().join("seed.toml"), settings).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    // Files in the file lie beside it, wherever the program runs.
    let file = folder.path().join("seed.toml");
    let seed =
        program(Path::new("/"), &["run", file.to_str().unwrap()]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let seed = Running(seed);
    let base = format!("http://127.0.0.1:{http}");
    let metrics = until_it_says(
        &format!("{base}/metrics"),
        &[
            "headwater_seed_published_segments_total{stream=\"film\"} 3\n",
            "headwater_seed_published_bytes_total{stream=\"live\"} 100000\n",
            "headwater_seed_joined{stream=\"film\"} 1\n",
            "headwater_seed_joined{stream=\"live\"} 1\n",
        ],
    )
    .await;
    assert!(metrics.contains("# TYPE headwater_seed_uploaded_bytes_total counter\n"), "{metrics}");
    assert_eq!(get(&format!("{base}/healthz")).await.as_deref(), Some("ok\n"));
    signal.stop().await;
    let unhealthy = async {
        while get(&format!("{base}/healthz")).await.is_some() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, unhealthy).await.expect("health never suffers");
    drop(seed);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "not JSON: {line}");
    }
    assert!(log.contains("/absent.m3u8"), "the stream that cannot be opened is named: {log}");
    assert!(!log.contains("HEADWATER"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_key_is_in_no_log_however_much_is_logged() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    origin.put_vod(3, 100_000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    key.save(&file).unwrap();
    let log = folder.path().join("log");
    let http = format!("127.0.0.1:{}", free_port());
    let source = origin.url("/v/a.m3u8");
    let mut arguments = vec!["run", "--src", source.as_str(), "--signal", signal.url.as_str(), "--key", "key"];
    arguments.extend(["--swarm", "film", "--http", &http]);
    let mut seed = program(folder.path(), &arguments);
    seed.env("RUST_LOG", "trace").stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let seed = Running(seed.spawn().unwrap());
    until_it_says(&format!("http://{http}/metrics"), &["headwater_seed_published_segments_total{stream=\"film\"} 3\n"])
        .await;
    drop(seed);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("TRACE"), "little is logged: {log}");
    let text = std::fs::read_to_string(file).unwrap();
    let secret = text.lines().find(|line| !line.starts_with('#')).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(secret).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    for form in [secret.to_owned(), hex, format!("{bytes:?}"), format!("{bytes:02x?}")] {
        assert!(!log.contains(&form), "the key is in the log as {form}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_verified_against_its_catalogue() {
    let (origin, key) = (Origin::start().await, key());
    let segments = origin.put_vod(3, 100_000);
    let folder = tempfile::tempdir().unwrap();
    key.save(&folder.path().join("key")).unwrap();
    let url = origin.url("/v/a.m3u8");
    let verify = ["verify", url.as_str(), "--key", "key.pub"];
    let result = output(folder.path(), &verify).await;
    let stderr = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(1));
    assert!(stderr.contains("a.m3u8.catalogue") && stderr.contains("headwater-seed sign"), "{stderr}");

    assert!(output(folder.path(), &["sign", url.as_str(), "--key", "key"]).await.status.success());
    origin.put("/v/a.m3u8.catalogue", std::fs::read(folder.path().join("a.m3u8.catalogue")).unwrap());
    let result = output(folder.path(), &verify).await;
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
    assert!(String::from_utf8_lossy(&result.stdout).contains("3 segments are as they were signed"));

    let mut changed = segments[1].clone();
    changed[50_000] ^= 1;
    origin.put("/v/1.ts", changed);
    origin.take("/v/2.ts");
    let result = output(folder.path(), &verify).await;
    let stderr = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("/v/1.ts") && stderr.contains("sign again"), "{stderr}");
    assert!(stderr.contains("/v/2.ts") && stderr.contains("404"), "{stderr}");
    assert!(stderr.contains("2 things are wrong"), "{stderr}");

    support::key().save(&folder.path().join("other")).unwrap();
    let result = output(folder.path(), &["verify", url.as_str(), "--key", "other.pub"]).await;
    let stderr = String::from_utf8_lossy(&result.stderr);
    assert!(stderr.contains("not signed with this key"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_snippet_has_key_and_addresses_filled_in() {
    let folder = tempfile::tempdir().unwrap();
    let key = key();
    key.save(&folder.path().join("key")).unwrap();
    let arguments =
        ["snippet", "--src", "https://a.example/v.m3u8", "--signal", "wss://s.example/v1/signal", "--key", "key"];
    let result = output(folder.path(), &arguments).await;
    let text = String::from_utf8_lossy(&result.stdout);
    let public = key.public_text();
    for part in
        ["src=\"https://a.example/v.m3u8\"", "signal=\"wss://s.example/v1/signal\"", &format!("key=\"{public}\"")]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_the_segments_come_from_the_disk() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    origin.put_vod(3, 100_000);
    let folder = tempfile::tempdir().unwrap();
    key.save(&folder.path().join("key")).unwrap();
    for _ in 0..2 {
        let http = free_port();
        let (address, source) = (format!("127.0.0.1:{http}"), origin.url("/v/a.m3u8"));
        let mut arguments = vec!["run", "--src", source.as_str(), "--signal", signal.url.as_str(), "--key", "key"];
        arguments.extend(["--swarm", "film", "--cache", "cache", "--http", &address]);
        let seed = program(folder.path(), &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let _seed = Running(seed);
        let published = ["headwater_seed_published_segments_total{stream=\"film\"} 3\n"];
        until_it_says(&format!("http://{address}/metrics"), &published).await;
    }
    for seq in 0..3 {
        assert_eq!(origin.requests(&format!("/v/{seq}.ts")), 1, "segment {seq}");
    }
    signal.stop().await;
}

/// A folder on a disk of 64 KiB, too small for any segment, in a mount namespace of the program alone; `None` where this
/// user may not make one.
#[cfg(target_os = "linux")]
fn on_a_small_disk(folder: &Path, disk: &Path) -> Option<Command> {
    std::fs::create_dir_all(disk).unwrap();
    let mount = format!("mount -t tmpfs -o size=64k tmpfs '{}'", disk.display());
    let script = format!("{mount} && exec \"$@\"");
    let unshare = |options: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(options).args(["--mount", "sh", "-c", &script, "sh"]).current_dir(folder);
        command
    };
    [&[][..], &["--map-root-user"]].into_iter().find_map(|options| {
        let works = unshare(options).arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        works.then(|| unshare(options))
    })
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_space_is_named_once_and_all_is_seeded_without_it() {
    const COUNT: u32 = 8;
    let folder = tempfile::tempdir().unwrap();
    let Some(mut program) = on_a_small_disk(folder.path(), &folder.path().join("disk")) else {
        println!("skipped: this user may not mount a small disk (unshare --mount)");
        return;
    };
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    origin.put_vod(COUNT, 100_000);
    key.save(&folder.path().join("key")).unwrap();
    let (http, source) = (format!("127.0.0.1:{}", free_port()), origin.url("/v/a.m3u8"));
    program.arg(env!("CARGO_BIN_EXE_headwater-seed"));
    program.args(["run", "--src", source.as_str(), "--signal", signal.url.as_str(), "--key", "key", "--swarm", "film"]);
    program.args(["--cache", "disk", "--http", &http]);
    let log = folder.path().join("log");
    let seed = program.env_remove("RUST_LOG").stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let seed = Running(seed.spawn().unwrap());
    let published = format!("headwater_seed_published_segments_total{{stream=\"film\"}} {COUNT}\n");
    until_it_says(&format!("http://{http}/metrics"), &[&published]).await;
    assert_eq!(get(&format!("http://{http}/healthz")).await.as_deref(), Some("ok\n"));
    drop(seed);
    let log = std::fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("cannot write to the disk cache")).collect();
    let [line] = lines[..] else { panic!("{} lines: {log}", lines.len()) };
    assert!(line.contains("going on without") && line.contains("No space left") && line.contains("disk"), "{line}");
    signal.stop().await;
}

#[cfg(target_os = "linux")]
#[test]
fn systemd_takes_the_unit_as_it_is_and_finds_it_locked_up() {
    let folder = tempfile::tempdir().unwrap();
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/headwater-seed.service");
    // The program is where it was built, and not where an operator puts it.
    let text = std::fs::read_to_string(unit).unwrap();
    let (program, built) = ("/usr/local/bin/headwater-seed", env!("CARGO_BIN_EXE_headwater-seed"));
    assert_eq!(text.matches(&format!("ExecStart={program} ")).count(), 1);
    let path = folder.path().join("headwater-seed.service");
    std::fs::write(&path, text.replace(&format!("ExecStart={program}"), &format!("ExecStart={built}"))).unwrap();
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&path).output();
    let verified = match analyze(&["verify", "--man=no"]) {
        Ok(verified) => verified,
        Err(error) => return println!("skipped: no systemd-analyze here ({error})"),
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    // It says of other units of the machine what it likes; of a setting that it does not know it says so, and succeeds.
    assert!(verified.status.success() && !said.contains("headwater-seed.service"), "{said}");
    // In tenths: 0 is locked up, 100 is wide open. It needs the network, which is most of what is left.
    let locked = analyze(&["security", "--offline=true", "--no-pager", "--threshold=20"]).unwrap();
    assert!(locked.status.success(), "{}", String::from_utf8_lossy(&locked.stdout));
}
