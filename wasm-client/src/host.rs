//! What the page does for the engine: an object of the player's TypeScript (`www/player/src/client/client.ts`).

use alloc::vec::Vec;

use crate::bytes::Bytes;
use wasm_bindgen::prelude::wasm_bindgen;

/// The same for TypeScript, which checks the player's class against it.
#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = "
export interface Host {
  timer(ms: number): void;
  send(peer: bigint, frame: Uint8Array): void;
  sendChunk(peer: bigint, header: Uint8Array, chunk: Uint8Array, piece: number): void;
  disconnect(peer: bigint, ban: boolean): void;
  want(count: number): void;
  fetch(fetch: number, track: bigint, seq: number, start: number, end: number): void;
  abort(fetch: number): void;
  fetchCatalogue(): void;
  verify(id: number, hint: Uint8Array, signature: Uint8Array, message: Uint8Array): void;
  deliver(demand: number, bytes: Uint8Array, requested: number, firstByte: number, complete: number): void;
  fail(demand: number): void;
  event(kind: number, peer: bigint): void;
}
";

#[wasm_bindgen]
extern "C" {
    /// The page's side. Its methods return at once and never call back into the client before they have.
    #[wasm_bindgen(typescript_type = "Host")]
    pub type Host;

    /// Tell `TOLD_WAKE` in `ms` milliseconds instead of whenever it was asked for before; infinite for never.
    #[wasm_bindgen(method)]
    pub(crate) fn timer(this: &Host, ms: f64);

    /// Send one control frame. `frame` is gone after the call.
    #[wasm_bindgen(method)]
    pub(crate) fn send(this: &Host, peer: u64, frame: &[u8]);

    /// Send a chunk in data frames of `header` (with each piece's offset in it) and at most `piece` bytes; then, when
    /// the channel has room again, call `Client.chunkSent` with the same header.
    #[wasm_bindgen(method, js_name = sendChunk)]
    pub(crate) fn send_chunk(this: &Host, peer: u64, header: Bytes, chunk: Bytes, piece: u32);

    /// Close the connection, and refuse it from now on where `ban` says so.
    #[wasm_bindgen(method)]
    pub(crate) fn disconnect(this: &Host, peer: u64, ban: bool);

    /// Ask the signalling server for more neighbours.
    #[wasm_bindgen(method)]
    pub(crate) fn want(this: &Host, count: u32);

    /// Fetch a segment from the origin, where `end` is not 0 the bytes from `start` to before `end` alone.
    #[wasm_bindgen(method)]
    pub(crate) fn fetch(this: &Host, fetch: f64, track: u64, seq: f64, start: u32, end: u32);

    /// Give a request up, and say nothing more of it.
    #[wasm_bindgen(method)]
    pub(crate) fn abort(this: &Host, fetch: f64);

    /// Fetch the catalogue file beside the playlist; answer with `Client.catalogue`.
    #[wasm_bindgen(method, js_name = fetchCatalogue)]
    pub(crate) fn fetch_catalogue(this: &Host);

    /// Verify an Ed25519 signature with the publisher's key that begins with `hint`; answer with `TOLD_VERIFIED`.
    #[wasm_bindgen(method)]
    pub(crate) fn verify(this: &Host, id: f64, hint: Vec<u8>, signature: Vec<u8>, message: Vec<u8>);

    /// A whole segment for the player: a copy of its own. Times are those of `performance.now()`.
    #[wasm_bindgen(method)]
    pub(crate) fn deliver(this: &Host, demand: f64, bytes: Bytes, requested: f64, first_byte: f64, complete: f64);

    /// The segment cannot be had here: the player's own loader must try.
    #[wasm_bindgen(method)]
    pub(crate) fn fail(this: &Host, demand: f64);

    /// Something that the page or an operator may want to know; see `EVENT_*` in `client.rs`.
    #[wasm_bindgen(method)]
    pub(crate) fn event(this: &Host, kind: u32, peer: u64);

    /// Milliseconds since the page's time origin.
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    pub(crate) fn performance_now() -> f64;
}
