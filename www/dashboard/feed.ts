// A swarm's statistics as the server tells them, event by event, for as long as somebody wants them.

/** What `/v1/swarms/{swarm}/stats` says; bytes are those of the present members since each of them joined. */
export interface SwarmStats {
  swarm: string;
  viewers: number;
  seeds: number;
  http_bytes: number;
  seed_bytes: number;
  viewer_bytes: number;
  uploaded_bytes: number;
  /** Data channels open now, of all members together. */
  neighbours: number;
}

/** What a feed tells its page. */
export interface FeedEvents {
  stats(stats: SwarmStats): void;
  /** Why nothing comes; `final` where asking again the same way is no use. */
  trouble(why: string, final: boolean): void;
}

/** Waits between two tries: the first, and the longest. */
const RETRY_MS = 1_000;
const RETRY_MOST_MS = 30_000;

/** An event is some hundred bytes; whoever sends this much without an end is no statistics. */
const MAX_EVENT_CHARS = 65_536;

/**
 * Follows a swarm until `signal` is aborted. The token goes in a header, which `EventSource` cannot send: an address would
 * end in logs and histories.
 */
export async function follow(swarm: string, token: string, signal: AbortSignal, events: FeedEvents): Promise<void> {
  let wait = RETRY_MS;
  for (;;) {
    try {
      const response = await fetch(`/v1/swarms/${encodeURIComponent(swarm)}/stats`, {
        headers: { accept: "text/event-stream", ...(token && { authorization: `Bearer ${token}` }) },
        cache: "no-store",
        signal,
      });
      if (!response.ok || !response.body) {
        const why = (await response.text()).trim() || `the server answers ${response.status}`;
        const final = response.status >= 400 && response.status < 500 && response.status !== 429;
        events.trouble(why, final);
        if (final) return;
      } else {
        await read(response.body, (stats) => {
          wait = RETRY_MS;
          events.stats(stats);
        });
        events.trouble("the server ended the connection; asking again", false);
      }
    } catch (error) {
      if (signal.aborted) return;
      events.trouble(`the server cannot be reached (${String(error)}); asking again`, false);
    }
    await pause(wait, signal);
    if (signal.aborted) return;
    wait = Math.min(wait * 2, RETRY_MOST_MS);
  }
}

async function read(body: ReadableStream<Uint8Array>, tell: (stats: SwarmStats) => void): Promise<void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      const parts = text.split("\n\n");
      text = parts.pop() ?? "";
      if (text.length > MAX_EVENT_CHARS) throw new Error("an event without an end");
      for (const part of parts) {
        const data = part.split("\n").filter((line) => line.startsWith("data:"));
        if (data.length > 0) tell(JSON.parse(data.map((line) => line.slice(5)).join("\n")) as SwarmStats);
      }
    }
  } finally {
    // Else what is not read any more would go on coming. Of a connection that broke there is nothing to give up.
    reader.cancel().catch(() => undefined);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}
