//! Keys, and the catalogue that `headwater-seed sign` writes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use ed25519_dalek::VerifyingKey;
use headwater_seed::key::{Key, parse_public, verify};
use headwater_wire::catalogue::split_file;
use headwater_wire::{BatchBody, RootHash, Scope, SignedBatch, SwarmName, TrackId};
use support::{Origin, PATIENCE, segment_bytes};

fn seed(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_headwater-seed")).args(arguments).current_dir(folder).output().unwrap()
}

fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let output = seed(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The batches of a catalogue file that `key` signed.
fn batches(file: &[u8], key: &VerifyingKey) -> Vec<BatchBody> {
    let parsed = split_file(file).unwrap().into_iter().filter_map(|batch| SignedBatch::parse(batch).ok());
    parsed.filter(|(batch, _)| verify(key, batch)).map(|(_, body)| body).collect()
}

fn write_vod(folder: &Path, name: &str, segments: &[Vec<u8>]) {
    std::fs::create_dir_all(folder).unwrap();
    let mut playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n".to_owned();
    for (seq, bytes) in segments.iter().enumerate() {
        playlist += &format!("#EXTINF:4,\n{seq}.ts\n");
        std::fs::write(folder.join(format!("{seq}.ts")), bytes).unwrap();
    }
    std::fs::write(folder.join(name), playlist + "#EXT-X-ENDLIST\n").unwrap();
}

#[test]
fn a_key_pair_is_made_once_and_only_its_owner_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let printed = succeed(folder.path(), &["keygen", "key"]);
    assert_eq!(printed.len(), 43);
    assert_eq!(succeed(folder.path(), &["public", "key"]), printed);
    assert_eq!(std::fs::read_to_string(folder.path().join("key.pub")).unwrap().trim(), printed);
    assert_eq!(Key::load(&folder.path().join("key")).unwrap().public_text(), printed);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path().join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(seed(folder.path(), &["keygen", "key"]).status.code(), Some(1));
    assert_eq!(succeed(folder.path(), &["public", "key"]), printed, "the first key is still there");
}

#[test]
fn a_folder_is_signed_beside_its_playlists_and_each_changed_bit_shows() {
    let folder = tempfile::tempdir().unwrap();
    let key = parse_public(&succeed(folder.path(), &["keygen", "key"])).unwrap();
    let segments: Vec<_> = (0..3).map(|seq| segment_bytes(seq, 70_000)).collect();
    write_vod(&folder.path().join("media/a b"), "index.m3u8", &segments);
    write_vod(&folder.path().join("media/single"), "one.m3u8", &segments[..1]);
    std::fs::write(folder.path().join("media/main.m3u8"), "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na%20b/index.m3u8\n")
        .unwrap();
    succeed(folder.path(), &["sign", "media", "--key", "key"]);

    let file = std::fs::read(folder.path().join("media/main.m3u8.catalogue")).unwrap();
    let signed = batches(&file, &key);
    assert_eq!(signed.len(), 1);
    assert_eq!((signed[0].scope, signed[0].track), (Scope::Any, TrackId::of_key("a%20b/index.m3u8")));
    assert_eq!(signed[0].entries.len(), 3);
    for (entry, bytes) in signed[0].entries.iter().zip(&segments) {
        assert_eq!((entry.len, entry.root), RootHash::of_segment(bytes).map(|(len, _, root)| (len, root)).unwrap());
    }
    assert!(folder.path().join("media/single/one.m3u8.catalogue").exists());
    assert!(!folder.path().join("media/a b/index.m3u8.catalogue").exists(), "it is part of another stream");

    let start = headwater_wire::catalogue::FILE_MAGIC.len() + 4;
    for bit in (start * 8)..(file.len() * 8) {
        let mut changed = file.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(batches(&changed, &key).len(), 0, "bit {bit}");
    }
}

#[test]
fn what_is_missing_in_a_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &["keygen", "key"]);
    let stderr = |arguments: &[&str]| {
        let output = seed(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(stderr(&["sign", "absent", "--key", "key"]).contains("cannot read absent"));
    std::fs::create_dir(folder.path().join("media")).unwrap();
    assert!(stderr(&["sign", "media", "--key", "key"]).contains("no playlist"));
    write_vod(&folder.path().join("media"), "a.m3u8", &[vec![1], vec![2]]);
    std::fs::remove_file(folder.path().join("media/1.ts")).unwrap();
    assert!(stderr(&["sign", "media", "--key", "key"]).contains("1.ts"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_signed_by_its_url_for_its_swarm() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    origin.put_vod(3, 1000);
    let url = origin.url("/v/a.m3u8");
    let path = folder.path().to_owned();
    let (text, printed) = tokio::task::spawn_blocking({
        let (path, url) = (path.clone(), url.clone());
        move || {
            let text = succeed(&path, &["keygen", "key"]);
            let printed = succeed(&path, &["sign", url.as_str(), "--key", "key"]);
            (text, printed)
        }
    })
    .await
    .unwrap();
    assert!(printed.contains("/v/a.m3u8.catalogue"), "{printed}");
    let file = std::fs::read(path.join("a.m3u8.catalogue")).unwrap();
    let signed = batches(&file, &parse_public(&text).unwrap());
    let swarm = SwarmName::derive(url.as_str(), Some(&text)).unwrap();
    assert_eq!(signed.iter().map(|body| body.entries.len()).sum::<usize>(), 3);
    assert!(signed.iter().all(|body| body.scope == Scope::of_swarm(&swarm)));
}

#[cfg(unix)]
#[test]
fn a_watched_folder_is_signed_as_it_grows_until_the_program_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let key = parse_public(&succeed(folder.path(), &["keygen", "key"])).unwrap();
    let media = folder.path().join("media");
    std::fs::create_dir(&media).unwrap();
    let write = |window: std::ops::Range<u32>| {
        let mut playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{}\n", window.start);
        for seq in window {
            std::fs::write(media.join(format!("{seq}.ts")), segment_bytes(seq, 100)).unwrap();
            playlist += &format!("#EXTINF:1,\n{seq}.ts\n");
        }
        std::fs::write(media.join("new"), playlist).unwrap();
        std::fs::rename(media.join("new"), media.join("live.m3u8")).unwrap();
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_headwater-seed"))
        .args(["sign", "media", "--watch", "--key", "key"])
        .current_dir(folder.path())
        .spawn()
        .unwrap();
    for first in 0..12 {
        write(first..first + 3);
        let written = Instant::now();
        loop {
            let file = std::fs::read(media.join("live.m3u8.catalogue")).unwrap_or_default();
            let seqs: Vec<u64> = if file.is_empty() {
                Vec::new()
            } else {
                batches(&file, &key).iter().flat_map(|body| &body.entries).map(|entry| entry.seq.0).collect()
            };
            if seqs.last() == Some(&u64::from(first + 2)) {
                assert!(seqs.len() <= 9 + 2, "the window and two more: {seqs:?}");
                break;
            }
            assert!(written.elapsed() < PATIENCE, "segment {} is not signed: {seqs:?}", first + 2);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(child.wait().unwrap().success(), "it ends cleanly");
}

#[cfg(unix)]
#[test]
fn bytes_that_change_at_their_address_in_a_watched_folder_are_named_and_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    let key = parse_public(&succeed(folder.path(), &["keygen", "key"])).unwrap();
    let media = folder.path().join("media");
    let segments: Vec<_> = (0..3).map(|seq| segment_bytes(seq, 70_000)).collect();
    write_vod(&media, "a.m3u8", &segments);
    let log = folder.path().join("log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_headwater-seed"))
        .args(["sign", "media", "--watch", "--key", "key"])
        .current_dir(folder.path())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let roots = || {
        let file = std::fs::read(media.join("a.m3u8.catalogue")).unwrap_or_default();
        let bodies = if file.is_empty() { Vec::new() } else { batches(&file, &key) };
        bodies.into_iter().flat_map(|body| body.entries).map(|entry| entry.root).collect::<Vec<_>>()
    };
    let wait_for = |what: &str, done: &mut dyn FnMut() -> bool| {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < PATIENCE, "{what}: {}", std::fs::read_to_string(&log).unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let first: Vec<_> = segments.iter().map(|bytes| RootHash::of_segment(bytes).unwrap().2).collect();
    wait_for("the stream is not signed", &mut || roots() == first);
    // As long as before, so that only time and content tell; the playlist says the same as ever.
    std::fs::write(media.join("1.ts"), segment_bytes(99, 70_000)).unwrap();
    let lines = || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.lines().filter(|line| line.contains("changed after it was signed")).count()
    };
    wait_for("nobody says that a segment changed", &mut || lines() > 0);
    // What comes after it is signed all the same, and the one that changed is neither signed anew nor named again.
    let mut longer = segments.clone();
    longer[1] = segment_bytes(99, 70_000);
    longer.push(segment_bytes(3, 70_000));
    std::fs::write(media.join("3.ts"), &longer[3]).unwrap();
    let playlist = std::fs::read_to_string(media.join("a.m3u8")).unwrap();
    let playlist = playlist.replace("#EXT-X-ENDLIST", "#EXTINF:4,\n3.ts\n#EXT-X-ENDLIST");
    std::fs::write(media.join("new"), playlist).unwrap();
    std::fs::rename(media.join("new"), media.join("a.m3u8")).unwrap();
    let mut all = first.clone();
    all.push(RootHash::of_segment(&longer[3]).unwrap().2);
    wait_for("the new segment is not signed", &mut || roots() == all);
    assert_eq!(lines(), 1, "{}", std::fs::read_to_string(&log).unwrap());
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(child.wait().unwrap().success(), "it ends cleanly");
}
