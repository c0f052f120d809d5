// Bills: do metered and billed agree, day by day, and why not.
import { readUnmetered } from "../../ledger/billing/closed-days.ts";
import type { Unmetered } from "../../ledger/billing/closed-days.ts";
import { isOpen, readLeaks } from "../../ledger/billing/leaks.ts";
import type { Leak } from "../../ledger/billing/leaks.ts";
import { formatUsd } from "../../ledger/money.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { addDays, utcDay } from "../../ledger/windows.ts";
import { agreementSection, compared, hasBill, readDays, stateOf } from "./billed-days.ts";
import type { BilledDay } from "./billed-days.ts";
import type { PageContext, Query } from "./builder.ts";
import { chooseDays } from "./days.ts";
import { dayLink } from "./links.ts";
import { bySize, change, count, sum, text, time, usd } from "./page.ts";
import type { Cell, Page, Section } from "./page.ts";

const SPANS = ["35", "100", "400"];
const USUAL_SPAN = "35";

export async function bills(context: PageContext, query: Query): Promise<Page> {
  const tomorrow = addDays(utcDay(context.nowMs), 1);
  const { since, until, controls, notes } = chooseDays(query, SPANS, USUAL_SPAN, tomorrow);
  const all = await readDays(context, since, until);
  // Of a provider whose bill nobody reads there is nothing to compare.
  const read = new Set([...context.sources, ...all.filter(hasBill).map(({ provider }) => provider)]);
  const [days, unread] = [
    all.filter(({ provider }) => read.has(provider)),
    all.filter(({ provider }) => !read.has(provider)),
  ];
  return {
    title: "Bills",
    days: "UTC",
    controls,
    focus: { since, until },
    sections: [
      await agreementSection(context, all, [...notes, ...notRead(unread)]),
      monthsSection(days),
      causesSection(days),
      daysSection(days),
      await leaksSection(context),
    ],
  };
}

/** What is metered at providers whose bill is not read, in a sentence each. */
function notRead(days: readonly BilledDay[]): string[] {
  return [...Map.groupBy(days, ({ provider }) => provider)].map(
    ([provider, own]) =>
      `No bill of ${provider} is read: what was metered there, ${formatUsd(sum(own.map((one) => one.meteredNanoUsd)))}, is compared with nothing.`,
  );
}

/** Differences by cause, the largest first. */
function causesSection(days: readonly BilledDay[]): Section {
  const causes = new Map<string, { readonly cause: string; readonly provider: string; amountNanoUsd: NanoUsd }>();
  for (const { provider, causes: own } of days)
    for (const { cause, amountNanoUsd } of own) {
      const known = causes.get(`${cause} ${provider}`) ?? { cause, provider, amountNanoUsd: 0n };
      known.amountNanoUsd += amountNanoUsd;
      causes.set(`${cause} ${provider}`, known);
    }
  return {
    title: "Causes",
    question: "Why do they differ?",
    money: "billed",
    table: {
      name: "causes",
      columns: [
        { field: "cause", title: "Cause", is: "text" },
        { field: "provider", title: "Provider", is: "text" },
        { field: "amount", title: "Billed minus metered", is: "usd" },
      ],
      rows: [...causes.values()]
        .toSorted((a, b) => bySize(a.amountNanoUsd, b.amountNanoUsd))
        .map((one) => [text(one.cause), text(one.provider), change(one.amountNanoUsd)]),
      total: [text("All"), text(""), change(sum([...causes.values()].map((one) => one.amountNanoUsd)))],
      empty: "No difference is known.",
    },
    notes: [
      "Of days that have a bill. Estimates that were corrected when a day was signed are metered money.",
      ...restNote(days, sum([...causes.values()].map((one) => one.amountNanoUsd))),
    ],
  };
}

/** Why the causes do not come to the whole difference, where they do not. */
function restNote(days: readonly BilledDay[], ofCauses: NanoUsd): string[] {
  const billed = days.filter(hasBill);
  const difference = sum(billed.map((one) => (one.billedNanoUsd ?? 0n) - one.meteredNanoUsd));
  if (difference === ofCauses) return ["They add up to the difference above."];
  return [
    `The difference above is ${formatUsd(difference)}, the causes come to ${formatUsd(ofCauses)}: ${formatUsd(difference - ofCauses)} were metered or billed since the days were compared, which happens every three hours.`,
  ];
}

/** The days with a bill, by month and provider. */
function monthsSection(days: readonly BilledDay[]): Section {
  const groups = [...Map.groupBy(days, ({ day, provider }) => `${day.slice(0, 7)} ${provider}`)].toSorted(([a], [b]) =>
    b.localeCompare(a),
  );
  return {
    title: "Months",
    question: "Which months agree, and which are signed off?",
    money: "billed",
    table: {
      name: "months",
      columns: [
        { field: "month", title: "Month (UTC)", is: "text" },
        { field: "provider", title: "Provider", is: "text" },
        { field: "days", title: "Days with a bill", is: "count" },
        { field: "signed", title: "Signed off", is: "count" },
        { field: "metered", title: "Metered in them", is: "usd" },
        { field: "billed", title: "Billed", is: "usd" },
        { field: "variance", title: "Billed minus metered", is: "usd" },
        { field: "variancePart", title: "of the bill", is: "share" },
      ],
      rows: groups.map(([name, own]): Cell[] => {
        const [month = "", provider = ""] = name.split(" ");
        return [
          text(month),
          text(provider),
          count(own.filter(({ billedNanoUsd }) => billedNanoUsd !== undefined).length),
          count(own.filter(({ closed }) => closed).length),
          // Of a month before the meter there is the bill alone.
          ...(own.every(({ isBefore }) => isBefore)
            ? [undefined, usd(sum(own.map((one) => one.billedNanoUsd ?? 0n))), undefined, undefined]
            : compared(own)),
        ];
      }),
      empty: "No bill was read.",
    },
  };
}

function daysSection(days: readonly BilledDay[]): Section {
  return {
    title: "Days",
    question: "Which days agree, and which are signed off?",
    money: "billed",
    table: {
      name: "days",
      columns: [
        { field: "day", title: "Day (UTC)", is: "text" },
        { field: "provider", title: "Provider", is: "text" },
        { field: "metered", title: "Metered", is: "usd" },
        { field: "billed", title: "Billed", is: "usd" },
        { field: "variance", title: "Billed minus metered", is: "usd" },
        { field: "variancePart", title: "of the bill", is: "share" },
        { field: "since", title: "Billed more since it was signed", is: "usd" },
        { field: "state", title: "State", is: "text" },
        { field: "cause", title: "Largest cause", is: "text" },
      ],
      rows: days.map((one): Cell[] => [
        text(one.day, dayLink(one.provider, one.day)),
        text(one.provider),
        one.isBefore ? undefined : usd(one.meteredNanoUsd),
        usd(one.billedNanoUsd),
        ...compared([one]).slice(2),
        one.closed ? change(one.sinceNanoUsd) : undefined,
        text(stateOf(one)),
        text(one.causes[0]?.cause ?? ""),
      ]),
      total: [
        text("Days with a bill"),
        text(""),
        ...compared(days),
        change(sum(days.map((one) => one.sinceNanoUsd))),
        text(""),
        text(""),
      ],
      empty: "Nothing was metered in these days, and no bill was read.",
    },
  };
}

async function leaksSection({ books }: PageContext): Promise<Section> {
  const leaks = (await readLeaks(books.billing)).filter(isOpen);
  const unmetered = new Map<Leak, Unmetered>();
  for (const leak of leaks) {
    const billed = await readUnmetered(books.billing, leak.provider, leak.billedKey);
    if (billed) unmetered.set(leak, billed);
  }
  return {
    title: "Use that did not come through the proxy",
    question: "Who goes round the meter?",
    money: "billed",
    table: {
      name: "leaks",
      columns: [
        { field: "key", title: "The provider's key", is: "text" },
        { field: "provider", title: "Provider", is: "text" },
        { field: "kind", title: "What", is: "text" },
        { field: "since", title: "Since", is: "time" },
        { field: "last", title: "Last hour", is: "time" },
        { field: "quantity", title: "Quantity", is: "count" },
        { field: "unit", title: "Unit", is: "text" },
        { field: "cost", title: "At list prices", is: "usd" },
        { field: "billed", title: "Billed of it so far", is: "usd" },
      ],
      rows: leaks.map((one): Cell[] => [
        text(one.billedKey),
        text(one.provider),
        text(one.kind === "unknown_key" ? "never metered" : "more than was metered"),
        time(one.firstHourMs),
        time(one.lastHourMs),
        count(one.quantity),
        text(one.unit),
        usd(one.costNanoUsd),
        usd(unmetered.get(one)?.amountNanoUsd),
      ]),
      empty: "None is known. `keymeter leaks` shows also what was looked at and dismissed.",
    },
  };
}
