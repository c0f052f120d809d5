// What a node does beside requests.
import { randomUUID } from "node:crypto";
import { answerWith } from "../../asking.ts";
import type { UsageBooks } from "../../books.ts";
import { runOn } from "../../postgres.ts";
import type { Pool } from "../../postgres.ts";
import type { NodeTask, Orphan } from "./booking.ts";
import { askReservations } from "./memory.ts";
import type { Node } from "./node.ts";
import type { KeptDays } from "../kept-days.ts";
import { dropOld, sealDay, sweep } from "./seal.ts";

const LOOK_FOR_ORPHANS_MS = 10_000;
const NOTE_HOUR_MS = 60_000;
/** What is sealed at once, when there is more to do. */
const MOST_SEALS = 40;
/** Slices of what is kept no longer. */
const MOST_SLICES = 200;

/** `orphanSeconds` Infinity: a command, which has none. Notes the hours in which the meter runs, and what nodes left that did not come back. */
export function startDuties(
  pool: Pool,
  {
    name,
    orphanSeconds,
    now,
    kept = {},
  }: {
    readonly name: string;
    readonly orphanSeconds: number;
    readonly now: () => number;
    readonly kept?: KeptDays | undefined;
  },
  books: UsageBooks,
  put: (task: NodeTask | Orphan) => Promise<unknown>,
  node: () => Node,
): NodeJS.Timeout[] {
  const noteHour = (): void => void put({ type: "meterRan", sinceMs: now(), untilMs: now() + 1 });
  const bookOrphans = async (): Promise<void> => {
    const orphans = await answerWith(
      (text, values) => runOn(pool, text, values),
      askReservations(
        `node <> ? AND node IN (SELECT node FROM nodes WHERE state = 'fenced'
          AND clock_timestamp() - seen_at > make_interval(secs => ?)) AND work_id IS NULL`,
        node().node,
        orphanSeconds,
      ),
    );
    for (const row of orphans) void put({ type: "orphan", row, outcome: "crash" });
  };
  if (orphanSeconds === Infinity) return [];
  const holder = randomUUID();
  const sealDays = async (): Promise<void> => {
    const [leads] = await runOn(pool, "SELECT lead_v1('sealer', ?, ?)", [holder, name]);
    if (leads?.[0] === null) return;
    for (let i = 0; i < MOST_SEALS && (await sealDay(pool, books, now())); i++);
    await dropOld(pool, now());
    for (let i = 0; i < MOST_SLICES && (await sweep(pool, kept, now())); i++);
  };
  const lookAtClock = (): void => {
    noteHour();
    // Days that cannot be sealed now are sealed later: `verify` says until when they are.
    void sealDays().catch(() => undefined);
  };
  lookAtClock();
  return [
    setInterval(lookAtClock, NOTE_HOUR_MS).unref(),
    setInterval(() => void bookOrphans().catch(() => undefined), LOOK_FOR_ORPHANS_MS).unref(),
  ];
}
