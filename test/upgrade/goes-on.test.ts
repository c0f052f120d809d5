// Data folders of the release before, and of every schema before it, under the programs of today: keys are let in, what
// was open is settled, requests are booked, and all of it adds up.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readAdjustmentDifferences } from "../../ledger/usage/adjustments.ts";
import { checkAudit } from "../../ledger/usage/audit.ts";
import { createDigest } from "../../ledger/usage/keys.ts";
import { readKeys } from "../../ledger/usage/read-keys.ts";
import type { KeySecret } from "../../ledger/usage/keys.ts";
import type { UsageBooks } from "../../ledger/books.ts";
import { sqliteOf } from "../../ledger/sqlite-books.ts";
import { readSealDifferences } from "../../ledger/usage/seals.ts";
import { readFoldDifferences, readRegisterDifferences } from "../../ledger/usage/verify.ts";
import { readPeople } from "../../ledger/usage/people.ts";
import { readPendingWork } from "../../ledger/usage/pending-work.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { IS_CI } from "../seed.ts";
import { readAllEvents, startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { event } from "../usage-event.ts";
import {
  ask,
  dumpsOf,
  moneyOf,
  openWorkIn,
  PEPPER,
  restore,
  ROTATED_SECRET,
  SECRET,
  withBooks,
  ZONE,
} from "./old-books.ts";

/** What every dump holds for the one request that was open when its process ended. */
const OPEN_BOUND = 5_000_000n;

/** All that `keymeter verify` finds. */
async function disagreements(books: UsageBooks): Promise<string[]> {
  const { broken } = await checkAudit(books);
  return [
    ...(broken ? [`audit ${broken.seq}: ${broken.why}`] : []),
    ...(await readFoldDifferences(books)),
    ...(await readSealDifferences(books)),
    ...(await readAdjustmentDifferences(books)),
    ...(await readRegisterDifferences(books)),
  ];
}

let provider: FakeProvider;
beforeAll(async () => {
  provider = await startFakeProvider(json(chatAnswer()));
});
afterAll(() => provider.close());

async function send(url: string, secret: string): Promise<number> {
  const response = await fetch(`${url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 50, messages: [{ role: "user", content: "hello" }] }),
  });
  await response.text();
  return response.status;
}

const start = (folder: string, more: { readonly [name: string]: string } = {}): Promise<RunningProxy> =>
  startProxy(provider.url, {
    KEYMETER_DATA_DIR: folder,
    KEYMETER_TIMEZONE: ZONE,
    KEYMETER_DURABILITY: "process",
    ...more,
  });

/** These run under the whole proxy: the release before, every first and last of its kind, and what several releases
 *  made together. */
const SOME = ["cdb2ce1", "7ee2d97", "9c23130-7ee2d97"];
const MORE = ["9c23130", "b7c5bd6", "b0006e4", "cdb2ce1-7ee2d97", "2d6f350-487d312"];
const WHOLE = new Set([...SOME, ...(IS_CI ? MORE : [])].map((rev) => `usage-${rev}`));

type Program = {
  readonly writer: Writer;
  openWork(): Promise<string[]>;
  /** Lets the key in, and not the one before it, and books what it asks for. */
  spend(): Promise<void>;
  stop(): Promise<void>;
};

async function startWhole(folder: string): Promise<Program> {
  const running = await start(folder);
  return {
    writer: running.proxy.writer,
    openWork: async () => running.proxy.context.work.list().map(({ workId }) => workId),
    async spend() {
      expect(await send(running.url, SECRET)).toBe(200);
      expect(await send(running.url, ROTATED_SECRET)).toBe(401);
      expect(await send(running.url, SECRET.replace("Old", "New"))).toBe(401);
    },
    stop: () => running.stop(),
  };
}

/** The writer of the books alone, as the proxy opens it, and the readers beside it. */
async function startWriter(folder: string): Promise<Program> {
  const path = join(folder, "usage.db");
  const writer = await openWriter({
    path,
    durability: "process",
    zone: ZONE,
    capMode: "enforce",
    tagsInBudgets: false,
  });
  return {
    writer,
    openWork: () =>
      withBooks(path, async (books: UsageBooks) => (await readPendingWork(books)).map(({ workId }) => workId)),
    async spend() {
      const { keys, secrets } = await withBooks(path, readKeys);
      const people = await withBooks(path, readPeople);
      const digest = createDigest(PEPPER);
      const ofKey = (secret: string): readonly KeySecret[] => secrets.filter((one) => one.digest === digest(secret));
      expect(ofKey(SECRET)).toEqual([{ digest: digest(SECRET), keyId: "key_1", validUntilMs: undefined }]);
      expect(ofKey(ROTATED_SECRET)[0]?.validUntilMs).toBe(Date.parse("2025-05-20T11:30:00Z"));
      const key = keys.find(({ id }) => id === "key_1");
      expect(key).toMatchObject({ name: "search-prod", state: "active" });
      expect(people.get(key?.user ?? "")).toBe("bob@example.com");
      const { team = "", project = "", env = "", user = "" } = key ?? {};
      const attemptId = writer.nextAttemptId();
      const subject = { keyId: "key_1", team, project, env, user, provider: "openai", model: "gpt-4o-mini" };
      const request = { attemptId, subject, boundNanoUsd: 90_000n, expectedNanoUsd: 90_000n };
      expect(await writer.reserve(request, "chat_completions", undefined)).toMatchObject({ admitted: true });
      await writer.settle(event(attemptId, 70_000n, { team, project, env, user, requestedModel: "gpt-4o-mini" }));
    },
    stop: () => writer.close(),
  };
}

describe("a folder goes on: its key is let in, what was open is settled, requests are booked, and all of it adds up", () => {
  it.each(dumpsOf("usage"))("%s", async (dump) => {
    const { folder, path } = restore(dump);
    const before = ask(path, moneyOf);
    const openWork = ask(path, openWorkIn);
    const program = await (WHOLE.has(dump) ? startWhole : startWriter)(folder);
    try {
      expect(program.writer.recovered).toBe(1);
      expect(await program.openWork()).toEqual(openWork);
      await program.spend();
      await expect.poll(async () => (await readAllEvents(folder)).length).toBe(Number(before["rows of events"]) + 2);

      const events = await readAllEvents(folder);
      const crashed = events.filter(({ outcome }) => outcome === "crash");
      expect(crashed.map(({ keyId, costNanoUsd }) => [keyId, costNanoUsd])).toEqual([["key_1", String(OPEN_BOUND)]]);
      const booked = events.at(-1);
      expect(booked).toMatchObject({ keyId: "key_1", team: "search", requestedModel: "gpt-4o-mini", httpStatus: 200 });
      const cost = BigInt(booked?.costNanoUsd ?? 0);
      expect(cost).toBeGreaterThan(0n);

      const states = await program.writer.states();
      expect(states.map(({ budget }) => budget.id).toSorted()).toEqual(["bud_1", "bud_2", "bud_3"]);
      const ofKey = states.find(({ budget }) => budget.id === "bud_1");
      expect(ofKey?.budget).toMatchObject({ amountNanoUsd: 100_000_000_000n, kind: "hard", mode: "strict" });
      // The window of this month holds the request of now, and nothing of a year long gone.
      expect(ofKey?.settledNanoUsd).toBe(cost);
      expect((await program.writer.verify()).differences).toEqual([]);

      const total = (before["events.cost_nano_usd"] ?? 0n) + OPEN_BOUND + cost;
      const after = await withBooks(path, (books) => moneyOf(sqliteOf(books)));
      for (const table of ["events", "rollup_hour", "rollup_day"])
        expect(after[`${table}.cost_nano_usd`], table).toBe(total);
      expect(after["rows of audit"]).toBeGreaterThanOrEqual(before["rows of audit"] ?? 0n);
      // A day that is sealed meanwhile must not be half written: `verify` looks until it is still.
      await expect.poll(() => withBooks(path, disagreements)).toEqual([]);
    } finally {
      await program.stop();
    }
    expect(ask(path, openWorkIn)).toEqual(openWork);
    expect(ask(path, moneyOf)["rows of reservations"]).toBe(BigInt(openWork.length));
  });

  it("is tried with the whole proxy where that is said: those dumps exist", () => {
    expect([...WHOLE].filter((dump) => !dumpsOf("usage").includes(dump))).toEqual([]);
  });
});

describe("a folder of the release before", () => {
  const startAndStop = async (folder: string, more: { readonly [name: string]: string } = {}): Promise<void> =>
    (await start(folder, more)).stop();

  it("whose pepper is gone gets no new one: a sentence says what to do, and its money is as it was", async () => {
    const { folder, path } = restore("usage-7ee2d97");
    const before = ask(path, moneyOf);
    rmSync(join(folder, "pepper"));
    await expect(startAndStop(folder)).rejects.toThrow(
      /pepper is gone(, and a new one was made)?\. Without the one that the keys in usage\.db were made with no key is recognised\. Restore the file from a backup, or give what it held as KEYMETER_PEPPER/,
    );
    expect(ask(path, moneyOf)).toEqual(before);
    // And that helps.
    await expect(startAndStop(folder, { KEYMETER_PEPPER: PEPPER })).resolves.toBeUndefined();
  });

  it("that was used once with its pepper is not used with another, and finds nothing open a second time", async () => {
    const { folder } = restore("usage-7ee2d97");
    await startAndStop(folder);
    await expect(startAndStop(folder, { KEYMETER_PEPPER: `another ${PEPPER}` })).rejects.toThrow(
      "its pepper is another one",
    );
    const again = await start(folder);
    expect(again.proxy.writer.recovered).toBe(0);
    expect(again.proxy.context.work.list().map(({ workId }) => workId)).toEqual(["batch_open"]);
    await again.stop();
  });
});
