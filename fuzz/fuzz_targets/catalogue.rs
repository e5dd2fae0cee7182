//! Any catalogue file is split or refused, any batch is read or refused, and whoever passes a batch on passes on its very bytes.

#![no_main]

use headwater_wire::SignedBatch;
use headwater_wire::catalogue::{encode_file, split_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(parts) = split_file(bytes) else {
        one(bytes);
        return;
    };
    let batches: Vec<SignedBatch> = parts.iter().filter_map(|part| one(part)).collect();
    if batches.len() == parts.len() {
        let again = encode_file(&batches);
        let parts_again = split_file(&again).expect("what is written can be split");
        assert_eq!(parts_again, parts);
    }
});

fn one(bytes: &[u8]) -> Option<SignedBatch> {
    let (batch, body) = SignedBatch::parse(bytes).ok()?;
    assert_eq!(batch.as_bytes(), bytes);
    assert!(batch.signing_bytes().ends_with(&bytes[bytes.len().min(100)..]) || bytes.len() < 100);
    for (segment, entry) in body.segments() {
        assert_eq!(segment.track, body.track);
        assert!(entry.hashes.is_empty() || entry.hashes.len() == entry.len.chunk_count() as usize);
    }
    Some(batch)
}
