// Two releases side by side on one set of books. The next one is this one with a schema that has more: a migration that
// says that it is additive, and another function that books.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { migratePostgres, openPool } from "../../ledger/postgres.ts";
import { isTurnOf } from "../skipped.ts";
import { startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { answerSlowly, slowChat, slowChatNanoUsd } from "../fake/slow-chat.ts";
import { askStanding, forkProxy } from "../kill-proxy.ts";
import { hasPostgres, rowsOf, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { readAllEvents, temporaryFolder } from "../start-proxy.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const PHASE_MS = 700;
const NEXT = `-- additive
ALTER TABLE usage.events ADD COLUMN next_field bigint;
ALTER TABLE usage.reservations ADD COLUMN next_field bigint NOT NULL DEFAULT 7;
CREATE FUNCTION usage.book_v2(its_node bigint, its_epoch bigint, batch bigint, its_version bigint, its_work text) RETURNS json
LANGUAGE sql AS 'SELECT usage.book_v1(its_node, its_epoch, batch, its_version, its_work)';
`;

/** A copy of the project as the next release may be. */
function writeNextRelease(migration: string): string {
  const copy = temporaryFolder();
  mkdirSync(join(copy, "test"));
  for (const name of ["proxy", "ledger", "service", "package.json", "test/kill-proxy.ts"])
    cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
  writeFileSync(join(copy, "ledger/migrations/postgres/0999-next.sql"), migration);
  const node = join(copy, "ledger/usage/nodes/node.ts");
  const text = readFileSync(node, "utf8");
  expect(text).toContain("SELECT book_v1(");
  writeFileSync(node, text.replaceAll("SELECT book_v1(", "SELECT book_v2("));
  return copy;
}

function migrateWith(copy: string, url: string): void {
  const text = `import { migratePostgres } from "./ledger/postgres.ts"; await migratePostgres(${JSON.stringify(url)});`;
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", text], {
    cwd: copy,
    encoding: "utf8",
  });
  expect(status, stderr).toBe(0);
}

describe.skipIf(!hasPostgres || !isTurnOf(1, 4, "two releases side by side"))("two releases side by side", () => {
  let server: PostgresServer;
  let provider: FakeProvider;
  beforeAll(async () => {
    server = await startPostgres();
    provider = await startFakeProvider(answerSlowly);
  }, 60_000);
  afterAll(async () => {
    await provider?.close();
    await server?.stop();
  });

  it("refuse nothing under load, from the migration until the last proxy is the next one", async () => {
    const url = await server.database("releases");
    await migratePostgres(url);
    const folder = temporaryFolder();
    const copy = writeNextRelease(NEXT);
    const next = join(copy, "test/kill-proxy.ts");
    const start = (program?: string) =>
      forkProxy(provider.url, folder, undefined, { KEYMETER_LEDGER_URL: url, KEYMETER_DRAIN_SECONDS: "5" }, program);
    const stop = async ({ child }: Awaited<ReturnType<typeof start>>): Promise<void> => {
      const exited = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await exited;
    };
    const [first, second] = await Promise.all([start(), start()]);
    /** Those that a load balancer sends to. */
    let serving = [first, second];
    const saw: { readonly n: number; readonly status: number | string }[] = [];
    const over = new AbortController();
    const load = Array.from({ length: 8 }, async (_, i) => {
      for (let round = i; !over.signal.aborted; round++) {
        const n = saw.length * 8 + i + 1;
        const { url: base } = serving[round % serving.length] ?? first;
        const status = await fetch(`${base}/openai/v1/chat/completions`, {
          method: "POST",
          headers: { "content-type": "application/json", authorization: "Bearer sk-test-release-key" },
          body: slowChat(n, round % 2 === 0),
        }).then(
          async (answer) => ((await answer.text()).length > 0 ? answer.status : "empty"),
          (error: unknown) => String(error),
        );
        saw.push({ n, status });
      }
    });
    await sleep(PHASE_MS);
    migrateWith(copy, url);
    await sleep(PHASE_MS);
    const third = await start(next);
    serving = [first, second, third];
    await sleep(PHASE_MS);
    // One of this release starts again beside it.
    serving = [second, third];
    await sleep(100);
    await stop(first);
    const again = await start();
    serving = [again, second, third];
    await sleep(PHASE_MS);
    serving = [third];
    await sleep(100);
    await Promise.all([stop(second), stop(again)]);
    await sleep(PHASE_MS);
    over.abort();
    await Promise.all(load);
    expect(saw.filter(({ status }) => status !== 200)).toEqual([]);
    expect(saw.length).toBeGreaterThan(50);
    const events = await readAllEvents(url);
    expect(events.length).toBe(saw.length);
    const sum = saw.reduce((total, { n }) => total + BigInt(slowChatNanoUsd(n)), 0n);
    expect(events.reduce((total, { costNanoUsd }) => total + BigInt(costNanoUsd ?? 0), 0n)).toBe(sum);
    expect(await askStanding(third.child)).toMatchObject({ differences: [], reservedNanoUsd: "0" });
    expect(await rowsOf(url, "SELECT is_additive FROM usage.migrations WHERE name = '0999-next.sql'", [])).toEqual([
      [true],
    ]);
    await stop(third);
  });

  it("of a schema that is more than additive this release says that it is another one's", async () => {
    const url = await server.database("later");
    await migratePostgres(url);
    migrateWith(writeNextRelease("ALTER TABLE usage.events ADD COLUMN later bigint;"), url);
    await expect(openPool(url)).rejects.toThrow("was written by a newer Keymeter (it has 0999-next.sql)");
  });
});
