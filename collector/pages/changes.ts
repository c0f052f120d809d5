// What changed: the last whole days beside as many before them, by team and by key, and why.
import { readKeyNames, readSpend } from "../../ledger/spend.ts";
import type { Dimension, SpendRow } from "../../ledger/spend.ts";
import { addDays } from "../../ledger/windows.ts";
import { costOf, effects } from "../effects.ts";
import type { ModelSpend } from "../effects.ts";
import { keyLink, leftOut, readTotal, spansOf, sumUp, teamCell } from "./context.ts";
import type { PageContext, Query } from "./context.ts";
import { bySize, change, sum, text, usd } from "./page.ts";
import type { Cell, Page, Section, Value } from "./page.ts";

const SPANS = ["1", "7", "28"];

export async function changes(context: PageContext, query: Query): Promise<Page> {
  const days = Number(SPANS.includes(query["days"] ?? "") ? query["days"] : "7");
  const { today } = spansOf(context);
  const [since, before] = [addDays(today, -days), addDays(today, -2 * days)];
  const names = await readKeyNames(context.books.usage);
  const words = `${since} to ${addDays(today, -1)} beside ${before} to ${addDays(since, -1)}`;
  const section = async (
    by: Dimension,
    title: string,
    question: string,
    nameOf: (id: string) => Value,
  ): Promise<Section> => {
    const read = async (from: string, until: string): Promise<Map<string, ModelSpend[]>> =>
      byModels(await readSpend(context.books.usage, [by, "provider", "model"], from, until), by);
    const [old, now] = [await read(before, since), await read(since, today)];
    const rows = [...new Set([...old.keys(), ...now.keys()])]
      .map((id) => {
        const [was, is] = [old.get(id) ?? [], now.get(id) ?? []];
        const [cost0, cost1] = [costOf(was), costOf(is)];
        return { id, cost0, cost1, more: cost1 - cost0, why: effects(was, is) };
      })
      .toSorted((a, b) => bySize(a.more, b.more));
    return {
      title,
      question,
      money: "metered",
      table: {
        name: `${by}s`,
        columns: [
          { field: by, title: by === "team" ? "Team" : "Key", is: "text" },
          { field: "before", title: "Before", is: "usd" },
          { field: "now", title: "Now", is: "usd" },
          { field: "more", title: "More", is: "usd" },
          { field: "byVolume", title: "by more requests", is: "usd" },
          { field: "byMix", title: "by other models", is: "usd" },
          { field: "byRequest", title: "by dearer requests", is: "usd" },
        ],
        rows: rows.map(({ id, cost0, cost1, more, why }): Cell[] => [
          nameOf(id),
          usd(cost0),
          usd(cost1),
          change(more),
          change(why.volumeNanoUsd),
          change(why.mixNanoUsd),
          change(why.requestNanoUsd),
        ]),
        total: [
          text("All"),
          usd(sum(rows.map(({ cost0 }) => cost0))),
          usd(sum(rows.map(({ cost1 }) => cost1))),
          change(sum(rows.map(({ more }) => more))),
          change(sum(rows.map(({ why }) => why.volumeNanoUsd))),
          change(sum(rows.map(({ why }) => why.mixNanoUsd))),
          change(sum(rows.map(({ why }) => why.requestNanoUsd))),
        ],
        empty: "Nothing was spent in either span.",
      },
    };
  };
  const both = [await readTotal(context, before, since), await readTotal(context, since, today)];
  return {
    title: "What changed",
    days: "local",
    subject: words,
    controls: [
      {
        name: "days",
        label: "Compare",
        value: String(days),
        options: [
          { value: "1", label: "yesterday and the day before" },
          { value: "7", label: "the last 7 days and the 7 before" },
          { value: "28", label: "the last 28 days and the 28 before" },
        ],
      },
    ],
    sections: [
      await section("team", "Teams", "Which team made the difference?", teamCell),
      {
        ...(await section("key", "Keys", "Which key made the difference?", (id) =>
          text(names.get(id) ?? id, keyLink(id)),
        )),
        notes: [
          "The three reasons add up to the difference. More requests: at what a request cost before. Other models: requests that moved to dearer or cheaper ones. Dearer requests: longer, less cached, or at another price.",
          "Today is not in it: it is not over.",
          ...leftOut(sumUp(both), "both spans"),
        ],
      },
    ],
  };
}

function byModels(rows: readonly SpendRow[], by: Dimension): Map<string, ModelSpend[]> {
  const models = new Map<string, ModelSpend[]>();
  for (const { group, requests, costNanoUsd } of rows) {
    const id = group[by] ?? "";
    const list = models.get(id) ?? [];
    list.push({ model: `${group.provider} ${group.model}`, requests, costNanoUsd });
    models.set(id, list);
  }
  return models;
}
