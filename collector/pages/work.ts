// What the money was spent on: a session of a coding agent, request by request of its agents; and repositories with their
// branches and tickets. All of it from tags, which stand with events.
import { readPeople } from "../../ledger/usage/people.ts";
import { readNames } from "../../ledger/usage/key-use.ts";
import { readSessionParts } from "../../ledger/usage/sessions.ts";
import { readSpendByTag } from "../../ledger/usage/spend.ts";
import { DAY_MS } from "../../ledger/windows.ts";
import type { PageContext, Query } from "./builder.ts";
import { spansOf } from "./days.ts";
import { keyLink, repositoryLink, userCell } from "./links.ts";
import { cached, seats } from "./users.ts";
import { spent, sumUp } from "./sums.ts";
import { count, fine, text, time } from "./page.ts";
import type { Cell, Page } from "./page.ts";

/** A session is looked for so far back. */
const SESSION_DAYS = 31;
const MOST_ROWS = 200;

export async function session({ books, nowMs }: PageContext, { id = "" }: Query): Promise<Page | undefined> {
  const parts = id === "" ? [] : await readSessionParts(books.usage, id, nowMs - SESSION_DAYS * DAY_MS);
  if (parts.length === 0) return undefined;
  const [people, names] = [await readPeople(books.usage), await readNames(books.usage)];
  const all = sumUp(parts);
  const [first, last] = [Math.min(...parts.map((one) => one.firstMs)), Math.max(...parts.map((one) => one.lastMs))];
  return {
    title: "Session",
    subject: id,
    days: "local",
    sections: [
      {
        title: "All of it",
        question: "What did this session cost?",
        money: "metered",
        figures: [
          { title: "Cost", value: fine(all.costNanoUsd), money: "metered" },
          { title: "By subscriptions, worth", value: seats(all), money: "hypothetical" },
          { title: "Requests", value: count(all.requests), money: "none" },
          { title: "Input from caches", value: cached(all), money: "none" },
          { title: "First request", value: time(first), money: "none" },
          { title: "Last request", value: time(last), money: "none" },
        ],
      },
      {
        title: "Agents and models",
        question: "Which agent spent it, and on which model?",
        money: "metered",
        table: {
          name: "agents",
          columns: [
            { field: "agent", title: "Agent", is: "text" },
            { field: "client", title: "Client", is: "text" },
            { field: "model", title: "Model", is: "text" },
            { field: "user", title: "User", is: "text" },
            { field: "key", title: "Key", is: "text" },
            { field: "requests", title: "Requests", is: "count" },
            { field: "cost", title: "Cost", is: "usd" },
            { field: "output", title: "Output tokens", is: "count" },
            { field: "cached", title: "Input from caches", is: "share" },
          ],
          rows: parts
            .slice(0, MOST_ROWS)
            .map((part): Cell[] => [
              text(part.agent === "" ? "(the session itself)" : part.agent),
              text(part.client),
              text(part.model),
              part.user === "" ? undefined : userCell(part.user, people.get(part.user)),
              text(names.get(part.keyId) ?? part.keyId, keyLink(part.keyId)),
              count(part.requests),
              fine(part.costNanoUsd),
              count(part.output),
              cached(part),
            ]),
          empty: "",
        },
      },
    ],
  };
}

export async function repositories(context: PageContext): Promise<Page> {
  const { calendar, books } = context;
  const { month } = spansOf(context);
  const rows = await readSpendByTag(books.usage, ["tag:repo"], calendar, month.firstDay, month.endDay);
  const named = rows.filter(({ group }) => group["tag:repo"] !== "");
  return {
    title: "Repositories",
    days: "local",
    sections: [
      {
        title: "Repositories",
        question: "On which repositories was this month's money spent?",
        money: "metered",
        table: {
          name: "repositories",
          columns: [
            { field: "repository", title: "Repository", is: "text" },
            { field: "cost", title: "This month", is: "usd" },
            { field: "seats", title: "By subscriptions, worth", is: "usd" },
            { field: "requests", title: "Requests", is: "count" },
            { field: "cached", title: "Input from caches", is: "share" },
          ],
          rows: named
            .slice(0, MOST_ROWS)
            .map((row): Cell[] => [
              text(row.group["tag:repo"] ?? "", repositoryLink(row.group["tag:repo"] ?? "")),
              spent(row),
              seats(row),
              count(row.requests),
              cached(row),
            ]),
          total: [
            text("All"),
            spent(sumUp(named)),
            seats(sumUp(named)),
            count(sumUp(named).requests),
            cached(sumUp(named)),
          ],
          empty:
            "No request named one. `keymeter run claude` sends repository, branch and ticket; so does any client, by x-keymeter-repo.",
        },
        ...(named.length > MOST_ROWS ? { notes: [`The ${MOST_ROWS} dearest of ${named.length}.`] } : {}),
      },
    ],
  };
}

export async function repository(context: PageContext, { id = "" }: Query): Promise<Page | undefined> {
  const { calendar, books } = context;
  const { month } = spansOf(context);
  const by = ["tag:repo", "tag:branch", "tag:ticket", "user"] as const;
  const all = await readSpendByTag(books.usage, by, calendar, month.firstDay, month.endDay);
  const rows = all.filter(({ group }) => id !== "" && group["tag:repo"] === id);
  if (rows.length === 0) return undefined;
  const people = await readPeople(books.usage);
  return {
    title: "Repository",
    subject: id,
    days: "local",
    sections: [
      {
        title: "Branches",
        question: "On which branches and tickets was this month's money spent, and by whom?",
        money: "metered",
        table: {
          name: "branches",
          columns: [
            { field: "branch", title: "Branch", is: "text" },
            { field: "ticket", title: "Ticket", is: "text" },
            { field: "user", title: "User", is: "text" },
            { field: "cost", title: "This month", is: "usd" },
            { field: "seats", title: "By subscriptions, worth", is: "usd" },
            { field: "requests", title: "Requests", is: "count" },
            { field: "cached", title: "Input from caches", is: "share" },
          ],
          rows: rows
            .slice(0, MOST_ROWS)
            .map((row): Cell[] => [
              text(row.group["tag:branch"] || "(no branch)"),
              text(row.group["tag:ticket"] ?? ""),
              row.group.user ? userCell(row.group.user, people.get(row.group.user)) : undefined,
              fine(row.costNanoUsd),
              seats(row),
              count(row.requests),
              cached(row),
            ]),
          total: [
            text("All"),
            text(""),
            text(""),
            fine(sumUp(rows).costNanoUsd),
            seats(sumUp(rows)),
            count(sumUp(rows).requests),
            cached(sumUp(rows)),
          ],
          empty: "",
        },
        notes: [
          "`keymeter report pr --repo R --branch B` prints a branch as a comment.",
          ...(rows.length > MOST_ROWS ? [`The ${MOST_ROWS} dearest of ${rows.length}.`] : []),
        ],
      },
    ],
  };
}
