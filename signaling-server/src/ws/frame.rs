//! Frames: a decoder that is fed chunks and keeps only what is incomplete, and writers into a buffer.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Longest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL: u64 = 125;

/// A whole message or control frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    Close,
}

/// Why a connection cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the message is longer than is read here")]
    TooLarge,
    #[error("text must be UTF-8")]
    Utf8,
    #[error("this is no WebSocket frame of a client")]
    Protocol,
}

/// Reads frames. Holds memory only while a frame or a message is incomplete.
#[derive(Debug)]
pub(crate) struct Decoder {
    max: usize,
    /// The beginning of a frame.
    partial: Vec<u8>,
    /// The fragments of a message so far, and whether they are text.
    fragments: Option<(bool, Vec<u8>)>,
}

/// A frame found at the beginning of some bytes.
struct Frame {
    header: FrameHeader,
    start: usize,
    end: usize,
}

impl Decoder {
    /// A decoder that takes messages of up to `max` bytes.
    pub(crate) const fn new(max: usize) -> Self {
        Self { max, partial: Vec::new(), fragments: None }
    }

    /// Reads a chunk, which it unmasks in place, and hands on what is complete, until `take` says stop (false).
    pub(crate) fn feed(
        &mut self,
        chunk: &mut [u8],
        mut take: impl FnMut(Incoming<'_>) -> bool,
    ) -> Result<(), FrameError> {
        if self.partial.is_empty() {
            let used = self.frames(chunk, &mut take)?;
            if used < chunk.len() {
                self.partial.extend_from_slice(&chunk[used..]);
            }
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend_from_slice(chunk);
        let used = self.frames(&mut bytes, &mut take)?;
        if used < bytes.len() {
            bytes.drain(..used);
            self.partial = bytes;
        }
        Ok(())
    }

    /// How many bytes were used up by whole frames; all, where `take` stopped it.
    fn frames(&mut self, bytes: &mut [u8], take: &mut impl FnMut(Incoming<'_>) -> bool) -> Result<usize, FrameError> {
        let mut used = 0;
        while let Some(Frame { header, start, end }) = self.next_frame(&bytes[used..])? {
            let payload = &mut bytes[used + start..used + end];
            unmask(payload, header.mask.unwrap_or_default());
            used += end;
            if !self.frame(&header, payload, take)? {
                return Ok(bytes.len());
            }
        }
        Ok(used)
    }

    /// The frame at the beginning, if it is all there. One that is too large is refused before it is read.
    fn next_frame(&self, bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
        let mut cursor = Cursor::new(bytes);
        let Some((header, len)) = FrameHeader::parse(&mut cursor).map_err(|_| FrameError::Protocol)? else {
            return Ok(None);
        };
        let is_control = matches!(header.opcode, OpCode::Control(_));
        let reserved = header.rsv1 || header.rsv2 || header.rsv3;
        if header.mask.is_none() || reserved || (is_control && (len > MAX_CONTROL || !header.is_final)) {
            return Err(FrameError::Protocol);
        }
        let held = self.fragments.as_ref().map_or(0, |(_, fragments)| fragments.len());
        let len = usize::try_from(len).map_err(|_| FrameError::TooLarge)?;
        if len > self.max.saturating_sub(if is_control { 0 } else { held }) {
            return Err(FrameError::TooLarge);
        }
        let start = usize::try_from(cursor.position()).map_err(|_| FrameError::TooLarge)?;
        let end = start + len;
        Ok((end <= bytes.len()).then_some(Frame { header, start, end }))
    }

    fn frame(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        take: &mut impl FnMut(Incoming<'_>) -> bool,
    ) -> Result<bool, FrameError> {
        let is_text = match header.opcode {
            OpCode::Control(Control::Close) => return Ok(take(Incoming::Close)),
            OpCode::Control(Control::Ping) => return Ok(take(Incoming::Ping(payload))),
            OpCode::Control(Control::Pong) => return Ok(take(Incoming::Pong)),
            OpCode::Data(Data::Continue) => None,
            OpCode::Data(Data::Text) => Some(true),
            OpCode::Data(Data::Binary) => Some(false),
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
                return Err(FrameError::Protocol);
            }
        };
        match (is_text, self.fragments.take(), header.is_final) {
            (Some(is_text), None, true) => Ok(take(message(is_text, payload)?)),
            (Some(is_text), None, false) => {
                self.fragments = Some((is_text, payload.to_vec()));
                Ok(true)
            }
            (None, Some((is_text, mut fragments)), is_final) => {
                fragments.extend_from_slice(payload);
                if is_final {
                    return Ok(take(message(is_text, &fragments)?));
                }
                self.fragments = Some((is_text, fragments));
                Ok(true)
            }
            (Some(_), Some(_), _) | (None, None, _) => Err(FrameError::Protocol),
        }
    }
}

fn message(is_text: bool, payload: &[u8]) -> Result<Incoming<'_>, FrameError> {
    if is_text {
        return std::str::from_utf8(payload).map(Incoming::Text).map_err(|_| FrameError::Utf8);
    }
    Ok(Incoming::Binary(payload))
}

/// Undoes the masking of a client's frame, eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn write(out: &mut Vec<u8>, opcode: OpCode, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    out.reserve(len + header.len(len as u64));
    // Writing to a Vec cannot fail.
    let _ = header.format(len as u64, out);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends a message.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    write(out, OpCode::Data(Data::Text), &[text.as_bytes()]);
}

/// Appends a ping.
pub(crate) fn write_ping(out: &mut Vec<u8>) {
    write(out, OpCode::Control(Control::Ping), &[]);
}

/// Appends the answer to a ping.
pub(crate) fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write(out, OpCode::Control(Control::Pong), &[payload]);
}

/// Appends the last frame. The reason must fit into a control frame: it is one word.
pub(crate) fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    write(out, OpCode::Control(Control::Close), &[&code.to_be_bytes(), reason.as_bytes()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..126 => bytes.push(0x80 | u8::try_from(len).unwrap()),
            len => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    fn read(max: usize, chunks: &[&[u8]]) -> (Vec<String>, Result<(), FrameError>) {
        let mut decoder = Decoder::new(max);
        let mut seen = Vec::new();
        for chunk in chunks {
            let result = decoder.feed(&mut chunk.to_vec(), |incoming| {
                seen.push(match incoming {
                    Incoming::Text(text) => text.to_owned(),
                    other => format!("{other:?}"),
                });
                true
            });
            if result.is_err() {
                return (seen, result);
            }
        }
        (seen, Ok(()))
    }

    #[test]
    fn frames_are_read_whatever_chunks_they_come_in() {
        let long = "ä".repeat(300);
        let mut bytes = Vec::new();
        bytes.extend(frame(0x81, b"hello"));
        bytes.extend(frame(0x01, b"frag"));
        bytes.extend(frame(0x89, b"?"));
        bytes.extend(frame(0x00, b"men"));
        bytes.extend(frame(0x80, b"ted"));
        bytes.extend(frame(0x81, long.as_bytes()));
        bytes.extend(frame(0x8a, b""));
        bytes.extend(frame(0x82, b"\x01"));
        bytes.extend(frame(0x88, b"\x03\xe8"));
        let expected = ["hello", "Ping([63])", "fragmented", long.as_str(), "Pong", "Binary([1])", "Close"];
        for size in [1, 2, 3, 7, 64, bytes.len()] {
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            let (seen, result) = read(1000, &chunks);
            assert_eq!((seen, result), (expected.map(str::to_owned).to_vec(), Ok(())), "chunks of {size}");
        }
    }

    #[test]
    fn nothing_is_held_once_all_is_read() {
        let mut decoder = Decoder::new(1000);
        let bytes = frame(0x81, &[b'x'; 500]);
        let (first, second) = bytes.split_at(100);
        decoder.feed(&mut first.to_vec(), |_| true).unwrap();
        assert!(decoder.partial.capacity() > 0);
        decoder.feed(&mut second.to_vec(), |_| true).unwrap();
        assert_eq!(decoder.partial.capacity(), 0);
    }

    #[test]
    fn what_is_too_large_is_refused_by_its_header_and_fragments_count_together() {
        let header = &frame(0x81, &[b'x'; 200])[..8];
        assert_eq!(read(199, &[header]).1, Err(FrameError::TooLarge));
        assert_eq!(read(200, &[header]).1, Ok(()));
        let huge = [0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(read(1 << 20, &[&huge]).1, Err(FrameError::TooLarge));
        let (one, two) = (frame(0x01, &[b'x'; 100]), frame(0x80, &[b'x'; 100]));
        assert_eq!(read(199, &[&one, &two]).1, Err(FrameError::TooLarge));
        assert_eq!(read(200, &[&one, &two]).1, Ok(()));
    }

    #[test]
    fn what_breaks_the_protocol_is_an_error() {
        let unmasked = [0x81, 0x01, b'x'];
        let long_ping = frame(0x89, &[0; 126]);
        for bad in [
            &unmasked[..],
            &long_ping,
            &frame(0x09, b""),
            &frame(0xc1, b"x"),
            &frame(0x83, b"x"),
            &frame(0x8b, b"x"),
            &frame(0x80, b"continues nothing"),
            &[frame(0x01, b"a"), frame(0x81, b"b")].concat(),
        ] {
            assert_eq!(read(1000, &[bad]).1, Err(FrameError::Protocol), "{bad:?}");
        }
        assert_eq!(read(1000, &[&frame(0x81, b"\xff")]).1, Err(FrameError::Utf8));
    }

    #[test]
    fn any_bytes_at_all_are_read_or_refused() {
        let mut state = 1_u32;
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..40)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            let _ = read(100, &[&bytes[..13], &bytes[13..]]);
        }
    }

    #[test]
    fn taking_stops_when_told() {
        let bytes = [frame(0x81, b"a"), frame(0x81, b"b")].concat();
        let mut seen = 0;
        let mut decoder = Decoder::new(100);
        decoder
            .feed(&mut bytes.clone(), |_| {
                seen += 1;
                false
            })
            .unwrap();
        assert_eq!(seen, 1);
    }

    #[test]
    fn frames_are_written_as_a_server_writes_them() {
        let mut out = Vec::new();
        write_text(&mut out, "hi");
        write_close(&mut out, 1008, "full");
        write_pong(&mut out, b"!");
        write_ping(&mut out);
        assert_eq!(out, b"\x81\x02hi\x88\x06\x03\xf0full\x8a\x01!\x89\x00");
        let mut out = Vec::new();
        write_text(&mut out, &"x".repeat(300));
        assert_eq!(out[..4], [0x81, 126, 1, 44]);
    }
}
