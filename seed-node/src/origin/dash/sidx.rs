//! The segment index of a file (ISO/IEC 14496-12, `sidx`): where its segments are.

use crate::http::Range;

/// A segment as the index has it: seconds on the file's own timeline, and its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Indexed {
    pub(super) start: f64,
    pub(super) duration: f64,
    pub(super) range: Range,
}

/// Reads the index in `bytes`, which lie at `offset` of the file. `None` where there is none, or one of indexes.
pub(super) fn read(bytes: &[u8], offset: u64) -> Option<Vec<Indexed>> {
    let (body, end) = find(bytes)?;
    let mut body = Reader(body);
    let version = body.u32()? >> 24;
    let _reference = body.u32()?;
    let timescale = f64::from(body.u32().filter(|scale| *scale > 0)?);
    let (start, first) =
        if version == 0 { (u64::from(body.u32()?), u64::from(body.u32()?)) } else { (body.u64()?, body.u64()?) };
    let count = body.u32()? & 0xffff;
    let mut at = offset.checked_add(end as u64)?.checked_add(first)?;
    let mut ticks = start;
    let mut segments = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let reference = body.u32()?;
        let duration = body.u32()?;
        let _access_point = body.u32()?;
        // The highest bit says that it is another index; players do not read those either.
        if reference >> 31 == 1 {
            return None;
        }
        let range = Range { offset: at, len: u64::from(reference) };
        let (start, duration_s) = (ticks as f64 / timescale, f64::from(duration) / timescale);
        segments.push(Indexed { start, duration: duration_s, range });
        ticks = ticks.checked_add(u64::from(duration))?;
        at = at.checked_add(range.len)?;
    }
    (!segments.is_empty()).then_some(segments)
}

/// The body of the first `sidx` box, and where the box ends.
fn find(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let mut at = 0;
    loop {
        let mut head = Reader(bytes.get(at..)?);
        let (len, kind) = (head.u32()? as usize, head.u32()?.to_be_bytes());
        let end = at.checked_add(len).filter(|_| len >= 8)?;
        if &kind == b"sidx" {
            return Some((bytes.get(at + 8..end)?, end));
        }
        at = end;
    }
}

/// Big-endian numbers, one after the other.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*head))
    }

    fn u64(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index of segments of these lengths and durations, in thousandths of a second.
    fn index(segments: &[(u32, u32)]) -> Vec<u8> {
        let mut body = Vec::new();
        for number in [0, 1, 1000, 500, 10, segments.len() as u32] {
            body.extend_from_slice(&u32::to_be_bytes(number));
        }
        for (len, duration) in segments {
            for number in [*len, *duration, 0x9000_0000] {
                body.extend_from_slice(&number.to_be_bytes());
            }
        }
        let mut bytes = ((body.len() + 8) as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(b"sidx");
        bytes.extend(body);
        bytes
    }

    #[test]
    fn segments_follow_the_index() {
        let mut bytes = vec![0, 0, 0, 12, b's', b't', b'y', b'p', 1, 2, 3, 4];
        bytes.extend(index(&[(100, 2000), (50, 1500)]));
        let end = 1000 + bytes.len() as u64 + 10;
        let segments = read(&bytes, 1000).unwrap();
        assert_eq!(segments[0], Indexed { start: 0.5, duration: 2.0, range: Range { offset: end, len: 100 } });
        assert_eq!(segments[1], Indexed { start: 2.5, duration: 1.5, range: Range { offset: end + 100, len: 50 } });
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let bytes = index(&[(100, 2000), (50, 1500)]);
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len], 0), None, "cut to {len}");
            let mut changed = bytes.clone();
            changed[len] = 0xff;
            let _ = read(&changed, u64::MAX);
        }
        assert_eq!(read(&index(&[(0x8000_0000, 1)]), 0), None, "an index of indexes");
    }
}
