// What is noticed beside requests: hours in which the meter ran, what virtual keys are swapped for, from where keys are
// used.
import { DONE } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";

const HOUR_MS = 3_600_000;

export function bookMeterRan({ entries }: Ledger): Booker<"meterRan"> {
  return ({ sinceMs, untilMs }) => {
    const firstMs = Math.floor(sinceMs / HOUR_MS) * HOUR_MS;
    for (let hourMs = firstMs; hourMs < untilMs; hourMs += HOUR_MS) entries.meterHour(hourMs);
    return DONE;
  };
}

export function bookSeen({ entries }: Ledger): Booker<"seen"> {
  return ({ seen: { credentials = [], addresses = [] } }) => {
    for (const { provider, credential, hint, atMs } of credentials)
      entries.credential(provider, atMs, credential, hint);
    for (const { keyId, address, atMs } of addresses) entries.address(keyId, address, atMs);
    return DONE;
  };
}
