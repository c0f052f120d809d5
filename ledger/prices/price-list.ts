// The price list that a data folder may hold: newer than the one that comes with @pydantic/genai-prices, in the same
// form. It is checked before it is written and before it is used; one that is odd is refused whole, and the prices that
// were known go on.
import { createHash } from "node:crypto";
import { readFileSync, renameSync, statSync, utimesSync, writeFileSync } from "node:fs";
import type { ModelInfo } from "@pydantic/genai-prices";
import { z } from "zod";
import { builtInModels } from "./built-in.ts";
import { createPriceBook } from "./price-book.ts";
import type { Discount, PriceBook, PriceList } from "./price-book.ts";
import type { PriceRow } from "./rows.ts";
import { PRICE_LISTS } from "../providers.ts";
import { UNITS } from "../usage.ts";

/** What is wrong with a list, as one sentence. */
export class PriceListError extends Error {
  override readonly name = "PriceListError";
}

/** Prices beyond this are taken for another unit. Per thousand or per hour they are larger than per million tokens. */
const MOST_PRICE = 100_000;
/** A known price that moves further than this is taken for a mistake: no provider has moved one so. */
const MOST_FACTOR = 20;

const price = z.union([
  z.number().min(0).max(MOST_PRICE),
  z.looseObject({
    base: z.number().min(0).max(MOST_PRICE),
    tiers: z.array(z.looseObject({ start: z.number().int().positive(), price: z.number().min(0).max(MOST_PRICE) })),
  }),
]);
const prices = z.record(z.string(), price);
const part = z.string().min(1);
/** How a model is recognised; a pattern has to be one. */
const clause: z.ZodType = z.lazy(() =>
  z.union([
    z.strictObject({ equals: part }),
    z.strictObject({ starts_with: part }),
    z.strictObject({ ends_with: part }),
    z.strictObject({ contains: part }),
    z.strictObject({ regex: part.refine(isPattern, "a regular expression") }),
    z.strictObject({ or: z.array(clause).min(1) }),
    z.strictObject({ and: z.array(clause).min(1) }),
  ]),
);

function isPattern(text: string): boolean {
  try {
    void new RegExp(text);
    return true;
  } catch {
    return false;
  }
}
const listFile = z.array(
  z.looseObject({
    id: z.string().min(1),
    models: z.array(
      z.looseObject({
        id: z.string().min(1),
        match: clause,
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
  const version = `genai-prices@${createHash("sha256").update(text).digest("hex").slice(0, 12)}`;
  const list: PriceList = { version, models: (id) => lists.get(id) };
  for (const needed of PRICE_LISTS) {
    const [known, found] = [builtInModels(needed).length, lists.get(needed)?.length ?? 0];
    if (found * 2 < known) throw new PriceListError(`it has ${found} models of ${needed}, and ${known} are known`);
  }
  checkMoves(list, [...lists.keys()]);
  return list;
}

/** The name of the file in a data folder. */
function priceListPath(dataDir: string): string {
  return `${dataDir}/price-list.json`;
}

/** The day on which the list inside @pydantic/genai-prices was published: a test holds it to the version in
 *  package.json. */
export const BUILT_IN_LIST = { version: "0.1.8", day: "2026-09-23" };

/** When the list that counts was fetched, or published if none was. */
export function priceListAtMs(dataDir: string): number {
  const fetchedMs = statSync(priceListPath(dataDir), { throwIfNoEntry: false })?.mtimeMs;
  return fetchedMs ?? Date.parse(`${BUILT_IN_LIST.day}T00:00:00Z`);
}

/** Writes a list that was checked, at once or not at all. `atMs`: when it was fetched. */
export function writePriceList(dataDir: string, text: string, atMs: number): void {
  const path = priceListPath(dataDir);
  // Of several processes on one folder each writes its own.
  const fresh = `${path}.${process.pid}.new`;
  writeFileSync(fresh, text, { mode: 0o644 });
  utimesSync(fresh, atMs / 1000, atMs / 1000);
  renameSync(fresh, path);
}

/** The list that lies there as it was written, and when it was fetched. */
export function readPriceList(dataDir: string): { readonly text: string; readonly atMs: number } | undefined {
  const path = priceListPath(dataDir);
  const atMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
  return atMs === undefined ? undefined : { text: readFileSync(path, "utf8"), atMs };
}

/** The book of a data folder, with the list that lies there. `refresh` looks whether there is another one: call it now
 *  and then. `onTrouble` gets a sentence when a list is refused. */
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

/** Refuses a list in which a model that is known answers to another entry, or has a price or a context that moved too
 *  far. */
function checkMoves(newer: PriceList, ids: readonly string[]): void {
  const [before, after] = [createPriceBook(), createPriceBook([], [], newer)];
  const now = Date.now();
  for (const id of ids) {
    const fresh = new Set(newer.models(id)?.map((model) => model.id));
    for (const { id: model } of builtInModels(id)) {
      const [was, is] = [before.find(id, model, now), after.find(id, model, now)];
      if (!was || !is || was.version.startsWith("own:")) continue;
      const entry = /:[^/]+\/(.+?)(?:@\d{4}-.*)?$/.exec(is.version)?.[1];
      if (fresh.has(model) && entry !== model && /:[^/]+\/(.+?)(?:@\d{4}-.*)?$/.exec(was.version)?.[1] === model)
        throw new PriceListError(`${id}/${model} answers to the entry ${entry} of the list, not to its own`);
      for (const unit of UNITS) checkMove(`${id}/${model} ${unit}`, was.units[unit]?.base, is.units[unit]?.base);
      checkMove(`${id}/${model} context_window`, was.contextWindow, is.contextWindow);
    }
  }
}

function checkMove(what: string, before: bigint | number | undefined, after: bigint | number | undefined): void {
  const [was, is] = [Number(before ?? 0), Number(after ?? 0)];
  if (was === 0 || after === undefined) return;
  if (is > was * MOST_FACTOR || is * MOST_FACTOR < was)
    throw new PriceListError(
      `${what}: it went to ${round(is / was)} of what is known; that is a mistake in one of the two`,
    );
}

function round(ratio: number): string {
  return String(Number(ratio.toPrecision(3)));
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
