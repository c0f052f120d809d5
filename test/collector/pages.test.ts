// The report pages: what stands on them against the books themselves, and who may read them. In a browser:
// pages-browser.test.ts.
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { effects } from "../../collector/effects.ts";
import { firstAttemptId } from "../../ledger/ids.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { random, SEED } from "../seed.ts";
import { ADMIN, BEARER, get, nano, NOW_MS, openSites, READ, rowsOf, spentBy } from "./sites.ts";
import type { Row, Site, Sites } from "./sites.ts";

let sites: Sites;
let full: Site;
let one: Site;

beforeAll(async () => {
  sites = await openSites();
  ({ full, one } = sites);
}, 300_000);
afterAll(async () => {
  await sites?.close();
});

describe("figures", () => {
  it("of teams and keys are the sums of their events, to the nano-dollar", async () => {
    for (const [page, name, expression] of [
      ["teams", "team", "team"],
      ["keys", "key", "(SELECT name FROM keys WHERE id = key_id)"],
    ] as const) {
      const rows = rowsOf(await get(full, `${page}.csv?table=${page}`));
      const expected = spentBy(full.folder, expression, "2026-11-01", "2026-12-01");
      expect(rows.length).toBeGreaterThan(expected.size - 1);
      for (const row of rows.slice(0, -1)) {
        const key = (row[name] ?? "").replace(/^'=/, "=");
        expect(nano(row["month_usd"]), key).toBe(expected.get(key) ?? 0n);
      }
      expect(nano(rows.at(-1)?.["month_usd"])).toBe([...expected.values()].reduce((a, b) => a + b, 0n));
    }
  });

  it("of what changed are those of the two weeks, and their reasons add up to the difference exactly", async () => {
    const now = spentBy(full.folder, "team", "2026-11-17", "2026-11-24");
    const before = spentBy(full.folder, "team", "2026-11-10", "2026-11-17");
    const rows = rowsOf(await get(full, "changes.csv?table=teams")).slice(0, -1);
    expect(rows.length).toBe(5);
    for (const row of rows) {
      const team = row["team"] ?? "";
      expect(nano(row["now_usd"])).toBe(now.get(team) ?? 0n);
      expect(nano(row["before_usd"])).toBe(before.get(team) ?? 0n);
      const more = nano(row["now_usd"]) - nano(row["before_usd"]);
      expect(nano(row["more_usd"])).toBe(more);
      expect(nano(row["by_volume_usd"]) + nano(row["by_mix_usd"]) + nano(row["by_request_usd"])).toBe(more);
    }
  });

  it("of reasons add up for any two spans", () => {
    const next = random(SEED);
    const models = (): { model: string; requests: number; costNanoUsd: bigint }[] =>
      ["a", "b", "c"].flatMap((model) =>
        next() < 0.6
          ? [{ model, requests: Math.floor(next() * 5), costNanoUsd: BigInt(Math.floor(next() * 1e12)) }]
          : [],
      );
    const sum = (list: ReturnType<typeof models>): bigint =>
      list.reduce((all, { costNanoUsd }) => all + costNanoUsd, 0n);
    for (let i = 0; i < 2_000; i++) {
      const [before, after] = [models(), models()];
      const { volumeNanoUsd, mixNanoUsd, requestNanoUsd } = effects(before, after);
      expect(volumeNanoUsd + mixNanoUsd + requestNanoUsd).toBe(sum(after) - sum(before));
    }
  });

  it("tell more requests from other models from dearer requests", () => {
    const of = (
      model: string,
      requests: number,
      usd: bigint,
    ): { model: string; requests: number; costNanoUsd: bigint } => ({
      model,
      requests,
      costNanoUsd: usd,
    });
    expect(effects([of("a", 10, 100n)], [of("a", 20, 200n)])).toEqual({
      volumeNanoUsd: 100n,
      mixNanoUsd: 0n,
      requestNanoUsd: 0n,
    });
    expect(effects([of("a", 10, 100n)], [of("a", 10, 150n)])).toEqual({
      volumeNanoUsd: 0n,
      mixNanoUsd: 0n,
      requestNanoUsd: 50n,
    });
    expect(effects([of("a", 10, 100n), of("b", 10, 300n)], [of("b", 20, 600n)])).toEqual({
      volumeNanoUsd: 0n,
      mixNanoUsd: 200n,
      requestNanoUsd: 0n,
    });
  });

  it("of bills agree with the bills' own lines, and a day's causes add up to its difference", async () => {
    const billing = new Database(join(full.folder, "billing.db"), { readonly: true });
    billing.defaultSafeIntegers(true);
    const rows = rowsOf(await get(full, "bills.csv?table=days")).slice(0, -1);
    expect(rows.filter(({ state }) => state === "closed").length).toBeGreaterThan(20);
    expect(rows.filter(({ state }) => state === "no bill yet").length).toBeGreaterThan(2);
    for (const row of rows.filter(({ billed_usd: billed }) => billed !== "")) {
      const billed = billing
        .prepare("SELECT SUM(amount_nano_usd) FROM billed_lines WHERE provider = ? AND day = ?")
        .pluck()
        .get(row["provider"], row["day"]) as bigint;
      expect(nano(row["billed_usd"])).toBe(billed);
      const day = `provider=${row["provider"]}&day=${row["day"]}`;
      const causes = rowsOf(await get(full, `bill.csv?table=causes&${day}`));
      if (causes.length > 0) expect(nano(causes.at(-1)?.["amount_usd"])).toBe(nano(row["variance_usd"]));
    }
    billing.close();
  });

  it("of a closed day are those that were signed, and what came later stands beside them", async () => {
    const billing = new Database(join(full.folder, "billing.db"));
    const signed = billing
      .prepare(
        "SELECT provider, day, metered_nano_usd AS metered, billed_nano_usd AS billed FROM closed_days ORDER BY day DESC LIMIT 1",
      )
      .get() as { provider: string; day: string; metered: number; billed: number };
    // A correction stays: the tests below read a day that was revised.
    billing
      .prepare("UPDATE bill_days SET amount_nano_usd = amount_nano_usd + 5000000000 WHERE provider = ? AND day = ?")
      .run(signed.provider, signed.day);
    billing
      .prepare(
        "INSERT INTO corrections (provider, day, seq, made_at_ms, metered_nano_usd, billed_nano_usd, bill_digest) VALUES (?, ?, 99, 1, 0, 5000000000, '')",
      )
      .run(signed.provider, signed.day);
    billing.close();
    const row = rowsOf(await get(full, "bills.csv?table=days")).find(
      (one) => one["provider"] === signed.provider && one["day"] === signed.day,
    );
    expect(nano(row?.["billed_usd"])).toBe(BigInt(signed.billed));
    expect(nano(row?.["metered_usd"])).toBe(BigInt(signed.metered));
    expect(nano(row?.["since_usd"])).toBe(5_000_000_000n);
  });

  it("of a month with an unsigned bill of somebody who metered nothing are not final", async () => {
    const billing = new Database(join(full.folder, "billing.db"));
    const figures = async (): Promise<{ title: string; money: string; value: unknown }[]> =>
      (JSON.parse(await get(full, "chargeback.json?month=2026-11")) as { sections: { figures: [] }[] }).sections[0]
        ?.figures ?? [];
    const open = async (): Promise<unknown> =>
      (await figures()).find(({ title }) => title === "Provider-days not signed off")?.value;
    const before = Number(await open());
    billing.exec(
      "INSERT INTO bill_days SELECT 'mistral', day, source, as_of_ms, digest, 1, 1000000000, read_at_ms, changed_at_ms FROM bill_days WHERE day = '2026-11-03' LIMIT 1",
    );
    expect(await open()).toBe(before + 1);
    expect((await figures())[0]?.money).toBe("metered");
    billing.exec("DELETE FROM bill_days WHERE provider = 'mistral'");
    billing.close();
  });

  it("of a chargeback and its FOCUS file are one sum", async () => {
    const charges = rowsOf(await get(full, "chargeback.csv?table=charges&month=2026-11"));
    const focus = rowsOf(await get(full, "focus.csv?since=2026-11-01&until=2026-12-01&version=1.2"));
    const billed = focus.reduce((all, row) => all + nano(row["BilledCost"]), 0n);
    expect(focus.length).toBeGreaterThan(1_000);
    expect(nano(charges.at(-1)?.["total_usd"])).toBe(billed);
    const team = rowsOf(await get(full, `focus.csv?since=2026-11-01&until=2026-12-01&team=search`));
    expect(new Set(team.map((row) => row["x_Team"]))).toEqual(new Set(["search"]));
    const nobody = rowsOf(await get(full, `focus.csv?since=2026-11-01&until=2026-12-01&team=`));
    expect(nobody.filter((row) => row["x_KeyId"] === "")).toEqual([]);
    expect(focus.filter((row) => row["x_Team"] === "" && row["x_KeyId"] === "").length).toBeGreaterThan(0);
    expect(
      focus.filter((row) => /^[=+@-]/.test(row["x_KeyName"] ?? "")),
      "a formula",
    ).toEqual([]);
  });

  it("of a chargeback wait for the turn of who writes billing.db, and hold up no other page meanwhile", async () => {
    const { promise: written, resolve: write } = Promise.withResolvers<void>();
    const job = one.inTurn(() => written);
    let isThere = false;
    const charged = get(one, "chargeback").then(() => (isThere = true));
    await get(one, "overview");
    await get(one, "keys");
    expect(isThere).toBe(false);
    write();
    await Promise.all([job, charged]);
  });

  it("of JSON are those of CSV", async () => {
    const page = JSON.parse(await get(full, "keys.json")) as {
      sections: { rows: { key: string; monthNanoUsd: string }[] }[];
    };
    const rows = rowsOf(await get(full, "keys.csv?table=keys")).slice(0, -1);
    expect(page.sections[0]?.rows.map((row) => BigInt(row.monthNanoUsd))).toEqual(
      rows.map((row) => nano(row["month_usd"])),
    );
  });

  it("of an unpriced model are not known, and never nothing", async () => {
    const rows = rowsOf(await get(full, "models.csv?table=models&days=28")).filter(
      ({ model }) => model === "model-of-tomorrow",
    );
    expect(rows.length).toBeGreaterThan(0);
    for (const row of rows) expect(row["cost_usd"]).toBe("");
  });

  it("of a key without a priced request are not known, on every page; the page says how many are left out", async () => {
    const usage = new Database(join(one.folder, "usage.db"));
    usage.exec("UPDATE rollup_day SET unpriced = requests, cost_nano_usd = 0");
    try {
      for (const [page, table] of [
        ["keys", "keys"],
        ["teams", "teams"],
        ["overview", "teams"],
      ] as const) {
        const rows = rowsOf(await get(one, `${page}.csv?table=${table}`));
        expect(
          rows.map((row) => row["month_usd"]),
          page,
        ).toEqual(["", ""]);
        expect(await get(one, `${page}.json`)).toContain(
          "Requests of this month that are in no sum: 1 without a price.",
        );
      }
    } finally {
      usage.exec("UPDATE rollup_day SET unpriced = 0");
      usage.close();
    }
  });

  it("of what it would take leave out windows that are over, and freezes", async () => {
    const usage = new Database(join(full.folder, "usage.db"));
    const day = (ms: number): number => Math.floor(ms / 60_000) * 60_000;
    const add = usage.prepare(
      "INSERT INTO refused (minute_ms, key_id, model, reason, budget_id, observed, count) VALUES (?, ?, 'x', ?, 'bud_small', 0, 1000)",
    );
    const read = async (): Promise<Row[]> => rowsOf(await get(full, "refused.csv?table=raises"));
    const before = await read();
    add.run(day(NOW_MS - 26 * 3_600_000), full.keyId, "budget_exceeded");
    add.run(day(NOW_MS), full.keyId, "frozen");
    try {
      const after = await read();
      expect(after.map((row) => [row["requests"], row["worth_usd"], row["command"]])).toEqual(
        before.map((row) => [row["requests"], row["worth_usd"], row["command"]]),
      );
      expect(before[0]?.["scope"]).toMatch(/key /);
      expect(before[0]?.["scope"]).not.toContain(full.keyId);
    } finally {
      usage.exec("DELETE FROM refused WHERE count = 1000");
      usage.close();
    }
  });

  it("of single requests are what is booked, corrections included, and pages of them meet without a gap", async () => {
    const usage = new Database(join(full.folder, "usage.db"), { readonly: true });
    const keyId = usage
      .prepare("SELECT key_id FROM events GROUP BY 1 ORDER BY COUNT(*) DESC LIMIT 1")
      .pluck()
      .get() as string;
    const ids = usage
      .prepare("SELECT attempt_id FROM events WHERE key_id = ? ORDER BY attempt_id DESC LIMIT 120")
      .pluck()
      .all(keyId) as number[];
    usage.close();
    const seen: string[] = [];
    let before = "";
    for (let sheet = 0; sheet < 2; sheet++) {
      const html = await get(full, `key?id=${keyId}${before}`);
      const rows = rowsOf(await get(full, `key.csv?id=${keyId}&table=requests${before}`));
      seen.push(...rows.map((row) => row["request"] ?? ""));
      const [next] = [...html.matchAll(/before(?:=|&#61;)(att_\d+)/g)].flatMap(([, id]) =>
        `&before=${id}` === before ? [] : [id],
      );
      before = `&before=${next}`;
    }
    expect(seen.length).toBe(100);
    expect(new Set(seen).size).toBe(100);
    expect(before).toBe(`&before=att_${ids[99]}`);
  });

  it("of the same traffic on another model are its tokens at that model's price, class by class; unpriced traffic is left out", async () => {
    const units = createPriceBook().find("openai", "gpt-5.2", NOW_MS)?.units ?? {};
    const usage = new Database(join(full.folder, "usage.db"), { readonly: true });
    const sums = usage
      .prepare(
        `SELECT COALESCE(served_model, requested_model) AS model, SUM(COALESCE(input, 0)) AS input, SUM(COALESCE(cache_read, 0)) AS cache_read,
           SUM(COALESCE(cache_write_5m, 0)) AS cache_write_5m, SUM(COALESCE(output, 0)) AS output FROM events WHERE attempt_id >= ? GROUP BY 1`,
      )
      .all(firstAttemptId(Date.parse("2026-10-28T00:00:00Z"))) as {
      model: string;
      input: number;
      cache_read: number;
      cache_write_5m: number;
      output: number;
    }[];
    usage.close();
    const rows = rowsOf(await get(full, "models.csv?table=repriced&days=28&on=openai%2Fgpt-5.2"));
    const picoOf = (unit: "input" | "cache_read" | "cache_write_5m" | "output"): number =>
      Number(units[unit]?.base ?? units.input?.base ?? 0n);
    expect(sums.some((one) => one.cache_write_5m > 0 && units.cache_write_5m === undefined)).toBe(true);
    for (const one of sums) {
      const row = rows.find(({ model }) => model === one.model);
      if (one.model === "model-of-tomorrow") {
        expect(row?.["there_usd"]).toBe("");
        continue;
      }
      const pico = (["input", "cache_read", "cache_write_5m", "output"] as const).reduce(
        (all, unit) => all + one[unit] * picoOf(unit),
        0,
      );
      expect(Number(row?.["there_usd"]), one.model).toBeCloseTo(pico / 1e12, 6);
    }
    expect(await get(full, "models.json?on=openai%2Fgpt-5.2")).toMatch(/\d of \d models are left out/);
  });

  it("of what it would take say that nothing is needed once a budget has been raised enough", async () => {
    const usage = new Database(join(full.folder, "usage.db"));
    const amount = (): unknown =>
      usage.prepare("SELECT amount_nano_usd FROM budgets WHERE id = 'bud_small'").pluck().get();
    const before = amount();
    usage.exec("UPDATE budgets SET amount_nano_usd = 1000000000000 WHERE id = 'bud_small'");
    try {
      const [row] = rowsOf(await get(full, "refused.csv?table=raises"));
      expect(row?.["command"]).toBe("nothing: what is left is enough for as many");
    } finally {
      usage.prepare("UPDATE budgets SET amount_nano_usd = ? WHERE id = 'bud_small'").run(before);
      usage.close();
    }
  });

  it("of a text that a spreadsheet would take for a formula are text", async () => {
    expect(await get(full, "keys.csv?table=keys")).toContain("'=SUM(A1:A9)");
  });
});

describe("who may read", () => {
  it("is nobody without a token: pages, downloads and lists of nothing are all refused", async () => {
    for (const path of ["overview", "keys.csv?table=keys", "overview.json", "focus.csv", "nothing", "key?id=x"]) {
      expect((await fetch(`${full.url}/${path}`)).status, path).toBe(401);
      const wrong = await fetch(`${full.url}/${path}`, { headers: { authorization: `Bearer ${ADMIN}` } });
      expect(wrong.status, `${path} with the admin token`).toBe(401);
    }
    const made = await fetch(`${full.url}/admin/link`, { method: "POST", headers: BEARER });
    expect(made.status, "the read token makes no links").toBe(401);
  });

  it("is who opens a link first, once; its session reads, and can be left", async () => {
    const path = full.makeLink();
    const head = await fetch(`${full.url}${path}`, { method: "HEAD" });
    expect(head.status, "a look at it").toBe(401);
    const opened = await fetch(`${full.url}${path}`);
    const cookie = opened.headers.get("set-cookie") ?? "";
    expect(opened.status).toBe(200);
    expect(cookie).toMatch(/; HttpOnly/);
    expect(cookie).toMatch(/; SameSite=Strict/);
    const session = { cookie: cookie.split(";")[0] ?? "" };
    expect((await fetch(`${full.url}/overview`, { headers: session })).status).toBe(200);
    expect((await fetch(`${full.url}${path}`)).status, "a second time").toBe(403);
    const forged = session.cookie.replace(/=\d+/, (until) => `=${Number(until.slice(1)) + 1}`);
    expect((await fetch(`${full.url}/overview`, { headers: { cookie: forged } })).status, "with a later end").toBe(401);
    expect((await fetch(`${full.url}/overview`, { headers: { cookie: "keymeter_session=" } })).status).toBe(401);
    const left = await fetch(`${full.url}/logout`, { method: "POST", headers: session, redirect: "manual" });
    expect(left.headers.get("set-cookie")).toContain("keymeter_session=;");
    expect((await fetch(`${full.url}/overview`, { headers: session })).status, "a copy of a cookie that was left").toBe(
      401,
    );
  });

  it("is led nowhere else: an address that reads like another site's stays here", async () => {
    const led = { "sec-fetch-site": "cross-site" };
    for (const path of ["https:example.com", "javascript:alert(1)", "%5C%5Cexample.com"]) {
      const body = await (await fetch(`${full.url}/${path}`, { headers: led })).text();
      expect(body, path).toContain(`url=/${path}"`);
    }
  });

  it("is who signs in with the read token, and not with the admin token", async () => {
    const signIn = async (token: string): Promise<Response> =>
      fetch(`${full.url}/login`, { method: "POST", body: new URLSearchParams({ token }), redirect: "manual" });
    expect((await signIn(ADMIN)).status).toBe(403);
    for (const body of [
      new URLSearchParams([
        ["token", ADMIN],
        ["token", "x"],
      ]),
      new URLSearchParams(),
      "null",
      "[]",
      "{}",
    ]) {
      const headers = typeof body === "string" ? { "content-type": "application/json" } : {};
      const answer = await fetch(`${full.url}/login`, { method: "POST", body, headers });
      expect(answer.status, String(body)).toBe(403);
    }
    expect((await fetch(`${full.url}/login?link=a&link=b`)).status).toBe(403);
    const taken = await signIn(READ);
    expect(taken.status).toBe(303);
    expect(taken.headers.get("set-cookie")).toContain("keymeter_session=");
  });

  it("is told by nothing that is not there: unknown pages, teams, keys and days are 404, odd questions no error", async () => {
    for (const path of [
      "nothing",
      "key?id=nobody",
      "team?id=nobody",
      "bill?provider=openai&day=2020-01-01",
      "bill",
      "key.csv",
      "keys.csv?table=x",
      "overview.pdf",
      "constructor",
      "chargeback?month=2026-13",
      "__proto__",
    ])
      expect((await fetch(`${full.url}/${path}`, { headers: BEARER })).status, path).toBe(404);
    for (const path of [
      "changes?days=-1",
      "models?on=x&days=x",
      "keys?q=%00&keysSheet=-3",
      "keys?keysSheet=1e9",
      `key?id=${full.keyId}&before=x`,
      "overview?a=1&a=2",
    ])
      expect((await fetch(`${full.url}/${path}`, { headers: BEARER })).status, path).toBe(200);
    for (const days of ["since=x&until=y", "since=2026-02-31&until=2026-03-02", "since=2020-01-01&until=2026-01-01"])
      expect((await fetch(`${full.url}/focus.csv?${days}`, { headers: BEARER })).status, days).toBe(400);
  });
});
