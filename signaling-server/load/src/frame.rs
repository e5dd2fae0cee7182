//! WebSocket frames as a client writes and reads them, no more than a load generator needs.

use std::ops::Range;

const TEXT: u8 = 0x81;
const PONG: u8 = 0x8a;

/// Appends a text message. The mask is zero, which is a mask like any other: the server cannot know.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    write(out, TEXT, text);
}

/// Appends the answer to a ping.
pub(crate) fn write_pong(out: &mut Vec<u8>) {
    write(out, PONG, b"");
}

fn write(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match u16::try_from(payload.len()) {
        Ok(len @ 0..126) => out.push(0x80 | len.to_be_bytes()[1]),
        Ok(len) => {
            out.push(0x80 | 126);
            out.extend(len.to_be_bytes());
        }
        Err(_) => {
            out.push(0x80 | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend_from_slice(payload);
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Ping,
    Close,
    Other,
}

/// The first frame of what was received: its kind, its payload's place, and where the next one starts.
pub(crate) fn read(bytes: &[u8]) -> Option<(Kind, Range<usize>)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (start, len): (usize, usize) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => {
            let len: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
            (10, usize::try_from(u64::from_be_bytes(len)).ok()?)
        }
        len => (2, usize::from(len)),
    };
    let kind = match first & 0x0f {
        1 => Kind::Text,
        8 => Kind::Close,
        9 => Kind::Ping,
        _ => Kind::Other,
    };
    let end = start.checked_add(len)?;
    (end <= bytes.len()).then_some((kind, start..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_written_and_read() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let mut out = Vec::new();
            write_text(&mut out, &vec![b'x'; len]);
            // As the server would write it: without mask.
            let mask_at = out.len() - len - 4;
            out.drain(mask_at..mask_at + 4);
            out[1] &= 0x7f;
            let (kind, range) = read(&out).unwrap();
            assert_eq!((kind, range.len(), range.end), (Kind::Text, len, out.len()));
            assert_eq!(read(&out[..out.len() - 1]), None);
        }
    }
}
