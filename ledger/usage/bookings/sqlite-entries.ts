// Entries as statements of SQLite, each run as it comes, inside the transaction of the batch.
import { answerFrom } from "../../asking.ts";
import type { Sqlite } from "../../sqlite.ts";
import { INSERT_EVENT } from "../event-columns.ts";
import { endedAtMs } from "../events.ts";
import { ROLLUP_COLUMNS, SUMS } from "../rollups.ts";
import { recordLate } from "../seals.ts";
import type { Entries } from "./entries.ts";

export function createSqliteEntries(database: Sqlite): Entries {
  const hold = database.prepare(
    "INSERT INTO reservations (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, person, payer, seat_nano_usd, tags, bound_nano_usd, expected_nano_usd, most_nano_usd) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
  );
  const extend = database.prepare("UPDATE reservations SET expected_nano_usd = ? WHERE attempt_id = ?");
  const insertEvent = database.prepare(INSERT_EVENT);
  const letGo = database.prepare("DELETE FROM reservations WHERE attempt_id = ?");
  const insertThing = database.prepare(
    "INSERT OR IGNORE INTO things (provider, name, key_id, attempt_id) VALUES (?, ?, ?, ?)",
  );
  const suspend = database.prepare("UPDATE reservations SET work_id = ?, tiers = ? WHERE attempt_id = ?");
  const addToHour = database.prepare(upsert("rollup_hour", "hour_ms"));
  const addToDay = database.prepare(upsert("rollup_day", "day"));
  const rememberName = database.prepare(
    "INSERT INTO served_names (provider, requested_model, served_model) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET served_model = excluded.served_model",
  );
  const insertKey = database.prepare(
    "INSERT OR IGNORE INTO keys (id, kind, provider, name, state, hint, created_at_ms) VALUES (?, 'fingerprint', ?, ?, 'active', ?, ?)",
  );
  const insertSecret = database.prepare(
    "INSERT OR IGNORE INTO key_secrets (digest, key_id, created_at_ms) VALUES (?, ?, ?)",
  );
  const countRefusal = database.prepare(
    "INSERT INTO refused (minute_ms, key_id, model, reason, budget_id, observed, count) VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
  );
  const insertHour = database.prepare("INSERT OR IGNORE INTO meter_hours (hour_ms) VALUES (?)");
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
  return {
    hold(request, endpoint, tags) {
      const { attemptId, subject, boundNanoUsd = null, expectedNanoUsd = null, mostNanoUsd = null } = request;
      const { payer = "", seatNanoUsd = null } = request;
      const { keyId, provider, model, team, project, env, user } = subject;
      const who = [attemptId, keyId, provider, endpoint, model, team, project, env, user, payer, seatNanoUsd, tags];
      hold.run(...who, boundNanoUsd, expectedNanoUsd, mostNanoUsd);
    },
    extend: (attemptId, expectedNanoUsd) => void extend.run(expectedNanoUsd, attemptId),
    event(row, attemptId, isLate) {
      insertEvent.run(...row);
      if (isLate) answerFrom(database, recordLate(attemptId, endedAtMs(row)));
      letGo.run(attemptId);
    },
    suspend({ provider, keyId, attemptId }, workId, tiers) {
      const isFirst = insertThing.run(provider, workId, keyId, attemptId).changes > 0;
      if (isFirst) suspend.run(workId, tiers.join(","), attemptId);
      return isFirst;
    },
    sums(rows) {
      for (const { hourMs, day, dimensions, cost, seat, counts } of rows) {
        const [requests, ...rest] = counts;
        addToHour.run(hourMs, ...dimensions, requests, cost, ...rest, seat);
        addToDay.run(day, ...dimensions, requests, cost, ...rest, seat);
      }
    },
    servedName: (...name) => void rememberName.run(...name),
    fingerprint: ({ keyId, provider, name, hint, atMs }) => void insertKey.run(keyId, provider, name, hint, atMs),
    secret: (...secret) => void insertSecret.run(...secret),
    refusal: ({ minuteMs, keyId, model, reason, budgetId, isTried }) =>
      void countRefusal.run(minuteMs, keyId, model, reason, budgetId, isTried ? 1 : 0),
    thing: (...thing) => void insertThing.run(...thing),
    meterHour: (hourMs) => void insertHour.run(hourMs),
    credential(provider, sinceMs, credential, hint) {
      if (lastCredential.get(provider) !== credential) insertCredential.run(provider, sinceMs, credential, hint);
    },
    address: (keyId, address, atMs) => void noteAddress.run(keyId, address, atMs, atMs),
  };
}

function upsert(table: string, time: string): string {
  return `INSERT INTO ${table} (${time}, ${ROLLUP_COLUMNS}, ${SUMS.join(", ")}) VALUES (${Array(10 + SUMS.length)
    .fill("?")
    .join(", ")})
    ON CONFLICT DO UPDATE SET ${SUMS.map((sum) => `${sum} = ${sum} + excluded.${sum}`).join(", ")}`;
}
