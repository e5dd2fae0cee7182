//! `Uint8Array`, as much of it as is used. js-sys has it and all else that JavaScript has; its weight shows in the bundle.

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    /// Bytes in JavaScript's memory.
    #[wasm_bindgen(js_name = Uint8Array, typescript_type = "Uint8Array")]
    pub type Bytes;

    /// Zeros.
    #[wasm_bindgen(constructor, js_class = "Uint8Array")]
    pub(crate) fn zeroed(len: u32) -> Bytes;

    /// A copy of bytes in WASM's memory.
    #[wasm_bindgen(constructor, js_class = "Uint8Array")]
    pub(crate) fn copy_of(bytes: &[u8]) -> Bytes;

    /// How many.
    #[wasm_bindgen(method, getter, structural)]
    pub(crate) fn length(this: &Bytes) -> u32;

    /// A view of those from `start` to before `end`.
    #[wasm_bindgen(method)]
    pub(crate) fn subarray(this: &Bytes, start: u32, end: u32) -> Bytes;

    /// A copy of those from `start` to before `end`.
    #[wasm_bindgen(method)]
    pub(crate) fn slice(this: &Bytes, start: u32, end: u32) -> Bytes;

    /// Writes `from` to the place `at`. Throws where they do not fit.
    #[wasm_bindgen(method)]
    pub(crate) fn set(this: &Bytes, from: &Bytes, at: u32);

    /// Writes `from` to the beginning of WASM's `to`. Throws where they do not fit.
    #[wasm_bindgen(js_namespace = ["Uint8Array", "prototype", "set"], js_name = call)]
    pub(crate) fn copy_into(to: &mut [u8], from: &Bytes);
}
