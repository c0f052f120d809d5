// Models beside each other: what each costs per request and per token, how well it caches, how it ends, how fast it
// answers; and what the same traffic would have cost on another one.
import { readOutcomes, readSpeeds } from "../../ledger/usage/outcomes.ts";
import { cost } from "../../ledger/cost.ts";
import { scale } from "../../ledger/money.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import type { SpendRow, SpendSums } from "../../ledger/usage/spend-sums.ts";
import type { Price } from "../../ledger/prices/price-book.ts";
import { DAY_MS } from "../../ledger/windows.ts";
import { beforeSections } from "./before.ts";
import type { PageContext, Query } from "./builder.ts";
import { chooseDays, spansOf } from "./days.ts";
import { knownCost, pricedRequests, spent, sumUp } from "./sums.ts";
import { change, count, fine, seconds, share, sum, text, usd } from "./page.ts";
import type { Cell, Page, Section } from "./page.ts";

const SPANS = ["7", "28", "90"];
/** Spans in which single events are looked at: speeds, and money by outcome. */
const EVENT_DAYS = 7;
const MOST_TIMED = 20_000;
const MILLION = 1_000_000n;
export async function models(context: PageContext, query: Query): Promise<Page> {
  const { books, nowMs } = context;
  const { since, until, words, controls, notes } = chooseDays(query, SPANS, "28", spansOf(context).tomorrow);
  const rows = await readSpend(books.usage, ["provider", "model"], since, until);
  const nameOf = (row: SpendRow): string => `${row.group.provider}/${row.group.model}`;
  const on = rows.find((row) => nameOf(row) === query["on"]) ?? rows[0];
  const sinceMs = nowMs - EVENT_DAYS * DAY_MS;
  const speeds = new Map(
    (await readSpeeds(books.usage, sinceMs, nowMs, MOST_TIMED)).map((one) => [`${one.provider}/${one.model}`, one]),
  );
  const outcomes = Map.groupBy(
    await readOutcomes(books.usage, sinceMs, nowMs),
    ({ provider, model }) => `${provider}/${model}`,
  );
  return {
    title: "Models",
    days: "local",
    controls: [
      ...controls,
      {
        name: "on",
        label: "Reprice all on",
        value: on ? nameOf(on) : "",
        options: rows.map((row) => ({ value: nameOf(row), label: nameOf(row) })),
      },
    ],
    focus: { since, until },
    sections: [
      {
        title: "Side by side",
        question: "What does a request, and a million tokens, cost on each model?",
        money: "metered",
        table: {
          name: "models",
          columns: [
            { field: "model", title: "Model", is: "text" },
            { field: "provider", title: "Provider", is: "text" },
            { field: "requests", title: "Requests", is: "count" },
            { field: "cost", title: "Cost", is: "usd" },
            { field: "perRequest", title: "Per request", is: "usd" },
            { field: "perMillionTokens", title: "Per million tokens of all classes", is: "usd" },
            { field: "cacheRead", title: "Input read from cache", is: "share" },
            { field: "outputPart", title: "Output of all tokens", is: "share" },
            { field: "unpriced", title: "Without a price", is: "count" },
          ],
          rows: rows.map((row): Cell[] => {
            const input = row.input + row.cacheRead + row.cacheWrite;
            const tokens = input + row.output;
            return [
              text(row.group.model ?? ""),
              text(row.group.provider ?? ""),
              count(row.requests),
              spent(row),
              fine(perRequest(row)),
              // Tokens of requests without a price cannot be told from the others: then there is no true quotient.
              fine(tokens === 0 || isPartly(row) ? undefined : scale(row.costNanoUsd, MILLION, BigInt(tokens))),
              share(row.cacheRead, input),
              share(row.output, tokens),
              count(row.unpriced),
            ];
          }),
          total: [
            text("All"),
            text(""),
            count(sumUp(rows).requests),
            spent(sumUp(rows)),
            text(""),
            text(""),
            text(""),
            text(""),
            count(sumUp(rows).unpriced),
          ],
          empty: "Nothing was used in these days.",
        },
        notes,
      },
      repriced(context, rows, on),
      {
        title: "How it ends",
        question: "How much goes to requests that failed, and how fast do models answer?",
        money: "metered",
        table: {
          name: "outcomes",
          columns: [
            { field: "model", title: "Model", is: "text" },
            { field: "requests", title: "Requests", is: "count" },
            { field: "failed", title: "Not complete", is: "share" },
            { field: "failedCost", title: "Cost of these", is: "usd" },
            { field: "firstByteMedian", title: "First byte, median", is: "seconds" },
            { field: "firstByte95", title: "First byte, 95th percentile", is: "seconds" },
          ],
          rows: [...outcomes].map(([name, group]): Cell[] => {
            const requests = group.reduce((all, one) => all + one.requests, 0);
            const failed = group.filter(({ outcome }) => outcome !== "complete");
            const speed = speeds.get(name);
            return [
              text(name),
              count(requests),
              share(
                failed.reduce((all, one) => all + one.requests, 0),
                requests,
              ),
              usd(sum(failed.map((one) => one.costNanoUsd))),
              seconds(speed?.p50),
              seconds(speed?.p95),
            ];
          }),
          empty: `No request in the last ${EVENT_DAYS} days.`,
        },
        notes: [
          `Of the last ${EVENT_DAYS} days; speeds of the newest ${MOST_TIMED.toLocaleString("en-US")} complete requests.`,
        ],
      },
      ...(await beforeSections(context, [{ field: "cost", title: `Cost, ${words}`, since, until }], ["model"], (by) =>
        readSpend(books.usage, [by], since, until),
      )),
    ],
  };
}

/** The same tokens at another model's list prices of today. */
function repriced(
  { prices, stated, nowMs }: PageContext,
  rows: readonly SpendRow[],
  on: SpendRow | undefined,
): Section {
  const provider = on?.group.provider ?? "";
  const model = on?.group.model ?? "";
  const price = on && prices.find(stated.providers.priceListOf(provider, model), model, nowMs);
  const answers = rows.map((row) => {
    return { row, there: price && !isPartly(row) ? repricedCost(row, price) : undefined };
  });
  const known = answers.flatMap(({ row, there }) => (there === undefined ? [] : [{ row, there }]));
  return {
    title: "The same traffic on another model",
    question: on
      ? `What would these tokens cost on ${model} of ${provider}?`
      : "What would these tokens cost on another model?",
    money: "hypothetical",
    table: {
      name: "repriced",
      columns: [
        { field: "model", title: "Used", is: "text" },
        { field: "provider", title: "Provider", is: "text" },
        { field: "cost", title: "Metered", is: "usd" },
        { field: "there", title: `On ${model}`, is: "usd" },
        { field: "more", title: "More", is: "usd" },
      ],
      rows: answers.map(({ row, there }): Cell[] => [
        text(row.group.model ?? ""),
        text(row.group.provider ?? ""),
        spent(row),
        usd(there),
        there === undefined ? undefined : change(there - row.costNanoUsd),
      ]),
      total: [
        text("All that can be repriced"),
        text(""),
        usd(sum(known.map(({ row }) => row.costNanoUsd))),
        usd(sum(known.map(({ there }) => there))),
        change(sum(known.map(({ row, there }) => there - row.costNanoUsd))),
      ],
      empty: "Nothing was used in these days.",
    },
    notes: [
      ...(known.length < answers.length
        ? [
            `${answers.length - known.length} of ${answers.length} models are left out: ${price ? "some of their requests have no known cost to compare with" : `${model} has no list price`}.`,
          ]
        : []),
      "Tokens by class at the other model's price of today, short context, without tiers, fees, pictures and sound. Models count tokens differently and answer at other lengths: this says what prices do, not what a move would bring.",
    ],
  };
}

/** Tokens at a price: a class that it does not price on its own is input. */
function repricedCost(row: SpendSums, price: Price): NanoUsd | undefined {
  const [hasRead, hasWrite] = [price.units.cache_read !== undefined, price.units.cache_write_5m !== undefined];
  const usage = {
    input: row.input + (hasRead ? 0 : row.cacheRead) + (hasWrite ? 0 : row.cacheWrite),
    ...(hasRead ? { cache_read: row.cacheRead } : {}),
    ...(hasWrite ? { cache_write_5m: row.cacheWrite } : {}),
    output: row.output,
  };
  // A price that goes by the length of the context cannot be told from sums: the one for short ones is taken.
  return cost(usage, price, 0).costNanoUsd;
}

/** What a request costs that has a known cost. */
function perRequest(row: SpendSums): NanoUsd | undefined {
  const priced = pricedRequests(row);
  return priced <= 0 || knownCost(row) === undefined ? undefined : scale(row.costNanoUsd, 1n, BigInt(priced));
}

function isPartly({ unpriced, unknown }: SpendSums): boolean {
  return unpriced + unknown > 0;
}
