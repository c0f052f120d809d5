// The price list that a data folder may hold: newer than the one that comes with @pydantic/genai-prices, in the same form. It is
// checked before it is written and before it is used; one that is odd is refused whole, and the prices that were known go on.
import { createHash } from "node:crypto";
import { readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { findProvider } from "@pydantic/genai-prices";
import type { ModelInfo, ModelPrice } from "@pydantic/genai-prices";
import { z } from "zod";
import { createPriceBook } from "./prices.ts";
import type { Discount, PriceBook, PriceList } from "./prices.ts";
import type { PriceRow } from "./prices/rows.ts";

/** What is wrong with a list, as one sentence. */
export class PriceListError extends Error {
  override readonly name = "PriceListError";
}

/** Prices beyond this are taken for another unit. Per thousand or per hour they are larger than per million tokens. */
const MOST_PRICE = 100_000;
/** A known price that moves further than this is taken for a mistake: no provider has moved one so. */
const MOST_FACTOR = 20;
/** Lists that every user of ours has prices from. */
const NEEDED = ["openai", "anthropic", "google"];

const price = z.union([
  z.number().min(0).max(MOST_PRICE),
  z.looseObject({
    base: z.number().min(0).max(MOST_PRICE),
    tiers: z.array(z.looseObject({ start: z.number().int().positive(), price: z.number().min(0).max(MOST_PRICE) })),
  }),
]);
const prices = z.record(z.string(), price);
const listFile = z.array(
  z.looseObject({
    id: z.string().min(1),
    models: z.array(
      z.looseObject({
        id: z.string().min(1),
        match: z.record(z.string(), z.unknown()),
        context_window: z.number().int().positive().optional(),
        prices: z.union([
          z.array(
            z.looseObject({ constraint: z.looseObject({ start_date: z.iso.date().optional() }).optional(), prices }),
          ),
          prices,
        ]),
      }),
    ),
  }),
);

/** Reads a list from its text. Throws PriceListError. */
export function parsePriceList(text: string): PriceList {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new PriceListError("it is no JSON");
  }
  const parsed = listFile.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new PriceListError(
      `${describe(json, issue?.path ?? [])}: ${issue?.message ?? "not the form of a price list"}`,
    );
  }
  const lists = new Map(parsed.data.map(({ id, models }) => [id, models as unknown as readonly ModelInfo[]]));
  for (const needed of NEEDED) {
    const [known, found] = [findProvider({ providerId: needed })?.models.length ?? 0, lists.get(needed)?.length ?? 0];
    if (found * 2 < known) throw new PriceListError(`it has ${found} models of ${needed}, and ${known} are known`);
    for (const model of lists.get(needed) ?? []) checkMoves(needed, model);
  }
  const version = createHash("sha256").update(text).digest("hex").slice(0, 12);
  return { version: `genai-prices@${version}`, models: (list) => lists.get(list) };
}

/** The name of the file in a data folder. */
function priceListPath(dataDir: string): string {
  return `${dataDir}/price-list.json`;
}

/** Writes a list that was checked, at once or not at all. */
export function writePriceList(dataDir: string, text: string): void {
  const path = priceListPath(dataDir);
  writeFileSync(`${path}.new`, text, { mode: 0o644 });
  renameSync(`${path}.new`, path);
}

/** The book of a data folder, with the list that lies there. `refresh` looks whether there is another one: call it now and then.
 *  `onTrouble` gets a sentence when a list is refused. */
export function openPriceBook(
  dataDir: string,
  rows: readonly PriceRow[],
  discounts: readonly Discount[],
  onTrouble: (message: string) => void,
): PriceBook & { refresh(): void } {
  let book = createPriceBook(rows, discounts);
  let seenMs: number | undefined;
  const refresh = (): void => {
    const path = priceListPath(dataDir);
    const changedMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
    if (changedMs === seenMs) return;
    seenMs = changedMs;
    try {
      book = createPriceBook(
        rows,
        discounts,
        changedMs === undefined ? undefined : parsePriceList(readFileSync(path, "utf8")),
      );
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      onTrouble(
        `${path} is not used: ${why}. \`keymeter collector --once prices\` writes a new one; without it the built-in list counts.`,
      );
    }
  };
  refresh();
  return { find: (list, model, atMs, tiers) => book.find(list, model, atMs, tiers), refresh };
}

/** Refuses a price that moved too far from the one that is known. */
function checkMoves(list: string, model: ModelInfo): void {
  const known = findProvider({ providerId: list })?.models.find(({ id }) => id === model.id);
  if (!known) return;
  const [before, now] = [latest(known.prices), latest(model.prices)];
  for (const [unit, value] of Object.entries(now)) {
    const [old, fresh] = [base(before[unit]), base(value)];
    if (old && fresh && (fresh > old * MOST_FACTOR || fresh * MOST_FACTOR < old))
      throw new PriceListError(
        `${list}/${model.id} ${unit}: ${fresh}, and ${old} is known; that is a mistake in one of the two`,
      );
  }
}

function latest(given: ModelInfo["prices"]): ModelPrice {
  return Array.isArray(given) ? (given.at(-1)?.prices ?? {}) : given;
}

function base(value: ModelPrice[string]): number | undefined {
  return typeof value === "object" ? value.base : value;
}

/** Where in the list something is wrong, by name. */
function describe(json: unknown, path: readonly PropertyKey[]): string {
  const names: string[] = [];
  let at: unknown = json;
  for (const step of path) {
    at = (at as { [name: PropertyKey]: unknown } | undefined)?.[step];
    const id = (at as { id?: unknown } | undefined)?.id;
    names.push(typeof id === "string" ? id : String(step));
  }
  return names.length === 0 ? "the list" : names.join(" ");
}
