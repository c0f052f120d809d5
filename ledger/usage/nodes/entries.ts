// Entries of a batch for Postgres: gathered as rows, and sent together (work.ts). What is added to a row of the books is one
// row here: one statement touches none twice.
import { AT, EVENT_NAMES } from "../event-columns.ts";
import { ROLLUP_COLUMNS, SUMS } from "../rollups.ts";
import type { RollupRow } from "../rollups.ts";
import type { Entries } from "../bookings/entries.ts";
import type { AttemptId } from "../../ids.ts";
import type { Held } from "../reservations.ts";
import type { Row, Work } from "./work.ts";

export type NodeEntries = Entries & {
  /** What was gathered, without parts of it that are empty. */
  gathered(): Work;
  /** Begins anew. */
  clear(): void;
};

/** `heldBy`: what an open attempt holds. */
export function createNodeEntries(heldBy: (attemptId: AttemptId) => readonly Held[]): NodeEntries {
  const lists = () => ({
    reservations: new Map<AttemptId, Row>(),
    extended: new Map<AttemptId, Row>(),
    suspended: [] as Row[],
    events: [] as Row[],
    hours: new Map<string, Row>(),
    days: new Map<string, Row>(),
    keys: new Map<string, Row>(),
    secrets: new Map<string, Row>(),
    things: [] as Row[],
    refused: new Map<string, Row & { count: number }>(),
    servedNames: new Map<string, Row>(),
    addresses: new Map<string, Row>(),
    credentials: new Map<string, Row>(),
    meterHours: new Set<number>(),
  });
  let now = lists();

  return {
    hold({ attemptId, subject, boundNanoUsd, expectedNanoUsd, mostNanoUsd, payer = "", seatNanoUsd }, endpoint, tags) {
      const { keyId, provider, model, team, project, env, user } = subject;
      now.reservations.set(attemptId, {
        attempt_id: attemptId,
        key_id: keyId,
        provider,
        endpoint,
        requested_model: model,
        team,
        project,
        env,
        person: user,
        payer,
        seat_nano_usd: seatNanoUsd?.toString() ?? null,
        tags,
        bound_nano_usd: boundNanoUsd?.toString() ?? null,
        expected_nano_usd: expectedNanoUsd?.toString() ?? null,
        most_nano_usd: mostNanoUsd?.toString() ?? null,
        holds: holdsText(heldBy(attemptId)),
      });
    },
    extend(attemptId, expectedNanoUsd) {
      now.extended.set(attemptId, {
        attempt_id: attemptId,
        expected_nano_usd: expectedNanoUsd.toString(),
        holds: holdsText(heldBy(attemptId)),
      });
    },
    event(row) {
      now.events.push(Object.fromEntries(EVENT_NAMES.map((name, i) => [name, row[i] ?? null])));
      // What was held and is over within one batch was never there.
      now.reservations.delete(Number(row[AT.attemptId]));
    },
    suspend({ attemptId, provider, keyId }, workId, tiers) {
      now.suspended.push({
        attempt_id: attemptId,
        provider,
        work_id: workId,
        tiers: tiers.join(","),
        key_id: keyId,
      });
      // Which is first is said when the batch is booked.
      return true;
    },
    sums(rows) {
      // Several hours are of one day; and where days begin at half past, an hour is of two.
      for (const row of rows) {
        addSums(now.hours, { hour_ms: row.hourMs }, row);
        addSums(now.days, { day: row.day }, row);
      }
    },
    servedName(provider, model, servedModel) {
      const row = { provider, requested_model: model, served_model: servedModel };
      now.servedNames.set(`${provider}\n${model}`, row);
    },
    fingerprint({ keyId, provider, name, hint, atMs }) {
      if (!now.keys.has(keyId)) now.keys.set(keyId, { id: keyId, provider, name, hint, created_at_ms: atMs });
    },
    secret: (digest, keyId, atMs) => void now.secrets.set(digest, { digest, key_id: keyId, created_at_ms: atMs }),
    refusal({ minuteMs, keyId, model, reason, budgetId, isTried }) {
      const name = JSON.stringify([minuteMs, keyId, model, reason, budgetId, isTried]);
      const known = now.refused.get(name);
      const row = { minute_ms: minuteMs, key_id: keyId, model, reason, budget_id: budgetId, observed: isTried ? 1 : 0 };
      now.refused.set(name, { ...row, count: (known?.count ?? 0) + 1 });
    },
    thing: (provider, name, keyId, attemptId) =>
      void now.things.push({ provider, name, key_id: keyId, attempt_id: attemptId }),
    meterHour: (hourMs) => void now.meterHours.add(hourMs),
    credential: (provider, sinceMs, credential, hint) =>
      void now.credentials.set(`${provider}\n${sinceMs}`, { provider, since_ms: sinceMs, credential, hint }),
    address(keyId, address, atMs) {
      const name = `${keyId}\n${address}`;
      const first = now.addresses.get(name)?.["first_seen_ms"] ?? atMs;
      now.addresses.set(name, { key_id: keyId, address, first_seen_ms: first, last_seen_ms: atMs });
    },
    gathered() {
      const found = Object.entries(now).flatMap(([name, rows]) => {
        const list = rows instanceof Map ? [...rows.values()] : [...rows];
        return list.length === 0 ? [] : [[name, list] as const];
      });
      return Object.fromEntries(found) as Work;
    },
    clear() {
      now = lists();
    },
  };
}

const ROLLUP_NAMES = ROLLUP_COLUMNS.split(", ");

/** Adds to what was added to the same sums. */
function addSums(to: Map<string, Row>, when: Row, { dimensions, cost, seat, counts }: RollupRow): void {
  const name = JSON.stringify([when, dimensions]);
  const known = to.get(name);
  const [requests = 0, ...rest] = counts;
  const sums = [requests, cost, ...rest, seat];
  to.set(name, {
    ...when,
    ...Object.fromEntries(ROLLUP_NAMES.map((column, i) => [column, dimensions[i] ?? ""])),
    ...Object.fromEntries(
      SUMS.map((column, i) => {
        const [sum = 0, before] = [sums[i], known?.[column] ?? 0];
        return [column, typeof sum === "bigint" ? (sum + BigInt(before)).toString() : sum + Number(before)];
      }),
    ),
  });
}

/** [budget, window, amount, most], each. */
function holdsText(holds: readonly Held[]): string {
  return JSON.stringify(
    holds.map(({ part, amount, most }) => [part.budget.id, part.window.id, amount.toString(), most.toString()]),
  );
}

export type StoredHold = readonly [budgetId: string, windowId: string, amount: bigint, most: bigint];

export function readHolds(text: string): StoredHold[] {
  return (JSON.parse(text) as [string, string, string, string][]).map(([budgetId, windowId, amount, most]) => [
    budgetId,
    windowId,
    BigInt(amount),
    BigInt(most),
  ]);
}
