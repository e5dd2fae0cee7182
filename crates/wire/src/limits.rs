//! Every bound of the protocol, with its reason. A value beyond a bound is an error of its sender.

/// Length of a chunk in bytes, the last one of a segment excepted: small enough to verify and relay at once, large
/// enough that 32 bytes of hash for each are noise.
pub const CHUNK_LEN: u32 = 64 * 1024;

/// Largest segment in bytes. Ten seconds at 50 Mbit/s; larger ones travel over HTTP alone.
pub const MAX_SEGMENT_LEN: u32 = 64 * 1024 * 1024;

/// Most chunks of one segment.
pub const MAX_CHUNKS: u32 = MAX_SEGMENT_LEN / CHUNK_LEN;

/// Largest frame that every peer accepts before it has said otherwise: every WebRTC stack takes this much.
pub const MIN_MAX_FRAME: u32 = 16 * 1024;

/// Largest frame that a peer may announce: a whole chunk and its header, because two messages cost a browser more than one. Of
/// stacks in use, only those that name no `max-message-size` take less (65,536: RFC 8841); shells look at what was agreed.
pub const MAX_FRAME: u32 = CHUNK_LEN + crate::frame::DATA_HEADER_LEN as u32;

/// Most hashes of one `Hashes` message: 8 KiB, so that it fits [`MIN_MAX_FRAME`].
pub const MAX_HASHES: usize = 256;

/// Most sequence ranges of one `Have` message, and most chunk ranges of one `HaveChunks`: fits [`MIN_MAX_FRAME`].
pub const MAX_RANGES: usize = 512;

/// Most candidates for the origin that are known of a stretch of a live track: enough that some of them are still there
/// a minute later.
pub const MAX_CANDIDATES: usize = 16;

/// Most entries of one signed batch: about 11 KiB, so that it fits [`MIN_MAX_FRAME`].
pub const MAX_BATCH_ENTRIES: usize = 256;

/// Largest signed batch in bytes.
pub const MAX_BATCH_LEN: usize = 14 * 1024;

/// Most feature names of one hello.
pub const MAX_FEATURES: usize = 16;

/// Longest feature name or free text (agent, reason) in bytes.
pub const MAX_TEXT_LEN: usize = 128;

/// Largest catalogue file in bytes: a day of two-second segments in ten renditions is about 20 MiB.
pub const MAX_CATALOGUE_FILE_LEN: usize = 32 * 1024 * 1024;

/// Longest swarm name in bytes: a public key and a long path.
pub const MAX_SWARM_NAME_LEN: usize = 512;

/// Largest signalling message in bytes: an SDP of a data channel is about 1 KiB, with many candidates 4 KiB.
pub const MAX_SIGNAL_MESSAGE_LEN: usize = 16 * 1024;

/// Largest session description in bytes.
pub const MAX_SDP_LEN: usize = 12 * 1024;

/// Largest ICE candidate line in bytes.
pub const MAX_CANDIDATE_LEN: usize = 1024;

/// Most neighbours that a peer may ask the signalling server for at once.
pub const MAX_WANT: u16 = 32;
