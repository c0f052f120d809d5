// Who spends: the list of users; and one, with keys, models, sessions and the caps that hold. Names stand beside ids here, and
// nowhere in the books' events.
import { isOverridden, memberBudget, placesOf } from "../../ledger/budgets.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { readCaps } from "../../ledger/usage/caps.ts";
import { readPeople } from "../../ledger/usage/people.ts";
import { readSeatPrices } from "../../ledger/usage/seat-prices.ts";
import { readSessions } from "../../ledger/usage/sessions.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import type { SpendSums } from "../../ledger/usage/spend-sums.ts";
import { addDays, DAY_MS } from "../../ledger/windows.ts";
import { capsSection } from "./budgets.ts";
import type { PageContext, Query } from "./builder.ts";
import { daysChart } from "./day-chart.ts";
import { spansOf } from "./days.ts";
import { keysTable } from "./keys.ts";
import { readLately } from "./lately.ts";
import { sessionLink, userCell } from "./links.ts";
import { modelsSection } from "./model-table.ts";
import { outlookFigures, readOutlook } from "./outlook.ts";
import { byCost, leftOut, readTotal, spent, sumUp } from "./sums.ts";
import { count, fine, share, text, time, usd } from "./page.ts";
import type { Cell, Page, Section } from "./page.ts";
import type { Within } from "../../ledger/usage/within.ts";

const CHART_DAYS = 30;
const SESSION_DAYS = 7;
const MOST_SESSIONS = 50;

export async function users(context: PageContext): Promise<Page> {
  const { calendar, nowMs } = context;
  const { month, today } = await readLately(context, "user");
  const people = await readPeople(context.books.usage);
  const seatsOf = await readSeatPrices(context.books.usage, calendar.day(nowMs).slice(0, 7));
  const ids = [...new Set([...month.keys(), ...people.keys()])].filter((id) => id !== "").toSorted(byCost(month));
  return {
    title: "Users",
    days: "local",
    sections: [
      {
        title: "Users",
        question: "Who spends, and how much of it is read from caches?",
        money: "metered",
        table: {
          name: "users",
          columns: [
            { field: "user", title: "User", is: "text" },
            { field: "today", title: "Today", is: "usd" },
            { field: "month", title: "This month", is: "usd" },
            { field: "seats", title: "By subscriptions, worth", is: "usd" },
            { field: "seat_price", title: "Subscription, a month", is: "usd" },
            { field: "requests", title: "Requests this month", is: "count" },
            { field: "cached", title: "Input from caches", is: "share" },
            { field: "id", title: "Id", is: "text", isFolded: true },
          ],
          rows: ids.map((id): Cell[] => [
            userCell(id, people.get(id)),
            spent(today.get(id)),
            spent(month.get(id)),
            seats(month.get(id)),
            seatPrice(seatsOf.get(`user:${id}`)),
            count(month.get(id)?.requests ?? 0),
            cached(month.get(id)),
            text(id),
          ]),
          empty:
            "No user is known. `keymeter keys create --user NAME` makes one; requests name one by x-keymeter-user.",
        },
        notes: [
          ...leftOut(sumUp(ids.map((id) => month.get(id))), "this month"),
          ...(month.has("") ? ["Requests that name nobody are in none of these."] : []),
        ],
      },
    ],
  };
}

export async function user(context: PageContext, { id = "" }: Query): Promise<Page | undefined> {
  const { books, nowMs, calendar } = context;
  const { today, tomorrow, month } = spansOf(context);
  const name = (await readPeople(books.usage)).get(id);
  const within = { user: id };
  const spentThisMonth = await readTotal(context, month.firstDay, month.endDay, within);
  const price = (await readSeatPrices(books.usage, calendar.day(nowMs).slice(0, 7))).get(`user:${id}`);
  const isKnown =
    id !== "" &&
    (name !== undefined ||
      (await readSpend(books.usage, [], "0000-01-01", tomorrow, within)).some(({ requests }) => requests > 0));
  if (!isKnown) return undefined;
  const caps = await readCaps(books.usage, calendar, nowMs, (budget) =>
    isAboutUser(budget.scope.user, id, budget.each),
  );
  const places = placesOf(caps.budgets.map(({ budget }) => budget));
  const own = [
    ...caps.budgets,
    ...caps.rules.flatMap(({ rule, members }) => {
      const cap = memberBudget(rule, id);
      if (isOverridden(cap, places)) return [];
      return [members.find(({ budget }) => budget.id === cap.id) ?? { budget: cap, settledNanoUsd: 0n }];
    }),
  ];
  return {
    title: "User",
    subject: name ?? id,
    days: "local",
    sections: [
      {
        title: "This month",
        question: "What does this user spend?",
        money: "metered",
        figures: [
          { title: "Today", value: spent(await readTotal(context, today, tomorrow, within)), money: "metered" },
          {
            title: "Last 7 days",
            value: spent(await readTotal(context, addDays(today, -7), today, within)),
            money: "metered",
            note: "Whole days up to yesterday.",
          },
          { title: "This month so far", value: spent(spentThisMonth), money: "metered" },
          ...outlookFigures(await readOutlook(context, { scope: "user", id })),
          {
            title: "By subscriptions, worth",
            value: seats(spentThisMonth),
            money: "hypothetical",
            note: "What seats paid for, at the API's prices: in no other figure.",
          },
          {
            title: "Subscription, a month",
            value: seatPrice(price),
            money: "hypothetical",
            note: seatWords(price, spentThisMonth.seatNanoUsd),
          },
          { title: "Input from caches", value: cached(spentThisMonth), money: "none" },
        ],
        chart: await daysChart(context, "model", addDays(tomorrow, -CHART_DAYS), tomorrow, within),
        notes: leftOut(spentThisMonth, "this month"),
      },
      {
        title: "Keys",
        question: "By which keys?",
        money: "metered",
        table: await keysTable(context, within),
      },
      modelsSection(
        await readSpend(books.usage, ["provider", "model"], month.firstDay, month.endDay, within),
        "On which models was it spent this month?",
      ),
      await sessionsSection(context, within),
      await capsSection(context, own, "Which caps hold for this user alone?"),
    ],
  };
}

/** The last sessions of coding agents within a part of what was metered. */
async function sessionsSection({ books, nowMs }: PageContext, within: Within): Promise<Section> {
  const rows = await readSessions(books.usage, nowMs - SESSION_DAYS * DAY_MS, MOST_SESSIONS, within);
  return {
    title: "Sessions",
    question: `Which sessions of coding agents were there in the last ${SESSION_DAYS} days?`,
    money: "metered",
    table: {
      name: "sessions",
      columns: [
        { field: "last", title: "Last request", is: "time" },
        { field: "session", title: "Session", is: "text" },
        { field: "client", title: "Client", is: "text" },
        { field: "requests", title: "Requests", is: "count" },
        { field: "cost", title: "Cost", is: "usd" },
        { field: "seats", title: "By subscriptions, worth", is: "usd" },
        { field: "cached", title: "Input from caches", is: "share" },
      ],
      rows: rows.map((row): Cell[] => [
        time(row.lastMs),
        text(row.session, sessionLink(row.session)),
        text(row.client),
        count(row.requests),
        fine(row.costNanoUsd),
        fine(row.seatNanoUsd),
        cached({ ...row, cacheWrite: 0 }),
      ]),
      empty: "None: Claude Code, Codex and opencode name their sessions; others do by x-keymeter-session.",
    },
    ...(rows.length === MOST_SESSIONS ? { notes: [`The last ${MOST_SESSIONS}; earlier ones are not shown.`] } : {}),
  };
}

/** What subscriptions paid for, at the prices of the API. */
export function seats(sums: Pick<SpendSums, "seatNanoUsd"> | undefined): Cell {
  return usd(sums?.seatNanoUsd ?? 0n);
}

/** What a subscription costs a month; nothing where nobody has entered it. */
function seatPrice(price: NanoUsd | undefined): Cell {
  return price === undefined ? undefined : usd(price);
}

function seatWords(price: NanoUsd | undefined, value: NanoUsd): string {
  if (price === undefined) return "Not entered: `keymeter seats price --user NAME 200`.";
  return `As entered. What it paid for is worth ${(Number((value * 100n) / price) / 100).toFixed(2)} times as much.`;
}

/** Of all input. */
export function cached(sums: Pick<SpendSums, "input" | "cacheRead" | "cacheWrite"> | undefined): Cell {
  return sums && share(sums.cacheRead, sums.input + sums.cacheRead + sums.cacheWrite);
}

function isAboutUser(scopeUser: string | undefined, id: string, each: string | undefined): boolean {
  return scopeUser === id || each === "user";
}
