// The whole of Headwater for a page: the `<headwater-video>` element, and `hls()` for pages that have their own hls.js.

import { HeadwaterVideo } from "./element.js";
import type { PeerEventDetail } from "./session.js";

export { HeadwaterVideo } from "./element.js";
export type { PlayerErrorDetail } from "./element.js";
export { hls, statsOf } from "./hls/adapter.js";
export type { HlsPart } from "./hls/adapter.js";
export { Session } from "./session.js";
export type { HeadwaterOptions } from "./options.js";
export type { HeadwaterStats, PeerEventDetail } from "./session.js";
export type { ClientEvent, Timing, TrackName } from "./client/client.js";

const registry = (globalThis as Partial<typeof globalThis>).customElements;
if (registry && !registry.get("headwater-video")) registry.define("headwater-video", HeadwaterVideo);

declare global {
  interface HTMLElementTagNameMap {
    "headwater-video": HeadwaterVideo;
  }
  interface HTMLElementEventMap {
    headwaterpeer: CustomEvent<PeerEventDetail>;
    headwaterchange: Event;
  }
}
