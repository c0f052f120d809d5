// Days of providers, as metered and as billed: what the bill pages and the overview are made of. Days are UTC days, as
// on bills.
import { readBillDays, readImports } from "../../ledger/billing/bills.ts";
import { readClosed, readCorrections, readVarianceSums } from "../../ledger/billing/closed-days.ts";
import type { ClosedDay } from "../../ledger/billing/closed-days.ts";
import { readMarks } from "../../ledger/billing/metered.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { firstMeteredDay } from "../../ledger/usage/meter-hours.ts";
import type { PageContext } from "./builder.ts";
import { bySize, change, count, share, sum, text, time, usd } from "./page.ts";
import type { Cell, Section } from "./page.ts";

export type BilledDay = {
  readonly provider: string;
  readonly day: string;
  /** Of a closed day: as it was signed, estimates corrected. */
  readonly meteredNanoUsd: NanoUsd;
  /** Of a closed day: as it was signed. Undefined: no bill has been read. */
  readonly billedNanoUsd: NanoUsd | undefined;
  /** What the bill says more since it was signed. */
  readonly sinceNanoUsd: NanoUsd;
  readonly closed: ClosedDay | undefined;
  /** Before the meter began: compared with nothing. */
  readonly isBefore: boolean;
  /** Why the two differ, the largest first; they add up to the difference once the day has been compared. None without
   *  a bill. */
  readonly causes: readonly { readonly cause: string; readonly amountNanoUsd: NanoUsd }[];
};

/** Days `[since, until)` that were used or billed, the newest first; of one provider or all. */
export async function readDays(
  { books, nowMs }: PageContext,
  since: string,
  until: string,
  provider?: string,
): Promise<BilledDay[]> {
  const firstDay = await firstMeteredDay(books.usage, nowMs);
  const { usage, billing } = books;
  const place = (one: { readonly provider: string; readonly day: string }): string => `${one.day} ${one.provider}`;
  const marks = new Map((await readMarks(usage, since, until)).map((one) => [place(one), one]));
  const bills = new Map((await readBillDays(billing, since, until)).map((one) => [place(one), one]));
  const closings = new Map((await readClosed(billing, since, until)).map((one) => [place(one), one]));
  const corrections = Map.groupBy(await readCorrections(billing, since, until), place);
  const variances = Map.groupBy(await readVarianceSums(billing, since, until), place);
  return [...new Set([...marks.keys(), ...bills.keys(), ...closings.keys()])]
    .map((name): BilledDay => {
      const [day = "", of = ""] = name.split(" ");
      const closed = closings.get(name);
      const bill = bills.get(name);
      const billed = closed?.billedNanoUsd ?? (bill && bill.lines > 0 ? bill.amountNanoUsd : undefined);
      return {
        day,
        provider: of,
        meteredNanoUsd: closed?.meteredNanoUsd ?? marks.get(name)?.costNanoUsd ?? 0n,
        billedNanoUsd: billed,
        sinceNanoUsd: sum((corrections.get(name) ?? []).map((one) => one.billedNanoUsd)),
        closed,
        isBefore: day < firstDay && !closed,
        causes:
          billed === undefined
            ? []
            : (variances.get(name) ?? [])
                // What was estimated has been corrected by the time a day is signed: it is metered money then, and no
                // difference.
                .filter(
                  ({ cause, amountNanoUsd }) => amountNanoUsd !== 0n && !(closed && cause === "estimate corrected"),
                )
                .toSorted((a, b) => bySize(a.amountNanoUsd, b.amountNanoUsd)),
      };
    })
    .filter((one) => provider === undefined || one.provider === provider)
    .toSorted((a, b) => b.day.localeCompare(a.day) || a.provider.localeCompare(b.provider));
}

/** "closed", "open", "no bill yet", "before the meter". */
export function stateOf({ closed, billedNanoUsd, isBefore }: BilledDay): string {
  if (closed) return "closed";
  if (isBefore) return "before the meter";
  return billedNanoUsd === undefined ? "no bill yet" : "open";
}

/** Whether there is something to compare. */
export function hasBill({ billedNanoUsd, isBefore }: BilledDay): boolean {
  return billedNanoUsd !== undefined && !isBefore;
}

/** Metered, billed and their difference, of the days that have a bill and were metered: four cells. */
export function compared(days: readonly BilledDay[]): Cell[] {
  const billed = days.filter(hasBill);
  if (billed.length === 0) return [undefined, undefined, undefined, undefined];
  const metered = sum(billed.map((one) => one.meteredNanoUsd));
  const amount = sum(billed.map((one) => one.billedNanoUsd ?? 0n));
  return [usd(metered), usd(amount), change(amount - metered), share(amount - metered, amount)];
}

/** A line a provider: how its days with a bill agree, and how many are signed. */
export async function agreementSection(
  { books, sources }: PageContext,
  days: readonly BilledDay[],
  notes: readonly string[] = [],
): Promise<Section> {
  const imports = new Map((await readImports(books.billing)).map((one) => [one.provider, one]));
  const providers = [...new Set([...sources, ...days.map(({ provider }) => provider)])].toSorted();
  const first = days.at(-1)?.day;
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
        const note = imports.get(provider);
        return [
          text(provider, { page: "bills" }),
          count(own.filter(hasBill).length),
          ...compared(own),
          count(own.filter(({ closed }) => closed).length),
          usd(sum(own.filter((one) => one.billedNanoUsd === undefined).map((one) => one.meteredNanoUsd))),
          time(note?.lastSuccessMs ?? undefined),
          text(note?.lastError ?? ""),
        ];
      }),
      empty:
        "No bill is read: set OPENAI_ADMIN_KEY, ANTHROPIC_ADMIN_KEY or Google's export, or import a file with `keymeter import`.",
    },
    notes: [...(first === undefined ? [] : [`UTC days since ${first}.`]), ...notes],
  };
}
