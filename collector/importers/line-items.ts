// Names that bills give to what they charge: which model, tier and token class a line item is. Pure.
import type { Unit } from "../../ledger/usage.ts";

export type LineItem = {
  readonly model: string | undefined;
  readonly tier: string | undefined;
  readonly unit: Unit | undefined;
};

/** A token class as people write it. */
const KINDS: readonly (readonly [RegExp, Unit])[] = [
  [/^(text )?cached? (audio )?(input|read)|^cache reads?|^cached( text)?( tokens)?$/, "cache_read"],
  [/^cache writes?.*(1 ?h|hour)/, "cache_write_1h"],
  [/^cache writes?.*12/, "cache_write_12h"],
  [/^cache writes?.*30/, "cache_write_30m"],
  [/^cache writes?/, "cache_write_5m"],
  [/^audio (cached|cache read)|^cached audio/, "cache_read_audio"],
  [/^(image|images) cached|^cached image/, "cache_read_image"],
  [/^audio input|^input audio/, "input_audio"],
  [/^image input|^input image/, "input_image"],
  [/^video input|^input video/, "input_video"],
  [/^audio output|^output audio/, "output_audio"],
  [/^image output|^output image/, "output_image"],
  [/^video output|^output video/, "output_video"],
  [/^(uncached |text )?input|^prompt|^context/, "input"],
  [/^(text )?output|^completion|^generated|^reasoning/, "output"],
  [/^character/, "character"],
  [/^(seconds?|minutes?|hours?|duration)/, "audio_second"],
  [/^images?$/, "image"],
];
const TOOLS: readonly (readonly [RegExp, Unit])[] = [
  [/web search/, "web_search"],
  [/file search (tool )?calls?/, "file_search"],
  [/code interpreter|container/, "container"],
];
const TIERS = /\b(batch|flex|priority)\b/;

/** Reads "<model>, <kind>", as OpenAI's costs write it, or a product's name. A product that is no model and no tool
 *  stands as a model of its name: nobody meters it, and the comparison then says so. */
export function readLineItem(text: string): LineItem {
  const comma = text.indexOf(",");
  const tool = TOOLS.find(([pattern]) => pattern.test(plain(text)));
  if (tool) return { model: comma > 0 ? text.slice(0, comma).trim() : undefined, tier: undefined, unit: tool[1] };
  if (comma < 0) return { model: text.trim(), tier: undefined, unit: undefined };
  const kind = plain(text.slice(comma + 1));
  const tier = TIERS.exec(kind)?.[1] ?? "";
  const rest = kind
    .replace(TIERS, "")
    .replace(/\bapi\b|\(\)|[()]/g, "")
    .replace(/\s+/g, " ")
    .trim();
  return {
    model: text.slice(0, comma).trim(),
    tier,
    unit: KINDS.find(([pattern]) => pattern.test(rest))?.[1],
  };
}

/** Google's SKUs name model and class in a sentence: "Generate content output token count gemini 2.5 flash text". */
export function readSku(description: string): LineItem {
  const text = plain(description);
  const name =
    /gemini (?:embedding|\d+(?:\.\d+)?(?: (?:pro|flash|ultra|nano))?(?: lite)?(?: (?:image|live|tts))?)/.exec(
      text,
    )?.[0];
  const model = name?.replaceAll(" ", "-");
  const tier = TIERS.exec(text)?.[1] ?? "";
  return { model, tier, unit: skuUnit(text) };
}

function skuUnit(text: string): Unit | undefined {
  const modality = /\b(audio|image|video)\b/.exec(text.replace(/flash (lite )?image/, ""))?.[1] as
    | "audio"
    | "image"
    | "video"
    | undefined;
  if (/grounding|search quer/.test(text)) return /prompt/.test(text) ? "grounded_prompt" : "grounding_query";
  if (/cach/.test(text)) {
    if (/storage|hour/.test(text)) return "cache_token_hour";
    return modality === "audio" ? "cache_read_audio" : modality === "image" ? "cache_read_image" : "cache_read";
  }
  if (/output|response|thinking|generated/.test(text)) return modality === undefined ? "output" : `output_${modality}`;
  if (/input|prompt|embed/.test(text)) return modality === undefined ? "input" : `input_${modality}`;
  return undefined;
}

function plain(text: string): string {
  return text
    .toLowerCase()
    .replace(/[_/-]+/g, " ")
    .replace(/\s+/g, " ")
    .trim();
}
