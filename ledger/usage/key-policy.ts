// What a key may do, beside how much: which models, providers and endpoints, from where, and what happens to a model
// without a price. Absent means no limit. Data only; the proxy holds requests against it.
import { isIP } from "node:net";
import { z } from "zod";

/** A model without a price. `refuse`: always. `allow`: also under a hard budget, in which it then counts nothing.
 *  Prices: it is held and booked at these, in USD per million tokens, as inferred. Absent: refused under a hard budget
 *  only. */
type UnpricedPolicy =
  | "refuse"
  | "allow"
  | { readonly inputUsdPerMillion: string; readonly outputUsdPerMillion: string };

export type KeyPolicy = {
  /** Names or patterns (`gpt-4o*`) of models that may be asked for. */
  readonly models?: readonly string[] | undefined;
  /** Providers by the name that they are booked under (`openai`, `gcp.gemini`). */
  readonly providers?: readonly string[] | undefined;
  /** Endpoints as they are booked (`chat_completions`, `messages`). */
  readonly endpoints?: readonly string[] | undefined;
  /** Blocks of client addresses (`10.0.0.0/8`). */
  readonly addresses?: readonly string[] | undefined;
  /** Tags that every request of the key carries, whatever the request says. */
  readonly tags?: { readonly [name: string]: string } | undefined;
  readonly unpriced?: UnpricedPolicy | undefined;
  /** Where its requests name a person, whom budgets then count: a header, or `body` (OpenAI's `user`, Anthropic's
   *  `metadata.user_id`). Absent: whom they name is told in reports only. */
  readonly users?: string | undefined;
};

const names = z.array(z.string().min(1).max(200)).min(1).max(200);
const decimal = z.string().regex(/^\d{1,6}(\.\d{1,6})?$/, "a price in USD per million tokens, such as 2.50");

/** What comes from outside. */
export const keyPolicy = z.strictObject({
  models: names.optional(),
  providers: names.optional(),
  endpoints: names.optional(),
  addresses: z
    .array(z.string().refine(isBlock, "an address or a block of them, such as 10.0.0.0/8"))
    .min(1)
    .max(200)
    .optional(),
  tags: z
    .record(
      z.string().regex(/^[a-z0-9][a-z0-9_.-]{0,63}$/, "a tag's name, in small letters"),
      z
        .string()
        .min(1)
        .max(256)
        .refine((value) => value.isWellFormed(), "a text without half characters"),
    )
    .optional(),
  unpriced: z
    .union([z.enum(["refuse", "allow"]), z.strictObject({ inputUsdPerMillion: decimal, outputUsdPerMillion: decimal })])
    .optional(),
  users: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,63}$/, "the name of a header, in small letters, or body")
    .optional(),
}) satisfies z.ZodType<KeyPolicy>;

/** Whether a text is an address, or a block of them. */
export function isBlock(text: string): boolean {
  const [address = "", prefix, ...more] = text.split("/");
  const version = isIP(address);
  if (version === 0 || more.length > 0) return false;
  return prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= (version === 4 ? 32 : 128));
}

/** The policy of a row: one that cannot be read allows nothing, for it was meant to forbid something. */
export function readPolicy(text: string | null): KeyPolicy {
  if (text === null) return {};
  try {
    return keyPolicy.parse(JSON.parse(text));
  } catch {
    return { models: [], providers: [] };
  }
}
