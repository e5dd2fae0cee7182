// The engine's host: gives it sockets, requests, timers and cryptography, and carries its words to the player.

import { type Client as Core, Client as CoreClass, trackOf, type Host } from "#client";

import type { Settings } from "../options.js";
import { isSparing, memoryBudget } from "./device.js";
import { Http, type SegmentRequest } from "./http.js";
import { Keys } from "./keys.js";
import { load } from "./load.js";
import { Peers } from "./peers.js";
import { Signal } from "./signal.js";
import { CANCEL, MEASURED, PLAYHEAD, SWARM_SIZE, VERIFIED, WAKE } from "./told.js";

/** How often the signalling server hears what this peer carried. */
const REPORT_EVERY_MS = 15_000;

/** A client that has not heard from the signalling server after this begins without it. */
const WELCOME_WITHIN_MS = 2_000;

/** The signalling server hears where in content on demand the player is so often, and after a jump this far. */
const TELL_EVERY_S = 60;
const JUMP_S = 20;

/** Whoever hears no neighbour any more joins anew, but no more often than this. */
const ALONE_EVERY_MS = 10_000;

/** Calls that wait for an engine whose module still loads, at most: a neighbour that says more than that means no good. */
const MAX_WAITING = 1_000;

/** Neighbours asked for in the first join, before the engine has said how many it wants. */
const FIRST_WANT = 8;

/** When the bytes of a delivered segment were asked for and came, on the clock of `performance.now()`. */
export interface Timing {
  requested: number;
  firstByte: number;
  complete: number;
}

/** What names a track to every viewer: the URL of its media playlist or, where it has none, a key. */
export type TrackName = string | { readonly key: string };

/** What the client counts. */
export interface ClientStats {
  httpBytes: number;
  seedBytes: number;
  viewerBytes: number;
  uploadedBytes: number;
  wastedBytes: number;
  heldBytes: number;
  neighbours: number;
}

export const NOTHING: Readonly<ClientStats> = {
  httpBytes: 0,
  seedBytes: 0,
  viewerBytes: 0,
  uploadedBytes: 0,
  wastedBytes: 0,
  heldBytes: 0,
  neighbours: 0,
};

/** What happens in the client that a page may want to know; the order is that of `EVENT_*` in the client's Rust. */
const EVENTS = ["neighbour", "seed", "banned", "origin-differs", "catalogue-not-signed"] as const;

export type ClientEvent = (typeof EVENTS)[number];

/** What the client asks of its owner. */
export interface ClientOwner {
  /** Where the player is, in whole seconds of the content; nothing where it is live. */
  position(): number | undefined;
  request(track: bigint, seq: number): SegmentRequest | undefined;
  event(kind: ClientEvent, peer: bigint): void;
}

interface Demand {
  deliver(bytes: ArrayBuffer, timing: Timing): void;
  fail(): void;
}

function segmentName(track: bigint, seq: number): string {
  return `${track.toString(36)}/${seq}`;
}

export class Client implements Host {
  readonly #owner: ClientOwner;
  readonly #settings: Settings;
  readonly #keys: Keys | undefined;
  /** Nothing as long as its module loads, while neighbours are found already. */
  #core: Core | undefined;
  readonly #http: Http;
  readonly #peers: Peers;
  readonly #signal: Signal;
  readonly #demands = new Map<number, Demand>();
  /** The engine knows how many others there are, or that this cannot be known for now. */
  readonly #welcomed: Promise<void>;
  /** Aborted where it ends, whoever ends it. */
  readonly #life: AbortController;
  #demand = 0;
  #want = FIRST_WANT;
  /** Where the signalling server knows the player to be, in seconds, and since when. */
  #told = 0;
  #toldAt = 0;
  #aloneAt = -Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #adopting: ReturnType<typeof setTimeout> | undefined;
  readonly #reporting: ReturnType<typeof setInterval>;
  #inside = false;
  #closed = false;
  #later: ((core: Core) => void)[] = [];
  #last: ClientStats = NOTHING;

  /**
   * A client in its swarm, or `undefined` where this browser or these settings allow none. Its `life` is aborted by the owner to
   * end it, started or not, by itself where it fails, and for the reason `AGAIN` where what it promised holds no more.
   */
  static async start(settings: Settings, owner: ClientOwner, life: AbortController): Promise<Client | undefined> {
    const keys = settings.signed ? await Keys.import(settings.keys) : undefined;
    if (settings.signed && !keys) return undefined;
    if (life.signal.aborted) return undefined;
    // It joins while its engine loads: a viewer that has only just begun has little time to find neighbours.
    const client = new Client(settings, keys, owner, life);
    const [sparing] = await Promise.all([isSparing(life), load(), client.#welcomed]);
    if (client.#closed) return undefined;
    client.#begin(sparing ? 0 : settings.uploadCap);
    return client;
  }

  private constructor(settings: Settings, keys: Keys | undefined, owner: ClientOwner, life: AbortController) {
    this.#settings = settings;
    this.#life = life;
    this.#keys = keys;
    this.#owner = owner;
    this.#http = new Http((call) => this.#enter(call));
    this.#peers = new Peers(settings.relayOnly, {
      signal: (to, data) => {
        this.#signal.send({ type: "signal", to, data });
      },
      open: (peer) => {
        this.#soon((inner) => {
          inner.connected(peer, true);
        });
      },
      closed: (peer) => {
        this.#soon((inner) => {
          inner.connected(peer, false);
        });
      },
      alone: () => {
        // Perhaps the network is another: then the socket is as dead as they are, and will not know for minutes.
        const now = performance.now();
        if (now - this.#aloneAt < ALONE_EVERY_MS) return;
        this.#aloneAt = now;
        this.#signal.again();
      },
      lost: (peer) => {
        this.#signal.send({ type: "lost", peer });
      },
      frame: (peer, frame) => {
        if (!this.#core && this.#later.length >= MAX_WAITING) this.#peers.disconnect(peer, true);
        this.#soon((inner) => {
          inner.frame(peer, frame);
        });
      },
      chunkSent: (peer, header) => {
        this.#soon((inner) => {
          inner.chunkSent(peer, header);
        });
      },
    });
    let welcome: (() => void) | undefined;
    this.#welcomed = new Promise((resolve) => {
      welcome = resolve;
      setTimeout(resolve, WELCOME_WITHIN_MS);
    });
    this.#signal = new Signal(settings.signal, settings.swarm, settings.token, {
      standing: () => ({
        want: this.#want,
        position_s: this.#tell(this.#owner.position()),
        connected: this.#peers.connected,
      }),
      welcome: (ice, swarmSize) => {
        this.#peers.iceServers = ice;
        // The server is heard: who is not belongs to a network that was left, or has left.
        this.#peers.drop();
        this.#say(SWARM_SIZE, swarmSize);
        welcome?.();
      },
      connect: (peer, offer) => {
        this.#peers.connect(peer, offer);
      },
      signal: (from, data) => {
        this.#peers.signal(from, data);
      },
    });
    this.#reporting = setInterval(() => {
      this.#report();
    }, REPORT_EVERY_MS);
    const { signal } = life;
    signal.addEventListener("abort", () => {
      this.#close();
    });
    addEventListener(
      "online",
      () => {
        // Perhaps another network: what did not survive the change is not waited for.
        this.#signal.again();
        this.#peers.drop();
      },
      { signal },
    );
  }

  /** Its module is there. */
  #begin(cap: number): void {
    const { swarm, signed } = this.#settings;
    const seed = Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);
    this.#core = CoreClass.create(this, swarm, signed, cap, memoryBudget(), seed);
    if (!this.#core) throw new Error("no swarm can have this name");
    this.#rest();
    this.#say(WAKE);
  }

  /** The id of the track with this media playlist, or with this key. */
  track(name: TrackName): bigint {
    return typeof name === "string" ? trackOf(this.#settings.source, name) : trackOf("", name.key);
  }

  /** A playlist was loaded or refreshed; `flat` holds sequence number, start and duration of what is new. */
  playlist(track: bigint, live: boolean, first: number, flat: Float64Array): void {
    this.#soon((core) => {
      core.playlist(track, live, first, flat);
    });
  }

  /** The playhead moved. */
  playhead(position: number, bufferedTo: number, rate: number): void {
    const passed = (performance.now() - this.#toldAt) / 1000;
    if (passed >= TELL_EVERY_S || Math.abs(this.#told + passed - position) >= JUMP_S) {
      const position_s = this.#owner.position();
      if (position_s === undefined || this.#signal.send({ type: "watching", position_s })) this.#tell(position_s);
    }
    this.#say(PLAYHEAD, position, bufferedTo, rate);
  }

  /** Asks for a segment. Returns a function that takes the request back. */
  demand(track: bigint, seq: number, audio: boolean, demand: Demand): () => void {
    const id = ++this.#demand;
    this.#demands.set(id, demand);
    this.#soon((core) => {
      core.demand(id, track, seq, audio);
    });
    return () => {
      if (this.#demands.delete(id)) this.#say(CANCEL, id);
    };
  }

  /** How far a segment has come: its bytes, and whether the origin is being asked for it. */
  progress(track: bigint, seq: number): { bytes: number; fetching: boolean } {
    const bytes = this.#enter((core) => core.progress(track, seq)) ?? 0;
    return { bytes, fetching: this.#http.isFetching(segmentName(track, seq)) };
  }

  /** The player loaded a segment by itself, this fast. */
  measured(bytes: number, { requested, firstByte, complete }: Timing): void {
    this.#say(MEASURED, firstByte - requested, bytes, complete - firstByte);
  }

  /** Shares a segment that the player loaded by itself. */
  adopt(track: bigint, seq: number, bytes: ArrayBuffer): void {
    this.#soon((core) => {
      core.adopt(track, seq, new Uint8Array(bytes));
    });
    this.#adopting ??= setTimeout(() => {
      this.#adopt();
    });
  }

  stats(): ClientStats {
    const counted = this.#enter((core) => core.stats());
    if (counted) {
      const [httpBytes = 0, seedBytes = 0, viewerBytes = 0, uploadedBytes = 0, wastedBytes = 0, heldBytes = 0] =
        counted;
      const neighbours = counted[6] ?? 0;
      this.#last = { httpBytes, seedBytes, viewerBytes, uploadedBytes, wastedBytes, heldBytes, neighbours };
    }
    return this.#last;
  }

  /** Leaves the swarm; every open demand fails. */
  #close(): void {
    this.#report();
    this.#last = { ...this.#last, heldBytes: 0, neighbours: 0 };
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#adopting);
    clearInterval(this.#reporting);
    this.#signal.close();
    this.#peers.close();
    this.#http.close();
    const demands = [...this.#demands.values()];
    this.#demands.clear();
    for (const demand of demands) demand.fail();
    if (!this.#inside) this.#core?.free();
  }

  // What the engine says.

  timer(ms: number): void {
    clearTimeout(this.#timer);
    if (ms !== Infinity)
      this.#timer = setTimeout(
        () => {
          this.#say(WAKE);
        },
        Math.max(0, ms),
      );
  }

  send(peer: bigint, frame: Uint8Array): void {
    this.#peers.send(peer, frame);
  }

  sendChunk(peer: bigint, header: Uint8Array, chunk: Uint8Array, piece: number): void {
    this.#peers.sendChunk(peer, header, chunk, piece);
  }

  disconnect(peer: bigint, ban: boolean): void {
    this.#peers.disconnect(peer, ban);
  }

  want(count: number): void {
    this.#want = count;
    this.#signal.send({ type: "want", count });
  }

  fetch(fetch: number, track: bigint, seq: number, start: number, end: number): void {
    this.#http.fetch(fetch, segmentName(track, seq), this.#owner.request(track, seq), start, end);
  }

  abort(fetch: number): void {
    this.#http.abort(fetch);
  }

  fetchCatalogue(): void {
    void this.#http.catalogue(this.#settings.source).then((file) => {
      this.#soon((core) => {
        core.catalogue(file);
      });
    });
  }

  verify(id: number, hint: Uint8Array, signature: Uint8Array, message: Uint8Array): void {
    const verified = this.#keys?.verify(hint, signature as BufferSource, message as BufferSource);
    void Promise.resolve(verified).then((valid) => {
      // Neither true nor false where the key is another's.
      this.#say(VERIFIED, id, valid === undefined ? NaN : +valid);
    });
  }

  deliver(id: number, bytes: Uint8Array, requested: number, firstByte: number, complete: number): void {
    this.#answer(id, (demand) => {
      demand.deliver(bytes.buffer as ArrayBuffer, { requested, firstByte, complete });
    });
  }

  fail(id: number): void {
    this.#answer(id, (demand) => {
      demand.fail();
    });
  }

  event(kind: number, peer: bigint): void {
    const name = EVENTS[kind];
    if (name)
      queueMicrotask(() => {
        this.#owner.event(name, peer);
      });
  }

  /** The player may do anything when it is answered, so that it must not be while the engine speaks. */
  #answer(id: number, answer: (demand: Demand) => void): void {
    const demand = this.#demands.get(id);
    this.#demands.delete(id);
    if (demand)
      queueMicrotask(() => {
        answer(demand);
      });
  }

  /** Calls into the engine now; `undefined` where that is not possible. A trap ends the client, never the page. */
  #enter<T>(call: (core: Core) => T): T | undefined {
    const core = this.#core;
    if (this.#closed || this.#inside || !core) return undefined;
    this.#inside = true;
    try {
      return call(core);
    } catch (error) {
      console.warn("headwater: the client failed; playback goes on over HTTP", error);
      this.#life.abort();
      return undefined;
    } finally {
      this.#inside = false;
      if (this.#later.length > 0) this.#rest();
    }
  }

  /** Calls into the engine now, or as soon as it is there and has finished speaking. */
  #soon(call: (core: Core) => void): void {
    if (this.#inside || !this.#core) this.#later.push(call);
    else this.#enter(call);
  }

  /** Tells the engine something, as `#soon` calls it. */
  #say(what: number, a = 0, b = 0, c = 0): void {
    this.#soon((core) => {
      core.tell(what, a, b, c);
    });
  }

  #rest(): void {
    const later = this.#later;
    this.#later = [];
    for (const call of later) this.#soon(call);
  }

  #adopt(): void {
    const more = this.#enter((core) => core.adoptStep());
    this.#adopting = more
      ? setTimeout(() => {
          this.#adopt();
        })
      : undefined;
  }

  /** Notes where the player is, as the server is told now, and gives it back. */
  #tell(position: number | undefined): number | undefined {
    this.#toldAt = performance.now();
    this.#told = position ?? 0;
    return position;
  }

  #report(): void {
    const { httpBytes, seedBytes, viewerBytes, uploadedBytes } = this.stats();
    this.#signal.send({
      type: "stats",
      http_bytes: httpBytes,
      seed_bytes: seedBytes,
      viewer_bytes: viewerBytes,
      uploaded_bytes: uploadedBytes,
      neighbours: this.#peers.connected.length,
    });
  }
}
