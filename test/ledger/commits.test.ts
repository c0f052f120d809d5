// The order of commits on Postgres: what takes a lower number and commits later is not passed over.
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { UsageBooks } from "../../ledger/books.ts";
import { openUsage } from "../../ledger/open.ts";
import { migratePostgres } from "../../ledger/postgres.ts";
import { BEFORE_ALL, readCommits, readLastCommit } from "../../ledger/usage/commits.ts";
import { hasPostgres, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { IS_CI, random, SEED } from "../seed.ts";

const EVENTS = IS_CI ? 3_000 : 300;
const WRITERS = 5;

describe.skipIf(!hasPostgres)("commits in Postgres", () => {
  let server: PostgresServer;
  let url: string;
  let usage: UsageBooks;
  beforeAll(async () => {
    server = await startPostgres();
    url = await server.database("books");
    await migratePostgres(url);
    const opened = await openUsage(url);
    if (!opened) throw new Error("no books");
    usage = opened;
  }, 60_000);
  afterAll(async () => {
    await usage?.close();
    await server?.stop();
  });

  const connect = async (): Promise<Client> => {
    const client = new Client({ connectionString: url });
    await client.connect();
    return client;
  };
  const insert = (client: Client, id: number) =>
    client.query(
      `INSERT INTO usage.events (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, usage_state, outcome)
       VALUES ($1, 'key_1', 'openai', 'chat_completions', 'm', '', '', '', 'reported', 'complete')`,
      [id],
    );
  const idsAfter = async (after = BEFORE_ALL): Promise<number[]> =>
    (await readCommits(usage, after, 100_000)).map(({ event }) => event.attemptId);

  it("what began first is waited for, though others have committed since", async () => {
    const [slow, fast] = [await connect(), await connect()];
    await slow.query("BEGIN");
    await insert(slow, 1);
    await insert(fast, 2);
    // The first one could still come before the second: neither is shown.
    expect(await idsAfter()).toEqual([]);
    await slow.query("COMMIT");
    expect(await idsAfter()).toEqual([1, 2]);
    const place = await readLastCommit(usage);
    await insert(fast, 3);
    expect(await idsAfter(place)).toEqual([3]);
    await slow.end();
    await fast.end();
  });

  it(`of ${WRITERS} at once, some rolled back, each event is read once (seed ${SEED})`, async () => {
    const next = random(SEED);
    const seen: number[] = [];
    let place = await readLastCommit(usage);
    let isOver = false;
    const reading = (async () => {
      for (let isLast = false; !isLast;) {
        isLast = isOver;
        const page = await readCommits(usage, place, 7);
        seen.push(...page.map(({ event }) => event.attemptId));
        place = page.at(-1)?.place ?? place;
        if (page.length > 0) isLast = false;
      }
    })();
    const committed: number[] = [];
    await Promise.all(
      Array.from({ length: WRITERS }, async (_, writer) => {
        const client = await connect();
        for (let batch = 0; batch < EVENTS / WRITERS / 2; batch++) {
          const first = 1_000 + writer * EVENTS * 4 + batch * 4;
          const ids = Array.from({ length: 1 + Math.floor(next() * 4) }, (_one, i) => first + i);
          await client.query("BEGIN");
          for (const id of ids) await insert(client, id);
          const isKept = next() < 0.9;
          await client.query(isKept ? "COMMIT" : "ROLLBACK");
          if (isKept) committed.push(...ids);
        }
        await client.end();
      }),
    );
    isOver = true;
    await reading;
    expect(seen.toSorted((a, b) => a - b)).toEqual(committed.toSorted((a, b) => a - b));
  });

  it("on a server whose numbers begin anew, what comes goes after what was there", async () => {
    const client = await connect();
    // As after a restore into a new server.
    await client.query("UPDATE usage.commits SET number = number + 1000000");
    await client.query("SELECT usage.order_commits_v1()");
    const place = {
      number: Number((await client.query("SELECT MAX(number) FROM usage.commits")).rows[0].max),
      position: 1e9,
    };
    await insert(client, 900_000);
    expect(await idsAfter(place)).toEqual([900_000]);
    expect(await readLastCommit(usage)).not.toEqual(place);
    await client.end();
  });
});
