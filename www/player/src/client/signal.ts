// The connection to the signalling server: joins, re-joins with back-off, passes messages on. docs/signalling.md.

const VERSION = 1;

/** Re-joining waits between half of and this many milliseconds, doubled with each failure. */
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;

/** What the server said no to for good is asked again no sooner than this. */
const REFUSED_WAIT_MS = 300_000;
const REFUSALS = ["version", "unauthorised", "bad_message"];

/** The largest message that the protocol knows. */
const MAX_MESSAGE_LEN = 16 * 1024;

/** A session description or a candidate, as it travels. */
export type SignalData =
  | { kind: "offer" | "answer"; sdp: string }
  | { kind: "candidate"; candidate: string; sdp_mid?: string; sdp_m_line_index?: number };

/** What the server says, as far as this client acts on it. */
type ServerMessage =
  | { type: "welcome"; peer: string; resume: string; ice_servers: RTCIceServer[]; swarm_size: number }
  | { type: "connect"; peer: string; offer: boolean }
  | { type: "signal"; from: string; data: SignalData }
  | { type: "drain"; url?: string; after_ms: number }
  | { type: "error"; code: string; message: string }
  | { type: "gone"; peer: string };

/** What the client does about it. */
export interface SignalEvents {
  /** What a join says besides names: neighbours wanted, where the player is, and the neighbours there are. */
  standing(): { want: number; position_s: number | undefined; connected: string[] };
  welcome(ice: RTCIceServer[], swarmSize: number): void;
  connect(peer: string, offer: boolean): void;
  signal(from: string, data: SignalData): void;
}

export class Signal {
  #url: string;
  readonly #join: { swarm: string; token?: string };
  readonly #events: SignalEvents;
  #socket: WebSocket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #resume: string | undefined;
  #failures = 0;
  #refused = false;
  #joined = false;
  #closed = false;

  constructor(url: string, swarm: string, token: string, events: SignalEvents) {
    this.#url = url;
    this.#join = token ? { swarm, token } : { swarm };
    this.#events = events;
    this.#open();
  }

  /** Whether the server has let this peer in, and still listens. */
  get joined(): boolean {
    return this.#joined;
  }

  /**
   * Sends a message, or drops it where there is no connection, and says which: almost everything lost that way is said again on
   * re-joining.
   */
  send(message: Record<string, unknown>): boolean {
    if (!this.#joined || this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Joins anew, soon: the network has changed, and neither socket nor back-off mean anything. */
  again(): void {
    this.#failures = 0;
    // A whole network that comes back does not come all at once.
    if (!this.#refused) this.#again(FIRST_WAIT_MS * Math.random());
  }

  /** Leaves the swarm for good. */
  close(): void {
    this.send({ type: "leave" });
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#drop();
  }

  #open(): void {
    this.#drop();
    let socket: WebSocket;
    try {
      socket = this.#socket = new WebSocket(this.#url);
    } catch {
      // The URL can be no WebSocket's, or the page's policy forbids it: nothing changes by trying again.
      return;
    }
    socket.onopen = () => {
      const { connected, ...standing } = this.#events.standing();
      const again = this.#resume === undefined ? {} : { resume: this.#resume, connected };
      const join = { type: "join", version: VERSION, role: "viewer", ...this.#join, ...standing, ...again };
      socket.send(JSON.stringify(join));
    };
    socket.onmessage = (event: MessageEvent<unknown>) => {
      if (typeof event.data !== "string" || event.data.length > MAX_MESSAGE_LEN) return;
      try {
        this.#take(JSON.parse(event.data) as ServerMessage);
      } catch {
        // Not JSON, or not of the shape that it says: a server of another kind. Peers are optional.
      }
    };
    // `close` follows every `error`.
    socket.onclose = () => {
      this.#drop();
      this.#again(this.#wait());
    };
  }

  #take(message: ServerMessage): void {
    switch (message.type) {
      case "welcome":
        this.#resume = message.resume;
        this.#joined = true;
        this.#failures = 0;
        this.#events.welcome(message.ice_servers, message.swarm_size);
        break;
      case "connect":
        this.#events.connect(message.peer, message.offer);
        break;
      case "signal":
        this.#events.signal(message.from, message.data);
        break;
      case "drain":
        if (message.url) this.#url = new URL(message.url, this.#url).href;
        // Whatever it says: not at once, and not never.
        this.#again(Math.min(LONGEST_WAIT_MS, Math.max(FIRST_WAIT_MS, message.after_ms || 0)) * (1 + Math.random()));
        break;
      case "error":
        console.info(`headwater: the signalling server says: ${message.message}`);
        this.#refused = REFUSALS.includes(message.code);
        break;
      case "gone":
        break;
    }
  }

  #wait(): number {
    if (this.#refused) return REFUSED_WAIT_MS;
    const most = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures);
    this.#failures += 1;
    // Jitter, so that a server that comes back is not met by everyone at once.
    return most * (0.5 + Math.random() / 2);
  }

  #again(ms: number): void {
    clearTimeout(this.#timer);
    if (!this.#closed)
      this.#timer = setTimeout(() => {
        this.#open();
      }, ms);
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#joined = false;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}
