// All dialects.
import { anthropic } from "./anthropic.ts";
import type { Dialect, DialectName } from "./dialect.ts";
import { google } from "./google.ts";
import { openai } from "./openai.ts";

export const DIALECTS: { readonly [name in DialectName]: Dialect } = { openai, anthropic, google };

/** The wire format that a path of nobody is probably in: OpenAI's, which most clients speak, unless it says
 *  otherwise. */
export function likelyDialect(path: string): Dialect {
  return Object.values(DIALECTS).find(({ likelyPath }) => likelyPath?.test(path)) ?? openai;
}
