// Books in Postgres of the release before, under the programs of today: they are migrated, whoever used them goes on with the rights that
// it had, and all of it adds up.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { migratePostgres } from "../../ledger/postgres.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { ask, hasPostgres, rowsOf, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { startProxy } from "../start-proxy.ts";

/** What it had. */
const BEFORE = ["0001-ledger.sql", "0002-nodes.sql", "0003-escrow.sql", "0004-limits.sql"];
const FOLDER = new URL("../../ledger/migrations/postgres/", import.meta.url);

describe.skipIf(!hasPostgres)("books in Postgres of the release before", () => {
  let server: PostgresServer;
  let provider: FakeProvider;
  beforeAll(async () => {
    server = await startPostgres();
    provider = await startFakeProvider(json(chatAnswer()));
  }, 60_000);
  afterAll(async () => {
    await provider?.close();
    await server?.stop();
  });

  it("go on, with owners as users, under the role that used them", async () => {
    const url = await server.database("before");
    for (const name of BEFORE) {
      const text = readFileSync(new URL(name, FOLDER), "utf8");
      await ask(url, text);
      const digest = createHash("sha256").update(text).digest("hex");
      await ask(url, `INSERT INTO usage.migrations (name, digest) VALUES ('${name}', '${digest}')`);
    }
    await ask(
      url,
      `INSERT INTO usage.keys (id, kind, provider, name, team, owner, state, hint, created_at_ms)
      VALUES ('key_old', 'virtual', '', 'old', 'search', ' Ann ', 'active', 'abcd', 1),
        ('key_other', 'virtual', '', 'other', 'search', 'ann', 'active', 'efgh', 2)`,
    );
    await ask(url, "CREATE ROLE programs LOGIN");
    await ask(
      url,
      `GRANT USAGE ON SCHEMA usage, billing, notices TO programs;
      GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA usage, billing, notices TO programs;
      GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA usage, billing, notices TO programs`,
    );
    await ask(url, "CREATE ROLE reader LOGIN");
    await ask(url, "GRANT USAGE ON SCHEMA usage TO reader; GRANT SELECT ON usage.events TO reader");

    expect(await migratePostgres(url)).toEqual([
      "0005-batches.sql",
      "0006-price-list.sql",
      "0007-people.sql",
      "0008-each.sql",
      "0009-asked.sql",
      "0010-texts.sql",
      "0011-charged-users.sql",
      "0012-seats.sql",
      "0013-forecasts.sql",
      "0014-rotations.sql",
      "0015-keys-before.sql",
      "0016-tokens.sql",
      "0017-telemetry.sql",
      "0018-retention.sql",
    ]);
    expect(await rowsOf(url, "SELECT name FROM usage.people", [])).toEqual([["Ann"]]);
    expect(await rowsOf(url, "SELECT COUNT(DISTINCT person) FROM usage.keys WHERE person <> ''", [])).toEqual([["1"]]);

    const own = url.replace("keymeter@", "programs@");
    const proxy = await startProxy(provider.url, { KEYMETER_LEDGER_URL: own });
    try {
      const { secret } = await proxy.createKey({ userName: "ann" });
      const answer = await fetch(`${proxy.url}/openai/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
        body: JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "hi" }] }),
      });
      expect([answer.status, await answer.text()]).toEqual([200, expect.any(String)]);
      expect(await proxy.events()).toHaveLength(1);
      // The two keys were put there by hand, and no audit made them; all else is right.
      const { text } = await runKeymeter(proxy, "verify");
      expect(text.match(/^(BAD .*|  +keys: .*)$/gm)?.map((line) => line.trim())).toEqual([
        "BAD  keys, budgets and limits are what the audit says",
        "keys: no audit record made key_old",
        "keys: no audit record made key_other",
      ]);
      expect(await runKeymeter(proxy, "spend", "--by", "user")).toMatchObject({
        code: 0,
        text: expect.stringMatching(/Ann/),
      });
    } finally {
      await proxy.stop();
    }
    await expect(ask(own, "UPDATE usage.events SET cost_nano_usd = 0")).rejects.toThrow(/permission denied/);
    await expect(ask(own, "CREATE TABLE usage.x (y bigint)")).rejects.toThrow(/permission denied/);
    const reader = url.replace("keymeter@", "reader@");
    await expect(ask(reader, "SELECT 1 FROM usage.people")).rejects.toThrow(/permission denied/);
  });
});
