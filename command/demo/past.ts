// The demo's past: five teams, their keys, and three months of what they used, booked through the ledger's own
// functions in the rhythm of real traces. One story: search moved its chat to a smaller model, support launched a
// product, ads has its season, a price went down, and somebody still has a key in a notebook that never passed
// Keymeter. Each past request stands in the demo provider's journal too.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { cost } from "../../ledger/cost.ts";
import { createDigest, fingerprintId, issueVirtualKey } from "../../ledger/usage/keys.ts";
import { toUsdNumber } from "../../ledger/money.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import type { PriceBook } from "../../ledger/prices/price-book.ts";
import type { PriceRow } from "../../ledger/prices/rows.ts";
import { createCalendar, DAY_MS, HOUR_MS, utcDay } from "../../ledger/windows.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import type { SharedConfig } from "../../service/config.ts";
import { ownSecret } from "../../service/secret.ts";
import { DEMO_CREDENTIAL, OLD_PRICE } from "./provider.ts";
import type { DemoProvider } from "./provider.ts";

export const DAYS = 92;
const TRACE_HOURS = 14 * 24;

/** What happened when, in days before today. */
const SEARCH_SWITCHED = 38;
const SUPPORT_LAUNCHED = 24;
const PRICE_FELL = 45;
const NOTEBOOK_FROM = 5;

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
  readonly team: string;
  readonly user: string;
  readonly work: Work;
};

const GPT: Work = {
  dialect: "openai",
  model: "gpt-5.2",
  provider: "openai",
  list: "openai",
  path: "/v1/chat/completions",
};
const MINI: Work = {
  dialect: "responses",
  model: "gpt-4o-mini",
  provider: "openai",
  list: "openai",
  path: "/v1/responses",
};
const HAIKU: Work = {
  dialect: "anthropic",
  model: "claude-haiku-4-5",
  provider: "anthropic",
  list: "anthropic",
  path: "/v1/messages",
};
const OPUS: Work = { ...HAIKU, model: "claude-opus-4-6" };
const FLASH: Work = {
  dialect: "google",
  model: "gemini-2.5-flash",
  provider: "gcp.gemini",
  list: "google",
  path: "/v1beta/models/gemini-2.5-flash:generateContent",
};

/** A key of the story. `trace`: whose rhythm it has; `usd`: of a usual day; `course`: how much of that, so many days
 *  ago. */
type Part = {
  readonly name: string;
  readonly team: string;
  readonly trace: "search" | "support" | "ads";
  readonly shiftHours: number;
  readonly usd: number;
  readonly work: (daysAgo: number) => Work;
  readonly course?: (daysAgo: number) => number;
};

const always = (work: Work) => (): Work => work;
const launched = (daysAgo: number): number => (daysAgo <= SUPPORT_LAUNCHED ? 1.9 : 1);
/** Up to three quarters more within the last six weeks: the year's end. */
const season = (daysAgo: number): number => 1 + 0.75 * Math.max(0, 1 - daysAgo / 42);
const growth = (daysAgo: number): number => 1.25 - (0.5 * daysAgo) / DAYS;

const STORY: readonly Part[] = [
  {
    name: "search-chat",
    team: "search",
    trace: "search",
    shiftHours: 0,
    usd: 14,
    work: (daysAgo) => (daysAgo > SEARCH_SWITCHED ? OPUS : HAIKU),
    course: (daysAgo) => (daysAgo > SEARCH_SWITCHED ? 2.1 : 1),
  },
  { name: "search-agent-nightly", team: "search", trace: "ads", shiftHours: 0, usd: 12, work: always(GPT) },
  { name: "search-ranker", team: "search", trace: "search", shiftHours: 5, usd: 6, work: always(MINI), course: growth },
  { name: "search-evals", team: "search", trace: "support", shiftHours: 96, usd: 3, work: always(MINI) },
  {
    name: "support-assistant",
    team: "support",
    trace: "support",
    shiftHours: 0,
    usd: 11,
    work: always(GPT),
    course: launched,
  },
  {
    name: "support-summaries",
    team: "support",
    trace: "support",
    shiftHours: 2,
    usd: 5,
    work: always(HAIKU),
    course: launched,
  },
  { name: "support-triage", team: "support", trace: "support", shiftHours: 7, usd: 2, work: always(FLASH) },
  { name: "ads-copy", team: "ads", trace: "ads", shiftHours: 30, usd: 6, work: always(GPT), course: season },
  { name: "ads-keywords", team: "ads", trace: "ads", shiftHours: 12, usd: 3, work: always(FLASH), course: season },
  { name: "research-notebooks", team: "research", trace: "support", shiftHours: 60, usd: 9, work: always(OPUS) },
  { name: "research-evals", team: "research", trace: "ads", shiftHours: 150, usd: 5, work: always(GPT) },
  {
    name: "platform-crawler",
    team: "platform",
    trace: "search",
    shiftHours: 80,
    usd: 4,
    work: always(FLASH),
    course: growth,
  },
  {
    name: "platform-code-review",
    team: "platform",
    trace: "search",
    shiftHours: 9,
    usd: 3,
    work: always(HAIKU),
    course: growth,
  },
];

/** The price of before, for a model whose price went down in the story; today's is the list's. */
export function storyPrices(nowMs: number): PriceRow[] {
  const listed = createPriceBook().find("openai", OLD_PRICE.model, nowMs);
  if (!listed) throw new Error(`no price for ${OLD_PRICE.model}`);
  const usd = (pico: bigint | undefined): string => String(Number(pico ?? 0n) / 1e6);
  return [
    row(utcDay(nowMs - (DAYS + 2) * DAY_MS), String(OLD_PRICE.input), String(OLD_PRICE.output)),
    row(utcDay(nowMs - PRICE_FELL * DAY_MS), usd(listed.units.input?.base), usd(listed.units.output?.base)),
  ];
}

function row(from: string, input: string, output: string): PriceRow {
  return {
    list: "openai",
    model: OLD_PRICE.model,
    from,
    usdPerMillion: { input, cache_read: "0.175", output },
    usdEach: {},
    source: "the demo's story",
  };
}

/** Keys and three months of use, then today's hours so far, through the same reserve and settle as live traffic.
 *  `onDay`: how far it is. */
export async function writePast(
  config: SharedConfig,
  dataDir: string,
  provider: DemoProvider,
  onDay: (day: string) => void,
): Promise<DemoKey[]> {
  const pepper = ownSecret(dataDir, "pepper", undefined).reveal();
  const nowMs = Date.now();
  const prices = createPriceBook(storyPrices(nowMs));
  provider.cheaperFrom(new Date(Date.parse(`${utcDay(nowMs - PRICE_FELL * DAY_MS)}T00:00:00Z`)));
  const trace = readTrace();
  const thisHour = Math.floor(nowMs / HOUR_MS) * HOUR_MS;
  const today = createCalendar(config.timezone).window("day", thisHour).startMs;
  const firstMs = today - DAYS * DAY_MS;
  let clock = firstMs;
  const writer = await openWriter({
    path: join(dataDir, "usage.db"),
    durability: "process",
    zone: config.timezone,
    capMode: "enforce",
    now: () => clock,
  });
  await writer.noteMeterRan(clock, thisHour + HOUR_MS);
  const credential = fingerprintId(createDigest(pepper)(`openai ${DEMO_CREDENTIAL}`));
  await writer.noteSeen({
    credentials: [{ provider: "openai", credential, hint: DEMO_CREDENTIAL.slice(-4), atMs: clock }],
  });

  const keys: DemoKey[] = [];
  for (const { name, team, work } of STORY) {
    const project = name.slice(team.length + 1);
    const user = await writer.personOf(`${team}-lead`);
    const { key, secret } = issueVirtualKey({ name, team, project, env: "prod", user }, clock);
    await writer.change({ type: "createKey", digest: createDigest(pepper)(secret), key }, "demo");
    keys.push({ id: key.id, secret, name, team, user, work: work(0) });
  }
  while (clock < thisHour) {
    const daysAgo = (today - clock) / DAY_MS;
    const hour = Math.round((clock - firstMs) / HOUR_MS);
    if (hour % 24 === 0) onDay(utcDay(clock));
    await Promise.all(
      STORY.map(async (part, i) => {
        const shape = trace[part.trace];
        const usd =
          ((shape[(hour + part.shiftHours) % TRACE_HOURS] ?? 0) * part.usd * (part.course?.(daysAgo) ?? 1)) / 24;
        const key = keys[i];
        if (key) await bookPast(writer, provider, prices, { ...key, work: part.work(daysAgo) }, usd, i, clock);
      }),
    );
    // What never passed Keymeter is in the provider's journal alone.
    if (daysAgo <= NOTEBOOK_FROM && hour % 3 === 0)
      provider.recordPast(new Date(clock), GPT.path, GPT.model, 90_000, 8_000, "key_notebook");
    clock += HOUR_MS;
  }
  await writer.close();
  return keys;
}

/** One attempt of about this much money. */
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
  const scale = usd / toUsdNumber(perThousand.costNanoUsd ?? 1n);
  const usage = { input: Math.max(1, Math.round(1_000 * scale)), output: Math.max(1, Math.round(250 * scale)) };
  const attemptId = writer.nextAttemptId();
  const entry = provider.recordPast(new Date(clock), work.path, work.model, usage.input, usage.output);
  const made = cost(usage, price);
  const subject = {
    keyId: key.id,
    team: key.team,
    project: key.name.slice(key.team.length + 1),
    env: "prod",
    user: key.user,
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
    user: subject.user,
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

/** Hourly requests of three real clients, as shares of their mean hour. */
function readTrace(): { readonly [trace in Part["trace"]]: readonly number[] } {
  const lines = readFileSync(new URL("./trace.csv", import.meta.url), "utf8")
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
