// One key: whose it is, what it costs, its last requests, its caps, and what was said of it.
import { readPeople } from "../../ledger/usage/people.ts";
import { readLastEvents } from "../../ledger/usage/outcomes.ts";
import { UNPROVEN_KEY_ID } from "../../ledger/usage/keys.ts";
import { onlyTeamOf, seesTeam } from "../../ledger/usage/seen.ts";
import { readKeys } from "../../ledger/usage/read-keys.ts";
import { isAttemptId, readAttemptId } from "../../ledger/ids.ts";
import { readNoticesAbout } from "../../ledger/notices/notices.ts";
import type { Notice } from "../../ledger/notices/notices.ts";
import { openNotices } from "../../ledger/open.ts";
import { findLastUsed } from "../../ledger/usage/key-use.ts";
import { readRefused } from "../../ledger/usage/refused.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import type { Usage } from "../../ledger/usage.ts";
import { addDays, DAY_MS } from "../../ledger/windows.ts";
import { capsSection, seenCapsOf } from "./budgets.ts";
import type { PageContext, Query } from "./builder.ts";
import { daysChart } from "./day-chart.ts";
import { spansOf } from "./days.ts";
import { teamCell } from "./links.ts";
import { keyActions } from "./manage.ts";
import { modelsSection } from "./model-table.ts";
import { outlookFigures, readOutlook } from "./outlook.ts";
import { leftOut, readTotal, spent } from "./sums.ts";
import { count, fine, seconds, text, time } from "./page.ts";
import type { Cell, Figure, Page, Section } from "./page.ts";

const CHART_DAYS = 30;
const MOST_REQUESTS = 50;
const KINDS = { fingerprint: "a provider's own key, seen in passing", virtual: "a Keymeter key" } as const;

export async function key(context: PageContext, query: Query): Promise<Page | undefined> {
  const { books, nowMs } = context;
  const id = query["id"] ?? "";
  const found = (await readKeys(books.usage)).keys.find((one) => one.id === id);
  const used = await findLastUsed(books.usage, id);
  if (!found && used === undefined) return undefined;
  const { today, tomorrow, month } = spansOf(context);
  // A key may have come from another team: what it did there is not this lead's.
  const only = onlyTeamOf(context.holder);
  const within = { key: id, ...(only === undefined ? {} : { team: only }) };
  const outlook = await readOutlook(context, { scope: "key", id });
  const spentThisMonth = await readTotal(context, month.firstDay, month.endDay, within);
  const refused = (await readRefused(books.usage, nowMs - 7 * DAY_MS, nowMs + 60_000)).filter(
    ({ keyId }) => keyId === id,
  );
  const word = (title: string, words: string): Figure => ({
    title,
    value: words === "" ? undefined : text(words),
    money: "none",
  });
  return {
    title: "Key",
    subject: found?.name ?? id,
    days: "local",
    focus: { since: month.firstDay, until: month.endDay, key: id },
    sections: [
      {
        title: "Whose it is",
        question: "Who answers for this key?",
        money: "none",
        figures: [
          { title: "Team", value: found ? teamCell(found.team) : undefined, money: "none" },
          word("Project", found?.project ?? ""),
          word("Environment", found?.env ?? ""),
          word("User", (await readPeople(books.usage)).get(found?.user ?? "") ?? ""),
          word("Purpose", found?.purpose ?? ""),
          word("State", id === UNPROVEN_KEY_ID ? "keys that no provider has accepted yet" : (found?.state ?? "")),
          word("Kind", found ? KINDS[found.kind] : ""),
          word("Last characters", found?.hint ?? ""),
          { title: "Made", value: time(found?.createdAtMs), money: "none" },
          { title: "Last used (hour)", value: time(used), money: "none" },
        ],
      },
      ...(found && id !== UNPROVEN_KEY_ID ? keyActions(context, found) : []),
      {
        title: "Spend",
        question: "What does it cost?",
        money: "metered",
        figures: [
          { title: "Today", value: spent(await readTotal(context, today, tomorrow, within)), money: "metered" },
          {
            title: "Last 7 days",
            value: spent(await readTotal(context, addDays(today, -7), today, within)),
            money: "metered",
            note: "Whole days up to yesterday.",
          },
          {
            title: "This month so far",
            value: spent(spentThisMonth),
            money: "metered",
          },
          ...outlookFigures(outlook),
        ],
        chart: await daysChart(context, "model", addDays(tomorrow, -CHART_DAYS), tomorrow, within),
        notes: leftOut(spentThisMonth, "this month"),
      },
      modelsSection(
        await readSpend(books.usage, ["provider", "model"], month.firstDay, month.endDay, within),
        "On which models was it spent this month?",
      ),
      await capsSection(
        context,
        await seenCapsOf(context, found ?? { id, team: "", project: "", env: "", user: "", policy: {} }),
        "Which caps and budgets hold for this key?",
      ),
      refusedSection(refused),
      await requestsSection(context, id, query),
      // By its name, which a lead may choose, others would be found too.
      await noticesSection(context, id, only === undefined ? found?.name : undefined),
    ],
  };
}

function refusedSection(
  refused: readonly { reason: string; budgetId: string; observed: boolean; count: number; lastMinuteMs: number }[],
): Section {
  return {
    title: "Refused",
    question: "Was it refused in the last seven days, and why?",
    money: "none",
    table: {
      name: "refused",
      columns: [
        { field: "reason", title: "Why", is: "text" },
        { field: "budget", title: "Budget", is: "text" },
        { field: "requests", title: "Requests", is: "count" },
        { field: "last", title: "Last (minute)", is: "time" },
        { field: "effect", title: "Refused", is: "text" },
      ],
      rows: refused.map((row) => [
        text(row.reason.replaceAll("_", " ")),
        text(row.budgetId),
        count(row.count),
        time(row.lastMinuteMs),
        text(row.observed ? "no: only observed" : "yes"),
      ]),
      empty: "Nothing was refused.",
    },
  };
}

/** The newest requests, or those before an instant. */
async function requestsSection({ books, holder }: PageContext, id: string, query: Query): Promise<Section> {
  const asked = query["before"] ?? "";
  const before = isAttemptId(asked) ? readAttemptId(asked) : undefined;
  const all = await readLastEvents(books.usage, id, MOST_REQUESTS, before);
  const requests = all.filter(({ team }) => seesTeam(holder, team));
  const oldest = all.at(-1)?.attemptId;
  return {
    title: before === undefined ? "Last requests" : `Requests before ${asked}`,
    question: "What was it used for lately?",
    money: "metered",
    table: {
      name: "requests",
      columns: [
        { field: "at", title: "Time", is: "time" },
        { field: "model", title: "Model", is: "text" },
        { field: "inputTokens", title: "Input", is: "count" },
        { field: "cacheReadTokens", title: "Cache read", is: "count" },
        { field: "cacheWriteTokens", title: "Cache write", is: "count" },
        { field: "outputTokens", title: "Output", is: "count" },
        { field: "cost", title: "Cost", is: "usd" },
        { field: "usage", title: "Usage", is: "text" },
        { field: "outcome", title: "Outcome", is: "text" },
        { field: "status", title: "HTTP", is: "count" },
        { field: "duration", title: "Took", is: "seconds" },
        { field: "price", title: "Price version", is: "text", isFolded: true },
        { field: "request", title: "Request", is: "text" },
      ],
      rows: requests.map((one): Cell[] => [
        time(Date.parse(one.at)),
        text(one.servedModel ?? one.requestedModel),
        ...tokens(one.usage),
        fine(one.bookedNanoUsd),
        text(one.usageState),
        text(one.outcome.replaceAll("_", " ")),
        one.httpStatus === null ? undefined : count(one.httpStatus),
        seconds(one.durationMs ?? undefined),
        text(one.priceVersion ?? ""),
        text(one.requestId),
      ]),
      empty: "No request is kept.",
    },
    ...(all.length === MOST_REQUESTS && oldest !== undefined
      ? {
          figures: [
            {
              title: "Older ones",
              value: text("Requests before these", { page: "key", query: { id, before: oldest } }),
              money: "none" as const,
            },
          ],
        }
      : {}),
  };
}

/** Input, cache read, cache write and output; not known where an answer said nothing of its usage. */
function tokens(usage: Usage): Cell[] {
  if (Object.keys(usage).length === 0) return [undefined, undefined, undefined, undefined];
  return [
    count(usage.input ?? 0),
    count(usage.cache_read ?? 0),
    count(
      (usage.cache_write_5m ?? 0) +
        (usage.cache_write_1h ?? 0) +
        (usage.cache_write_30m ?? 0) +
        (usage.cache_write_12h ?? 0),
    ),
    count(usage.output ?? 0),
  ];
}

/** Messages that named the key: alerts, and what came of them. */
async function noticesSection({ place, nowMs }: PageContext, id: string, name: string | undefined): Promise<Section> {
  let notices: Notice[] = [];
  let trouble = "";
  try {
    const books = await openNotices(place);
    try {
      if (books)
        notices = await readNoticesAbout(books, [id, ...(name === undefined ? [] : [name])], nowMs - 28 * DAY_MS);
    } finally {
      await books?.close();
    }
  } catch (error) {
    trouble = error instanceof Error ? error.message : String(error);
  }
  return {
    title: "Alerts",
    question: "Which messages of the last four weeks named it?",
    money: "none",
    table: {
      name: "alerts",
      columns: [
        { field: "posted", title: "Said", is: "time" },
        { field: "text", title: "What", is: "text" },
        { field: "severity", title: "Severity", is: "text" },
        { field: "state", title: "State", is: "text" },
      ],
      rows: notices.map((one) => [time(one.postedAtMs), text(one.text), text(one.severity), text(one.state)]),
      empty: trouble === "" ? "None." : `Not known: the messages could not be read (${trouble}).`,
    },
  };
}
