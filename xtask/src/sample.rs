//! The bundled sample: made with ffmpeg by www/sample/make.sh, and checked to be whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::command::{program, run};
use crate::repo::Repo;
use crate::setup;
use crate::stamp::files_below;

/// What the sample may add to every clone, in bytes.
const LARGEST: u64 = 8_000_000;

/// Draws and encodes it anew.
pub(crate) fn make(repo: &Repo) -> Result<()> {
    setup::ffmpeg(repo)?;
    run(program(repo, "bash").arg("www/sample/make.sh"))?;
    check(repo)
}

/// Fails where a playlist names a file that is not there, a file is in no playlist, or all is too large.
pub(crate) fn check(repo: &Repo) -> Result<()> {
    let folder = repo.path("www/sample");
    let media: BTreeSet<PathBuf> = ["hls", "ts"]
        .into_iter()
        .map(|part| files_below(&folder.join(part)))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    let playlists: Vec<&PathBuf> = media.iter().filter(|file| is_playlist(file)).collect();
    ensure!(!playlists.is_empty(), "www/sample holds no playlist: run `cargo xtask sample`");
    let mut named = BTreeSet::new();
    for playlist in playlists {
        let text = fs::read_to_string(playlist)?;
        ensure!(text.starts_with("#EXTM3U"), "{} is no playlist", playlist.display());
        for uri in uris(&text) {
            let file = playlist.with_file_name("").join(uri);
            ensure!(media.contains(&file), "{} names {uri}, which is not there", playlist.display());
            named.insert(file);
        }
    }
    for file in &media {
        let is_root = is_playlist(file) && (file.ends_with("hls/master.m3u8") || file.ends_with("ts/index.m3u8"));
        ensure!(is_root || named.contains(file), "{} is in no playlist: remove it", file.display());
    }
    let bytes = media.iter().map(|file| Ok(fs::metadata(file)?.len())).sum::<Result<u64>>()?;
    ensure!(bytes <= LARGEST, "the sample has {bytes} bytes, more than {LARGEST}: lower its bit rates");
    println!("{} files, {bytes} bytes", media.len());
    Ok(())
}

fn is_playlist(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "m3u8")
}

/// Everything a playlist points to: its URI lines, and its initialisation segments.
fn uris(playlist: &str) -> impl Iterator<Item = &str> {
    playlist.lines().map(str::trim).filter_map(|line| match line.strip_prefix("#EXT-X-MAP:URI=\"") {
        Some(rest) => rest.split('"').next(),
        None if line.is_empty() || line.starts_with('#') => None,
        None => Some(line),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlist_names_its_segments_and_its_initialisation_segment() {
        let text = "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:2,\nseg-0.m4s\n\n#EXT-X-ENDLIST\n";
        assert_eq!(uris(text).collect::<Vec<_>>(), ["init.mp4", "seg-0.m4s"]);
    }
}
