// GET /keymeter/me: what a key's holder may know of it: spend, reservations, budgets, when they reset.
import type { FastifyReply, FastifyRequest } from "fastify";
import { describeBudgetScope } from "../ledger/budgets.ts";
import type { BudgetState } from "../ledger/budgets.ts";
import { formatUsd, formatUsdDown, formatUsdExact, parseUsd } from "../ledger/money.ts";
import { NO_SPEND } from "../ledger/usage/spend-sums.ts";
import type { SpendSums } from "../ledger/usage/spend-sums.ts";
import { landingOf, readRests } from "../ledger/billing/landings.ts";
import { readAskedRaises } from "../ledger/usage/asked-raises.ts";
import type { UsageBooks } from "../ledger/books.ts";
import type { Key } from "../ledger/usage/keys.ts";
import type { ForecastScope } from "../ledger/usage/hours.ts";
import { readSessions } from "../ledger/usage/sessions.ts";
import { readSpend } from "../ledger/usage/spend.ts";
import type { Within } from "../ledger/usage/within.ts";
import { createCalendar } from "../ledger/windows.ts";
import type { ProxyContext } from "./context.ts";
import { Refused } from "./refusals.ts";
import { EVERYBODY } from "./seat-caps.ts";
import type { SeatCapState } from "./seat-caps.ts";

/** What holds for a key's holder now, whatever is asked for. */
export function statesFor({ writer }: Pick<ProxyContext, "writer">, key: Key): Promise<BudgetState[]> {
  return writer.states({ ...key, keyId: key.id, tags: JSON.stringify(key.policy.tags ?? {}) });
}

/** Answers with the numbers a refusal would use in the same second. A provider key says whose it is by ?provider=. */
export async function answerMe(
  context: Pick<ProxyContext, "people" | "writer" | "books" | "billing" | "config" | "seatCaps">,
  request: FastifyRequest,
  reply: FastifyReply,
  key: Key,
): Promise<void> {
  if (request.method !== "GET") throw new Refused("not_metered", "/keymeter/me is read with GET");
  const nowMs = Date.now();
  const states = await statesFor(context, key);
  const asked = await readAskedRaises(context.books, nowMs - ASKED_MS, key.id);
  const spent = await spentBy(context, { key: key.id }, nowMs);
  const userSpent = key.user === "" ? undefined : await spentBy(context, { user: key.user }, nowMs);
  const nameOf = (id: string): string | undefined => (id === key.id ? key.name : context.people.nameOf(id));
  const told: Told = {
    key: {
      id: key.id,
      name: key.name,
      team: key.team,
      project: key.project,
      env: key.env,
      user: context.people.nameOf(key.user) ?? "",
      // One release longer.
      owner: context.people.nameOf(key.user) ?? "",
      state: key.state,
      expiresAt: key.expiresAtMs === undefined ? null : new Date(key.expiresAtMs).toISOString(),
    },
    spent,
    ...nonEmpty("landsAtUsd", await landing(context, { scope: "key", id: key.id }, spent, nowMs)),
    // Of whoever the key is: over all of his keys.
    ...nonEmpty("userSpent", userSpent),
    ...nonEmpty(
      "userLandsAtUsd",
      userSpent && (await landing(context, { scope: "user", id: key.user }, userSpent, nowMs)),
    ),
    budgets: states.map((state) => toldOf(state, nameOf)),
    seatCaps: context.seatCaps
      .states({ keyId: key.id, team: key.team, user: key.user }, nowMs)
      .map(({ endsAtMs, scope, window, tokens, used }) => ({
        scope,
        window,
        // What everybody together uses is not for each key's holder to see.
        ...(scope === EVERYBODY
          ? { usedPercent: Math.floor((used * 100) / tokens) }
          : { tokens, used, left: Math.max(0, tokens - used) }),
        endsAt: endsAtMs === undefined ? null : new Date(endsAtMs).toISOString(),
      })),
    asked: asked.map(({ id, budgetId, amountNanoUsd, why, createdAtMs, answer }) => {
      const budget = states.find((state) => state.budget.id === budgetId)?.budget;
      const raise = budget?.raises?.find(({ reason }) => reason.startsWith(`${id}: `));
      return {
        id,
        budgetId,
        scope: budget ? describeBudgetScope(budget, nameOf) : "a budget that was removed",
        amountUsd: formatUsdExact(amountNanoUsd),
        why,
        at: new Date(createdAtMs).toISOString(),
        answer: answer ?? null,
        // While it lasts: it may be less than was asked for.
        ...(raise
          ? { raisedUsd: formatUsdExact(raise.amountNanoUsd), raisedUntil: new Date(raise.untilMs).toISOString() }
          : {}),
      };
    }),
    sessions: await sessionsOf(context, key, nowMs),
    ask: ASK_PATH,
  };
  const isText = /^text\/plain\b/.test(request.headers.accept ?? "");
  const body = isText ? asText(told) : JSON.stringify(told);
  reply.raw
    .writeHead(200, [
      "content-type",
      isText ? "text/plain; charset=utf-8" : "application/json",
      "cache-control",
      "no-store",
      "content-length",
      String(Buffer.byteLength(body)),
    ])
    .end(body);
}

type Spent = {
  readonly todayUsd: string;
  readonly monthUsd: string;
  /** What subscriptions paid for would have cost. */
  readonly seatTodayUsd?: string;
  readonly seatMonthUsd?: string;
};

/** What a key's holder is told. */
type Told = {
  readonly key: { readonly [field: string]: string | null };
  readonly spent: Spent;
  /** Where the key's month lands, once there is enough to go by. */
  readonly landsAtUsd?: LandsAt;
  readonly userSpent?: Spent;
  readonly userLandsAtUsd?: LandsAt;
  readonly budgets: readonly ReturnType<typeof toldOf>[];
  /** Caps of tokens that subscriptions pay for. `endsAt` null: no five hours have begun. */
  readonly seatCaps: readonly (Pick<SeatCapState, "scope" | "window"> &
    Partial<Pick<SeatCapState, "tokens" | "used">> & {
      readonly left?: number;
      /** Of the cap of everybody together, in place of its tokens. */
      readonly usedPercent?: number;
      readonly endsAt: string | null;
    })[];
  /** Of this month: what was asked for, and what became of it. */
  readonly asked: readonly {
    readonly id: string;
    readonly budgetId: string;
    readonly scope: string;
    readonly amountUsd: string;
    readonly raisedUsd?: string;
    readonly raisedUntil?: string;
    readonly why: string;
    readonly at: string;
    readonly answer: string | null;
  }[];
  /** The last ones of a coding agent, the newest first. */
  readonly sessions: readonly Session[];
  /** Where more is asked for. */
  readonly ask: string;
};

type LandsAt = { readonly low: string; readonly middle: string; readonly high: string };

type Session = {
  readonly session: string;
  readonly client: string;
  readonly requests: number;
  readonly costUsd: string;
  readonly lastAt: string;
};

const DAY_MS = 86_400_000;
const ASKED_MS = 31 * DAY_MS;
const SESSIONS_MS = 7 * DAY_MS;
const MOST_SESSIONS = 10;
export const ASK_PATH = "/keymeter/ask";

/** What the collector reckons; nothing where it has made no books, or they cannot be read now. */
async function landing(
  { books: usage, billing: late }: Pick<ProxyContext, "books" | "billing">,
  of: ForecastScope,
  { monthUsd }: Spent,
  nowMs: number,
): Promise<LandsAt | undefined> {
  const billing = await late.get().catch(() => undefined);
  if (!billing) return undefined;
  const [rest] = await readRests({ usage, billing }, nowMs, { ...of, window: "month" });
  if (!rest || rest.method === "learning") return undefined;
  const { p10NanoUsd, p50NanoUsd, p90NanoUsd } = landingOf(rest, parseUsd(monthUsd), nowMs);
  return {
    low: formatUsdExact(p10NanoUsd),
    middle: formatUsdExact(p50NanoUsd),
    high: formatUsdExact(p90NanoUsd),
  };
}

function nonEmpty<Name extends string, T>(name: Name, value: T | undefined): { readonly [name in Name]?: T } {
  return (value === undefined ? {} : { [name]: value }) as { readonly [name in Name]?: T };
}

/** Sessions of the key, or of its user with all of his keys. */
async function sessionsOf(
  { books }: Pick<ProxyContext, "books">,
  key: Key,
  nowMs: number,
): Promise<readonly Session[]> {
  const within: Within = key.user === "" ? { key: key.id } : { user: key.user };
  const name = JSON.stringify(within);
  const known = lastSessions.get(books)?.get(name);
  if (known && nowMs - known.atMs < SESSIONS_KEPT_MS) return known.sessions;
  const rows = await readSessions(books, nowMs - SESSIONS_MS, MOST_SESSIONS, within);
  const sessions = rows.map(({ session, client, requests, costNanoUsd, lastMs }) => ({
    session,
    client,
    requests,
    costUsd: formatUsdExact(costNanoUsd),
    lastAt: new Date(lastMs).toISOString(),
  }));
  const kept = lastSessions.get(books) ?? new Map<string, { atMs: number; sessions: readonly Session[] }>();
  if (kept.size >= MOST_KEPT) kept.clear();
  lastSessions.set(books, kept.set(name, { atMs: nowMs, sessions }));
  return sessions;
}

/** They are read from the events of a week, and a status line asks every few seconds. */
const lastSessions = new WeakMap<UsageBooks, Map<string, { atMs: number; sessions: readonly Session[] }>>();
const SESSIONS_KEPT_MS = 15_000;
const MOST_KEPT = 1_000;

/** What the key itself, or its user, has spent, budgets or none. */
async function spentBy(
  { books, config }: Pick<ProxyContext, "books" | "config">,
  within: Within,
  nowMs: number,
): Promise<Spent> {
  const calendar = createCalendar(config.timezone);
  const sumOf = async (window: "day" | "month"): Promise<SpendSums> => {
    const { firstDay, endDay } = calendar.window(window, nowMs);
    const [all] = await readSpend(books, [], firstDay, endDay, within);
    return all ?? NO_SPEND;
  };
  const [today, month] = [await sumOf("day"), await sumOf("month")];
  return {
    todayUsd: formatUsdExact(today.costNanoUsd),
    monthUsd: formatUsdExact(month.costNanoUsd),
    ...(month.seatNanoUsd > 0n || today.seatNanoUsd > 0n
      ? { seatTodayUsd: formatUsdExact(today.seatNanoUsd), seatMonthUsd: formatUsdExact(month.seatNanoUsd) }
      : {}),
  };
}

/** A budget that holds for the key. What everybody together spends is not for each key's holder to see: of the
 *  organisation's it says only how much of it is used. */
function toldOf(
  { budget, window, amountNanoUsd, settledNanoUsd, reservedNanoUsd }: BudgetState,
  nameOf: (keyId: string) => string | undefined,
) {
  const isOfAll = Object.values(budget.scope).every((part) => part === undefined);
  const left = amountNanoUsd - settledNanoUsd - reservedNanoUsd;
  return {
    id: budget.id,
    scope: describeBudgetScope(budget, nameOf),
    kind: budget.kind,
    mode: budget.mode,
    observe: budget.observe === true,
    window: budget.window,
    ...(isOfAll
      ? { usedPercent: amountNanoUsd > 0n ? Number(((amountNanoUsd - left) * 100n) / amountNanoUsd) : 100 }
      : {
          amountUsd: formatUsdExact(amountNanoUsd),
          spentUsd: formatUsdExact(settledNanoUsd),
          reservedUsd: formatUsdExact(reservedNanoUsd),
          leftUsd: formatUsdExact(left),
        }),
    windowStart: new Date(window.startMs).toISOString(),
    windowEnd: budget.window === "total" ? null : new Date(window.endMs).toISOString(),
  };
}

/** "asked for $20.00 more in team search (approved, $10.00 until 2026-12-01): a launch". */
function askedWords({ amountUsd, scope, why, answer, raisedUsd, raisedUntil }: Told["asked"][number]): string {
  const raised = raisedUsd === undefined ? "" : `, ${money(raisedUsd)} until ${raisedUntil?.slice(0, 10)}`;
  return `asked for ${money(amountUsd)} more in ${scope} (${answer ?? "not answered yet"}${raised}): ${why}`;
}

/** "user anna, 5 hours: 120000 left of 2000000, until 2026-11-30 14:03 UTC". */
function seatCapWords({ scope, window, left, tokens, usedPercent, endsAt }: Told["seatCaps"][number]): string {
  const ends = endsAt === null ? "none have begun" : `until ${endsAt.slice(0, 16).replace("T", " ")} UTC`;
  return `  ${scope}, ${window}: ${tokens === undefined ? `${usedPercent} % used` : `${left} left of ${tokens}`}, ${ends}`;
}

function sessionWords({ session, client, requests, costUsd, lastAt }: Session): string {
  return `  ${lastAt.slice(0, 16).replace("T", " ")} ${client === "" ? "" : `${client} `}${session.slice(0, 36)}: ${requests} requests, ${money(costUsd)}`;
}

function money(usd: string | undefined): string {
  return formatUsd(parseUsd(usd ?? "0"));
}

function spentWords({ todayUsd, monthUsd, seatTodayUsd, seatMonthUsd }: Spent): string {
  const seats =
    seatMonthUsd === undefined ? "" : `; subscriptions, worth ${money(seatTodayUsd)} and ${money(seatMonthUsd)}`;
  return `${money(todayUsd)} today, ${money(monthUsd)} this month${seats}`;
}

function landsWords({ low, middle, high }: LandsAt): string {
  return `about ${money(middle)} (${money(low)} to ${money(high)})`;
}

/** The same for a person at a terminal (`Accept: text/plain`). */
function asText({
  key,
  spent,
  landsAtUsd,
  userSpent,
  userLandsAtUsd,
  budgets,
  seatCaps,
  asked,
  sessions,
}: Told): string {
  const lines = budgets.map((one) => {
    const ends = one.windowEnd === null ? "without end" : `until ${one.windowEnd.slice(0, 16).replace("T", " ")} UTC`;
    const kind = one.kind === "hard" ? "hard" : "tells only";
    return "usedPercent" in one
      ? `  ${one.scope}, ${one.window} (${kind}): ${one.usedPercent} % used, ${ends}`
      : `  ${one.scope}, ${one.window} (${kind}): ${formatUsdDown(parseUsd(one.leftUsd ?? "0"))} left of ${money(one.amountUsd)}, ${ends}`;
  });
  return `key ${key["name"]} (${key["id"]})${key["team"] ? `, team ${key["team"]}` : ""}
spent ${spentWords(spent)}
${landsAtUsd ? `this month lands at ${landsWords(landsAtUsd)}\n` : ""}${userSpent ? `${key["user"] || "its user"} with all keys: ${spentWords(userSpent)}${userLandsAtUsd ? `; this month lands at ${landsWords(userLandsAtUsd)}` : ""}\n` : ""}${lines.length === 0 ? "no budget holds for it" : `budgets\n${lines.join("\n")}`}
${seatCaps.length === 0 ? "" : `tokens by subscriptions\n${seatCaps.map(seatCapWords).join("\n")}\n`}${asked.map((one) => `${askedWords(one)}\n`).join("")}${sessions.length === 0 ? "" : `sessions\n${sessions.map(sessionWords).join("\n")}\n`}`;
}
