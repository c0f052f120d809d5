// How FOCUS names and counts our units. Pure.
import { isFee } from "../ledger/usage.ts";
import type { Unit } from "../ledger/usage.ts";

export type UnitDescription = {
  /** SkuMeter. */
  readonly meter: string;
  readonly consumed: string;
  readonly pricing: string;
  /** Consumed units in a pricing unit. */
  readonly per: number;
  readonly direction: "Input" | "Output" | undefined;
  readonly cacheAction: "Uncached" | "Read" | "Write" | undefined;
};

const FEES: { readonly [unit: string]: readonly [meter: string, unit: string] } = {
  web_search: ["Web Searches", "Requests"],
  web_search_preview: ["Web Searches", "Requests"],
  file_search: ["File Searches", "Requests"],
  grounding_query: ["Grounding Queries", "Requests"],
  grounded_prompt: ["Grounded Prompts", "Requests"],
  container: ["Container Sessions", "Units"],
  cache_token_hour: ["Cache Storage", "Token-Hours"],
  image: ["Images", "Units"],
  audio_second: ["Audio", "Seconds"],
  video_second: ["Video", "Seconds"],
  character: ["Characters", "Units"],
  request: ["Requests", "Requests"],
};
const TOKENS_PER_PRICE = 1_000_000;

export function describeUnit(unit: string): UnitDescription {
  if (isFee(unit as Unit)) {
    const [meter, consumed] = FEES[unit] ?? [unit, "Units"];
    return { meter, consumed, pricing: consumed, per: 1, direction: undefined, cacheAction: undefined };
  }
  const isOutput = unit.startsWith("output");
  const cacheAction = unit.startsWith("cache_read") ? "Read" : unit.startsWith("cache_write") ? "Write" : "Uncached";
  const modality = /_(audio|image|video|tool)$/.exec(unit)?.[1];
  const kind = modality === undefined ? "" : `${modality.charAt(0).toUpperCase()}${modality.slice(1)} `;
  const lasting = /^cache_write_(\w+)$/.exec(unit)?.[1];
  const cache = cacheAction === "Read" ? "Cache Read " : cacheAction === "Write" ? `Cache Write ${lasting ?? ""} ` : "";
  return {
    meter: `${cache}${kind}${isOutput ? "Output" : "Input"} Tokens`,
    consumed: "Tokens",
    pricing: "1000000 Tokens",
    per: TOKENS_PER_PRICE,
    direction: isOutput ? "Output" : "Input",
    cacheAction: isOutput ? undefined : cacheAction,
  };
}

/** A flat JSON object of what is not empty; undefined when nothing is. */
export function formatAttributes(values: { readonly [name: string]: string }): string | undefined {
  const some = Object.entries(values).filter(([, value]) => value !== "");
  return some.length === 0 ? undefined : JSON.stringify(Object.fromEntries(some));
}
