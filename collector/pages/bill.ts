// One provider's day: every place where meter and bill were compared, and why they differ.
import { readComparisons, readCorrections } from "../../ledger/billing/closed-days.ts";
import type { Comparison, Correction } from "../../ledger/billing/closed-days.ts";
import { readNames } from "../../ledger/usage/key-use.ts";
import { addDays, isDay, utcDay } from "../../ledger/windows.ts";
import { hasBill, readDays, stateOf } from "./billed-days.ts";
import type { PageContext, Query } from "./builder.ts";
import { bySize, change, count, sum, text, time, usd } from "./page.ts";
import type { Cell, MoneyKind, Page, Section } from "./page.ts";

export async function bill(context: PageContext, { provider = "", day = "" }: Query): Promise<Page | undefined> {
  if (!isDay(day)) return undefined;
  const { billing, usage } = context.books;
  const next = addDays(day, 1);
  const [found] = await readDays(context, day, next, provider);
  if (!found) return undefined;
  const { closed, causes } = found;
  const comparisons = await readComparisons(billing, day, next, provider);
  const corrections = (await readCorrections(billing, day, next)).filter((one) => one.provider === provider);
  const money: MoneyKind = closed ? "closed" : "billed";
  return {
    title: "Bill of",
    subject: `${provider}, ${day}`,
    days: "UTC",
    focus: { since: day, until: next, provider },
    sections: [
      {
        title: "The day",
        question: "Do the two agree, and is it signed?",
        money,
        figures: [
          { title: "Metered", value: found.isBefore ? undefined : usd(found.meteredNanoUsd), money: "metered" },
          { title: "Billed", value: usd(found.billedNanoUsd), money },
          {
            title: "Billed minus metered",
            value: hasBill(found) ? change((found.billedNanoUsd ?? 0n) - found.meteredNanoUsd) : undefined,
            money,
          },
          {
            title: "State",
            value: text(stateOf(found)),
            money: "none",
            ...(closed ? { note: `Signed by ${closed.closedBy} on ${utcDay(closed.closedAtMs)}.` } : {}),
          },
        ],
      },
      {
        title: "Causes",
        question: "Why do they differ?",
        money,
        table: {
          name: "causes",
          columns: [
            { field: "cause", title: "Cause", is: "text" },
            { field: "amount", title: "Billed minus metered", is: "usd" },
          ],
          rows: causes.map(({ cause, amountNanoUsd }) => [text(cause), change(amountNanoUsd)]),
          total: [text("All"), change(sum(causes.map(({ amountNanoUsd }) => amountNanoUsd)))],
          empty:
            found.billedNanoUsd === undefined
              ? "No bill has been read for this day yet."
              : comparisons.length === 0
                ? "The bill has not been compared with this day yet."
                : "They do not differ.",
        },
      },
      linesSection(comparisons, await readNames(usage), money),
      correctionsSection(corrections, closed !== undefined),
    ],
  };
}

/** Every place where the two were compared, the largest difference first. */
function linesSection(
  comparisons: readonly Comparison[],
  names: ReadonlyMap<string, string>,
  money: MoneyKind,
): Section {
  const [metered, billed] = [
    sum(comparisons.map((one) => one.meteredNanoUsd)),
    sum(comparisons.map((one) => one.billedNanoUsd)),
  ];
  return {
    title: "Lines",
    question: "Where do they differ?",
    money,
    table: {
      name: "lines",
      columns: [
        { field: "key", title: "Key", is: "text" },
        { field: "model", title: "Model", is: "text" },
        { field: "unit", title: "Unit", is: "text" },
        { field: "tier", title: "Tier", is: "text" },
        { field: "meteredQuantity", title: "Metered quantity", is: "count" },
        { field: "billedQuantity", title: "Billed quantity", is: "count" },
        { field: "metered", title: "Metered", is: "usd" },
        { field: "billed", title: "Billed", is: "usd" },
        { field: "variance", title: "Billed minus metered", is: "usd" },
        { field: "why", title: "Why", is: "text" },
      ],
      rows: comparisons
        .toSorted((a, b) => bySize(a.billedNanoUsd - a.meteredNanoUsd, b.billedNanoUsd - b.meteredNanoUsd))
        .map((one): Cell[] => [
          text(one.kind ?? (one.key === undefined ? "all keys" : (names.get(one.key) ?? one.key))),
          text(one.model ?? ""),
          text(one.unit ?? ""),
          text(one.tier ?? ""),
          one.meteredQuantity === undefined ? undefined : count(one.meteredQuantity),
          one.billedQuantity === undefined ? undefined : count(one.billedQuantity),
          usd(one.meteredNanoUsd),
          usd(one.billedNanoUsd),
          change(one.billedNanoUsd - one.meteredNanoUsd),
          text(one.variances.map(({ cause, detail }) => `${cause}: ${detail}`).join(" ")),
        ]),
      total: [
        text("All"),
        ...["", "", "", "", ""].map((words) => text(words)),
        usd(metered),
        usd(billed),
        change(billed - metered),
        text(""),
      ],
      empty: "No bill has been compared with this day yet.",
    },
    ...(money === "closed"
      ? {
          notes: [
            "Lines stand as they were compared, before estimates were corrected: what is called so here is metered money above.",
          ],
        }
      : {}),
  };
}

/** What came after the day was signed. */
function correctionsSection(corrections: readonly Correction[], isClosed: boolean): Section {
  return {
    title: "Since it was signed",
    question: "What did the bill or the meter say differently later?",
    money: "billed",
    table: {
      name: "corrections",
      columns: [
        { field: "made", title: "When", is: "time" },
        { field: "metered", title: "Metered, more", is: "usd" },
        { field: "billed", title: "Billed, more", is: "usd" },
      ],
      rows: corrections.map((one) => [time(one.madeAtMs), change(one.meteredNanoUsd), change(one.billedNanoUsd)]),
      empty: isClosed ? "Nothing." : "It is not signed yet.",
    },
  };
}
