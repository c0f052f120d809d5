// All keys, by what they cost this month.
import { readPeople } from "../../ledger/usage/people.ts";
import { UNPROVEN_KEY_ID } from "../../ledger/usage/keys.ts";
import { onlyTeamOf, seesTeam } from "../../ledger/usage/seen.ts";
import { readKeys } from "../../ledger/usage/read-keys.ts";
import type { Key } from "../../ledger/usage/keys.ts";
import { readLastUsed } from "../../ledger/usage/key-use.ts";
import type { SpendSums } from "../../ledger/usage/spend-sums.ts";
import type { Within } from "../../ledger/usage/within.ts";
import type { PageContext, Query } from "./builder.ts";
import { spansOf } from "./days.ts";
import { readLately } from "./lately.ts";
import { keyLink, teamCell } from "./links.ts";
import { byCost, leftOut, readTotal, spent, sumUp } from "./sums.ts";
import { count, text, time } from "./page.ts";
import type { Cell, Page, Table } from "./page.ts";

export async function keys(context: PageContext, query: Query): Promise<Page> {
  const wanted = (query["q"] ?? "").trim().toLowerCase();
  const { month } = spansOf(context);
  const people = await readPeople(context.books.usage);
  const own = onlyTeamOf(context.holder);
  const table = await keysTable(
    context,
    {},
    (key) =>
      seesTeam(context.holder, key.team) &&
      [key.name, key.id, key.team, key.project, key.env, people.get(key.user ?? ""), key.hint].some((part = "") =>
        part.toLowerCase().includes(wanted),
      ),
  );
  return {
    title: "Keys",
    days: "local",
    controls: [{ name: "q", label: "Name, team, project, user or last characters", value: query["q"] ?? "" }],
    focus: { since: month.firstDay, until: month.endDay, ...(own === undefined ? {} : { team: own }) },
    sections: [
      {
        title: "Keys",
        question: "Which keys cost most this month, and whose are they?",
        money: "metered",
        table,
        notes: leftOut(
          await readTotal(context, month.firstDay, month.endDay, own === undefined ? {} : { team: own }),
          "this month",
        ),
      },
    ],
  };
}

/** A key, as far as the register knows it. */
type Listed = Pick<Key, "id" | "name"> & Partial<Pick<Key, "team" | "project" | "env" | "user" | "hint" | "state">>;

/** Keys that were used this month, or exist, the dearest first; of what lies `within`, of those that were used there
 *  only. */
export async function keysTable(
  context: PageContext,
  within: Within,
  isWanted: (key: Listed) => boolean = () => true,
): Promise<Table> {
  const { usage } = context.books;
  const { month, today, week, weekBefore, more } = await readLately(context, "key", within);
  const used = await readLastUsed(usage);
  const people = await readPeople(usage);
  // What no provider has accepted is a row of its own, and of no interest while there is nothing in it.
  const registered = (await readKeys(usage)).keys.filter(({ id }) => id !== UNPROVEN_KEY_ID || used.has(id));
  const ids = new Set(registered.map(({ id }) => id));
  // Spend of a key that the register does not know is spend all the same; whose it is, is not known.
  const strays = [...month.keys()].filter((id) => !ids.has(id)).map((id): Listed => ({ id, name: id }));
  const isWithin = Object.keys(within).length > 0;
  const listed = [...registered, ...strays]
    .filter((key) => isWanted(key) && (!isWithin || [month, week, weekBefore].some((map) => map.has(key.id))))
    .toSorted((a, b) => byCost(month)(a.id, b.id));
  const all = (costs: typeof month): SpendSums => sumUp(listed.map(({ id }) => costs.get(id)));
  return {
    name: "keys",
    columns: [
      { field: "key", title: "Key", is: "text" },
      { field: "team", title: "Team", is: "text" },
      { field: "user", title: "User", is: "text" },
      { field: "today", title: "Today", is: "usd" },
      { field: "month", title: "This month", is: "usd" },
      { field: "requests", title: "Requests", is: "count" },
      { field: "lastSevenDays", title: "Last 7 days", is: "usd" },
      { field: "more", title: "Against the 7 before", is: "usd" },
      { field: "used", title: "Last used (hour)", is: "time" },
      { field: "state", title: "State", is: "text" },
    ],
    rows: listed.map((key): Cell[] => [
      text(key.name, keyLink(key.id)),
      key.team === undefined ? undefined : teamCell(key.team),
      key.user === undefined ? undefined : text(people.get(key.user) ?? key.user),
      spent(today.get(key.id)),
      spent(month.get(key.id)),
      count(month.get(key.id)?.requests ?? 0),
      spent(week.get(key.id)),
      more([key.id]),
      time(used.get(key.id)),
      key.state === undefined ? undefined : text(key.state),
    ]),
    total: [
      text("All"),
      text(""),
      text(""),
      spent(all(today)),
      spent(all(month)),
      count(all(month).requests),
      spent(all(week)),
      more(listed.map(({ id }) => id)),
      text(""),
      text(""),
    ],
    empty: "No key fits.",
  };
}
