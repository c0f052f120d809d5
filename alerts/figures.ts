// The figures of a message as of now, from the ledger: Alertmanager carries labels, no values. Reads only.
import { readPeople } from "../ledger/usage/people.ts";
import { courseOf, courseStart } from "../charts/course.ts";
import type { SpendSeries } from "../charts/spend.ts";
import { expectedSoFar } from "../ledger/billing/forecasts.ts";
import { toUsdNumber } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { BillingBooks, UsageBooks } from "../ledger/books.ts";
import { readExpectations } from "../ledger/billing/plans.ts";
import { readBudgets } from "../ledger/usage/changes.ts";
import { amountAt, covers, describeBudgetScope, findBudget, isAbout } from "../ledger/budgets.ts";
import type { Budget, Scope } from "../ledger/budgets.ts";
import { landingOf, readRests } from "../ledger/billing/landings.ts";
import type { Landing } from "../ledger/billing/landings.ts";
import { readUnmetered } from "../ledger/billing/closed-days.ts";
import { readKeys } from "../ledger/usage/read-keys.ts";
import type { Key } from "../ledger/usage/keys.ts";
import { leakFacts, leakSteps, leakWords } from "../ledger/billing/leak-steps.ts";
import { readLeaks } from "../ledger/billing/leaks.ts";
import { readAskedRaises } from "../ledger/usage/asked-raises.ts";
import { readHoursInScope, readOwnNames, readSettled } from "../ledger/usage/budget-spend.ts";
import type { OwnNames } from "../ledger/usage/budget-spend.ts";
import { readHourlySpend } from "../ledger/usage/hours.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { readRefused } from "../ledger/usage/refused.ts";
import { readSpend } from "../ledger/usage/spend.ts";
import type { ForecastScope } from "../ledger/usage/hours.ts";
import type { SpendRow } from "../ledger/usage/spend-sums.ts";
import { createCalendar, DAY_MS, HOUR_MS } from "../ledger/windows.ts";
import type { Labels } from "./expression.ts";

/** A key that drives spend: what it cost in the window, and how much that is over its own forecast, where it has
 *  one. */
export type Mover = {
  readonly id: string;
  readonly name: string;
  readonly team: string;
  readonly owner: string;
  readonly costNanoUsd: NanoUsd;
  readonly overNanoUsd: NanoUsd | undefined;
  readonly isPaused: boolean;
};

/** What is known of an alert's subject. Every field may be missing: a message says what it has. */
export type Figures = {
  readonly asOfMs: number;
  /** "team search", "the organisation". */
  readonly subject: string;
  readonly window: "day" | "month";
  readonly spentNanoUsd: NanoUsd | undefined;
  readonly forecast:
    | {
        readonly soFarNanoUsd: NanoUsd;
        readonly p10NanoUsd: NanoUsd;
        readonly p50NanoUsd: NanoUsd;
        readonly p90NanoUsd: NanoUsd;
      }
    | undefined;
  /** Where the window lands, as it looks now. */
  readonly landing: Landing | undefined;
  readonly budget:
    | {
        readonly id: string;
        readonly amountNanoUsd: NanoUsd;
        readonly spentNanoUsd: NanoUsd;
        readonly window: string;
        readonly startsMs: number;
        readonly endsMs: number;
        readonly kind: string;
        readonly refused: number;
      }
    | undefined;
  /** The top three, most over forecast first. */
  readonly movers: readonly Mover[];
  readonly topModel: { readonly name: string; readonly costNanoUsd: NanoUsd } | undefined;
  /** What the last hour cost. */
  readonly hourNanoUsd: NanoUsd | undefined;
  /** Keys of the subject that are paused now. */
  readonly paused: readonly { readonly id: string; readonly name: string }[];
  /** More money that somebody asks for. */
  readonly asked:
    | { readonly id: string; readonly keyName: string; readonly amountNanoUsd: NanoUsd; readonly why: string }
    | undefined;
  /** Of an alert about a leak: what was found, and what to do. */
  readonly leak:
    | {
        readonly provider: string;
        readonly billedKey: string;
        readonly facts: string;
        readonly steps: readonly string[];
      }
    | undefined;
};

/** A window for a picture, and what it is about. */
export type Course = Omit<SpendSeries, "title" | "timezone"> & {
  readonly subject: string;
  readonly window: "day" | "month";
};

export type FigureBooks = { readonly usage: UsageBooks | undefined; readonly billing: BillingBooks | undefined };

const REFUSED_MS = DAY_MS;
const MOST_MOVERS = 3;

/** Reads the figures of the subject that an alert's labels name. */
export async function readFigures(
  { usage, billing }: FigureBooks,
  labels: Labels,
  timezone: string,
  nowMs: number,
): Promise<Figures> {
  const calendar = createCalendar(timezone);
  const window = labels["window"] === "month" ? "month" : "day";
  const { scope, id } = scopeOf(labels);
  if (!usage) return { asOfMs: nowMs, subject: nameOf(scope, id, undefined), window, ...NOTHING_KNOWN };
  const budget = labels["budget"] === undefined ? undefined : findBudget(await readBudgets(usage), labels["budget"]);
  const { firstDay, endDay } = calendar.window(window, nowMs);
  const keys = new Map((await readKeys(usage)).keys.map((key) => [key.id, key]));
  const people = await readPeople(usage);
  const rows = await readSpend(usage, ["key", "team", "project", "env", "user", "provider", "model"], firstDay, endDay);
  const ownNames = await readOwnNames(usage);
  const covered = rows.filter(({ group }) => (budget ? isCovered(budget, group, ownNames) : isOf(scope, id, group)));
  const expected = billing
    ? (await readExpectations({ usage, billing }, nowMs)).filter(
        (one) => one.window === window && one.method !== "learning",
      )
    : [];
  const forecast = budget ? undefined : expected.find((one) => one.scope === scope && one.id === id);
  const ofKeys = new Map(expected.flatMap((one) => (one.scope === "key" ? [[one.id, one] as const] : [])));
  const movers = sumBy(covered, ({ group }) => group.key ?? "")
    .map(([keyId, costNanoUsd]): Mover => {
      const key = keys.get(keyId);
      const own = ofKeys.get(keyId);
      return {
        id: keyId,
        name: key?.name ?? keyId,
        team: key?.team ?? "",
        owner: people.get(key?.user ?? "") ?? "",
        costNanoUsd,
        overNanoUsd: own && costNanoUsd - expectedSoFar(own, nowMs),
        isPaused: key?.state === "paused",
      };
    })
    .toSorted((a, b) => Number(weightOf(b) - weightOf(a)));
  const spentNanoUsd = covered.reduce((sum, row) => sum + row.costNanoUsd, 0n);
  const [topModel] = sumBy(covered, ({ group }) => group.model ?? "");

  return {
    asOfMs: nowMs,
    subject: budget
      ? describeBudgetScope(budget, (one) => keys.get(one)?.name ?? people.get(one))
      : nameOf(scope, id, keys.get(id)?.name),
    window,
    spentNanoUsd,
    forecast: forecast && {
      soFarNanoUsd: expectedSoFar(forecast, nowMs),
      p10NanoUsd: forecast.p10NanoUsd,
      p50NanoUsd: forecast.p50NanoUsd,
      p90NanoUsd: forecast.p90NanoUsd,
    },
    landing: budget ? undefined : await landingNow({ usage, billing }, { scope, id, window }, spentNanoUsd, nowMs),
    budget: budget && (await budgetNow(usage, budget, timezone, nowMs)),
    movers: movers.slice(0, MOST_MOVERS),
    topModel: topModel && { name: topModel[0], costNanoUsd: topModel[1] },
    hourNanoUsd: await lastHour(usage, budget?.scope ?? scopeOfForecast(scope, id), nowMs),
    paused: [...keys.values()]
      .filter(
        (key) =>
          key.state === "paused" &&
          (budget ? isCovered(budget, ownerOf(key), ownNames) : isOf(scope, id, ownerOf(key))),
      )
      .map(({ id: keyId, name }) => ({ id: keyId, name })),
    asked: await askedOf(usage, labels["ask"], keys),
    leak: billing && (await leakOf(billing, labels)),
  };
}

/** What the subject's last hour cost: this hour so far, and the part of the one before that lies within sixty
 *  minutes. */
async function lastHour(usage: UsageBooks, scope: Scope, nowMs: number): Promise<NanoUsd> {
  const hourMs = nowMs - (nowMs % HOUR_MS);
  const hours = await readHoursInScope(usage, scope, hourMs - HOUR_MS, nowMs + 1);
  const before = (hours.get(hourMs - HOUR_MS) ?? 0n) * BigInt(HOUR_MS - (nowMs - hourMs));
  return (hours.get(hourMs) ?? 0n) + before / BigInt(HOUR_MS);
}

function scopeOfForecast(scope: ForecastScope["scope"], id: string): Scope {
  return scope === "org" ? {} : { [scope === "key" ? "keyId" : scope]: id };
}

/** Whose a key is, as a row of spend says it. */
function ownerOf({ id, team, project, env, user }: Key): SpendRow["group"] {
  return { key: id, team, project, env, user };
}

async function landingNow(
  { usage, billing }: FigureBooks & { readonly usage: UsageBooks },
  of: ForecastScope & { readonly window: "day" | "month" },
  spentNanoUsd: NanoUsd,
  nowMs: number,
): Promise<Landing | undefined> {
  const [rest] = billing ? await readRests({ usage, billing }, nowMs, of) : [];
  return rest && rest.method !== "learning" ? landingOf(rest, spentNanoUsd, nowMs) : undefined;
}

async function leakOf(billing: BillingBooks, labels: Labels): Promise<Figures["leak"]> {
  const { provider, billed_key: billedKey } = labels;
  const leak = (await readLeaks(billing)).find((one) => one.provider === provider && one.billedKey === billedKey);
  if (!leak) return undefined;
  const billed = await readUnmetered(billing, leak.provider, leak.billedKey);
  return {
    provider: leak.provider,
    billedKey: leak.billedKey,
    facts: `${capital(leakWords(leak))}: ${leakFacts(leak, billed)}`,
    steps: leakSteps(leak),
  };
}

/** The hours of the window that an alert is about; undefined where nothing can be drawn. */
export async function readCourse(
  { usage, billing }: FigureBooks,
  labels: Labels,
  nowMs: number,
): Promise<Course | undefined> {
  if (!usage || !billing) return undefined;
  const about = await aboutOf(usage, labels);
  if (!about) return undefined;
  const { scope, id, window } = about;
  const nameOfKey = (await readNames(usage)).get(id);
  const [made] = await readExpectations({ usage, billing }, nowMs, { scope, id, window });
  if (!made || made.method === "learning" || made.p50NanoUsd <= 0n) return undefined;
  const [rest] = await readRests({ usage, billing }, nowMs, { scope, id, window });
  const spent = await readHourlySpend(usage, courseStart(made), nowMs, scope, { scope, id });
  const budget = (await readBudgets(usage)).find(
    (one) => one.window === window && isAbout(one, scope, id) && one.amountNanoUsd > 0n,
  );
  return {
    subject: capital(nameOf(scope, id, nameOfKey)),
    window,
    ...courseOf(
      made,
      spent.filter((hour) => hour.id === id),
      rest,
      nowMs,
    ),
    budget: budget && toUsdNumber(amountAt(budget, nowMs)),
  };
}

/** Whose course an alert is about, over which window: a budget's own, where it is of one value and such a window. */
async function aboutOf(
  usage: UsageBooks,
  labels: Labels,
): Promise<(ForecastScope & { readonly window: "day" | "month" }) | undefined> {
  if (labels["budget"] === undefined)
    return { ...scopeOf(labels), window: labels["window"] === "month" ? "month" : "day" };
  const budget = findBudget(await readBudgets(usage), labels["budget"]);
  if (!budget || (budget.window !== "day" && budget.window !== "month")) return undefined;
  const [part, ...more] = Object.entries(budget.scope).filter(([, value]) => value !== undefined);
  if (more.length > 0) return undefined;
  const [name = "org", id = "all"] = part ?? [];
  return { ...scopeOf({ scope: name === "keyId" ? "key" : name, id }), window: budget.window };
}

const NOTHING_KNOWN = {
  spentNanoUsd: undefined,
  forecast: undefined,
  landing: undefined,
  budget: undefined,
  movers: [],
  topModel: undefined,
  hourNanoUsd: undefined,
  paused: [],
  asked: undefined,
  leak: undefined,
} as const;

function scopeOf(labels: Labels): ForecastScope {
  const { scope = "org", id = "all" } = labels;
  const known = (["team", "project", "env", "user", "key", "provider", "model"] as const).find((one) => one === scope);
  return known === undefined ? { scope: "org", id: "all" } : { scope: known, id };
}

function nameOf(scope: string, id: string, keyName: string | undefined): string {
  return scope === "org" ? "the organisation" : `${scope} ${keyName ?? id}`;
}

function isOf(scope: ForecastScope["scope"], id: string, group: SpendRow["group"]): boolean {
  return scope === "org" || group[scope] === id;
}

function isCovered(budget: Budget, group: SpendRow["group"], ownNames: OwnNames): boolean {
  const { key: keyId = "", team = "", project = "", env = "", user = "", provider = "", model = "" } = group;
  return covers(budget.scope, ownNames({ keyId, team, project, env, user, provider, model }));
}

async function budgetNow(
  usage: UsageBooks,
  budget: Budget,
  timezone: string,
  nowMs: number,
): Promise<Figures["budget"]> {
  const window = createCalendar(timezone).window(budget.window, nowMs);
  const refused = await readRefused(usage, nowMs - REFUSED_MS, nowMs + 60_000);
  return {
    id: budget.id,
    amountNanoUsd: amountAt(budget, nowMs),
    spentNanoUsd: await readSettled(usage, budget, window),
    window: budget.window,
    startsMs: window.startMs,
    endsMs: window.endMs,
    kind: budget.kind,
    refused: refused.filter((row) => row.budgetId === budget.id).reduce((sum, row) => sum + row.count, 0),
  };
}

async function askedOf(
  usage: UsageBooks,
  id: string | undefined,
  keys: ReadonlyMap<string, Key>,
): Promise<Figures["asked"]> {
  const found = id === undefined ? undefined : (await readAskedRaises(usage, 0)).find((one) => one.id === id);
  if (!found) return undefined;
  const { keyId, amountNanoUsd, why } = found;
  return { id: found.id, keyName: keys.get(keyId)?.name ?? keyId, amountNanoUsd, why };
}

function weightOf({ overNanoUsd, costNanoUsd }: Mover): NanoUsd {
  return overNanoUsd ?? costNanoUsd;
}

function sumBy(rows: readonly SpendRow[], nameOfRow: (row: SpendRow) => string): [string, NanoUsd][] {
  const sums = new Map<string, NanoUsd>();
  for (const row of rows) sums.set(nameOfRow(row), (sums.get(nameOfRow(row)) ?? 0n) + row.costNanoUsd);
  return [...sums].toSorted(([, a], [, b]) => (b > a ? 1 : b < a ? -1 : 0));
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
