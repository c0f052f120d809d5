// GET /keymeter/me: what a key's holder may know of it: spend, reservations, budgets, when they reset.
import type { FastifyReply, FastifyRequest } from "fastify";
import { describeBudgetScope } from "../ledger/budgets.ts";
import type { BudgetState } from "../ledger/budgets.ts";
import { formatUsd, formatUsdDown, formatUsdExact, parseUsd } from "../ledger/money.ts";
import { NO_SPEND } from "../ledger/usage/spend-sums.ts";
import type { SpendSums } from "../ledger/usage/spend-sums.ts";
import { readSpend } from "../ledger/usage/spend.ts";
import type { Within } from "../ledger/usage/within.ts";
import { createCalendar } from "../ledger/windows.ts";
import { identify } from "./arrival.ts";
import type { Credential } from "./credential.ts";
import type { ProxyContext } from "./context.ts";
import { Refused } from "./refusals.ts";

/** Answers with the numbers a refusal would use in the same second. A provider key says whose it is by ?provider=. */
export async function answerMe(
  context: Pick<
    ProxyContext,
    "providers" | "register" | "people" | "sightings" | "isTrusted" | "writer" | "books" | "config"
  >,
  request: FastifyRequest,
  reply: FastifyReply,
  credential: Credential,
): Promise<void> {
  if (request.method !== "GET") throw new Refused("not_metered", "/keymeter/me is read with GET");
  // The same rules as for every request: whose key it is, and from where it may be used.
  const candidates = context.providers.all.map((provider) => identify(context, request.raw, credential, provider.name));
  const known = candidates.filter(({ key }) => key !== undefined);
  const principal = known.find((one) => context.register.isProven(one)) ?? known[0];
  if (!principal?.key) throw new Refused("unknown_key", "this key has not been used through this Keymeter yet");
  // A sign-in is known by its address; who holds one was accepted by its provider, and anybody can invent one.
  if (!context.register.isProven(principal))
    throw new Refused(
      "unknown_key",
      "no provider has accepted this sign-in through this Keymeter since it started; send a request with it first",
    );
  const { key } = principal;
  const tags = JSON.stringify(key.policy.tags ?? {});
  const states = await context.writer.states({ ...key, keyId: key.id, tags });
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
    spent: await spentBy(context, { key: key.id }, Date.now()),
    // Of whoever the key is: over all of his keys.
    ...(key.user === "" ? {} : { userSpent: await spentBy(context, { user: key.user }, Date.now()) }),
    budgets: states.map((state) => toldOf(state, (id) => (id === key.id ? key.name : context.people.nameOf(id)))),
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

type Told = {
  readonly key: { readonly [field: string]: string | null };
  readonly spent: Spent;
  readonly userSpent?: Spent;
  readonly budgets: readonly ReturnType<typeof toldOf>[];
};

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

function money(usd: string | undefined): string {
  return formatUsd(parseUsd(usd ?? "0"));
}

function spentWords({ todayUsd, monthUsd, seatTodayUsd, seatMonthUsd }: Spent): string {
  const seats =
    seatMonthUsd === undefined ? "" : `; subscriptions, worth ${money(seatTodayUsd)} and ${money(seatMonthUsd)}`;
  return `${money(todayUsd)} today, ${money(monthUsd)} this month${seats}`;
}

/** The same for a person at a terminal (`Accept: text/plain`). */
function asText({ key, spent, userSpent, budgets }: Told): string {
  const lines = budgets.map((one) => {
    const ends = one.windowEnd === null ? "without end" : `until ${one.windowEnd.slice(0, 16).replace("T", " ")} UTC`;
    const kind = one.kind === "hard" ? "hard" : "tells only";
    return "usedPercent" in one
      ? `  ${one.scope}, ${one.window} (${kind}): ${one.usedPercent} % used, ${ends}`
      : `  ${one.scope}, ${one.window} (${kind}): ${formatUsdDown(parseUsd(one.leftUsd ?? "0"))} left of ${money(one.amountUsd)}, ${ends}`;
  });
  return `key ${key["name"]} (${key["id"]})${key["team"] ? `, team ${key["team"]}` : ""}
spent ${spentWords(spent)}
${userSpent ? `${key["user"] || "its user"} with all keys: ${spentWords(userSpent)}\n` : ""}${lines.length === 0 ? "no budget holds for it" : `budgets\n${lines.join("\n")}`}
`;
}
