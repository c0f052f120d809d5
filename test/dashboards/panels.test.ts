// Every expression of every panel, against a real Prometheus that holds an organisation's past, and beside it what the
// ledger's own rows give by SQL that knows nothing of gauges: money to the cent.
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { firstAttemptId } from "../../ledger/ids.ts";
import { addDays } from "../../ledger/windows.ts";
import { IS_CI } from "../seed.ts";
import { hasPrometheus } from "../tools.ts";
import type { Sample } from "./ask.ts";
import { LIVE } from "./backfilled.ts";
import { dashboards, HISTORY_DAYS, MAY_BE_EMPTY, nameOf, NOW_MS, startHistory } from "./history.ts";
import type { History } from "./history.ts";

const [TODAY, TOMORROW, YESTERDAY, MONTH, NEXT_MONTH] = [
  "2026-11-24",
  "2026-11-25",
  "2026-11-23",
  "2026-11-01",
  "2026-12-01",
] as const;

const panels = dashboards.flatMap((dashboard) =>
  dashboard.panels
    .filter(({ type }) => type !== "row")
    .map((panel) => ({ ...panel, uid: dashboard.uid, from: dashboard.time.from, name: nameOf(dashboard, panel) })),
);

/** Figures by the values of the labels that they are told by; for days, by day too. */
type Figures = ReadonlyMap<string, number>;
let books: Database.Database;
let billing: Database.Database;
let history: History;
let keyId: string;

beforeAll(async () => {
  if (!hasPrometheus) return;
  history = await startHistory(IS_CI ? 40 : 15);
  keyId = history.keyId;
  books = new Database(join(history.folder, "usage.db"), { readonly: true });
  billing = new Database(join(history.folder, "billing.db"), { readonly: true });
}, 600_000);
afterAll(async () => {
  await history?.stop();
  books?.close();
  billing?.close();
});

/** Sums of events of `[since, until)`, by expressions over events and keys. */
function sums(
  what: "cost" | "requests" | "tokens",
  by: readonly string[],
  since: string,
  until: string,
  where = "1",
): Map<string, number> {
  const whats = {
    cost: "SUM(COALESCE(cost_nano_usd, 0)) / 1e9",
    requests: "COUNT(*)",
    tokens:
      "SUM(COALESCE(input, 0) + COALESCE(cache_read, 0) + COALESCE(cache_write_5m, 0) + COALESCE(cache_write_1h, 0) + COALESCE(output, 0))",
  };
  const columns = by.map((one, i) => `${EXPRESSIONS[one] ?? one} AS c${i}`);
  const rows = books
    .prepare(
      `SELECT ${[...columns, `${whats[what]} AS v`].join(", ")} FROM events WHERE attempt_id >= ? AND attempt_id < ? AND ${where} ${by.length > 0 ? `GROUP BY ${by.map((_, i) => i + 1).join(", ")}` : ""}`,
    )
    .all(firstAttemptId(Date.parse(`${since}T00:00:00Z`)), firstAttemptId(Date.parse(`${until}T00:00:00Z`))) as {
    [column: string]: string | number;
  }[];
  return new Map(rows.map((row) => [by.map((_, i) => String(row[`c${i}`])).join(" | "), Number(row["v"])]));
}
const EXPRESSIONS: { readonly [label: string]: string } = {
  model: "COALESCE(served_model, requested_model)",
  id: "key_id",
  outcome: "REPLACE(outcome, '_', ' ')",
  name: "(SELECT name FROM keys WHERE keys.id = key_id)",
  user: "(SELECT person FROM keys WHERE keys.id = key_id)",
  day: "strftime('%Y-%m-%d', attempt_id / 4096 / 1000 + 1577836800, 'unixepoch')",
};

const by = (rows: readonly (readonly [string, number])[]): Figures => new Map(rows);
const one = (value: number | undefined): Figures => new Map(value === undefined ? [] : [["", value]]);
const total = (figures: Figures): number => [...figures.values()].reduce((all, value) => all + value, 0);
const largest = (figures: Figures, most: number): Figures =>
  new Map([...figures].toSorted(([, a], [, b]) => b - a).slice(0, most));
const divided = (a: Figures, b: Figures): Figures =>
  new Map([...a].map(([name, value]) => [name, value / (b.get(name) ?? Number.NaN)]));
const minus = (a: Figures, b: Figures): Figures =>
  new Map([...a].map(([name, value]) => [name, value - (b.get(name) ?? 0)]));

function billed(table: "billed_lines" | "metered_lines", columns: string): Figures {
  // Of days that have both.
  const rows = billing
    .prepare(
      `SELECT ${columns} AS name, SUM(${table === "billed_lines" ? "amount_nano_usd" : "cost_nano_usd"}) / 1e9 AS v FROM ${table} AS t
       WHERE day >= ? AND day < ? AND EXISTS (SELECT 1 FROM bill_days AS b WHERE b.provider = t.provider AND b.day = t.day AND b.lines > 0) GROUP BY 1`,
    )
    .all(addDays(TODAY, -62), TOMORROW) as { name: string; v: number }[];
  return by(rows.map(({ name, v }) => [name, v]));
}
const variances = (columns: string): Figures =>
  by(
    (
      billing
        .prepare(
          `SELECT ${columns} AS name, SUM(amount_nano_usd) / 1e9 AS v FROM variances WHERE day >= ? AND NOT (cause = 'estimate corrected' AND EXISTS (SELECT 1 FROM closed_days AS c WHERE c.provider = variances.provider AND c.day = variances.day)) GROUP BY 1`,
        )
        .all(addDays(TODAY, -62)) as {
        name: string;
        v: number;
      }[]
    ).map(({ name, v }) => [name, v]),
  );
type Forecast = {
  readonly scope_id: string;
  readonly p10: number;
  readonly p50: number;
  readonly p90: number;
  readonly start_ms: number;
  readonly hours: string;
};
const forecasts = (scope: string, window: string): Forecast[] =>
  billing
    .prepare(
      "SELECT scope_id, p10_nano_usd / 1e9 AS p10, p50_nano_usd / 1e9 AS p50, p90_nano_usd / 1e9 AS p90, start_ms, hours FROM forecasts WHERE scope = ? AND window = ? AND start_ms <= ? AND end_ms > ? AND method <> 'learning'",
    )
    .all(scope, window, NOW_MS, NOW_MS) as Forecast[];
const soFar = ({ hours, start_ms: startMs }: Forecast): number => {
  const elapsed = (NOW_MS - startMs) / 3_600_000;
  const all = (JSON.parse(hours) as string[]).map((hour) => Number(hour) / 1e9);
  const whole = Math.floor(elapsed);
  return all.slice(0, whole).reduce((sum, hour) => sum + hour, 0) + (all[whole] ?? 0) * (elapsed - whole);
};
/** Where a month lands: spent so far, and of what is to come the hours that lie ahead, the running one in part. */
const landing = (scope: string, id: string, quantile: "p10" | "p50" | "p90", spent: number): number | undefined => {
  const row = billing
    .prepare(
      "SELECT start_ms, hours, p10_nano_usd / 1e9 AS p10, p50_nano_usd / 1e9 AS p50, p90_nano_usd / 1e9 AS p90 FROM landings WHERE scope = ? AND scope_id = ? AND window = 'month' AND method <> 'learning'",
    )
    .get(scope, id) as Forecast | undefined;
  return row && spent + (row[quantile] * (row.p50 - soFar(row))) / row.p50;
};
const budgets: readonly (readonly [name: string, usd: number, spent: () => number])[] = [
  ["the organisation | month | soft", 1_100, () => total(sums("cost", [], MONTH, NEXT_MONTH))],
  ["team search | month | hard", 1_000, () => total(sums("cost", [], MONTH, NEXT_MONTH, "team = 'search'"))],
  // By the key's name, though its budget has its id.
  ["key key-0 | day | hard", 0.05, () => total(sums("cost", [], TODAY, TOMORROW, `${EXPRESSIONS["name"]} = 'key-0'`))],
];
/** Whole days that history holds, and the one before it, which its first day tells of: each bar's day with its
 *  value. */
const ofDays = (what: "cost" | "requests" | "tokens", label: string, where = "1"): Figures =>
  sums(what, ["day", label], addDays(TODAY, -HISTORY_DAYS - 1), TODAY, where);
const live = (value: (one: (typeof LIVE)[number]) => number, label: "model" | "outcome"): Figures => {
  const found = new Map<string, number>();
  for (const each of LIVE) found.set(each[label], (found.get(each[label]) ?? 0) + (value(each) * each.requests) / 60);
  return found;
};

/** What each query of each panel with money in it should say: the labels, and figures by their values. `days`: by the
 *  bar's day too. `some`: others may be there. */
type Expected = {
  readonly labels: readonly string[];
  readonly figures: () => Figures;
  readonly days?: boolean;
  readonly some?: boolean;
};
const ORG = { labels: [] };
const EXPECTED: { readonly [panel: string]: readonly Expected[] } = {
  "finance / Spend today": [{ ...ORG, figures: () => sums("cost", [], TODAY, TOMORROW) }],
  "finance / Spend this month": [{ ...ORG, figures: () => sums("cost", [], MONTH, NEXT_MONTH) }],
  "finance / Where the month lands": (["p10", "p50", "p90"] as const).map((quantile) => ({
    ...ORG,
    figures: () => one(landing("org", "all", quantile, total(sums("cost", [], MONTH, NEXT_MONTH)))),
  })),
  "finance / Forecast when it began": [{ ...ORG, figures: () => one(forecasts("org", "month")[0]?.p50) }],
  "finance / Ahead of forecast": [
    {
      ...ORG,
      figures: () => {
        const [forecast] = forecasts("org", "month");
        return one(forecast && (total(sums("cost", [], MONTH, NEXT_MONTH)) - soFar(forecast)) / forecast.p50);
      },
    },
  ],
  "finance / Spend without a team": [
    { ...ORG, figures: () => one(total(sums("cost", [], MONTH, NEXT_MONTH, "team = ''"))) },
  ],
  "finance / Is the month on its forecast?": [
    { ...ORG, figures: () => sums("cost", [], MONTH, NEXT_MONTH) },
    { ...ORG, figures: () => one(forecasts("org", "month").map(soFar)[0]) },
    { ...ORG, figures: () => one(1_100) },
  ],
  "finance / Which days were dear, and at which provider?": [
    { labels: ["id"], days: true, figures: () => ofDays("cost", "provider") },
  ],
  "finance / Which budgets are nearly spent?": [
    {
      labels: ["scope", "window", "kind"],
      some: true,
      figures: () => by(budgets.map(([name, usd, spent]) => [name, spent() / usd])),
    },
  ],
  "finance / Where will budgets land?": [
    { labels: ["scope", "window", "kind"], some: true, figures: () => by(budgets.map(([name, usd]) => [name, usd])) },
    {
      labels: ["scope", "window", "kind"],
      some: true,
      figures: () => by(budgets.map(([name, usd, spent]) => [name, usd - spent()])),
    },
  ],
  "finance / Which team spent what?": [
    { labels: ["team"], figures: () => sums("cost", ["team"], MONTH, NEXT_MONTH) },
    { labels: ["team"], figures: () => sums("cost", ["team"], TODAY, TOMORROW) },
    {
      labels: ["team"],
      figures: () =>
        by(
          [...sums("cost", ["team"], MONTH, NEXT_MONTH)].flatMap(([id, spent]) => {
            const lands = landing("team", id, "p50", spent);
            return lands === undefined ? [] : [[id, lands] as const];
          }),
        ),
    },
    { labels: ["team"], figures: () => by(forecasts("team", "month").map(({ scope_id: id, p50 }) => [id, p50])) },
  ],
  "finance / Which model cost what?": [
    { labels: ["model", "provider"], figures: () => sums("cost", ["model", "provider"], MONTH, NEXT_MONTH) },
  ],
  "finance / Which keys cost most?": [
    {
      labels: ["name", "user", "id"],
      figures: () => largest(sums("cost", ["name", "user", "id"], MONTH, NEXT_MONTH), 20),
    },
  ],
  "reconciliation / Billed": [{ ...ORG, figures: () => one(total(billed("billed_lines", "provider"))) }],
  "reconciliation / Billed minus metered": [
    {
      ...ORG,
      figures: () => one(total(billed("billed_lines", "provider")) - total(billed("metered_lines", "provider"))),
    },
  ],
  "reconciliation / Difference as a share of the bill": [
    {
      ...ORG,
      figures: () => {
        const [a, b] = [total(billed("billed_lines", "provider")), total(billed("metered_lines", "provider"))];
        return one(Math.abs(a - b) / a);
      },
    },
  ],
  "reconciliation / Do metered and billed agree, day by day?": [
    { labels: ["day"], figures: () => billed("billed_lines", "day") },
    { labels: ["day"], figures: () => billed("metered_lines", "day") },
  ],
  "reconciliation / Why do they differ?": [
    { labels: ["cause", "provider"], figures: () => variances("cause || ' | ' || provider") },
  ],
  "reconciliation / Which bills are signed off?": [
    { labels: ["day", "provider"], figures: () => billed("metered_lines", "day || ' | ' || provider") },
    { labels: ["day", "provider"], figures: () => billed("billed_lines", "day || ' | ' || provider") },
    {
      labels: ["day", "provider"],
      figures: () =>
        minus(billed("billed_lines", "day || ' | ' || provider"), billed("metered_lines", "day || ' | ' || provider")),
    },
  ],
  "reconciliation / What went past the meter?": [
    {
      labels: ["billed_key", "provider", "kind"],
      figures: () => by([["key_nobody_knows | openai | unknown_key", 12.34]]),
    },
  ],
  "usage / What does an hour cost, and on which model?": [
    {
      labels: ["model"],
      some: true,
      figures: () =>
        by(
          [...live(({ costNanoUsd }) => Number(costNanoUsd) / 1e9, "model")].map(([name, rate]) => [name, rate * 3600]),
        ),
    },
  ],
  "usage / Cost of a request, today": [
    { ...ORG, figures: () => divided(sums("cost", [], TODAY, TOMORROW), sums("requests", [], TODAY, TOMORROW)) },
  ],
  "usage / Cost of errors, yesterday": [
    { ...ORG, figures: () => one(total(sums("cost", [], YESTERDAY, TODAY, "outcome <> 'complete'"))) },
  ],
  "usage / Errors in yesterday's spend": [
    {
      ...ORG,
      figures: () =>
        one(
          total(sums("cost", [], YESTERDAY, TODAY, "outcome <> 'complete'")) /
            total(sums("cost", [], YESTERDAY, TODAY)),
        ),
    },
  ],
  "usage / Which keys cost most today?": [
    {
      labels: ["name", "team", "id"],
      figures: () => largest(sums("cost", ["name", "team", "id"], TODAY, TOMORROW), 20),
    },
  ],
  "usage / How did yesterday's requests end?": [
    { labels: ["outcome", "provider"], figures: () => sums("cost", ["outcome", "provider"], YESTERDAY, TODAY) },
    { labels: ["outcome", "provider"], figures: () => sums("requests", ["outcome", "provider"], YESTERDAY, TODAY) },
  ],
  "usage / Does a team's request get cheaper?": [
    {
      labels: ["id"],
      days: true,
      figures: () => divided(ofDays("cost", "team", "team <> ''"), ofDays("requests", "team", "team <> ''")),
    },
  ],
  "usage / Do a team's requests grow?": [
    {
      labels: ["id"],
      days: true,
      figures: () => divided(ofDays("tokens", "team", "team <> ''"), ofDays("requests", "team", "team <> ''")),
    },
  ],
  "usage / How many requests a minute, and how do they end?": [
    { labels: ["outcome"], some: true, figures: () => by([["upstream failed", 1]]) },
  ],
  "key / Today": [{ ...ORG, figures: () => one(total(sums("cost", [], TODAY, TOMORROW, `key_id = '${keyId}'`))) }],
  "key / This month": [
    { ...ORG, figures: () => one(total(sums("cost", [], MONTH, NEXT_MONTH, `key_id = '${keyId}'`))) },
  ],
  "key / This hour": [{ ...ORG, figures: () => one(ofHour()) }],
  "key / Forecast when it began": [
    { ...ORG, figures: () => one(forecasts("key", "month").find(({ scope_id: id }) => id === keyId)?.p50) },
  ],
  "key / The month lands at": [
    {
      ...ORG,
      figures: () =>
        one(landing("key", keyId, "p50", total(sums("cost", [], MONTH, NEXT_MONTH, `key_id = '${keyId}'`)))),
    },
  ],
  "key / Does its day follow its forecast?": [
    { ...ORG, figures: () => one(total(sums("cost", [], TODAY, TOMORROW, `key_id = '${keyId}'`))) },
    {
      ...ORG,
      figures: () =>
        one(
          forecasts("key", "day")
            .filter(({ scope_id: id }) => id === keyId)
            .map(soFar)[0],
        ),
    },
  ],
  "key / Is an hour dearer than is worth telling?": [{ ...ORG, figures: () => one(ofHour()) }],
  "key / What did it cost each day?": [
    { labels: ["id"], days: true, figures: () => ofDays("cost", "id", `key_id = '${keyId}'`) },
  ],
  "key / On which models?": [
    {
      labels: ["model", "provider"],
      figures: () => sums("cost", ["model", "provider"], MONTH, NEXT_MONTH, `key_id = '${keyId}'`),
    },
    {
      labels: ["model", "provider"],
      figures: () => sums("requests", ["model", "provider"], MONTH, NEXT_MONTH, `key_id = '${keyId}'`),
    },
  ],
  "models / What does each model cost for what it does?": [
    { labels: ["id"], figures: () => priced(sums("cost", ["model"], MONTH, NEXT_MONTH)) },
    { labels: ["id"], figures: () => sums("requests", ["model"], MONTH, NEXT_MONTH) },
    {
      labels: ["id"],
      figures: () =>
        divided(priced(sums("cost", ["model"], MONTH, NEXT_MONTH)), sums("requests", ["model"], MONTH, NEXT_MONTH)),
    },
    {
      labels: ["id"],
      figures: () =>
        by(
          [
            ...divided(
              priced(sums("cost", ["model"], MONTH, NEXT_MONTH)),
              sums("tokens", ["model"], MONTH, NEXT_MONTH),
            ),
          ].map(([name, usd]) => [name, usd * 1e6]),
        ),
    },
  ],
  "models / What would it cost on another model?": [
    {
      labels: ["model", "provider"],
      some: true,
      figures: () => {
        const price = createPriceBook().find("openai", "gpt-5.2", NOW_MS)?.units;
        const of = (column: string): number =>
          total(sums("cost", [], MONTH, NEXT_MONTH).size > 0 ? tokensOf(column) : new Map());
        const usd = (column: string, unit: "input" | "cache_read" | "cache_write_5m" | "output"): number =>
          of(column) * (Number(price?.[unit]?.base ?? 0) / 1e12);
        return by([
          [
            "gpt-5.2 | openai",
            usd("input", "input") +
              usd("cache_read", "cache_read") +
              usd("cache_write_5m", "cache_write_5m") +
              usd("output", "output"),
          ],
        ]);
      },
    },
  ],
  "models / Which team uses which model?": [
    { labels: ["team", "model"], figures: () => sums("cost", ["team", "model"], MONTH, NEXT_MONTH) },
  ],
  "models / Which models does the money move to?": [
    { labels: ["id"], days: true, figures: () => ofDays("cost", "model") },
  ],
  "models / When did list prices change?": [
    {
      labels: ["model", "class"],
      some: true,
      figures: () =>
        by(
          (["input", "output"] as const).map((unit) => [
            `gpt-5.2 | ${unit}`,
            Number(createPriceBook().find("openai", "gpt-5.2", NOW_MS)?.units[unit]?.base) / 1e6,
          ]),
        ),
    },
  ],
  "chargeback / To be charged so far": [{ ...ORG, figures: () => sums("cost", [], MONTH, NEXT_MONTH) }],
  "chargeback / To be shared out, last 62 days": [{ ...ORG, figures: () => one(total(variances("provider"))) }],
  "chargeback / Who is charged what?": [
    { labels: ["team", "project", "env"], figures: () => sums("cost", ["team", "project", "env"], MONTH, NEXT_MONTH) },
    {
      labels: ["team", "project", "env"],
      figures: () => sums("requests", ["team", "project", "env"], MONTH, NEXT_MONTH),
    },
  ],
  "chargeback / How did each team's spend develop?": [
    { labels: ["id"], days: true, figures: () => ofDays("cost", "team", "team <> ''") },
    { labels: [], days: true, figures: () => ofDays("cost", "team", "team = ''") },
  ],
};

/** Of the key that is looked at, the running hour. */
function ofHour(): number {
  const since = firstAttemptId(Date.parse("2026-11-24T10:00:00Z"));
  return total(sums("cost", [], TODAY, TOMORROW, `key_id = '${keyId}' AND attempt_id >= ${since}`));
}

/** Without those that cost nothing. */
function priced(figures: Figures): Figures {
  return new Map([...figures].filter(([, usd]) => usd > 0));
}

function tokensOf(column: string): Figures {
  const row = books
    .prepare(`SELECT SUM(COALESCE(${column}, 0)) AS v FROM events WHERE attempt_id >= ? AND attempt_id < ?`)
    .get(firstAttemptId(Date.parse(`${MONTH}T00:00:00Z`)), firstAttemptId(Date.parse(`${NEXT_MONTH}T00:00:00Z`))) as {
    v: number;
  };
  return one(row.v);
}

describe.skipIf(!hasPrometheus)("every panel over a real Prometheus with back-filled history", () => {
  it.each(panels.map((panel) => [panel.name, panel] as const))("%s", async (name, panel) => {
    const expectations = EXPECTED[name];
    if (/(Metered|Forecast|Hypothetical|Billed) money/.test(panel.description) && !EXEMPT.has(name))
      expect(expectations, "money is held against the ledger").toBeDefined();
    for (const [i, target] of panel.targets.entries()) {
      // Of days all that there are, also where a panel shows fewer.
      const asked = panel.interval === "1d" ? { ...panel, timeFrom: `${HISTORY_DAYS + 1}d` } : panel;
      const curve = await history.asker.answer(asked, target, panel.from);
      // A point at each full hour says nothing of now.
      const series = panel.interval === "1h" ? await history.asker.answer(panel, { ...target, instant: true }) : curve;
      expect(series.length, `${target.expr} answers`).toBeGreaterThan(MAY_BE_EMPTY.has(name) ? -1 : 0);
      for (const { values } of series)
        for (const [, value] of values) expect(Number.isFinite(Number(value)), target.expr).toBe(true);
      const wanted = expectations?.[i];
      if (!wanted) continue;
      const expected = wanted.figures();
      expect(expected.size, "something to hold it against").toBeGreaterThan(0);
      const found = new Map<string, number>();
      for (const { metric, values } of series) {
        const place = wanted.labels.map((label) => metric[label] ?? "").join(" | ");
        // Of curves the last figure counts; of days each, under its day.
        const shown = wanted.days ? values : values.slice(-1);
        for (const [seconds, value] of shown)
          found.set(
            wanted.days ? `${new Date(seconds * 1000).toISOString().slice(0, 10)} | ${place}` : place,
            Number(value),
          );
      }
      for (const [place, value] of expected) {
        const shown = found.get(place);
        expect(shown, `${target.expr}: ${place}`).toBeDefined();
        expect(
          Math.abs((shown ?? 0) - value),
          `${target.expr}: ${place} shows ${shown}, the ledger has ${value}`,
        ).toBeLessThan(
          panel.description.includes("US dollars")
            ? Math.max(1e-7, Math.abs(value) * 1e-9)
            : Math.max(1e-9, Math.abs(value) * 1e-6),
        );
      }
      if (!wanted.some)
        expect(
          [...found.keys()].filter((place) => !expected.has(place)),
          "nothing else",
        ).toEqual([]);
    }
  });

  it("has an expectation for no panel that is not there", () => {
    const names = new Set(panels.map((panel) => panel.name));
    expect(Object.keys(EXPECTED).filter((name) => !names.has(name))).toEqual([]);
  });

  it("annotations and variables answer too", async () => {
    const { ask, substitute } = history.asker;
    for (const dashboard of dashboards) {
      const { annotations, templating } = dashboard as unknown as {
        annotations: { list: { name: string; expr: string }[] };
        templating: { list: { name: string; query: string }[] };
      };
      for (const { name, expr } of annotations.list) {
        const found = await ask<Sample>("query", { query: expr, time: String(NOW_MS / 1000) });
        if (name !== "Caps refuse") expect(found.length, name).toBeGreaterThan(0);
      }
      for (const { name, query } of templating.list.filter((variable) => variable.name !== "datasource")) {
        const [, selector = "", label = ""] = /^(?:label_values|query_result)\((.+?)(?:, (\w+))?\)$/.exec(query) ?? [];
        const found = await ask<Sample>("query", { query: substitute(selector), time: String(NOW_MS / 1000) });
        expect(found.length, `$${name}`).toBeGreaterThan(0);
        if (label !== "")
          for (const { metric } of found)
            expect(metric, `$${name}`).toHaveProperty(label === "team" ? "window" : label);
      }
    }
  });
});

/** Shares and ratios of figures that are held against the ledger elsewhere, or lines that the collector draws
 *  (test/collector/alert-metrics.test.ts). */
const EXEMPT = new Set([
  "reconciliation / Is the last day's difference worth an alert?",
  "reconciliation / Which prices differ from the bill?",
]);
