// The publisher's Ed25519 keys, and whether one of them signed something: WebCrypto does the work.

const KEY_BYTES = 32;
const HINT_BYTES = 4;

interface Key {
  hint: Uint8Array;
  key: CryptoKey;
}

/** The keys that the page trusts. */
export class Keys {
  readonly #keys: readonly Key[];

  private constructor(keys: readonly Key[]) {
    this.#keys = keys;
  }

  /** Imports keys in unpadded base64url. `undefined` where none is a key, or the browser has no Ed25519. */
  static async import(texts: readonly string[]): Promise<Keys | undefined> {
    const keys: Key[] = [];
    for (const text of texts) {
      try {
        const bytes = fromBase64Url(text);
        if (bytes.length !== KEY_BYTES) continue;
        const key = await crypto.subtle.importKey("raw", bytes, "Ed25519", false, ["verify"]);
        keys.push({ hint: bytes.subarray(0, HINT_BYTES), key });
      } catch {
        // Not base64url, not a point of the curve, or not a browser with Ed25519: this key cannot be used.
      }
    }
    return keys.length > 0 ? new Keys(keys) : undefined;
  }

  /** Whether a key that begins with `hint` signed `message`; `undefined` where there is no such key. */
  async verify(hint: Uint8Array, signature: BufferSource, message: BufferSource): Promise<boolean | undefined> {
    let verdict: boolean | undefined;
    for (const { hint: own, key } of this.#keys) {
      if (!own.every((byte, at) => byte === hint[at])) continue;
      if (await crypto.subtle.verify("Ed25519", key, signature, message).catch(() => false)) return true;
      verdict = false;
    }
    return verdict;
  }
}

function fromBase64Url(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}
