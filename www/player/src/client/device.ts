// What this device can spare: whether it should give anything to others, and how much memory the swarm may have of it.

/** A battery below this, and not charging, is its owner's alone. */
const LOW_BATTERY = 0.2;

/** A battery that does not tell within this, in milliseconds, is not known. */
const BATTERY_WITHIN_MS = 500;

/** Why a client's life is aborted where another client should take its place. */
export const AGAIN = "again";

const MIB = 1024 * 1024;

/** Bytes kept for others, a GiB of the device's memory; and never less nor more than these. */
const SHARE = 16 * MIB;
const LEAST = 16 * MIB;
const MOST = 128 * MIB;

/** Where the browser does not tell its memory, what a device that is held in a hand may give. */
const HANDHELD = 48 * MIB;

interface Battery extends EventTarget {
  charging: boolean;
  level: number;
}

interface Device {
  connection?: EventTarget & { saveData?: boolean; type?: string };
  deviceMemory?: number;
  getBattery?(): Promise<Battery>;
}

/** Bytes of segments that may be kept. */
export function memoryBudget(): number {
  const { deviceMemory } = navigator as Device;
  if (deviceMemory) return Math.min(MOST, Math.max(LEAST, deviceMemory * SHARE));
  return matchMedia("(pointer:coarse)").matches ? HANDHELD : MOST;
}

/**
 * Whether the owner of this device wants its link or its battery to be spared, as far as the browser tells. `standing` is
 * aborted when that is not so any more: what was promised to peers cannot be taken back, so that it has to end.
 */
export async function isSparing(standing: AbortController): Promise<boolean> {
  const device = navigator as Device;
  const { connection } = device;
  const late = new Promise<undefined>((resolve) => {
    setTimeout(resolve, BATTERY_WITHIN_MS);
  });
  const battery = await Promise.race([device.getBattery?.(), late]).catch(() => undefined);
  const look = () =>
    connection?.saveData === true ||
    connection?.type === "cellular" ||
    (battery !== undefined && !battery.charging && battery.level < LOW_BATTERY);
  const now = look();
  const check = () => {
    if (look() !== now) standing.abort(AGAIN);
  };
  const { signal } = standing;
  connection?.addEventListener("change", check, { signal });
  for (const type of ["levelchange", "chargingchange"]) battery?.addEventListener(type, check, { signal });
  return now;
}
