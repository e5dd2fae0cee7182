//! Every codec gives back what it was given, and no bytes of a stranger's make one panic.

#![allow(clippy::unwrap_used, reason = "a test")]

use headwater_wire::catalogue::{BATCH_VERSION, split_file};
use headwater_wire::frame::{DATA_HEADER_LEN, encode_control};
use headwater_wire::message::{ByeReason, MessageError};
use headwater_wire::{
    BatchBody, ChunkHash, ChunkIndex, ChunkRange, DataHeader, Entry, Frame, Hello, Message, PublicKey, RejectReason,
    Role, RootHash, Scope, SegmentId, SegmentLen, SeqNo, SeqRange, Signature, SignedBatch, TrackId,
};
use proptest::prelude::*;

fn segment() -> impl Strategy<Value = SegmentId> {
    (any::<u64>(), any::<u64>()).prop_map(|(track, seq)| SegmentId { track: TrackId(track), seq: SeqNo(seq) })
}

fn chunk_range() -> impl Strategy<Value = ChunkRange> {
    (0..512_u32, 1..512_u32).prop_map(|(first, count)| ChunkRange { first: ChunkIndex(first), count })
}

fn ascending() -> impl Strategy<Value = Vec<(u32, u32)>> {
    prop::collection::vec((1..5_u32, 1..4_u32), 0..20).prop_map(|steps| {
        let mut at = 0;
        let place = |(gap, count): (u32, u32)| {
            at += gap;
            let first = at;
            at += count;
            (first, count)
        };
        steps.into_iter().map(place).collect()
    })
}

fn seq_ranges() -> impl Strategy<Value = Vec<SeqRange>> {
    ascending().prop_map(|ranges| {
        let range = |(first, count)| SeqRange { first: SeqNo(u64::from(first)), count: u64::from(count) };
        ranges.into_iter().map(range).collect()
    })
}

fn message() -> impl Strategy<Value = Message> {
    let names = || prop::collection::vec("[a-z]{0,20}", 0..4);
    let hello = (any::<u16>(), any::<bool>(), 16_384..u32::MAX, any::<u64>(), names(), names());
    let hello = hello.prop_map(|(version, seed, max_frame, nonce, features, required)| {
        let role = if seed { Role::Seed } else { Role::Viewer };
        Message::Hello(Hello { version, role, max_frame, uploads: !seed, nonce, features, required })
    });
    let track = any::<u64>().prop_map(TrackId);
    let chunks = ascending().prop_map(|ranges| {
        let range = |(first, count)| ChunkRange { first: ChunkIndex(first), count };
        ranges.into_iter().map(range).collect::<Vec<_>>()
    });
    let hashes = prop::collection::vec(any::<[u8; 32]>().prop_map(ChunkHash), 1..200);
    prop_oneof![
        hello,
        (track.clone(), any::<bool>(), seq_ranges()).prop_map(|(track, full, ranges)| Message::Have {
            track,
            full,
            ranges
        }),
        (segment(), chunks).prop_map(|(segment, chunks)| Message::HaveChunks { segment, chunks }),
        (track.clone(), seq_ranges()).prop_map(|(track, ranges)| Message::Dropped { track, ranges }),
        (segment(), prop::option::of(chunk_range()))
            .prop_map(|(segment, chunks)| Message::Fetching { segment, chunks }),
        (segment(), chunk_range(), any::<u32>()).prop_map(|(segment, chunks, time_left_ms)| Message::Request {
            segment,
            chunks,
            time_left_ms
        }),
        (segment(), chunk_range()).prop_map(|(segment, chunks)| Message::Reject {
            segment,
            chunks,
            reason: RejectReason::NotHeld
        }),
        (segment(), chunk_range()).prop_map(|(segment, chunks)| Message::Cancel { segment, chunks }),
        (track, any::<u64>(), 1..u64::MAX).prop_map(|(track, first, count)| Message::GetCatalogue {
            track,
            range: SeqRange { first: SeqNo(first), count }
        }),
        prop::collection::vec(any::<u8>(), 0..14_000).prop_map(Message::Catalogue),
        segment().prop_map(|segment| Message::GetHashes { segment }),
        (segment(), hashes).prop_map(|(segment, hashes)| Message::Hashes {
            segment,
            len: SegmentLen::new(400 * 65_536).unwrap(),
            first: 100,
            hashes
        }),
        any::<u32>().prop_map(|nonce| Message::Ping { nonce }),
        Just(Message::Bye { reason: ByeReason::Full }),
        (any::<u64>(), any::<u64>(), prop::collection::vec(any::<u64>(), 1..=16))
            .prop_map(|(track, epoch, nonces)| { Message::Candidates { track: TrackId(track), epoch, nonces } }),
    ]
}

fn body() -> impl Strategy<Value = BatchBody> {
    let entry = (any::<u64>(), prop_oneof![9 => 300_000..10_000_000_u32, 1 => 1..300_000_u32], any::<[u8; 32]>())
        .prop_map(|(seq, len, root)| Entry {
            seq: SeqNo(seq),
            len: SegmentLen::new(len).unwrap(),
            root: RootHash(root),
            hashes: vec![ChunkHash(root); if len < 300_000 { len.div_ceil(65_536) as usize } else { 0 }],
        });
    let scope = prop_oneof![Just(Scope::Any), any::<[u8; 32]>().prop_map(Scope::Swarm)];
    (scope, any::<u64>(), any::<u64>(), prop::collection::vec(entry, 1..=256)).prop_map(
        |(scope, track, issued_ms, entries)| BatchBody {
            version: BATCH_VERSION,
            scope,
            track: TrackId(track),
            issued_ms,
            entries,
        },
    )
}

proptest! {
    #[test]
    fn control_messages_come_back(message in message()) {
        let frame = encode_control(&message);
        prop_assert!(frame.len() <= 16_384, "{} bytes", frame.len());
        prop_assert_eq!(Frame::parse(&frame), Ok(Frame::Control(message)));
    }

    #[test]
    fn control_messages_are_postcards(message in message()) {
        prop_assert_eq!(&encode_control(&message)[1..], postcard::to_allocvec(&message).unwrap());
    }

    #[test]
    fn what_postcard_refuses_is_refused(message in message(), at: prop::sample::Index, byte: u8, cut: bool) {
        let mut bytes = postcard::to_allocvec(&message).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        let reference = postcard::take_from_bytes::<Message>(&bytes).ok().filter(|(_, rest)| rest.is_empty());
        match (Message::decode(&bytes), reference) {
            (Ok(ours), Some((theirs, _))) => prop_assert_eq!(ours, theirs),
            (Err(MessageError::Malformed), None) | (Err(MessageError::OutOfBounds), Some(_)) => {}
            (ours, theirs) => prop_assert!(false, "{ours:?} where postcard has {theirs:?}"),
        }
    }

    #[test]
    fn batches_are_postcards(body in body()) {
        let bytes = body.signing_bytes().unwrap();
        prop_assert!(bytes.ends_with(&postcard::to_allocvec(&body).unwrap()));
    }

    #[test]
    fn a_damaged_message_is_an_error_or_another_message(message in message(), at: prop::sample::Index, byte: u8) {
        let mut frame = encode_control(&message);
        let at = at.index(frame.len());
        frame[at] = byte;
        let _ = Frame::parse(&frame);
        let _ = Frame::parse(&frame[..at]);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Frame::parse(&bytes);
        let _ = Message::decode(&bytes);
        let _ = SignedBatch::parse(&bytes);
        let _ = split_file(&bytes);
        if let Some(header) = bytes.first_chunk::<DATA_HEADER_LEN>() {
            let _ = DataHeader::parse(header, bytes.len());
        }
    }

    #[test]
    fn batches_come_back_and_fit_a_frame(body in body()) {
        let signing_bytes = body.signing_bytes().unwrap();
        prop_assume!(signing_bytes.len() <= 14_000);
        let batch = SignedBatch::assemble(PublicKey([7; 32]), Signature([9; 64]), &signing_bytes).unwrap();
        let (again, parsed) = SignedBatch::parse(batch.as_bytes()).unwrap();
        prop_assert_eq!(&again, &batch);
        prop_assert_eq!(parsed, body);
        prop_assert_eq!(again.signing_bytes(), signing_bytes);
        let frame = encode_control(&Message::Catalogue(batch.as_bytes().to_vec()));
        prop_assert!(frame.len() <= 16_384, "{} bytes", frame.len());
    }
}

#[test]
fn values_out_of_bounds_are_refused() {
    let id = SegmentId { track: TrackId(1), seq: SeqNo(2) };
    let none = ChunkRange { first: ChunkIndex(0), count: 0 };
    let far = ChunkRange { first: ChunkIndex(1023), count: 2 };
    let range = |first, count| SeqRange { first: SeqNo(first), count };
    let bad = [
        Message::Request { segment: id, chunks: none, time_left_ms: 0 },
        Message::Request { segment: id, chunks: far, time_left_ms: 0 },
        Message::Have { track: TrackId(1), full: true, ranges: vec![range(5, 2), range(6, 1)] },
        Message::Have { track: TrackId(1), full: true, ranges: vec![range(5, 0)] },
        Message::GetCatalogue { track: TrackId(1), range: range(1, 0) },
        Message::Hashes {
            segment: id,
            len: SegmentLen::new(1).unwrap(),
            first: 0,
            hashes: vec![ChunkHash([0; 32]); 2],
        },
    ];
    for message in bad {
        let frame = encode_control(&message);
        assert!(Frame::parse(&frame).is_err(), "{message:?}");
    }
}
