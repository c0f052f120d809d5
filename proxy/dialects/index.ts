// All dialects.
import { anthropic } from "./anthropic.ts";
import type { Dialect, DialectName } from "./dialect.ts";
import { google } from "./google.ts";
import { openai } from "./openai.ts";

export const DIALECTS: { readonly [name in DialectName]: Dialect } = { openai, anthropic, google };
