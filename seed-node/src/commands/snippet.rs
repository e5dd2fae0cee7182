//! `headwater-seed snippet`: the embed code of a stream.

use std::path::{Path, PathBuf};

use headwater_seed::key::{Key, KeyError, parse_public};
use url::Url;

use super::{CommandError, say};
use crate::SnippetArgs;

pub(crate) fn snippet(args: &SnippetArgs) -> Result<(), CommandError> {
    let keys = args.key.iter().map(|key| public_text(key)).collect::<Result<Vec<_>, _>>()?;
    for line in lines(&args.src, &args.signal, &keys, args.swarm.as_deref(), &args.script) {
        say(&line)?;
    }
    Ok(())
}

/// The text of a public key, given as itself, or by the file of either half of its pair.
pub(super) fn public_text(given: &str) -> Result<String, KeyError> {
    if parse_public(given).is_ok() {
        return Ok(given.to_owned());
    }
    let path = PathBuf::from(given);
    let is_public = path.extension().is_some_and(|end| end == "pub");
    match std::fs::read_to_string(&path) {
        Ok(text) if is_public => parse_public(text.trim()).map(|_| text.trim().to_owned()),
        _ => Key::load(Path::new(given)).map(|key| key.public_text()),
    }
}

fn lines(src: &Url, signal: &Url, keys: &[String], swarm: Option<&str>, script: &str) -> Vec<String> {
    let mut element =
        format!("<headwater-video controls src=\"{}\" signal=\"{}\"", escape(src.as_str()), escape(signal.as_str()));
    if keys.is_empty() {
        element += " integrity=\"open\"";
    } else {
        element += &format!(" key=\"{}\"", escape(&keys.join(" ")));
    }
    if let Some(swarm) = swarm {
        element += &format!(" swarm=\"{}\"", escape(swarm));
    }
    vec![format!("<script type=\"module\" src=\"{}\"></script>", escape(script)), element + "></headwater-video>"]
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_element_has_what_it_needs_and_cannot_be_broken_out_of() {
        let url = |text| Url::parse(text).unwrap();
        let keys = ["old".to_owned(), "new".to_owned()];
        let lines =
            lines(&url("http://a/v.m3u8?x=1&y=2"), &url("ws://s/v1/signal"), &keys, Some("a\"b"), "headwater.js");
        assert_eq!(lines[0], "<script type=\"module\" src=\"headwater.js\"></script>");
        assert_eq!(
            lines[1],
            "<headwater-video controls src=\"http://a/v.m3u8?x=1&amp;y=2\" signal=\"ws://s/v1/signal\" key=\"old new\" \
             swarm=\"a&quot;b\"></headwater-video>"
        );
        assert!(super::lines(&url("http://a/"), &url("ws://s/"), &[], None, "h.js")[1].contains("integrity=\"open\""));
    }
}
