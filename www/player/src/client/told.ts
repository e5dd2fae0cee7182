// What the client's `tell` is told: the numbers of `TOLD_*` in its Rust, where what goes with each is written.

export const WAKE = 0;
export const PLAYHEAD = 1;
export const CANCEL = 2;
export const MEASURED = 3;
export const SWARM_SIZE = 4;
export const FETCH_HEAD = 5;
export const FETCH_DONE = 6;
export const FETCH_FAILED = 7;
export const VERIFIED = 8;
