// Days that a page is about: the spans that people ask for, and the choice of any others.
import { addDays, isDay } from "../../ledger/windows.ts";
import type { PageContext, Query } from "./builder.ts";
import type { Control } from "./page.ts";

/** The spans of days that people ask for: today, and whole days before it. */
export type Spans = {
  readonly today: string;
  readonly tomorrow: string;
  readonly month: { readonly firstDay: string; readonly endDay: string };
};

export function spansOf({ calendar, nowMs }: PageContext): Spans {
  const today = calendar.day(nowMs);
  const { firstDay, endDay } = calendar.window("month", nowMs);
  return { today, tomorrow: addDays(today, 1), month: { firstDay, endDay } };
}

/** Days `[since, until)` that a page is about, and how they were chosen. */
export type ChosenDays = {
  readonly since: string;
  readonly until: string;
  /** "the last 28 days", "2026-11-01 to 2026-11-15". */
  readonly words: string;
  readonly controls: readonly Control[];
  /** Why others are shown than were asked for. */
  readonly notes: readonly string[];
};

/** A choice of the last days, or of any: what was written down counts, whatever else is chosen. `tomorrow`: the day
 *  after the last of these. */
export function chooseDays(query: Query, spans: readonly string[], usual: string, tomorrow: string): ChosenDays {
  const asked = spans.find((one) => one === query["days"]) ?? usual;
  const { since = "", until: last = "" } = query;
  const isOwn = since !== "" || last !== "";
  const isGood = isDay(since) && isDay(last) && since <= last;
  const options = [
    ...spans.map((one) => ({ value: one, label: `the last ${one}` })),
    { value: "own", label: "my own dates:" },
  ];
  const chosen = isOwn && isGood ? "own" : asked;
  return {
    ...(isOwn && isGood
      ? { since, until: addDays(last, 1), words: `${since} to ${last}` }
      : { since: addDays(tomorrow, -Number(asked)), until: tomorrow, words: `the last ${asked} days` }),
    controls: [
      { name: "days", label: "Days", value: chosen, options },
      { name: "since", label: "from", value: since, kind: "date" },
      { name: "until", label: "to", value: last, kind: "date" },
    ],
    notes:
      isOwn && !isGood
        ? [`Own dates are two days, the first not after the last; the last ${asked} days are shown.`]
        : [],
  };
}
