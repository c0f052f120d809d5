// An organisation's books: some weeks of what keys of several teams used, in the rhythm of a real trace, written
// through the ledger's own writer; what providers billed for it; and what was forecast. Real SQLite files, for pages
// and dashboards to be read from.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { closeBilledDay, compareDays } from "../collector/compare.ts";
import { NOTHING_STATED } from "../collector/match.ts";
import { freezeDueForecasts, refreshRests, scoreForecasts } from "../collector/freeze.ts";
import { replaceBills } from "../ledger/billing/bills.ts";
import type { BilledLine } from "../ledger/billing/bills.ts";
import { cost } from "../ledger/cost.ts";
import type { Outcome } from "../ledger/usage/usage-event.ts";
import { createDigest, issueVirtualKey } from "../ledger/usage/keys.ts";
import { noteLeak } from "../ledger/billing/leaks.ts";
import { readMetered, refreshMetered } from "../ledger/billing/metered.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { BillingBooks, UsageBooks } from "../ledger/books.ts";
import { openToWrite, openUsage } from "../ledger/open.ts";
import { createPriceBook } from "../ledger/prices/price-book.ts";
import { addDays } from "../ledger/windows.ts";
import { openWriter } from "../ledger/usage/writer.ts";
import { random } from "./seed.ts";
import { event } from "./usage-event.ts";

export type OrganisationSettings = {
  readonly folder: string;
  readonly days: number;
  readonly keys: number;
  readonly seed: number;
  /** The last instant of the books; whole days before it are UTC days. */
  readonly nowMs: number;
  /** How many of the last days are forecast and scored. */
  readonly forecastDays?: number;
  readonly teams?: readonly string[];
};

export const MARKUP_TEAM = `<script>alert("x")</script> & 'sons'`;
export const RIGHT_TO_LEFT_TEAM = "صيانة";
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const WORK = [
  { provider: "openai", list: "openai", model: "gpt-5.2", endpoint: "chat_completions" },
  { provider: "openai", list: "openai", model: "gpt-4o-mini", endpoint: "responses" },
  { provider: "anthropic", list: "anthropic", model: "claude-haiku-4-5", endpoint: "messages" },
  { provider: "anthropic", list: "anthropic", model: "claude-sonnet-4-5", endpoint: "messages" },
  { provider: "gcp.gemini", list: "google", model: "gemini-2.5-flash", endpoint: "generate_content" },
] as const;
const PEPPER = "pepper-of-a-test-organisation";

/** Writes usage.db and billing.db; both are closed again. */
export async function writeOrganisation(
  settings: OrganisationSettings,
): Promise<{ readonly keyIds: readonly string[] }> {
  const {
    folder,
    days,
    keys,
    seed,
    nowMs,
    teams = ["search", "support", "ads", RIGHT_TO_LEFT_TEAM, MARKUP_TEAM],
  } = settings;
  const next = random(seed);
  const prices = createPriceBook();
  const [trace, sizes] = [readNumbers("../command/demo/trace.csv"), readNumbers("fixtures/request-sizes.csv")];
  const today = Math.floor(nowMs / DAY_MS) * DAY_MS;
  const startMs = today - days * DAY_MS;
  let clock = startMs;
  const writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    now: () => clock,
  });
  await writer.noteMeterRan(startMs, Math.floor(nowMs / HOUR_MS) * HOUR_MS + HOUR_MS);
  const made = [];
  for (let i = 0; i < keys; i++) {
    const team = teams[i % teams.length] ?? "";
    const { key, secret } = issueVirtualKey(
      {
        name: i === 4 ? "=SUM(A1:A9)" : `key-${i}`,
        team,
        project: `project-${i % 4}`,
        env: i % 3 === 0 ? "staging" : "prod",
        user: await writer.personOf(`owner-${i % 7}`),
      },
      clock,
    );
    await writer.change({ type: "createKey", digest: createDigest(PEPPER)(secret), key }, "test");
    made.push({ ...key, ...(WORK[i % WORK.length] ?? WORK[0]), share: 0.2 + next() * next() * 3 });
  }
  const budget = { mode: "strict", createdAtMs: clock } as const;
  for (const [id, scope, window, usd, kind] of [
    ["bud_org", {}, "month", 1_100n, "soft"],
    ["bud_team", { team: teams[0] ?? "" }, "month", 1_000n, "hard"],
    ["bud_small", { keyId: made[0]?.id ?? "" }, "day", 1n, "hard"],
  ] as const)
    await writer.change(
      {
        type: "setBudget",
        budget: {
          ...budget,
          id,
          scope,
          window,
          amountNanoUsd: (usd * 1_000_000_000n) / (id === "bud_small" ? 20n : 1n),
          kind,
        },
      },
      "test",
    );

  for (; clock < nowMs; clock += HOUR_MS) {
    const row = trace[((clock - startMs) / HOUR_MS) % trace.length] ?? [];
    const ofHour: Promise<unknown>[] = [];
    for (const [i, key] of made.entries()) {
      const rhythm = (row[1 + (i % 3)] ?? 0) / (mean(trace, 1 + (i % 3)) || 1);
      if (next() > Math.min(0.95, rhythm * 0.6)) continue;
      const [input = 100, output = 10] = sizes[Math.floor(next() * sizes.length)] ?? [];
      const cached = next() < 0.5 ? Math.floor(input * 0.6) : 0;
      const usage = {
        input: Math.round((input - cached) * 40 * key.share),
        ...(cached > 0 ? { cache_read: Math.round(cached * 40 * key.share) } : {}),
        ...(key.provider === "anthropic" && next() < 0.2 ? { cache_write_5m: input * 10 } : {}),
        output: Math.round(output * 40 * key.share),
      };
      const fate = next();
      const isUnpriced = fate > 0.995;
      const price = prices.find(key.list, key.model, clock);
      const costs = price && cost(usage, price);
      const outcome: Outcome =
        fate < 0.02 ? "client_left" : fate < 0.03 ? "upstream_failed" : fate < 0.035 ? "upstream_rejected" : "complete";
      const subject = {
        keyId: key.id,
        team: key.team,
        project: key.project,
        env: key.env,
        user: key.user,
        provider: key.provider,
        model: key.model,
      };
      const attemptId = writer.nextAttemptId();
      const nothing = outcome === "upstream_rejected";
      ofHour.push(
        (async () => {
          const decision = await writer.reserve(
            { attemptId, subject, boundNanoUsd: costs?.costNanoUsd, expectedNanoUsd: costs?.costNanoUsd },
            key.endpoint,
            undefined,
          );
          if (!decision.admitted) return;
          await writer.settle(
            event(attemptId, nothing ? 0n : isUnpriced ? undefined : costs?.costNanoUsd, {
              ...subject,
              endpoint: key.endpoint,
              requestedModel: key.model,
              servedModel: isUnpriced ? "model-of-tomorrow" : key.model,
              tags: `{"feature":"feature-${i % 3}"}`,
              usage: nothing ? {} : usage,
              usageState: outcome === "client_left" ? "estimated" : "reported",
              ...(outcome === "client_left" ? { usageReason: "cut" as const } : {}),
              costLines: nothing || isUnpriced ? [] : (costs?.lines ?? []),
              priceVersion: price?.version,
              priceConfidence: isUnpriced ? "unpriced" : "exact",
              outcome,
              httpStatus: outcome === "upstream_failed" ? 502 : nothing ? 400 : 200,
              durationMs: 400 + Math.floor(next() * 4000),
              firstByteMs: 100 + Math.floor(next() * 900),
            }),
          );
        })(),
      );
    }
    await Promise.all(ofHour);
  }
  await writer.close();
  await bill(settings, startMs, today);
  return { keyIds: made.map(({ id }) => id) };
}

/** Bills of the whole days, some with differences; those that are old enough are closed. And forecasts, with what came
 *  of them. */
async function bill(
  { folder, nowMs, forecastDays = 3 }: OrganisationSettings,
  startMs: number,
  today: number,
): Promise<void> {
  const usage = await openUsage(folder);
  const billing = await openToWrite(folder, "billing", "process");
  if (!usage) throw new Error("no books were written");
  const books = { usage, billing };
  const [first, end] = [dayOf(startMs), dayOf(today)];
  await refreshMetered(books, first, end, nowMs);
  const billed = new Map<string, BilledLine[]>();
  await readMetered(books, first, end, (day, provider, lines) => {
    const sums = new Map<string, { amount: NanoUsd; quantity: number }>();
    for (const one of lines) {
      const name = `${one.model}\n${one.unit}`;
      const sum = sums.get(name) ?? { amount: 0n, quantity: 0 };
      sums.set(name, { amount: sum.amount + one.costNanoUsd, quantity: sum.quantity + one.quantity });
    }
    const index = Math.round((Date.parse(day) - startMs) / DAY_MS);
    billed.set(
      `${day} ${provider}`,
      [...sums].flatMap(([name, { amount, quantity }]): BilledLine[] => {
        const [model = "", unit = ""] = name.split("\n");
        if (quantity === 0) return [];
        // Now and then a dearer day, and one with use that nobody metered.
        const dearer = index % 11 === 5 ? amount / 10n : 0n;
        return [
          {
            kind: "usage",
            model,
            unit: unit as BilledLine["unit"],
            tier: "",
            amountNanoUsd: amount + dearer,
            quantity,
            resolutionNanoUsd: 1n,
            raw: "{}",
          },
        ];
      }),
    );
    if (index % 13 === 4)
      billed
        .get(`${day} ${provider}`)
        ?.push({ kind: "fee", lineItem: "container", amountNanoUsd: 120_000_000n, resolutionNanoUsd: 1n, raw: "{}" });
  });
  // Today has no bill yet, nor has yesterday.
  const known = [...billed].filter(([name]) => name.slice(0, 10) < addDays(end, -1));
  await replaceBills(
    billing,
    known.map(([name, lines]) => ({
      day: name.slice(0, 10),
      provider: name.slice(11),
      source: "test",
      asOfMs: nowMs,
      lines,
    })),
    nowMs,
  );
  await compareDays(books, first, end, NOTHING_STATED, nowMs);
  for (const [name] of known)
    if (name.slice(0, 10) < addDays(end, -6))
      await closeBilledDay(
        books,
        { day: name.slice(0, 10), provider: name.slice(11) },
        "finance@example.test",
        NOTHING_STATED,
        async () => {},
        nowMs,
      );
  await noteLeak(
    billing,
    {
      provider: "openai",
      billedKey: "key_nobody_knows",
      kind: "unknown_key",
      firstHourMs: nowMs - 5 * HOUR_MS,
      lastHourMs: nowMs - HOUR_MS,
      quantity: 1_000_000,
      unit: "input",
      costNanoUsd: 12_340_000_000n,
      models: ["gpt-5.2"],
    },
    nowMs,
  );
  for (let back = forecastDays; back >= 1; back--)
    await freezeDueForecasts(books, "UTC", today - back * DAY_MS + 60_000);
  await freezeDueForecasts(books, "UTC", nowMs);
  await scoreForecasts(books, nowMs);
  await refreshRests(books, "UTC", nowMs);
  await usage.close();
  await billing.close();
}

/** The books of a folder, open as the collector has them. */
export async function openOrganisation(
  folder: string,
): Promise<{ readonly usage: UsageBooks; readonly billing: BillingBooks; close(): Promise<void> }> {
  const usage = await openUsage(folder);
  if (!usage) throw new Error(`no books in ${folder}`);
  const billing = await openToWrite(folder, "billing", "process");
  return {
    usage,
    billing,
    async close() {
      await usage.close();
      await billing.close();
    },
  };
}

function mean(rows: readonly (readonly number[])[], column: number): number {
  return rows.reduce((sum, row) => sum + (row[column] ?? 0), 0) / rows.length;
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

function readNumbers(path: string): number[][] {
  return readFileSync(new URL(path, import.meta.url), "utf8")
    .split("\n")
    .filter((line) => /^\d/.test(line))
    .map((line) => line.split(",").map(Number));
}
