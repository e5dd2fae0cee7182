//! What the model peers say to each other: p2p-media-loader's commands, in about as many bytes.

use headwater_wire::{SegmentId, SeqNo, TrackId};

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Talk {
    /// All that the sender holds, and loads over HTTP.
    Announce {
        id: u64,
        has: Vec<SegmentId>,
        loading: Vec<SegmentId>,
    },
    Request(SegmentId),
    /// The segment follows; so many bytes.
    Data(SegmentId, u32),
    Absent(SegmentId),
    Cancel(SegmentId),
}

impl Talk {
    /// One byte zero, as control frames begin; the command; its arguments.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0];
        match self {
            Self::Announce { id, has, loading } => {
                bytes.push(0);
                bytes.extend_from_slice(&id.to_le_bytes());
                for list in [has, loading] {
                    put_list(&mut bytes, list);
                }
            }
            Self::Request(id) => put(&mut bytes, 1, *id),
            Self::Data(id, len) => {
                put(&mut bytes, 2, *id);
                bytes.extend_from_slice(&len.to_le_bytes());
            }
            Self::Absent(id) => put(&mut bytes, 3, *id),
            Self::Cancel(id) => put(&mut bytes, 4, *id),
        }
        bytes
    }
}

/// Reads a command; `None` for what is none.
pub(super) fn decode(frame: &[u8]) -> Option<Talk> {
    let mut rest = frame.get(2..)?;
    let kind = *frame.get(1)?;
    if kind == 0 {
        let id = u64::from_le_bytes(take(&mut rest)?);
        let has = take_list(&mut rest)?;
        return Some(Talk::Announce { id, has, loading: take_list(&mut rest)? });
    }
    let id = take_id(&mut rest)?;
    match kind {
        1 => Some(Talk::Request(id)),
        2 => Some(Talk::Data(id, u32::from_le_bytes(take(&mut rest)?))),
        3 => Some(Talk::Absent(id)),
        4 => Some(Talk::Cancel(id)),
        _ => None,
    }
}

fn put(bytes: &mut Vec<u8>, kind: u8, id: SegmentId) {
    bytes.push(kind);
    put_id(bytes, id);
}

fn put_id(bytes: &mut Vec<u8>, id: SegmentId) {
    bytes.extend_from_slice(&id.track.0.to_le_bytes());
    bytes.extend_from_slice(&(id.seq.0 as u32).to_le_bytes());
}

/// Of one track: two bytes a segment, near what buckets of similar integers take.
fn put_list(bytes: &mut Vec<u8>, list: &[SegmentId]) {
    bytes.extend_from_slice(&(list.len() as u16).to_le_bytes());
    let Some(first) = list.first() else { return };
    put_id(bytes, *first);
    for id in list {
        bytes.push(id.track.0 as u8 ^ first.track.0 as u8);
        bytes.extend_from_slice(&(id.seq.0.wrapping_sub(first.seq.0) as u16).to_le_bytes());
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn take_id(bytes: &mut &[u8]) -> Option<SegmentId> {
    let track = TrackId(u64::from_le_bytes(take(bytes)?));
    Some(SegmentId { track, seq: SeqNo(u64::from(u32::from_le_bytes(take(bytes)?))) })
}

fn take_list(bytes: &mut &[u8]) -> Option<Vec<SegmentId>> {
    let count = u16::from_le_bytes(take(bytes)?);
    if count == 0 {
        return Some(Vec::new());
    }
    let first = take_id(bytes)?;
    (0..count)
        .map(|_| {
            let [track] = take(bytes)?;
            let seq = u64::from(u16::from_le_bytes(take(bytes)?));
            Some(SegmentId { track: TrackId(first.track.0 ^ u64::from(track)), seq: SeqNo(first.seq.0 + seq) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_back_as_they_were() {
        let id = |seq| SegmentId { track: TrackId(0x7ac4_0000_0000_0001), seq: SeqNo(seq) };
        let all = [
            Talk::Announce { id: 7, has: vec![id(3), id(4), id(90)], loading: vec![] },
            Talk::Announce { id: 8, has: vec![], loading: vec![id(5)] },
            Talk::Request(id(9)),
            Talk::Data(id(9), 750_000),
            Talk::Absent(id(9)),
            Talk::Cancel(id(9)),
        ];
        for talk in all {
            assert_eq!(decode(&talk.encode()), Some(talk));
        }
    }
}
