// All keys, by what they cost this month; and all teams.
import { readKeys, UNPROVEN_KEY_ID } from "../../ledger/keys.ts";
import type { Key } from "../../ledger/keys.ts";
import { readLastUsed, readSpend } from "../../ledger/spend.ts";
import type { Within } from "../../ledger/spend.ts";
import { addDays } from "../../ledger/windows.ts";
import { byValue, keyLink, spansOf, teamCell } from "./context.ts";
import type { PageContext, Query } from "./context.ts";
import { change, count, sum, text, time, usd } from "./page.ts";
import type { Cell, Page, Table } from "./page.ts";

export async function keys(context: PageContext, query: Query): Promise<Page> {
  const wanted = (query["q"] ?? "").trim().toLowerCase();
  const { month } = spansOf(context);
  const table = await keysTable(context, {}, (key) =>
    [key.name, key.id, key.team, key.project, key.env, key.owner, key.hint].some((part) =>
      part.toLowerCase().includes(wanted),
    ),
  );
  return {
    title: "Keys",
    controls: [{ name: "q", label: "Name, team, project, owner or last characters", value: query["q"] ?? "" }],
    focus: { since: month.firstDay, until: month.endDay },
    sections: [
      { title: "Keys", question: "Which keys cost most this month, and whose are they?", money: "metered", table },
    ],
  };
}

/** Keys that were used this month, or exist, the dearest first; of what lies `within`, of those that were used there only. */
export async function keysTable(
  context: PageContext,
  within: Within,
  isWanted: (key: Key) => boolean = () => true,
): Promise<Table> {
  const { usage } = context.books;
  const { today, tomorrow, month } = spansOf(context);
  const read = async (since: string, until: string): Promise<ReturnType<typeof byValue>> =>
    byValue(await readSpend(usage, ["key"], since, until, within), "key");
  const [ofMonth, ofDay, ofWeek, before] = [
    await read(month.firstDay, month.endDay),
    await read(today, tomorrow),
    await read(addDays(today, -7), today),
    await read(addDays(today, -14), addDays(today, -7)),
  ];
  const used = await readLastUsed(usage);
  // What no provider has accepted is a row of its own, and of no interest while there is nothing in it.
  const all = (await readKeys(usage)).keys.filter(({ id }) => id !== UNPROVEN_KEY_ID || used.has(id));
  const known = new Set(all.map(({ id }) => id));
  // Spend of a key that the register does not know is spend all the same: "unproven" is one.
  const strays = [...ofMonth.keys()].filter((id) => !known.has(id)).map((id) => stray(id));
  const isWithin = Object.keys(within).length > 0;
  const listed = [...all, ...strays]
    .filter((key) => isWanted(key) && (!isWithin || [ofMonth, ofWeek, before].some((map) => map.has(key.id))))
    .map((key) => ({ key, cost: ofMonth.get(key.id)?.costNanoUsd ?? 0n }))
    .toSorted((a, b) => Number(b.cost - a.cost));
  const costs = (map: typeof ofMonth): bigint => sum(listed.map(({ key }) => map.get(key.id)?.costNanoUsd ?? 0n));
  return {
    name: "keys",
    columns: [
      { field: "key", title: "Key", is: "text" },
      { field: "team", title: "Team", is: "text" },
      { field: "owner", title: "Owner", is: "text" },
      { field: "today", title: "Today", is: "usd" },
      { field: "month", title: "This month", is: "usd" },
      { field: "requests", title: "Requests", is: "count" },
      { field: "lastSevenDays", title: "Last 7 days", is: "usd" },
      { field: "more", title: "More than the 7 before", is: "usd" },
      { field: "used", title: "Last used (hour)", is: "time" },
      { field: "state", title: "State", is: "text" },
    ],
    rows: listed.map(({ key, cost }): Cell[] => {
      const of = (map: typeof ofMonth): bigint => map.get(key.id)?.costNanoUsd ?? 0n;
      return [
        text(key.name, keyLink(key.id)),
        teamCell(key.team),
        text(key.owner),
        usd(of(ofDay)),
        usd(cost),
        count(ofMonth.get(key.id)?.requests ?? 0),
        usd(of(ofWeek)),
        change(of(ofWeek) - of(before)),
        time(used.get(key.id)),
        text(key.state),
      ];
    }),
    total: [
      text("All"),
      text(""),
      text(""),
      usd(costs(ofDay)),
      usd(sum(listed.map(({ cost }) => cost))),
      count(listed.reduce((total, { key }) => total + (ofMonth.get(key.id)?.requests ?? 0), 0)),
      usd(costs(ofWeek)),
      change(costs(ofWeek) - costs(before)),
      text(""),
      text(""),
    ],
    empty: "No key fits.",
  };
}

function stray(id: string): Key {
  return {
    id,
    kind: "fingerprint",
    provider: undefined,
    name: id,
    team: "",
    project: "",
    env: "",
    owner: "",
    state: "active",
    hint: "",
    createdAtMs: 0,
    expiresAtMs: undefined,
    purpose: "",
    policy: {},
  };
}
