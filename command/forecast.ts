// keymeter forecast: what the running windows will cost, events that are planned, and how good forecasts were.
import { parseArgs } from "node:util";
import { askCollector } from "../collector/ask.ts";
import { expectedSoFar, FORECAST_SCOPES, FORECAST_WINDOWS, readScores, recordOf } from "../ledger/billing/forecasts.ts";
import type { ForecastWindow, FrozenForecast } from "../ledger/billing/forecasts.ts";
import { landingOf, readRests } from "../ledger/billing/landings.ts";
import { formatUsd } from "../ledger/money.ts";
import { openBilling } from "../ledger/open.ts";
import type { BillingBooks, UsageBooks } from "../ledger/books.ts";
import { readExpectations, readPlans } from "../ledger/billing/plans.ts";
import { readSpendOfHours } from "../ledger/usage/hours.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { readSpend } from "../ledger/usage/spend.ts";
import type { ForecastScope } from "../ledger/usage/hours.ts";
import { createCalendar, DAY_MS, HOUR_MS } from "../ledger/windows.ts";
import { toJson } from "../service/json.ts";
import { onlyTeamOf } from "../ledger/usage/seen.ts";
import { findAsker } from "./asker.ts";
import { ownScopes } from "./own.ts";
import { requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { parseInstant } from "./days.ts";
import { findKey } from "./find-key.ts";
import { findUser } from "./find-user.ts";
import { formatTable } from "./table.ts";
import { whoSays } from "./who.ts";
import { UsageError } from "./usage-error.ts";
import { placeOf } from "../service/config.ts";

export const USAGE = `keymeter forecast [--by ${FORECAST_SCOPES.join("|")}] [--window ${FORECAST_WINDOWS.join("|")}] [--json]
  where the running window lands: spent so far and what is to come, with an 80 % band; and what was forecast when it began, which alerts go by
keymeter forecast plan --team search --from 2026-12-01 --to 2026-12-03T18:00Z --factor 2 --why "launch"
  so much more (or less: 0.5) is expected of a team, --project, --env, --user, --key, --provider, --model or --org: a launch is no alarm
keymeter forecast plans [--json]          what is planned, and was in the last 90 days
keymeter forecast unplan PLAN             take one back
keymeter forecast scores [--json]         how good forecasts were in the last four weeks`;

const PLANS_MS = 90 * DAY_MS;
const SCORES_MS = 28 * DAY_MS;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  if (verb === "plan") return plan(rest);
  if (verb === "plans") return plans(rest);
  if (verb === "unplan") return unplan(rest);
  if (verb === "scores") return scores(rest);
  return show(args);
}

async function show(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      by: { type: "string", default: "team" },
      window: { type: "string", default: "day" },
      json: { type: "boolean", default: false },
    },
  });
  const by = oneOf(values.by, FORECAST_SCOPES, "--by");
  const window = oneOf(values.window, FORECAST_WINDOWS, "--window");
  const { usage, billing, calendar } = await open();
  const nowMs = Date.now();
  const made = billing ? await readExpectations({ usage, billing }, nowMs) : [];
  const rests = billing ? await readRests({ usage, billing }, nowMs, { window }) : [];
  const spent = await spentBy(usage, by, window, calendar, nowMs);
  const names = await readNames(usage);
  await usage.close();
  await billing?.close();
  const isShown = await shownForecasts();
  const frozen = new Map(made.filter((one) => one.window === window).map((one) => [`${one.scope} ${one.id}`, one]));
  const ids = rests.filter((one) => one.scope === by || one.scope === "org").map(({ scope, id }) => ({ scope, id }));
  const rows = (window === "hour" ? [...frozen.values()].filter(({ scope }) => scope === by || scope === "org") : ids)
    .filter(isShown)
    .map(({ scope, id }) => {
      const rest = rests.find((one) => one.scope === scope && one.id === id);
      const spentNanoUsd = spent.get(id) ?? 0n;
      const isKnown = rest !== undefined && rest.method !== "learning";
      return {
        scope,
        id,
        spentNanoUsd,
        landing: isKnown ? landingOf(rest, spentNanoUsd, nowMs) : undefined,
        frozen: frozen.get(`${scope} ${id}`),
      };
    })
    .toSorted((a, b) => (a.scope === "org" ? 1 : b.scope === "org" ? -1 : Number(b.spentNanoUsd - a.spentNanoUsd)));
  if (values.json) {
    const records = rows.map(({ scope, id, spentNanoUsd, landing, frozen: one }) => ({
      ...one,
      scope,
      id,
      ...(by === "key" && scope === "key" ? { keyName: names.get(id) ?? null } : {}),
      ...(by === "user" && scope === "user" ? { userName: names.get(id) ?? null } : {}),
      spentNanoUsd,
      landing: landing ?? null,
      expectedSoFarNanoUsd: one === undefined ? null : expectedSoFar(one, nowMs),
    }));
    return void process.stdout.write(`${toJson({ window, rows: records })}\n`);
  }
  if (rows.length === 0)
    return void process.stdout.write(
      "There is no forecast yet: the collector makes one within five minutes of the first spend (it runs with `keymeter up`; where none runs, `keymeter collector --once forecast` makes one).\n",
    );
  const cells = rows.map(({ scope, id, spentNanoUsd, landing, frozen: one }) => [
    scope === "org" ? "the organisation" : isNamed(by) ? (names.get(id) ?? id) : id,
    formatUsd(spentNanoUsd),
    ...(landing ? [landing.p50NanoUsd, landing.p10NanoUsd, landing.p90NanoUsd].map(formatUsd) : ["learning", "", ""]),
    ...(one && one.method !== "learning"
      ? [formatUsd(one.p50NanoUsd), formatUsd(expectedSoFar(one, nowMs))]
      : ["", ""]),
  ]);
  process.stdout.write(
    `${formatTable([by, `spent this ${window}`, "lands at", "at least", "at most", "forecast at its start", "of that by now"], cells)}\n`,
  );
  const isLearning = rows.some(({ landing }) => landing === undefined);
  if (isLearning && window !== "hour")
    process.stdout.write(
      "\nlearning: under three days of history. It is shown, and no alert goes by it; budgets count all the same.\n",
    );
}

/** A lead sees the team's own, and its keys'. */
async function shownForecasts(): Promise<(one: Pick<ForecastScope, "scope" | "id">) => boolean> {
  if (onlyTeamOf(findAsker()) === undefined) return () => true;
  const isOwn = await ownScopes();
  return ({ scope, id }) => isOwn(scope === "team" ? { team: id } : scope === "key" ? { keyId: id } : {});
}

async function plan(args: string[]): Promise<void> {
  const text = { type: "string" } as const;
  const scopes = { org: { type: "boolean" }, team: text, project: text, env: text, user: text, key: text } as const;
  const { values } = parseArgs({
    args,
    options: { ...scopes, provider: text, model: text, from: text, to: text, factor: text, why: text },
  });
  const named = FORECAST_SCOPES.filter((scope) => values[scope] !== undefined);
  const [scope] = named;
  const factor = Number(values.factor);
  if (scope === undefined || named.length > 1 || values.from === undefined || values.to === undefined)
    throw new UsageError(`say of whom, from when, to when, how much and why\n${USAGE}`);
  if (!(factor > 0) || factor > 1_000)
    throw new UsageError(`--factor ${values.factor ?? ""}: a number above 0, such as 2 for twice as much`);
  if (values.why === undefined || values.why.trim() === "")
    throw new UsageError("--why: who reads it later wants to know");
  const { usage, billing, calendar } = await open();
  const scopeId =
    scope === "org"
      ? "all"
      : scope === "key"
        ? (await findKey(String(values.key))).id
        : scope === "user"
          ? await findUser(String(values.user))
          : String(values[scope]);
  await usage.close();
  await billing?.close();
  const [fromMs, toMs] = [instant("--from", values.from, calendar), instant("--to", values.to, calendar)];
  await tell({ type: "plan", scope, scopeId, fromMs, toMs, factor, why: values.why, by: whoSays() });
}

async function plans(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { json: { type: "boolean", default: false } } });
  const { usage, billing } = await open();
  const nowMs = Date.now();
  const found = billing ? await readPlans(billing, nowMs - PLANS_MS, nowMs + 10 * PLANS_MS) : [];
  await usage.close();
  await billing?.close();
  if (values.json) return void process.stdout.write(`${toJson({ plans: found })}\n`);
  if (found.length === 0) return void process.stdout.write("Nothing is planned.\n");
  const cells = found.map((one) => [
    one.id,
    one.scope === "org" ? "the organisation" : `${one.scope} ${one.scopeId}`,
    utc(one.fromMs),
    utc(one.toMs),
    String(one.factor),
    one.why,
    one.madeBy,
  ]);
  process.stdout.write(`${formatTable(["plan", "of", "from (UTC)", "to (UTC)", "factor", "why", "by"], cells)}\n`);
}

async function unplan(args: string[]): Promise<void> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const [id] = positionals;
  if (id === undefined || positionals.length > 1) throw new UsageError(USAGE);
  await tell({ type: "unplan", id });
}

async function scores(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { json: { type: "boolean", default: false } } });
  const { usage, billing } = await open();
  const found = billing ? await readScores(billing, Date.now() - SCORES_MS) : [];
  const names = await readNames(usage);
  await usage.close();
  await billing?.close();
  const groups = [...Map.groupBy(found, (one) => `${one.scope}\n${one.id}\n${one.window}`).values()].flatMap(
    (group) => {
      const record = recordOf(group);
      const [first] = group;
      return record && first ? [{ scope: first.scope, id: first.id, window: first.window, ...record }] : [];
    },
  );
  const order = (one: { scope: ForecastScope["scope"]; window: ForecastWindow }): number =>
    FORECAST_SCOPES.indexOf(one.scope) * 10 + FORECAST_WINDOWS.indexOf(one.window);
  const rows = groups.toSorted((a, b) => order(a) - order(b) || a.error - b.error);
  if (values.json) return void process.stdout.write(`${toJson({ sinceMs: Date.now() - SCORES_MS, rows })}\n`);
  if (rows.length === 0)
    return void process.stdout.write(
      "No forecast has been scored yet: the first window has to end, and an hour more.\n",
    );
  const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;
  const cells = rows.map(({ scope, id, window, windows, error, bias, coverage }) => [
    scope === "org" ? "the organisation" : `${scope} ${isNamed(scope) ? (names.get(id) ?? id) : id}`,
    window,
    String(windows),
    percent(error),
    percent(bias),
    percent(coverage),
  ]);
  process.stdout.write(
    `${formatTable(["forecast of", "window", "windows", "error", "bias", "in the 80 % band"], cells)}\n`,
  );
}

/** Keys and users are called by their names. */
function isNamed(scope: ForecastScope["scope"]): boolean {
  return scope === "key" || scope === "user";
}

async function tell(task: Parameters<typeof askCollector>[0]): Promise<void> {
  for (const said of await askCollector(task)) process.stdout.write(`${said}\n`);
}

/** What was spent since the window began, by the parts of a dimension and of the whole. Of the running hour the days
 *  know nothing. */
async function spentBy(
  usage: UsageBooks,
  by: ForecastScope["scope"],
  window: ForecastWindow,
  calendar: ReturnType<typeof createCalendar>,
  nowMs: number,
): Promise<Map<string, FrozenForecast["p50NanoUsd"]>> {
  const spent = new Map<string, bigint>();
  if (window === "hour") {
    const hourMs = Math.floor(nowMs / HOUR_MS) * HOUR_MS;
    for (const scope of ["org", by] as const)
      for (const [id, cost] of await readSpendOfHours(usage, hourMs, nowMs, scope)) spent.set(id, cost);
    return spent;
  }
  const { firstDay, endDay } = calendar.window(window, nowMs);
  const rows = by === "org" ? [] : await readSpend(usage, [by], firstDay, endDay);
  for (const row of rows) spent.set(row.group[by as Exclude<typeof by, "org">] ?? "", row.costNanoUsd);
  spent.set("all", (await readSpend(usage, [], firstDay, endDay))[0]?.costNanoUsd ?? 0n);
  return spent;
}

async function open(): Promise<{
  usage: UsageBooks;
  billing: BillingBooks | undefined;
  calendar: ReturnType<typeof createCalendar>;
}> {
  const config = loadCommandConfig();
  const usage = await requireUsage(config);
  return {
    usage,
    billing: await openBilling(placeOf(config)),
    calendar: createCalendar(config.timezone),
  };
}

function instant(option: string, given: string, calendar: ReturnType<typeof createCalendar>): number {
  const atMs = parseInstant(given, calendar);
  if (atMs === undefined)
    throw new UsageError(`${option} ${given} is no day and no instant: write 2026-12-01 or 2026-11-30T18:00Z`);
  return atMs;
}

function oneOf<T extends string>(value: string, allowed: readonly T[], option: string): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw new UsageError(`${option} ${value}: one of ${allowed.join(", ")}`);
  return found;
}

function utc(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}
