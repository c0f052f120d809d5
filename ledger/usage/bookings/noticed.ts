// What is noticed beside requests: hours in which the meter ran, what virtual keys are swapped for, from where keys are
// used.
import { DONE } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";

const HOUR_MS = 3_600_000;

export function bookMeterRan({ database }: Ledger): Booker<"meterRan"> {
  const insertHour = database.prepare("INSERT OR IGNORE INTO meter_hours (hour_ms) VALUES (?)");
  return ({ sinceMs, untilMs }) => {
    const firstMs = Math.floor(sinceMs / HOUR_MS) * HOUR_MS;
    for (let hourMs = firstMs; hourMs < untilMs; hourMs += HOUR_MS) insertHour.run(hourMs);
    return DONE;
  };
}

export function bookSeen({ database }: Ledger): Booker<"seen"> {
  const lastCredential = database
    .prepare("SELECT credential FROM credentials WHERE provider = ? ORDER BY since_ms DESC LIMIT 1")
    .pluck();
  const insertCredential = database.prepare(
    "INSERT OR REPLACE INTO credentials (provider, since_ms, credential, hint) VALUES (?, ?, ?, ?)",
  );
  const noteAddress = database.prepare(
    `INSERT INTO key_addresses (key_id, address, first_seen_ms, last_seen_ms) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET last_seen_ms = MAX(last_seen_ms, excluded.last_seen_ms)`,
  );
  return ({ seen: { credentials = [], addresses = [] } }) => {
    for (const { provider, credential, hint, atMs } of credentials)
      if (lastCredential.get(provider) !== credential) insertCredential.run(provider, atMs, credential, hint);
    for (const { keyId, address, atMs } of addresses) noteAddress.run(keyId, address, atMs, atMs);
    return DONE;
  };
}
