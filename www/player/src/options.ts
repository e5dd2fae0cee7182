// What a page says about a stream, and what follows from it. No DOM but the URL parser.

/** What a page tells Headwater about a stream. Everything but `src` may be left out: then the stream plays over HTTP. */
export interface HeadwaterOptions {
  /** The URL of the playlist that viewers open. Left out, it is what the player loads. */
  src?: string;
  /** The signalling server: a `ws:`, `wss:`, `http:` or `https:` URL. */
  signal?: string;
  /** The publisher's public key in unpadded base64url; several, separated by spaces, while keys are changed. */
  key?: string;
  /** `"signed"` (the default): nothing from a peer is played unless the publisher signed it. `"open"`: no signatures. */
  integrity?: "signed" | "open";
  /** Names the swarm, in place of the name made of `key` and the path of `src`. */
  swarm?: string;
  /** Proof for a signalling server that asks for one. */
  token?: string;
  /** Most that this viewer gives to others, in Mbit/s: at most 20, which is also what it is where nothing is said; 0 for none. */
  uploadCap?: number;
  /** Whether the viewer agrees to exchange video with others. Until it says yes, all is HTTP. */
  consent?: () => boolean | Promise<boolean>;
  /** `"relay"`: peers are reached through the signalling server's TURN servers alone, so that none learns an address. */
  ice?: "all" | "relay";
  /**
   * For a server that makes a playlist for each viewer, with advertisements of their own: the number of the segment at `url`
   * in the content that all have in common, ascending; `undefined` for what is this viewer's alone, which comes over HTTP.
   * Left out, it is the number in the playlist.
   */
  numberOf?: (url: string) => number | undefined;
}

/** The same, complete and with absolute URLs. */
export interface Settings {
  readonly source: string;
  readonly signal: string;
  readonly keys: readonly string[];
  readonly signed: boolean;
  readonly swarm: string;
  readonly token: string;
  /** Bytes a second. */
  readonly uploadCap: number;
  readonly relayOnly: boolean;
}

/** 20 Mbit/s. */
const USUAL_UPLOAD_CAP = 2_500_000;

/** Settings from options; `base` is what relative URLs are relative to. `undefined` where a URL is none. */
export function settingsOf(options: HeadwaterOptions, source: string, base: string): Settings | undefined {
  try {
    const signal = options.signal ? new URL(options.signal, base) : undefined;
    if (signal) signal.protocol = signal.protocol.replace("http", "ws");
    const keys = options.key?.split(/\s+/).filter((key) => key !== "") ?? [];
    const named = options.swarm ?? "";
    const { href, host, pathname } = new URL(source, base);
    return {
      source: href,
      signal: signal?.href ?? "",
      keys,
      signed: options.integrity !== "open",
      // As `SwarmName::derive` of crates/wire makes it.
      swarm: named === "" ? (keys[0] ?? `open/${host}`) + pathname : named,
      token: options.token ?? "",
      uploadCap: Number.isFinite(options.uploadCap) ? (options.uploadCap ?? 0) * 125_000 : USUAL_UPLOAD_CAP,
      relayOnly: options.ice === "relay",
    };
  } catch {
    return undefined;
  }
}

/** Whether this browser and these settings allow peers at all. What fails later costs nothing but the trying. */
export function peersArePossible(settings: Settings): boolean {
  const here = globalThis as Partial<typeof globalThis>;
  return (
    settings.signal !== "" &&
    (settings.keys.length > 0 || !settings.signed) &&
    typeof here.RTCPeerConnection === "function" &&
    typeof here.WebSocket === "function" &&
    typeof here.WebAssembly === "object" &&
    // Pages that are neither https nor localhost have no WebCrypto, and thus no signatures.
    (!settings.signed || typeof here.crypto?.subtle === "object")
  );
}
