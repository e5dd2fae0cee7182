// What the demo and the dashboard share: finding elements, the names of sources, their own server.

/** Where bytes come from, by the names that style sheets know them by. */
export const SOURCES = ["viewer", "seed", "http"] as const;

/** The element that the page has by this id. */
export function find(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** Where the page's own server pairs viewers. */
export function ownSignal(): string {
  const signal = new URL("/v1/signal", location.href);
  signal.protocol = signal.protocol.replace("http", "ws");
  return signal.href;
}
