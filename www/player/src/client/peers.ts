// All neighbours' links, by peer. Who is connected to whom is the signalling server's and the engine's choice.

import { Link } from "./link.js";
import type { SignalData } from "./signal.js";

/** Most links, open or opening: above what the engine keeps, below what browsers allow. */
const MAX_LINKS = 40;

/** Most banned peers remembered: the oldest is forgotten first. */
const MAX_BANNED = 256;

const PEER_ID = /^[0-9a-f]{16}$/;

/** What the links tell the client. */
export interface PeerEvents {
  signal(to: string, data: SignalData): void;
  open(peer: bigint): void;
  closed(peer: bigint): void;
  /** The last channel over which anything is heard is gone, whoever ended it; or is there, and has fallen silent. */
  alone(): void;
  /** A link that never opened, or is over: the server may count it out. */
  lost(peer: string): void;
  frame(peer: bigint, frame: Uint8Array): void;
  chunkSent(peer: bigint, header: Uint8Array): void;
}

/** A peer's id as the signalling server writes it. */
function nameOf(peer: bigint): string {
  return peer.toString(16).padStart(16, "0");
}

export class Peers {
  readonly #events: PeerEvents;
  readonly #policy: RTCIceTransportPolicy;
  readonly #links = new Map<string, Link>();
  /** Links whose last word is on its way. */
  readonly #leaving = new Set<Link>();
  readonly #banned = new Set<string>();
  #ice: RTCIceServer[] = [];

  /** With `relayOnly`, peers are reached through TURN alone. */
  constructor(relayOnly: boolean, events: PeerEvents) {
    this.#policy = relayOnly ? "relay" : "all";
    this.#events = events;
  }

  /** What to reach peers by from now on. */
  set iceServers(ice: RTCIceServer[]) {
    this.#ice = ice;
  }

  /** The peers with an open channel. */
  get connected(): string[] {
    return [...this.#links].filter(([, link]) => link.isOpen).map(([peer]) => peer);
  }

  /** The server paired this peer with another. */
  connect(peer: string, offer: boolean): void {
    const old = this.#links.get(peer);
    if (!PEER_ID.test(peer) || this.#banned.has(peer) || old?.isOpen) return;
    if (old) this.#forget(peer, old);
    if (this.#links.size >= MAX_LINKS) return;
    const id = BigInt(`0x${peer}`);
    let opened = false;
    try {
      const link = new Link(
        { iceServers: this.#ice, iceTransportPolicy: this.#policy },
        {
          signal: (data) => {
            this.#events.signal(peer, data);
          },
          open: () => {
            opened = true;
            this.#events.open(id);
          },
          frame: (frame) => {
            this.#events.frame(id, frame);
          },
          chunkSent: (header) => {
            this.#events.chunkSent(id, header);
          },
          silent: () => {
            this.#ended();
          },
          closed: () => {
            this.#links.delete(peer);
            this.#events.lost(peer);
            if (!opened) return;
            this.#events.closed(id);
            this.#ended();
          },
        },
      );
      this.#links.set(peer, link);
      if (offer) link.offer();
    } catch {
      this.#events.lost(peer);
    }
  }

  /** Something for this peer's link to another came through the server. */
  signal(from: string, data: SignalData): void {
    this.#links.get(from)?.take(data);
  }

  /** Sends a control frame. */
  send(peer: bigint, frame: Uint8Array): void {
    this.#links.get(nameOf(peer))?.send(frame);
  }

  /** Sends a chunk; see `Link.sendChunk`. */
  sendChunk(peer: bigint, header: Uint8Array, chunk: Uint8Array, piece: number): void {
    this.#links.get(nameOf(peer))?.sendChunk(header, chunk, piece);
  }

  /** Ends a connection at the engine's word. */
  disconnect(peer: bigint, ban: boolean): void {
    const name = nameOf(peer);
    if (ban) {
      this.#banned.add(name);
      const [oldest] = this.#banned;
      if (this.#banned.size > MAX_BANNED && oldest !== undefined) this.#banned.delete(oldest);
    }
    const link = this.#links.get(name);
    if (!link) return;
    this.#links.delete(name);
    const wasOpen = link.isOpen;
    // The engine's last word to it, why it goes, is on its way.
    this.#leaving.add(link);
    link.close(() => this.#leaving.delete(link));
    this.#events.lost(name);
    if (wasOpen) this.#ended();
  }

  /** Ends the connections over which nothing is heard. */
  drop(): void {
    for (const link of this.#links.values()) link.check();
  }

  /** Ends every connection. */
  close(): void {
    for (const [peer, link] of this.#links) this.#forget(peer, link);
    for (const link of this.#leaving) link.close();
  }

  #ended(): void {
    if (![...this.#links.values()].some((link) => link.isOpen && !link.isSilent)) this.#events.alone();
  }

  #forget(peer: string, link: Link): void {
    this.#links.delete(peer);
    link.close();
  }
}
