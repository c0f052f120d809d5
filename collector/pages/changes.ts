// What changed: some days beside others before them, by team, key, model, provider and feature, and why. The reasons
// are worked out once, for each key and model, and added up: at every level they come to the same difference.
import { readNames } from "../../ledger/usage/key-use.ts";
import { readKeptFrom } from "../../ledger/usage/retention.ts";
import { readSpend, readSpendByTag } from "../../ledger/usage/spend.ts";
import type { Breakdown, SpendRow } from "../../ledger/usage/spend-sums.ts";
import { addDays, DAY_MS, isDay } from "../../ledger/windows.ts";
import type { Within } from "../../ledger/usage/within.ts";
import { beforeSections, firstDay } from "./before.ts";
import { addEffects, effectsByModel, NO_EFFECTS } from "../effects.ts";
import type { Effects } from "../effects.ts";
import type { PageContext, Query } from "./builder.ts";
import { spansOf } from "./days.ts";
import { keyLink, teamCell } from "./links.ts";
import { leftOut, readTotal, sumUp } from "./sums.ts";
import { bySize, change, sum, text, usd } from "./page.ts";
import type { Cell, Control, Page, Section, Value } from "./page.ts";

/** Days `[since, until)` beside `[before, end)`. */
type Spans = { readonly since: string; readonly until: string; readonly before: string; readonly end: string };

const FILTERS = ["team", "provider", "model"] as const;
/** Tags stand with single events: of so many days they are read. */
const MOST_TAG_DAYS = 62;

export async function changes(context: PageContext, query: Query): Promise<Page> {
  const { span, spans, problem } = chooseSpans(context, query);
  const within: Within = Object.fromEntries(
    FILTERS.flatMap((name) => {
      const value = query[name] ?? "";
      if (value === "") return [];
      return [[name, name === "provider" ? context.stated.providers.bookedName(value) : value] as const];
    }),
  );
  const { since, until, before, end } = spans;
  const names = await readNames(context.books.usage);
  const pieces = await readPieces(context, spans, within);
  const began = await firstDay(context);
  // What was spent while the meter did not run is not known, and not nothing.
  const isKnown = began === undefined || before >= began;
  const both = [await readTotal(context, before, end, within), await readTotal(context, since, until, within)];
  return {
    title: "What changed",
    days: "local",
    subject: `${since} to ${addDays(until, -1)} beside ${before} to ${addDays(end, -1)}`,
    controls: [
      {
        name: "span",
        label: "Compare",
        value: span,
        options: SPANS.map(({ name, label }) => ({ value: name, label })),
      },
      ...OWN_DATES.map(({ name, label }): Control => ({ name, label, value: query[name] ?? "", kind: "date" })),
      ...FILTERS.map((name): Control => ({ name, label: `Only ${name}`, value: query[name] ?? "" })),
    ],
    sections: [
      sectionOf(pieces, isKnown, "team", "Teams", "Which team made the difference?", teamCell),
      sectionOf(pieces, isKnown, "key", "Keys", "Which key made the difference?", (id) =>
        text(names.get(id) || id, keyLink(id)),
      ),
      sectionOf(pieces, isKnown, "model", "Models", "Which model made the difference?", (name) =>
        text(name, { page: "changes", query: { ...query, model: name } }),
      ),
      sectionOf(pieces, isKnown, "provider", "Providers", "Which provider made the difference?", (name) =>
        text(name, { page: "changes", query: { ...query, provider: name } }),
      ),
      ...(await features(context, spans, within, isKnown)),
      // Bills know no team, and stand beside all that was metered.
      ...(Object.keys(within).length === 0
        ? await beforeSections(
            context,
            [
              { field: "before", title: "Before", since: before, until: end },
              { field: "now", title: "Now", since, until },
            ],
            ["provider", "model"],
            (by, span) => readSpend(context.books.usage, [by], span.since, span.until, within),
          )
        : []),
    ].map((section, i, all) =>
      i < all.length - 1
        ? section
        : {
            ...section,
            notes: [
              ...(section.notes ?? []),
              "The three reasons add up to the difference, in each row and in each table. More requests: at what a request cost before. Other models: requests that moved to dearer or cheaper ones. Dearer requests: longer, less cached, or at another price.",
              ...(isKnown ? [] : [`The meter began on ${began}: what was spent before is not known here.`]),
              ...(problem === undefined ? [] : [problem]),
              ...(until > spansOf(context).today ? ["Today is in it, and is not over."] : []),
              ...leftOut(sumUp(both), "both spans"),
            ],
          },
    ),
  };
}

type Piece = {
  readonly group: SpendRow["group"];
  readonly cost0: bigint;
  readonly cost1: bigint;
  readonly why: Effects;
};

const PARTS = ["team", "key", "provider", "model"] as const;

/** What each key spent on each model in both spans, and why that moved. */
async function readPieces(
  { books }: PageContext,
  { since, until, before, end }: Spans,
  within: Within,
): Promise<Piece[]> {
  const read = async (from: string, to: string): Promise<Map<string, Map<string, SpendRow>>> => {
    const byOwner = new Map<string, Map<string, SpendRow>>();
    for (const row of await readSpend(books.usage, PARTS, from, to, within)) {
      // A key that changed hands is compared within each team.
      const owner = JSON.stringify([row.group.team, row.group.key]);
      const models = byOwner.get(owner) ?? new Map<string, SpendRow>();
      models.set(`${row.group.provider} ${row.group.model}`, row);
      byOwner.set(owner, models);
    }
    return byOwner;
  };
  const [old, now] = [await read(before, end), await read(since, until)];
  return [...new Set([...old.keys(), ...now.keys()])].flatMap((owner) => {
    const [was, is] = [old.get(owner), now.get(owner)];
    const spends = (rows: ReadonlyMap<string, SpendRow> | undefined) =>
      [...(rows ?? [])].map(([model, { requests, costNanoUsd }]) => ({ model, requests, costNanoUsd }));
    return [...effectsByModel(spends(was), spends(is))].map(([model, why]): Piece => ({
      group: (is?.get(model) ?? was?.get(model))?.group ?? {},
      cost0: was?.get(model)?.costNanoUsd ?? 0n,
      cost1: is?.get(model)?.costNanoUsd ?? 0n,
      why,
    }));
  });
}

function sectionOf(
  pieces: readonly Piece[],
  isKnown: boolean,
  by: (typeof PARTS)[number],
  title: string,
  question: string,
  nameOf: (id: string) => Value,
): Section {
  const rows = [...Map.groupBy(pieces, ({ group }) => group[by] ?? "")]
    .map(([id, own]) => ({
      id,
      cost0: sum(own.map(({ cost0 }) => cost0)),
      cost1: sum(own.map(({ cost1 }) => cost1)),
      why: own.map(({ why }) => why).reduce(addEffects, NO_EFFECTS),
    }))
    .toSorted((a, b) => bySize(a.cost1 - a.cost0, b.cost1 - b.cost0));
  const cells = ({ cost0, cost1, why }: Omit<(typeof rows)[number], "id">): Cell[] =>
    isKnown
      ? [
          usd(cost0),
          usd(cost1),
          change(cost1 - cost0),
          change(why.volumeNanoUsd),
          change(why.mixNanoUsd),
          change(why.requestNanoUsd),
        ]
      : [undefined, usd(cost1), undefined, undefined, undefined, undefined];
  return {
    title,
    question,
    money: "metered",
    table: {
      name: `${by}s`,
      columns: [{ field: by, title: title.replace(/s$/, ""), is: "text" }, ...COST_COLUMNS, ...REASON_COLUMNS],
      rows: rows.map((row) => [nameOf(row.id), ...cells(row)]),
      total: [
        text("All"),
        ...cells({
          cost0: sum(rows.map(({ cost0 }) => cost0)),
          cost1: sum(rows.map(({ cost1 }) => cost1)),
          why: rows.map(({ why }) => why).reduce(addEffects, NO_EFFECTS),
        }),
      ],
      empty: isKnown
        ? "Nothing was metered in either span; with a filter: no such name was used in them."
        : "Nothing was metered in these days: the meter had not begun.",
    },
  };
}

const COST_COLUMNS = [
  { field: "before", title: "Before", is: "usd" },
  { field: "now", title: "Now", is: "usd" },
  { field: "more", title: "Difference", is: "usd" },
] as const;
const REASON_COLUMNS = [
  { field: "byVolume", title: "by more requests", is: "usd" },
  { field: "byMix", title: "by other models", is: "usd" },
  { field: "byRequest", title: "by dearer requests", is: "usd" },
] as const;

/** By the tag "feature", where requests carried one. */
async function features(
  { books, calendar }: PageContext,
  { since, until, before, end }: Spans,
  within: Within,
  isKnown: boolean,
): Promise<Section[]> {
  // Events of then may have left the books: what is compared with nothing looks like growth.
  const keptMs = await readKeptFrom(books.usage);
  const isGone = keptMs !== undefined && calendar.dayStart(before) < keptMs;
  if (isGone || addDays(before, MOST_TAG_DAYS) < until) return [];
  const by: readonly Breakdown[] = ["tag:feature"];
  const read = async (from: string, to: string): Promise<Map<string, SpendRow>> =>
    new Map(
      (await readSpendByTag(books.usage, by, calendar, from, to, within)).map((row) => [
        row.group["tag:feature"] ?? "",
        row,
      ]),
    );
  const [old, now] = [await read(before, end), await read(since, until)];
  const names = [...new Set([...old.keys(), ...now.keys()])];
  if (names.every((name) => name === "")) return [];
  const rows = names
    .map((name) => ({
      name,
      cost0: old.get(name)?.costNanoUsd ?? 0n,
      cost1: now.get(name)?.costNanoUsd ?? 0n,
    }))
    .toSorted((a, b) => bySize(a.cost1 - a.cost0, b.cost1 - b.cost0));
  const [cost0, cost1] = [sum(rows.map((one) => one.cost0)), sum(rows.map((one) => one.cost1))];
  const cells = (one: { readonly cost0: bigint; readonly cost1: bigint }): Cell[] =>
    isKnown ? [usd(one.cost0), usd(one.cost1), change(one.cost1 - one.cost0)] : [undefined, usd(one.cost1), undefined];
  return [
    {
      title: "Features",
      question: "Which feature made the difference?",
      money: "metered",
      table: {
        name: "features",
        columns: [{ field: "feature", title: "Feature", is: "text" }, ...COST_COLUMNS],
        rows: rows.map((one) => [text(one.name === "" ? "(none)" : one.name), ...cells(one)]),
        total: [text("All"), ...cells({ cost0, cost1 })],
        empty: "No request carried a feature.",
      },
    },
  ];
}

const OWN_DATES = [
  { name: "since", label: "from" },
  { name: "until", label: "to" },
  { name: "before", label: "beside the days from" },
] as const;

/** What people compare. `today` is in none but the running month. */
const SPANS: readonly {
  readonly name: string;
  readonly label: string;
  readonly of: (today: string, month: { readonly firstDay: string; readonly endDay: string }) => Spans;
}[] = [
  { name: "1", label: "yesterday and the day before", of: (today) => lastDays(today, 1) },
  { name: "7", label: "the last 7 days and the 7 before", of: (today) => lastDays(today, 7) },
  { name: "28", label: "the last 28 days and the 28 before", of: (today) => lastDays(today, 28) },
  {
    name: "month",
    label: "this month so far and as many days of the last",
    of: (today, { firstDay }) => {
      const until = addDays(today, 1);
      const before = `${addDays(firstDay, -1).slice(0, 7)}-01`;
      const days = daysBetween(firstDay, until);
      const end = addDays(before, days);
      return { since: firstDay, until, before, end: end > firstDay ? firstDay : end };
    },
  },
  {
    name: "lastMonth",
    label: "last month and the one before",
    of: (_today, { firstDay }) => {
      const since = `${addDays(firstDay, -1).slice(0, 7)}-01`;
      return { since, until: firstDay, before: `${addDays(since, -1).slice(0, 7)}-01`, end: since };
    },
  },
  { name: "own", label: "my own dates:", of: (today) => lastDays(today, 7) },
];

function lastDays(today: string, days: number): Spans {
  const since = addDays(today, -days);
  return { since, until: today, before: addDays(since, -days), end: since };
}

function daysBetween(since: string, until: string): number {
  return Math.round((Date.parse(until) - Date.parse(since)) / DAY_MS);
}

/** The spans that were asked for; `problem`: why others are shown. Days that were written down count whatever else is
 *  chosen. */
function chooseSpans(
  context: PageContext,
  query: Query,
): { readonly span: string; readonly spans: Spans; readonly problem?: string } {
  const { today, month } = spansOf(context);
  // The addresses of before named the days alone.
  const asked = query["span"] ?? query["days"] ?? "7";
  const { since = "", until: last = "", before = "" } = query;
  const chosen = SPANS.find(({ name }) => name === asked) ?? SPANS[1];
  if (since === "" && last === "" && before === "")
    return { span: chosen?.name ?? "7", spans: (chosen ?? SPANS[0])?.of(today, month) ?? lastDays(today, 7) };
  const until = isDay(last) ? addDays(last, 1) : "";
  if (!isDay(since) || until === "" || until <= since || (before !== "" && !isDay(before)))
    return {
      span: "own",
      spans: lastDays(today, 7),
      problem:
        "Own dates are two days, the first not after the last, and, if you like, where the other span begins; the last 7 days are shown.",
    };
  const days = daysBetween(since, until);
  const from = before === "" ? addDays(since, -days) : before;
  return { span: "own", spans: { since, until, before: from, end: addDays(from, days) } };
}
