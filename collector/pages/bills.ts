// Bills: do metered and billed agree, day by day; and one day of one provider, line by line, with causes.
import { readBillDays, readImports } from "../../ledger/bills.ts";
import type { BillDay } from "../../ledger/bills.ts";
import { findClosed, readClosed, readComparisons, readCorrections, readVarianceSums } from "../../ledger/closing.ts";
import { readKeyNames } from "../../ledger/spend.ts";
import { isOpen, readLeaks } from "../../ledger/leaks.ts";
import { readMarks } from "../../ledger/metered.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { addDays } from "../../ledger/windows.ts";
import { dayLink } from "./context.ts";
import type { PageContext, Query } from "./context.ts";
import { change, count, share, sum, text, time, usd } from "./page.ts";
import type { Cell, MoneyKind, Page, Section } from "./page.ts";

const SPANS = ["35", "100", "400"];
const USUAL_SPAN = "35";

type Day = {
  readonly provider: string;
  readonly day: string;
  readonly meteredNanoUsd: NanoUsd;
  /** Undefined: no bill has been read. */
  readonly billedNanoUsd: NanoUsd | undefined;
  readonly state: "closed" | "open" | "no bill yet";
  /** What makes most of the difference. */
  readonly cause: string;
};

/** Days `[since, until)` that were used or billed, the newest first. Days are UTC days, as on bills. */
async function readDays({ books }: PageContext, since: string, until: string): Promise<Day[]> {
  const { usage, billing } = books;
  const place = (one: { readonly provider: string; readonly day: string }): string => `${one.day} ${one.provider}`;
  const marks = new Map((await readMarks(usage, since, until)).map((one) => [place(one), one]));
  const bills = new Map<string, BillDay>((await readBillDays(billing, since, until)).map((one) => [place(one), one]));
  const closed = new Map((await readClosed(billing, since, until)).map((one) => [place(one), one]));
  const largest = new Map<string, { cause: string; size: NanoUsd }>();
  for (const one of await readComparisons(billing, since, until))
    for (const { cause, amountNanoUsd } of one.variances) {
      const size = amountNanoUsd < 0n ? -amountNanoUsd : amountNanoUsd;
      const known = largest.get(place(one));
      if (size > 0n && (!known || size > known.size)) largest.set(place(one), { cause, size });
    }
  const days = [...new Set([...marks.keys(), ...bills.keys()])].map((name): Day => {
    const [day = "", provider = ""] = name.split(" ");
    const bill = bills.get(name);
    return {
      day,
      provider,
      meteredNanoUsd: closed.get(name)?.meteredNanoUsd ?? marks.get(name)?.costNanoUsd ?? 0n,
      billedNanoUsd: bill && (bill.lines > 0 || closed.has(name)) ? bill.amountNanoUsd : undefined,
      state: closed.has(name) ? "closed" : bill ? "open" : "no bill yet",
      cause: largest.get(name)?.cause ?? "",
    };
  });
  return days.toSorted((a, b) => b.day.localeCompare(a.day) || a.provider.localeCompare(b.provider));
}

export async function bills(context: PageContext, query: Query): Promise<Page> {
  const { books, nowMs } = context;
  const span = SPANS.includes(query["days"] ?? "") ? (query["days"] ?? USUAL_SPAN) : USUAL_SPAN;
  const until = addDays(new Date(nowMs).toISOString().slice(0, 10), 1);
  const since = addDays(until, -Number(span));
  const days = await readDays(context, since, until);
  const compared = days.filter((one) => one.billedNanoUsd !== undefined);
  const leaks = (await readLeaks(books.billing)).filter(isOpen);
  return {
    title: "Bills",
    controls: [
      {
        name: "days",
        label: "Days",
        value: span,
        options: SPANS.map((value) => ({ value, label: `the last ${value}` })),
      },
    ],
    focus: { since, until },
    sections: [
      await agreementSection(context, since, until),
      await causesSection(context, since, until),
      {
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
            { field: "state", title: "State", is: "text" },
            { field: "cause", title: "Largest cause", is: "text" },
          ],
          rows: days.map((one): Cell[] => [
            text(one.day, dayLink(one.provider, one.day)),
            text(one.provider),
            usd(one.meteredNanoUsd),
            usd(one.billedNanoUsd),
            one.billedNanoUsd === undefined ? undefined : change(one.billedNanoUsd - one.meteredNanoUsd),
            one.billedNanoUsd === undefined
              ? undefined
              : share(one.billedNanoUsd - one.meteredNanoUsd, one.billedNanoUsd),
            text(one.state),
            text(one.cause),
          ]),
          total: totalsOf(compared),
          empty: "Nothing was metered in these days, and no bill was read.",
        },
        notes: ["The sum is of the days that have a bill."],
      },
      {
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
          ]),
          empty: "None is known. `keymeter leaks` shows also what was looked at and dismissed.",
        },
      },
    ],
  };
}

function totalsOf(days: readonly Day[]): Cell[] {
  const metered = sum(days.map((one) => one.meteredNanoUsd));
  const billed = sum(days.map((one) => one.billedNanoUsd ?? 0n));
  return [
    text("All"),
    text(""),
    usd(metered),
    usd(billed),
    change(billed - metered),
    share(billed - metered, billed),
    text(""),
    text(""),
  ];
}

/** A line a provider: how the days with a bill agree, and up to when they are signed. */
export async function agreementSection(context: PageContext, since?: string, until?: string): Promise<Section> {
  const { books, nowMs, sources } = context;
  const end = until ?? addDays(new Date(nowMs).toISOString().slice(0, 10), 1);
  const start = since ?? `${new Date(nowMs).toISOString().slice(0, 7)}-01`;
  const days = await readDays(context, start, end);
  const imports = new Map((await readImports(books.billing)).map((one) => [one.provider, one]));
  const providers = [...new Set([...sources, ...days.map(({ provider }) => provider)])].toSorted();
  return {
    title: "Does it agree with the bill?",
    question: "Do metered and billed agree, and up to when is it signed?",
    money: "billed",
    table: {
      name: "agreement",
      columns: [
        { field: "provider", title: "Provider", is: "text" },
        { field: "days", title: "Days with a bill", is: "count" },
        { field: "metered", title: "Metered in them", is: "usd" },
        { field: "billed", title: "Billed", is: "usd" },
        { field: "variance", title: "Billed minus metered", is: "usd" },
        { field: "variancePart", title: "of the bill", is: "share" },
        { field: "closed", title: "Days signed off", is: "count" },
        { field: "open", title: "Metered, not billed yet", is: "usd" },
        { field: "read", title: "Bill last read", is: "time" },
        { field: "trouble", title: "Trouble", is: "text" },
      ],
      rows: providers.map((provider): Cell[] => {
        const own = days.filter((one) => one.provider === provider);
        const billed = own.filter((one) => one.billedNanoUsd !== undefined);
        const [metered, amount] = [
          sum(billed.map((one) => one.meteredNanoUsd)),
          sum(billed.map((one) => one.billedNanoUsd ?? 0n)),
        ];
        const note = imports.get(provider);
        return [
          text(provider, { page: "bills" }),
          count(billed.length),
          usd(metered),
          billed.length === 0 ? undefined : usd(amount),
          billed.length === 0 ? undefined : change(amount - metered),
          billed.length === 0 ? undefined : share(amount - metered, amount),
          count(own.filter(({ state }) => state === "closed").length),
          usd(sum(own.filter((one) => one.billedNanoUsd === undefined).map((one) => one.meteredNanoUsd))),
          time(note?.lastSuccessMs ?? undefined),
          text(note?.lastError ?? ""),
        ];
      }),
      empty:
        "No bill is read: set OPENAI_ADMIN_KEY, ANTHROPIC_ADMIN_KEY or Google's export, or import a file with `keymeter import`.",
    },
    notes: [`UTC days since ${start}.`],
  };
}

async function causesSection({ books }: PageContext, since: string, until: string): Promise<Section> {
  const rows = (await readVarianceSums(books.billing, since, until)).toSorted((a, b) =>
    Number(abs(b.amountNanoUsd) - abs(a.amountNanoUsd)),
  );
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
      rows: rows.map((one) => [text(one.cause), text(one.provider), change(one.amountNanoUsd)]),
      total: [text("All"), text(""), change(sum(rows.map((one) => one.amountNanoUsd)))],
      empty: "No difference is known.",
    },
  };
}

/** One provider's day: every place where the two were compared. */
export async function bill(context: PageContext, { provider = "", day = "" }: Query): Promise<Page | undefined> {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(day) || !Number.isFinite(Date.parse(day))) return undefined;
  const { billing, usage } = context.books;
  const next = addDays(day, 1);
  const [found] = (await readDays(context, day, next)).filter((one) => one.provider === provider);
  if (!found) return undefined;
  const closed = findClosed(billing, provider, day);
  const comparisons = await readComparisons(billing, day, next, provider);
  const corrections = (await readCorrections(billing, day, next)).filter((one) => one.provider === provider);
  const names = await readKeyNames(usage);
  const causes = new Map<string, NanoUsd>();
  for (const { cause, amountNanoUsd } of comparisons.flatMap(({ variances }) => variances))
    causes.set(cause, (causes.get(cause) ?? 0n) + amountNanoUsd);
  const money: MoneyKind = closed ? "closed" : "billed";
  const [metered, billed] = [
    sum(comparisons.map((one) => one.meteredNanoUsd)),
    sum(comparisons.map((one) => one.billedNanoUsd)),
  ];
  return {
    title: "Bill of",
    subject: `${provider}, ${day}`,
    focus: { since: day, until: next, provider },
    sections: [
      {
        title: "The day",
        question: "Do the two agree, and is it signed?",
        money,
        figures: [
          { title: "Metered", value: usd(found.meteredNanoUsd), money: "metered" },
          { title: "Billed", value: usd(found.billedNanoUsd), money },
          {
            title: "Billed minus metered",
            value: found.billedNanoUsd === undefined ? undefined : change(found.billedNanoUsd - found.meteredNanoUsd),
            money,
          },
          {
            title: "State",
            value: text(found.state),
            money: "none",
            ...(closed
              ? { note: `Signed by ${closed.closedBy} on ${new Date(closed.closedAtMs).toISOString().slice(0, 10)}.` }
              : {}),
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
          rows: [...causes]
            .toSorted(([, a], [, b]) => Number(abs(b) - abs(a)))
            .map(([cause, amount]) => [text(cause), change(amount)]),
          total: [text("All"), change(sum([...causes.values()]))],
          empty: "They do not differ.",
        },
      },
      {
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
            .toSorted((a, b) =>
              Number(abs(b.billedNanoUsd - b.meteredNanoUsd) - abs(a.billedNanoUsd - a.meteredNanoUsd)),
            )
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
        ...(closed
          ? { notes: ["Lines stand as they were when the day was signed; estimates were corrected then."] }
          : {}),
      },
      {
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
          empty: closed ? "Nothing." : "It is not signed yet.",
        },
      },
    ],
  };
}

function abs(amount: NanoUsd): NanoUsd {
  return amount < 0n ? -amount : amount;
}
