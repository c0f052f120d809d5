// Rollups: sums by hour (UTC, for bills) and by day (configured zone, for people), kept in the transaction of each
// event. A batch is added up in memory first, so that a turn with many events of one key costs two statements.
import type { Booked } from "./events.ts";
import { answerFrom } from "../asking.ts";
import { LedgerError } from "../books.ts";
import { attemptAtMs, firstAttemptId } from "../ids.ts";
import { askKeptFrom } from "./retention.ts";
import type { NanoUsd } from "../money.ts";
import type { Sqlite } from "../sqlite.ts";
import type { Calendar } from "../windows.ts";

const HOUR_MS = 3_600_000;
export const ROLLUP_COLUMNS = "key_id, provider, model, requested_model, team, project, env, person, payer";
export const SUMS = [
  "requests",
  "cost_nano_usd",
  "input",
  "cache_read",
  "cache_write",
  "output",
  "estimated",
  "unknown",
  "unpriced",
  "inferred",
  "seat_nano_usd",
];

export type Rollups = {
  add(event: Booked): void;
  /** Corrects the sums of an event that is in them. */
  adjust(event: Booked, correction: Correction): void;
  /** Moves the sums of an event that is in them, with what its corrections add, to what it names now. */
  move(before: Booked, after: Booked, corrections: Correction): void;
  /** Writes what was added; inside the same transaction. */
  flush(): void;
  /** Forgets what was added: the transaction failed. */
  clear(): void;
};

/** What a correction adds to the sums of its event. */
type Correction = { readonly amountNanoUsd: NanoUsd; readonly unpriced: number; readonly inferred: number };

/** What is added to the sums of an hour and of its day: by ROLLUP_COLUMNS; the counts in the order of SUMS, without the
 *  cost. */
export type RollupRow = {
  readonly hourMs: number;
  readonly day: string;
  readonly dimensions: readonly string[];
  readonly cost: NanoUsd;
  /** What subscriptions would have cost. */
  readonly seat: NanoUsd;
  readonly counts: readonly number[];
};

type Row = RollupRow & { cost: NanoUsd; seat: NanoUsd; readonly counts: number[] };

/** `write` gets what was added up. */
export function createRollups(calendar: Calendar, write: (rows: Iterable<RollupRow>) => void): Rollups {
  let pending = new Map<string, Row>();

  /** The sums of an event's hour, day and owner. */
  const rowOf = (event: Booked): Row => {
    const atMs = attemptAtMs(event.attemptId);
    const hourMs = atMs - (atMs % HOUR_MS);
    const day = calendar.day(atMs);
    const dimensions = [
      event.keyId,
      event.provider,
      event.servedModel,
      event.model,
      event.team,
      event.project,
      event.env,
      event.user,
      event.payer,
    ];
    const name = `${hourMs}\n${day}\n${dimensions.join("\n")}`;
    let row = pending.get(name);
    if (!row)
      pending.set(name, (row = { hourMs, day, dimensions, cost: 0n, seat: 0n, counts: [0, 0, 0, 0, 0, 0, 0, 0, 0] }));
    return row;
  };

  return {
    add(event) {
      const row = rowOf(event);
      row.cost += event.costNanoUsd;
      row.seat += event.seatNanoUsd;
      addCounts(row, countsOf(event));
    },
    adjust(event, { amountNanoUsd, unpriced, inferred }) {
      const row = rowOf(event);
      row.cost += amountNanoUsd;
      addCounts(row, [0, 0, 0, 0, 0, 0, 0, unpriced, inferred]);
    },
    move(before, after, { amountNanoUsd, unpriced, inferred }) {
      for (const [event, sign] of [
        [before, -1],
        [after, 1],
      ] as const) {
        const row = rowOf(event);
        row.cost += BigInt(sign) * (event.costNanoUsd + amountNanoUsd);
        row.seat += BigInt(sign) * event.seatNanoUsd;
        addCounts(
          row,
          countsOf(event).map((sum) => sign * sum),
        );
        addCounts(row, [0, 0, 0, 0, 0, 0, 0, sign * unpriced, sign * inferred]);
      }
    },
    flush() {
      if (pending.size > 0) write(pending.values());
      pending = new Map();
    },
    clear() {
      pending = new Map();
    },
  };
}

/** The day rollup belongs to one zone; with another one it is made anew from the hours' events. */
export function rebuildDaysIfZoneChanged(database: Sqlite, calendar: Calendar): void {
  const known = database.prepare("SELECT value FROM meta WHERE name = 'zone'").pluck().get() as string | undefined;
  if (known === calendar.zone) return;
  if (known !== undefined && answerFrom(database, askKeptFrom()) > 0)
    throw new LedgerError(
      `${database.name}: its days are of the zone ${known}, and events of old ones have left the books: they cannot be made anew in ${calendar.zone}. Set timezone to ${known} again.`,
    );
  database
    .transaction(() => {
      database.exec("DELETE FROM rollup_day");
      const hours = database.prepare(`SELECT DISTINCT hour_ms FROM rollup_hour`).pluck().all();
      // An hour of UTC can lie across midnight of a zone with a half-hour offset: go by events, quarter by quarter.
      const add = database.prepare(
        `INSERT INTO rollup_day (day, ${ROLLUP_COLUMNS}, ${SUMS.join(", ")})
        SELECT ?, ${ROLLUP_COLUMNS}, COUNT(*), SUM(booked_nano_usd), SUM(input), SUM(cache_read), SUM(cache_write), SUM(output),
          SUM(estimated), SUM(unknown), SUM(unpriced), SUM(inferred), SUM(COALESCE(seat_nano_usd, 0))
        FROM booked WHERE attempt_id >= ? AND attempt_id < ? GROUP BY 2, 3, 4, 5, 6, 7, 8, 9, 10
        ON CONFLICT DO UPDATE SET ${SUMS.map((sum) => `${sum} = ${sum} + excluded.${sum}`).join(", ")}`,
      );
      for (const hour of hours) {
        for (let quarter = 0; quarter < 4; quarter++) {
          const start = Number(hour) + (quarter * HOUR_MS) / 4;
          // By id, which is the primary key: the instant is computed from it, and has no index.
          add.run(calendar.day(start), firstAttemptId(start), firstAttemptId(start + HOUR_MS / 4));
        }
      }
      database
        .prepare("INSERT INTO meta (name, value) VALUES ('zone', ?) ON CONFLICT DO UPDATE SET value = excluded.value")
        .run(calendar.zone);
    })
    .immediate();
}

function addCounts(row: Row, more: readonly number[]): void {
  for (let i = 0; i < more.length; i++) row.counts[i] = (row.counts[i] ?? 0) + (more[i] ?? 0);
}

/** In the order of SUMS, without the cost. */
function countsOf({ input, cacheRead, cacheWrite, output, usageState, priceConfidence }: Booked): number[] {
  return [
    1,
    input,
    cacheRead,
    cacheWrite,
    output,
    usageState === "estimated" ? 1 : 0,
    usageState === "unknown" ? 1 : 0,
    priceConfidence === "unpriced" ? 1 : 0,
    priceConfidence === "inferred" ? 1 : 0,
  ];
}
