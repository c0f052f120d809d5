// The same batches on a real Postgres: whatever the database in memory answers, Postgres answers too, and in the end both
// have the same rows. Time is the simulation's: what is waited for, and who was given up, is written as it is there.
import { readdirSync, readFileSync } from "node:fs";
import { answerWith } from "../../../ledger/asking.ts";
import { poolOf, runOn } from "../../../ledger/postgres.ts";
import type { Pool } from "../../../ledger/postgres.ts";
import { changeWindows } from "../../../ledger/usage/nodes/change.ts";
import { openNodeLedger } from "../../../ledger/usage/nodes/ledger.ts";
import { askMemory } from "../../../ledger/usage/nodes/memory.ts";
import type { Booked, Work } from "../../../ledger/usage/nodes/work.ts";
import type { Calendar } from "../../../ledger/windows.ts";
import { same, Violation } from "./database.ts";
import type { FleetDatabase, Refusal } from "./database.ts";

const FOLDER = new URL("../../../ledger/migrations/postgres/", import.meta.url);

export type Mirror = {
  /** Books the same batch, and looks whether it is answered the same. */
  book(
    batch: {
      readonly node: number;
      readonly epoch: number;
      readonly number: number;
      readonly version: number;
      readonly work: Work;
    },
    answer: Booked | Refusal,
  ): Promise<void>;
  /** Whatever else has happened there: nodes, budgets, freezes. */
  follow(): Promise<void>;
  /** Both have the same rows. */
  compare(): Promise<void>;
  close(): Promise<void>;
};

/** `mutate`: a mistake that is put into the schema's text. */
export async function startMirror(
  url: string,
  database: FleetDatabase,
  calendar: Calendar,
  now: () => number,
  mutate: (text: string) => string = (text) => text,
): Promise<Mirror> {
  const pool = poolOf(url);
  for (const file of readdirSync(FOLDER)
    .filter((name) => name.endsWith(".sql"))
    .toSorted())
    await pool.query(mutate(readFileSync(new URL(file, FOLDER), "utf8")));
  await pool.query("ALTER ROLE CURRENT_USER SET search_path = usage, billing, notices, public");
  await pool.end();
  return mirrorOn(poolOf(url), database, calendar, now);
}

function mirrorOn(pool: Pool, database: FleetDatabase, calendar: Calendar, now: () => number): Mirror {
  const run = (text: string, values: readonly unknown[]): Promise<unknown[][]> => runOn(pool, text, values);
  let version = 0;

  const followNodes = async (): Promise<void> => {
    await run("DELETE FROM nodes WHERE node <> ALL (?::bigint[])", [[...database.nodes.keys()]]);
    for (const [node, row] of database.nodes)
      await run(
        `INSERT INTO nodes AS kept (node, epoch, name, state, seen_at, since, last_id, last_batch, work_digest, answer)
        VALUES (?, ?, 'n', ?, clock_timestamp(), clock_timestamp(), 0, 0, '', '{"firsts": []}')
        ON CONFLICT (node) DO UPDATE SET state = excluded.state, epoch = excluded.epoch,
          last_batch = CASE WHEN kept.epoch = excluded.epoch THEN kept.last_batch ELSE 0 END`,
        [node, row.epoch, row.state],
      );
  };

  const followRegister = async (): Promise<void> => {
    if (version === database.version) return;
    version = database.version;
    await run("UPDATE register SET version = ?", [version]);
    const ids = database.budgets.map(({ id }) => id);
    await run("UPDATE budgets SET removed_at_ms = 1 WHERE id <> ALL (?::text[])", [ids]);
    for (const {
      id,
      scope,
      window,
      amountNanoUsd,
      kind,
      mode,
      observe,
      createdAtMs,
      raises = [],
    } of database.budgets) {
      const { team = null, model = null } = scope;
      await run(
        `INSERT INTO budgets (id, team, model, "window", amount_nano_usd, kind, mode, observe, created_at_ms)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
        [id, team, model, window, amountNanoUsd, kind, mode, observe ? 1 : 0, createdAtMs],
      );
      // What a budget is raised by goes on to the one that takes its place.
      for (const raise of raises)
        await run(
          "INSERT INTO raises (id, budget_id, amount_nano_usd, reason, created_at_ms, until_ms) VALUES (?, ?, ?, 'r', ?, ?) ON CONFLICT (id) DO UPDATE SET budget_id = excluded.budget_id",
          [raise.id, id, raise.amountNanoUsd, raise.createdAtMs, raise.untilMs],
        );
    }
    await run("UPDATE freezes SET lifted_at_ms = 1 WHERE lifted_at_ms IS NULL", []);
    for (const { id, scope } of database.freezes)
      await run(
        "INSERT INTO freezes (id, team, reason, created_at_ms) VALUES (?, ?, 'r', 1) ON CONFLICT (id) DO UPDATE SET lifted_at_ms = NULL",
        [id, scope.team ?? null],
      );
    const settings = { calendar, capMode: "enforce", tagsCount: true } as const;
    const ledger = openNodeLedger(await answerWith(run, askMemory(0, calendar, now())), settings);
    await answerWith(run, changeWindows(ledger, { type: "removeBudget", budgetId: "" }, now()));
  };

  const followParts = async (): Promise<void> => {
    await run("UPDATE escrow SET wanted_until = NULL WHERE wanted_until IS NOT NULL", []);
    for (const [name, part] of database.parts) {
      const [budgetId, windowId, node] = name.split("\n");
      if (part.wantedUntil > now())
        await run(
          "UPDATE escrow SET wanted_until = clock_timestamp() + interval '1 hour' WHERE budget_id = ? AND window_id = ? AND node = ?",
          [budgetId, windowId, node],
        );
    }
    // Who was given up, or begins, has no surplus.
    for (const [node, { lastBatch }] of database.nodes)
      if (lastBatch === 0) await run("SELECT free_surplus(?)", [node]);
    for (const [node, { state }] of database.nodes) if (state === "fenced") await run("SELECT free_surplus(?)", [node]);
  };

  return {
    async follow() {
      await followNodes();
      await followRegister();
      await followParts();
    },
    async book({ node, epoch, number, version: decidedBy, work }, answer) {
      let booked: Booked | string;
      try {
        const [row] = await run("SELECT book_v1(?, ?, ?, ?, ?)", [
          node,
          epoch,
          number,
          decidedBy,
          JSON.stringify(work),
        ]);
        booked = row?.[0] as Booked;
      } catch (error) {
        booked = (error as { code?: string }).code ?? String(error);
      }
      const wanted = answer instanceof Error ? answer.code : shown(answer);
      same(
        typeof booked === "string" ? booked : shown(booked),
        wanted,
        `what Postgres says of batch ${number} of node ${node}`,
      );
    },
    async compare() {
      const rows = await run(
        `SELECT budget_id, window_id, node, settled_nano_usd, held_nano_usd, most_nano_usd, granted_nano_usd FROM escrow
        WHERE budget_id IN (SELECT id FROM budgets WHERE removed_at_ms IS NULL)`,
        [],
      );
      const there = new Map(
        rows.map(([budget, window, node, ...sums]) => [
          `${String(budget)}\n${String(window)}\n${String(node)}`,
          sums.join(" "),
        ]),
      );
      const inForce = new Set(database.budgets.map(({ id }) => id));
      for (const [name, { settled, held, most, granted }] of database.parts)
        if (inForce.has(name.slice(0, name.indexOf("\n"))))
          same(
            there.get(name) ?? "0 0 0 0",
            [settled, held, most, granted].join(" "),
            `${name.replaceAll("\n", ", ")} in Postgres`,
          );
      const open = await run("SELECT attempt_id, COALESCE(node, 0) FROM reservations ORDER BY 1", []);
      same(
        open.map((row) => row.join(" ")).join(", "),
        [...database.reservations.values()]
          .toSorted((a, b) => a.attemptId - b.attemptId)
          .map(({ attemptId, node = 0 }) => `${attemptId} ${node}`)
          .join(", "),
        "what is open in Postgres",
      );
      const [sums] = await run("SELECT COUNT(*), COALESCE(SUM(cost_nano_usd), 0) FROM events", []);
      const costs = [...database.events.values()].reduce((sum, { cost }) => sum + cost, 0n);
      same(sums?.join(" "), `${database.events.size} ${costs}`, "events in Postgres");
    },
    close: () => pool.end(),
  };
}

/** What has to be the same: not the time, nor what others look like at another instant. */
function shown({ firsts, grants, vain }: Booked): string {
  if (!grants) throw new Violation("Postgres answered with no grants");
  return JSON.stringify([
    firsts.toSorted((one, other) => one - other),
    grants.map(
      (grant) =>
        grant && [grant.budgetId, grant.windowId, grant.given, grant.untilMs, grant.settled, grant.held, grant.most],
    ),
    vain,
  ]);
}
