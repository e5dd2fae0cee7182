// One neighbour: its RTCPeerConnection, its data channel, and the frames that wait for room in it.

import type { SignalData } from "./signal.js";

/** A channel with more than this waiting to be sent is full. */
const MAX_BUFFERED = 64 * 1024;

/** With no more than this waiting, a chunk has left: what the engine learns from must not be what the browser still holds. */
const LEFT = 16 * 1024;

/** A connection that is not open after this is not going to be. */
const OPEN_WITHIN_MS = 15_000;

/** How long a goodbye may take to leave before the connection is torn down. */
const LINGER_MS = 500;

/** Candidates that may come before the description they belong to. */
const MAX_EARLY_CANDIDATES = 64;

/** Length of a data frame's header, and where in it the piece's offset stands. docs/protocol.md. */
const HEADER_LEN = 25;
const OFFSET_AT = 21;

/** What every stack takes, and the least that a peer may say to take: frames are not made of headers. RFC 8841. */
const MESSAGE_LEN = 64 * 1024;
const LEAST_MESSAGE_LEN = 16 * 1024;

/** What a link tells its owner. */
export interface LinkEvents {
  signal(data: SignalData): void;
  open(): void;
  frame(frame: Uint8Array): void;
  chunkSent(header: Uint8Array): void;
  /** The peer has not been heard from for a while. */
  silent(): void;
  /** It is over; nothing follows. Not said of a link that its owner closes. */
  closed(): void;
}

interface Chunk {
  header: Uint8Array;
  bytes: Uint8Array;
  piece: number;
  at: number;
}

/** Bytes that may wait for a peer to read them, chunks and control frames together. */
const MOST_BUFFERED = 4 * 1024 * 1024;

export class Link {
  readonly #events: LinkEvents;
  readonly #pc: RTCPeerConnection;
  readonly #channel: RTCDataChannel;
  readonly #opening: ReturnType<typeof setTimeout>;
  readonly #chunks: Chunk[] = [];
  readonly #early: RTCIceCandidateInit[] = [];

  /** Throws where the browser will not make a connection: too many of them, or `ice` names servers that are none. */
  constructor(ice: RTCConfiguration, events: LinkEvents) {
    this.#events = events;
    const pc = (this.#pc = new RTCPeerConnection(ice));
    const channel = (this.#channel = pc.createDataChannel("headwater", { negotiated: true, id: 0, ordered: true }));
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = LEFT;
    channel.onopen = () => {
      clearTimeout(this.#opening);
      events.open();
    };
    channel.onmessage = (event: MessageEvent<unknown>) => {
      if (event.data instanceof ArrayBuffer) events.frame(new Uint8Array(event.data));
    };
    channel.onbufferedamountlow = () => {
      this.#pump();
    };
    channel.onclose = () => {
      this.#fail();
    };
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === "failed" || pc.connectionState === "closed") this.#fail();
      else if (this.isSilent) events.silent();
    };
    pc.onicecandidate = ({ candidate }) => {
      if (!candidate?.candidate) return;
      events.signal({
        kind: "candidate",
        candidate: candidate.candidate,
        ...(candidate.sdpMid === null ? {} : { sdp_mid: candidate.sdpMid }),
        ...(candidate.sdpMLineIndex === null ? {} : { sdp_m_line_index: candidate.sdpMLineIndex }),
      });
    };
    this.#opening = setTimeout(() => {
      this.#fail();
    }, OPEN_WITHIN_MS);
  }

  /** Whether the data channel is open. */
  get isOpen(): boolean {
    return this.#channel.readyState === "open";
  }

  /** Whether the peer has not been heard from for a while. */
  get isSilent(): boolean {
    return this.#pc.connectionState === "disconnected";
  }

  /** Makes the offer. */
  offer(): void {
    this.#describe().catch(() => {
      this.#fail();
    });
  }

  /** Takes in what the other side sends through the signalling server. */
  take(data: SignalData): void {
    if (data.kind === "candidate") {
      const { candidate, sdp_mid: sdpMid = null, sdp_m_line_index: sdpMLineIndex = null } = data;
      this.#candidate({ candidate, sdpMid, sdpMLineIndex });
    } else {
      this.#described(data.kind, data.sdp).catch(() => {
        this.#fail();
      });
    }
  }

  /** Sends a control frame. */
  send(frame: Uint8Array): void {
    if (!this.isOpen) return;
    try {
      // A peer that does not read fills nobody's memory; one with odd limits ends nothing but itself.
      if (this.#channel.bufferedAmount > MOST_BUFFERED) throw new Error("the peer does not read");
      this.#channel.send(frame as Uint8Array<ArrayBuffer>);
    } catch {
      this.#fail();
    }
  }

  /** Sends a chunk, or a part of one, in frames of `piece` bytes, as the channel has room. */
  sendChunk(header: Uint8Array, bytes: Uint8Array, piece: number): void {
    this.#chunks.push({ header, bytes, piece, at: 0 });
    this.#pump();
  }

  /** Ends the connection where it is not up now. */
  check(): void {
    if (this.isSilent) this.#fail();
  }

  /** Ends the connection and detaches every listener; with `left`, which is called then, what was sent last still leaves. */
  close(left?: () => void): void {
    clearTimeout(this.#opening);
    const channel = this.#channel;
    channel.onopen = channel.onmessage = channel.onbufferedamountlow = channel.onclose = null;
    this.#pc.onconnectionstatechange = this.#pc.onicecandidate = null;
    this.#chunks.length = 0;
    channel.close();
    if (left)
      setTimeout(() => {
        this.#pc.close();
        left();
      }, LINGER_MS);
    else this.#pc.close();
  }

  #fail(): void {
    this.close();
    this.#events.closed();
  }

  async #describe(): Promise<void> {
    await this.#pc.setLocalDescription();
    const description = this.#pc.localDescription;
    if (description?.type === "offer" || description?.type === "answer") {
      this.#events.signal({ kind: description.type, sdp: description.sdp });
    }
  }

  async #described(type: "offer" | "answer", sdp: string): Promise<void> {
    await this.#pc.setRemoteDescription({ type, sdp });
    for (const candidate of this.#early.splice(0)) this.#candidate(candidate);
    if (type === "offer") await this.#describe();
  }

  #candidate(candidate: RTCIceCandidateInit): void {
    if (this.#pc.remoteDescription) {
      // A candidate that cannot be used is one way less; others may do.
      this.#pc.addIceCandidate(candidate).catch(() => undefined);
    } else if (this.#early.length < MAX_EARLY_CANDIDATES) {
      this.#early.push(candidate);
    }
  }

  #pump(): void {
    for (let chunk = this.#chunks[0]; chunk && this.isOpen; chunk = this.#chunks[0]) {
      const waiting = this.#channel.bufferedAmount;
      if (chunk.at < chunk.bytes.length) {
        if (waiting > MAX_BUFFERED) return;
        this.#sendPiece(chunk);
      } else {
        if (waiting > LEFT) return;
        this.#chunks.shift();
        this.#events.chunkSent(chunk.header);
      }
    }
  }

  #sendPiece(chunk: Chunk): void {
    // What the peer's engine takes may be more than what its browser and this one agreed on.
    const most = this.#pc.sctp?.maxMessageSize ?? MESSAGE_LEN;
    if (most < LEAST_MESSAGE_LEN) {
      this.#fail();
      return;
    }
    const piece = chunk.bytes.subarray(chunk.at, chunk.at + Math.min(chunk.piece, most - HEADER_LEN));
    const frame = new Uint8Array(HEADER_LEN + piece.length);
    frame.set(chunk.header);
    const view = new DataView(frame.buffer);
    // It may be a part of a chunk: the header says where that begins.
    view.setUint32(OFFSET_AT, view.getUint32(OFFSET_AT, true) + chunk.at, true);
    frame.set(piece, HEADER_LEN);
    chunk.at += piece.length;
    try {
      this.#channel.send(frame);
    } catch {
      // The channel's own buffer is full or it has just closed: its events say which.
      chunk.at -= piece.length;
      this.#chunks.length = 0;
      this.#fail();
    }
  }
}
