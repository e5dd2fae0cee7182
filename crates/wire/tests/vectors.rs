//! The test vectors of `docs/protocol.md`, byte by byte.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use headwater_wire::catalogue::{BATCH_VERSION, encode_file};
use headwater_wire::frame::encode_control;
use headwater_wire::message::ByeReason;
use headwater_wire::{
    BatchBody, ChunkHash, ChunkId, ChunkIndex, ChunkRange, DataHeader, Entry, Frame, Hello, Message, PublicKey,
    RejectReason, Role, RootHash, Scope, SegmentId, SegmentLen, SeqNo, SeqRange, Signature, SignedBatch, SwarmName,
    TrackId,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn segment_bytes() -> Vec<u8> {
    (0..100_000_u32).map(|i| (i % 251) as u8).collect()
}

/// Every vector, by the name it has in the document.
fn vectors() -> BTreeMap<&'static str, String> {
    let track = TrackId::of_key("720p/index.m3u8");
    let segment = SegmentId { track, seq: SeqNo(300) };
    let chunks = ChunkRange { first: ChunkIndex(1), count: 2 };
    let (len, hashes, root) = RootHash::of_segment(&segment_bytes()).unwrap();
    let control = |message: Message| {
        let frame = encode_control(&message);
        assert_eq!(Frame::parse(&frame), Ok(Frame::Control(message)));
        hex(&frame)
    };
    let hello = Hello {
        version: 1,
        role: Role::Seed,
        max_frame: 65_536,
        uploads: true,
        nonce: 0x0102_0304_0506_0708,
        features: vec![],
        required: vec!["x".into()],
    };
    let swarm = SwarmName::derive("https://a.example/v/master.m3u8?u=1", Some("KEY")).unwrap();
    let body = BatchBody {
        version: BATCH_VERSION,
        scope: Scope::of_swarm(&swarm),
        track,
        issued_ms: 1_800_000_000_000,
        entries: vec![
            Entry { seq: SeqNo(300), len, root, hashes: hashes.clone() },
            Entry { seq: SeqNo(301), len, root, hashes: vec![] },
        ],
    };
    let signing_bytes = body.signing_bytes().unwrap();
    let batch = SignedBatch::assemble(PublicKey([0xaa; 32]), Signature([0x55; 64]), &signing_bytes).unwrap();
    let seqs = SeqRange { first: SeqNo(290), count: 11 };
    BTreeMap::from([
        ("track id", hex(&track.0.to_le_bytes())),
        ("chunk hash 0", hex(&hashes[0].0)),
        ("chunk hash 1", hex(&hashes[1].0)),
        ("root hash", hex(&root.0)),
        ("hello", control(Message::Hello(hello))),
        ("have", control(Message::Have { track, full: true, ranges: vec![seqs] })),
        ("have chunks", control(Message::HaveChunks { segment, chunks: vec![chunks] })),
        ("dropped", control(Message::Dropped { track, ranges: vec![seqs] })),
        ("fetching", control(Message::Fetching { segment, chunks: Some(chunks) })),
        ("request", control(Message::Request { segment, chunks, time_left_ms: 1500 })),
        ("reject", control(Message::Reject { segment, chunks, reason: RejectReason::Busy })),
        ("cancel", control(Message::Cancel { segment, chunks })),
        ("get catalogue", control(Message::GetCatalogue { track, range: seqs })),
        ("catalogue", control(Message::Catalogue(vec![1, 2, 3]))),
        ("get hashes", control(Message::GetHashes { segment })),
        (
            "hashes",
            control(Message::Hashes {
                segment,
                len: SegmentLen::new(70_000).unwrap(),
                first: 1,
                hashes: vec![ChunkHash([0x11; 32])],
            }),
        ),
        ("ping", control(Message::Ping { nonce: 7 })),
        ("pong", control(Message::Pong { nonce: 7 })),
        ("candidates", control(Message::Candidates { track, epoch: 18, nonces: vec![1, 0x0102_0304_0506_0708] })),
        ("bye", control(Message::Bye { reason: ByeReason::BadData })),
        (
            "data",
            hex(&[
                &DataHeader { chunk: ChunkId { segment, index: ChunkIndex(1) }, offset: 32_768 }.encode()[..],
                &[0xde, 0xad],
            ]
            .concat()),
        ),
        ("signing bytes", hex(&signing_bytes)),
        ("signed batch", hex(batch.as_bytes())),
        ("catalogue file", hex(&encode_file([&batch]))),
    ])
}

#[test]
fn the_document_and_the_code_agree() {
    let document = include_str!("../../../docs/protocol.md");
    let mut found = BTreeMap::new();
    for line in document.lines() {
        // Rows of the tables of vectors: | name | `hex` |
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", name, value, ""] = cells[..]
            && let Some(value) = value.strip_prefix('`').and_then(|value| value.strip_suffix('`'))
            && value.len() > 3
            && value.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            found.insert(name, value.to_owned());
        }
    }
    for (name, value) in vectors() {
        assert_eq!(found.remove(name), Some(value), "vector '{name}' of docs/protocol.md");
    }
    assert!(found.is_empty(), "vectors that no code checks: {found:?}");
}
