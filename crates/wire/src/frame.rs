//! One message of a data channel: a control message, or a piece of a chunk.
//!
//! | byte | control frame | data frame |
//! |---|---|---|
//! | 0 | `0x00` | `0x01` |
//! | 1… | a [`Message`], postcard | track u64, sequence u64, chunk u32, offset u32, all little-endian, then raw bytes |
//!
//! `offset` counts from the start of the chunk. The pieces of a chunk come in order and without gaps; pieces of other
//! chunks may come between them.

use alloc::vec;
use alloc::vec::Vec;

use crate::geometry::ChunkIndex;
use crate::id::{ChunkId, SegmentId, SeqNo, TrackId};
use crate::limits::{CHUNK_LEN, MAX_CHUNKS, MAX_FRAME};
use crate::message::{Message, MessageError};

const CONTROL: u8 = 0;
const DATA: u8 = 1;

/// Length of a data frame's header in bytes.
pub const DATA_HEADER_LEN: usize = 25;

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Nothing in it.
    #[error("the frame is empty")]
    Empty,
    /// Longer than [`MAX_FRAME`].
    #[error("a frame has at most {MAX_FRAME} bytes, this one has {0}")]
    TooLong(usize),
    /// The first byte is neither of the two kinds.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// A data frame whose header is cut off, whose payload is empty, or that reaches past the end of any chunk.
    #[error("the data frame is malformed")]
    MalformedData,
    /// A control frame whose message cannot be read.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// The header of a data frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHeader {
    /// The chunk that the payload is a piece of.
    pub chunk: ChunkId,
    /// Where in the chunk the payload begins, in bytes.
    pub offset: u32,
}

impl DataHeader {
    /// The header as it travels, the kind byte included.
    #[must_use]
    pub fn encode(&self) -> [u8; DATA_HEADER_LEN] {
        let mut header = [0; DATA_HEADER_LEN];
        header[0] = DATA;
        header[1..9].copy_from_slice(&self.chunk.segment.track.0.to_le_bytes());
        header[9..17].copy_from_slice(&self.chunk.segment.seq.0.to_le_bytes());
        header[17..21].copy_from_slice(&self.chunk.index.0.to_le_bytes());
        header[21..25].copy_from_slice(&self.offset.to_le_bytes());
        header
    }

    /// Reads the header of a data frame of `frame_len` bytes from its first [`DATA_HEADER_LEN`] bytes.
    ///
    /// For shells that keep payloads out of reach (the browser's stay in JavaScript's memory): they hand over the first
    /// bytes and the length.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn parse(header: &[u8; DATA_HEADER_LEN], frame_len: usize) -> Result<Self, FrameError> {
        if frame_len > MAX_FRAME as usize {
            return Err(FrameError::TooLong(frame_len));
        }
        if header[0] != DATA {
            return Err(FrameError::UnknownKind(header[0]));
        }
        let u64_at = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let u32_at = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&header[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let segment = SegmentId { track: TrackId(u64_at(1)), seq: SeqNo(u64_at(9)) };
        let index = ChunkIndex(u32_at(17));
        let offset = u32_at(21);
        // frame_len is at most MAX_FRAME here, so that it fits u32.
        let payload_len = (frame_len as u32).saturating_sub(DATA_HEADER_LEN as u32);
        let end = offset.checked_add(payload_len);
        if payload_len == 0 || index.0 >= MAX_CHUNKS || end.is_none_or(|end| end > CHUNK_LEN) {
            return Err(FrameError::MalformedData);
        }
        Ok(Self { chunk: ChunkId { segment, index }, offset })
    }
}

/// A frame, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A control message.
    Control(Message),
    /// A piece of a chunk.
    Data(DataHeader, &'a [u8]),
}

impl<'a> Frame<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        if frame.len() > MAX_FRAME as usize {
            return Err(FrameError::TooLong(frame.len()));
        }
        match frame.first() {
            None => Err(FrameError::Empty),
            Some(&CONTROL) => Ok(Self::Control(Message::decode(&frame[1..])?)),
            Some(&DATA) => {
                let header = frame.first_chunk::<DATA_HEADER_LEN>().ok_or(FrameError::MalformedData)?;
                Ok(Self::Data(DataHeader::parse(header, frame.len())?, &frame[DATA_HEADER_LEN..]))
            }
            Some(&kind) => Err(FrameError::UnknownKind(kind)),
        }
    }

    /// Whether a frame with this first byte carries data.
    #[must_use]
    pub fn is_data(first_byte: u8) -> bool {
        first_byte == DATA
    }
}

/// A control message as the frame that carries it.
#[must_use]
pub fn encode_control(message: &Message) -> Vec<u8> {
    let mut frame = vec![CONTROL];
    message.encode_to(&mut frame);
    frame
}

/// How long the pieces of a chunk of `chunk_len` bytes are, for a receiver that accepts frames of `max_frame` bytes: as
/// few pieces as possible, all alike but for the last.
#[must_use]
pub fn piece_len(chunk_len: u32, max_frame: u32) -> u32 {
    let most = max_frame.saturating_sub(DATA_HEADER_LEN as u32).max(1);
    chunk_len.div_ceil(chunk_len.div_ceil(most).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_frame_is_a_fixed_header_and_raw_bytes() {
        let header = DataHeader {
            chunk: ChunkId {
                segment: SegmentId { track: TrackId(0x0102_0304_0506_0708), seq: SeqNo(9) },
                index: ChunkIndex(2),
            },
            offset: 0x8000,
        };
        let frame = [&header.encode()[..], b"payload"].concat();
        assert_eq!(
            frame[..DATA_HEADER_LEN],
            [1, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0x80, 0, 0]
        );
        assert_eq!(Frame::parse(&frame), Ok(Frame::Data(header, b"payload")));
    }

    #[test]
    fn data_past_the_end_of_a_chunk_is_refused() {
        let chunk = ChunkId { segment: SegmentId { track: TrackId(1), seq: SeqNo(1) }, index: ChunkIndex(0) };
        for offset in [CHUNK_LEN - 1, CHUNK_LEN, u32::MAX] {
            let frame = [&DataHeader { chunk, offset }.encode()[..], b"ab"].concat();
            assert_eq!(Frame::parse(&frame), Err(FrameError::MalformedData), "{offset}");
        }
        let empty = DataHeader { chunk, offset: 0 }.encode();
        assert_eq!(Frame::parse(&empty), Err(FrameError::MalformedData));
        assert_eq!(Frame::parse(&empty[..20]), Err(FrameError::MalformedData));
    }

    #[test]
    fn pieces_are_even_and_fit() {
        assert_eq!(piece_len(CHUNK_LEN, MAX_FRAME), CHUNK_LEN);
        assert_eq!(piece_len(CHUNK_LEN, 64 * 1024), 32_768);
        assert_eq!(piece_len(CHUNK_LEN, 16 * 1024), 13_108);
        assert_eq!(piece_len(10, MAX_FRAME), 10);
        for max_frame in [26, 100, 16_384, 65_536, MAX_FRAME] {
            let piece = piece_len(CHUNK_LEN, max_frame);
            assert!(piece as usize + DATA_HEADER_LEN <= max_frame as usize);
        }
    }
}
