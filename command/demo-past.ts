// The demo's past: a dozen keys of three teams, and two weeks of what they used, booked through the ledger's own functions in
// the rhythm of a real trace. Each past request stands in the demo provider's journal too.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { cost } from "../ledger/cost.ts";
import { createDigest, issueVirtualKey } from "../ledger/keys.ts";
import { toUsdNumber } from "../ledger/money.ts";
import { createPriceBook } from "../ledger/prices.ts";
import type { PriceBook } from "../ledger/prices.ts";
import { createCalendar } from "../ledger/windows.ts";
import { openWriter } from "../ledger/writer.ts";
import type { Writer } from "../ledger/writer.ts";
import type { SharedConfig } from "../service/config.ts";
import { ownSecret } from "../service/secret.ts";
import type { DemoProvider } from "./demo-provider.ts";

export const DAYS = 14;
const HOUR_MS = 3_600_000;

export type Work = {
  readonly dialect: "openai" | "responses" | "anthropic" | "google";
  readonly model: string;
  readonly provider: string;
  readonly list: string;
  readonly path: string;
};
export type DemoKey = {
  readonly id: string;
  readonly secret: string;
  readonly name: string;
  readonly team: Team;
  readonly work: Work;
};
const TEAMS = ["search", "support", "ads"] as const;
type Team = (typeof TEAMS)[number];

const WORK: readonly Work[] = [
  { dialect: "openai", model: "gpt-5.2", provider: "openai", list: "openai", path: "/v1/chat/completions" },
  { dialect: "responses", model: "gpt-4o-mini", provider: "openai", list: "openai", path: "/v1/responses" },
  { dialect: "anthropic", model: "claude-haiku-4-5", provider: "anthropic", list: "anthropic", path: "/v1/messages" },
  {
    dialect: "google",
    model: "gemini-2.5-flash",
    provider: "gcp.gemini",
    list: "google",
    path: "/v1beta/models/gemini-2.5-flash:generateContent",
  },
];
/** What each team spends on a usual day, in USD. */
const USUAL_DAY_USD: { readonly [team in Team]: number } = { search: 40, support: 18, ads: 9 };

/** Keys and two weeks of use, then today's hours so far, through the same reserve and settle as live traffic. */
export async function writePast(config: SharedConfig, dataDir: string, provider: DemoProvider): Promise<DemoKey[]> {
  const pepper = ownSecret(dataDir, "pepper", undefined).reveal();
  const prices = createPriceBook();
  const trace = readTrace();
  const thisHour = Math.floor(Date.now() / HOUR_MS) * HOUR_MS;
  const today = createCalendar(config.timezone).window("day", thisHour).startMs;
  let clock = today - DAYS * 24 * HOUR_MS;
  const writer = await openWriter({
    path: join(dataDir, "usage.db"),
    durability: "process",
    zone: config.timezone,
    capMode: "enforce",
    now: () => clock,
  });
  await writer.noteMeterRan(clock, thisHour + HOUR_MS);

  const keys: DemoKey[] = [];
  for (const team of TEAMS) {
    for (const [i, purpose] of ["chat", "batch-jobs", "agent-nightly", "evals"].entries()) {
      const name = `${team}-${purpose}`;
      const { key, secret } = issueVirtualKey(
        { name, team, project: purpose, env: "prod", owner: `${team}-lead` },
        clock,
      );
      await writer.change({ type: "createKey", digest: createDigest(pepper)(secret), key }, "demo");
      keys.push({ id: key.id, secret, name, team, work: WORK[i % WORK.length] as Work });
    }
  }
  for (; clock < thisHour; clock += HOUR_MS) {
    // Today repeats the same day a week ago.
    const hour = (clock - today) / HOUR_MS;
    const at = hour < 0 ? DAYS * 24 + hour : 7 * 24 + hour;
    await Promise.all(
      keys.map((key, i) =>
        bookPast(
          writer,
          provider,
          prices,
          key,
          ((trace[key.team][at] ?? 0) * USUAL_DAY_USD[key.team]) / 24 / 4,
          i,
          clock,
        ),
      ),
    );
  }
  await writer.close();
  return keys;
}

/** Two attempts of about this much money together. */
async function bookPast(
  writer: Writer,
  provider: DemoProvider,
  prices: PriceBook,
  key: DemoKey,
  usd: number,
  index: number,
  clock: number,
): Promise<void> {
  const { work } = key;
  const price = prices.find(work.list, work.model, clock);
  if (!price) throw new Error(`no price for ${work.model}`);
  const perThousand = cost({ input: 1_000, output: 250 }, price);
  const scale = usd / 2 / toUsdNumber(perThousand.costNanoUsd ?? 1n);
  for (let part = 0; part < 2; part++) {
    const usage = {
      input: Math.max(1, Math.round(1_000 * scale * (part === 0 ? 0.8 : 1.2))),
      output: Math.max(1, Math.round(250 * scale * (part === 0 ? 0.9 : 1.1))),
    };
    const attemptId = writer.nextAttemptId();
    const entry = provider.recordPast(new Date(clock), work.path, work.model, usage.input, usage.output);
    const made = cost(usage, price);
    const subject = {
      keyId: key.id,
      team: key.team,
      project: key.name.slice(key.team.length + 1),
      env: "prod",
      provider: work.provider,
      model: work.model,
    };
    await writer.reserve(
      { attemptId, subject, boundNanoUsd: made.costNanoUsd, expectedNanoUsd: made.costNanoUsd },
      work.dialect,
      undefined,
    );
    await writer.settle({
      attemptId,
      keyId: key.id,
      provider: work.provider,
      endpoint: work.dialect,
      requestedModel: work.model,
      servedModel: work.model,
      tier: undefined,
      team: subject.team,
      project: subject.project,
      env: subject.env,
      tags: undefined,
      usage,
      reasoning: undefined,
      usageState: "reported",
      costNanoUsd: made.costNanoUsd,
      costLines: made.lines,
      priceVersion: price.version,
      priceConfidence: price.confidence,
      outcome: "complete",
      httpStatus: 200,
      durationMs: 900 + index,
      firstByteMs: 300,
      providerRequestId: undefined,
      responseId: entry.id,
      rawUsage: undefined,
    });
  }
}

/** Hourly requests of three real clients, as shares of their mean hour. */
function readTrace(): { readonly [team in Team]: readonly number[] } {
  const lines = readFileSync(new URL("./demo-trace.csv", import.meta.url), "utf8")
    .split("\n")
    .filter((line) => /^\d/.test(line))
    .map((line) => line.split(",").map(Number));
  const column = (index: number): number[] => {
    const values = lines.map((line) => line[index] ?? 0);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return values.map((value) => value / mean);
  };
  return { search: column(1), support: column(2), ads: column(3) };
}
