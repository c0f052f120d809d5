// Report pages over made-up books: an organisation, an empty ledger, one key, many keys. And what their tests read of
// them.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { parse } from "csv-parse/sync";
import Fastify from "fastify";
import { expect } from "vitest";
import { NOTHING_STATED } from "../../collector/match.ts";
import { addPages } from "../../collector/pages/routes.ts";
import { createTurn } from "../../collector/turn.ts";
import type { InTurn } from "../../collector/turn.ts";
import { firstAttemptId } from "../../ledger/ids.ts";
import { issueVirtualKey } from "../../ledger/usage/keys.ts";
import { openToWrite } from "../../ledger/open.ts";
import { sqliteOf } from "../../ledger/sqlite-books.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { createCalendar } from "../../ledger/windows.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { createAccess } from "../../service/admin-routes.ts";
import { createLog } from "../../service/log.ts";
import { Secret } from "../../service/secret.ts";
import { openOrganisation, writeOrganisation } from "../organisation.ts";
import { IS_CI, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";

export const NOW_MS = Date.parse("2026-11-24T10:20:00Z");
export const READ = "read-token-of-a-test";
export const ADMIN = "admin-token-of-a-test";
export const BEARER = { authorization: `Bearer ${READ}` };

export type Site = {
  readonly url: string;
  readonly folder: string;
  readonly keyId: string;
  readonly makeLink: () => string;
  /** The turn of what writes billing.db. */
  readonly inTurn: InTurn;
  close(): Promise<void>;
};
/** Pages over the books of a folder, as of an instant. */
export async function openSite(folder: string, nowMs = NOW_MS): Promise<Site> {
  const books = await openOrganisation(folder);
  const app = Fastify({ forceCloseConnections: true });
  const inTurn = createTurn();
  const makeLink = await addPages(
    app,
    () => ({
      books,
      calendar: createCalendar("UTC"),
      prices: createPriceBook(),
      stated: NOTHING_STATED,
      place: folder,
      capMode: "enforce",
      sources: ["anthropic", "gcp.gemini", "openai"],
      nowMs,
    }),
    {
      readToken: new Secret(READ),
      adminToken: new Secret(ADMIN),
      access: createAccess(new Secret(ADMIN), { bySecret: async () => undefined, byId: async () => undefined }),
      pagesUrl: "",
    },
    createLog("test", "silent"),
    inTurn,
  );
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  const keyId = sqliteOf(books.usage).prepare("SELECT id FROM keys ORDER BY name LIMIT 1").pluck().get() as
    | string
    | undefined;
  return {
    url,
    folder,
    keyId: keyId ?? "",
    makeLink,
    inTurn,
    async close() {
      await app.close();
      await books.close();
    },
  };
}

/** Books in which nothing happened. */
async function emptyBooks(folder: string): Promise<void> {
  const writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
  });
  await writer.close();
}

/** Many keys that were each used once today. */
async function manyKeys(folder: string, count: number): Promise<void> {
  let clock = NOW_MS - 3_600_000;
  const writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    now: () => clock,
  });
  for (let i = 0; i < count; i += 500) {
    await Promise.all(
      Array.from({ length: Math.min(500, count - i) }, async (_, j) => {
        const { key } = issueVirtualKey(
          { name: `key ${String(i + j).padStart(4, "0")}`, team: `team-${(i + j) % 20}` },
          clock,
        );
        await writer.change({ type: "createKey", key, digest: key.id }, "test");
        const attemptId = writer.nextAttemptId();
        const subject = {
          keyId: key.id,
          team: key.team,
          project: "",
          env: "",
          user: "",
          provider: "openai",
          model: "gpt-4o-mini",
        };
        await writer.reserve(
          { attemptId, subject, boundNanoUsd: 1n, expectedNanoUsd: 1n },
          "chat_completions",
          undefined,
        );
        await writer.settle(
          event(attemptId, BigInt(i + j) * 1_000_000n, {
            ...subject,
            requestedModel: "gpt-4o-mini",
            priceConfidence: "exact",
          }),
        );
      }),
    );
  }
  clock = NOW_MS;
  await writer.close();
}

export async function get(site: Site, path: string): Promise<string> {
  const answer = await fetch(`${site.url}/${path}`, { headers: BEARER });
  expect(answer.status, path).toBe(200);
  return answer.text();
}

export type Row = { readonly [field: string]: string };
export const rowsOf = (csv: string): Row[] => parse<Row>(csv, { columns: true });
/** "12.345000000" in nano-USD. */
export const nano = (decimal: string | undefined): bigint => {
  const [whole = "0", fraction = ""] = (decimal ?? "0").replace("-", "").split(".");
  const size = BigInt(whole) * 1_000_000_000n + BigInt(fraction.padEnd(9, "0"));
  return decimal?.startsWith("-") ? -size : size;
};
/** What the events themselves say, without our read models: cost of `[since, until)` by an expression. */
export function spentBy(
  folder: string,
  expression: string,
  since: string,
  until: string,
  where = "1",
): Map<string, bigint> {
  const books = new Database(join(folder, "usage.db"), { readonly: true });
  books.defaultSafeIntegers(true);
  const rows = books
    .prepare(
      `SELECT ${expression} AS name, SUM(COALESCE(cost_nano_usd, 0)) AS cost FROM events WHERE attempt_id >= ? AND attempt_id < ? AND ${where} GROUP BY 1`,
    )
    .all(firstAttemptId(Date.parse(`${since}T00:00:00Z`)), firstAttemptId(Date.parse(`${until}T00:00:00Z`))) as {
    name: string;
    cost: bigint;
  }[];
  books.close();
  return new Map(rows.map(({ name, cost }) => [name, cost]));
}

export const MANY = IS_CI ? 5_000 : 450;

export type Sites = {
  readonly full: Site;
  readonly empty: Site;
  readonly one: Site;
  readonly many: Site;
  close(): Promise<void>;
};

/** The four of them. */
export async function openSites(): Promise<Sites> {
  process.stdout.write(`seed ${SEED}\n`);
  const [a = "", b = "", c = "", d = ""] = ["full", "empty", "one", "many"].map((name) => {
    const folder = join(temporaryFolder(), name);
    mkdirSync(folder, { recursive: true });
    return folder;
  });
  await writeOrganisation({ folder: a, days: IS_CI ? 60 : 32, keys: 20, seed: SEED, nowMs: NOW_MS });
  await emptyBooks(b);
  await manyKeys(c, 1);
  await manyKeys(d, MANY);
  for (const folder of [b, c, d]) await (await openToWrite(folder, "billing", "process")).close();
  const [full, empty, one, many] = [await openSite(a), await openSite(b), await openSite(c), await openSite(d)];
  return {
    full,
    empty,
    one,
    many,
    async close() {
      for (const site of [full, empty, one, many]) await site.close();
    },
  };
}
