// What OpenTelemetry calls things of generative AI, all in one place, for the conventions are still in development: `new` is
// semantic-conventions-genai v0.1.0, `old` what it was until semantic-conventions v1.41 and most backends still chart. What
// no convention has is named `keymeter.*`.
import type { TokenClass } from "../../ledger/usage.ts";

export const NAMES = ["new", "old", "both"] as const;
export type Names = (typeof NAMES)[number];

/** The labels that a metric may have beside provider and model. Each costs series. */
export const LABELS = ["team", "project", "env", "key"] as const;
export type Label = (typeof LABELS)[number];

/** In USD, in nano-USD here; or a count. */
type Unit = "USD" | "{token}" | "{request}" | "s";

export type Metric = {
  readonly name: string;
  readonly unit: Unit;
  readonly says: string;
  /** Which convention has it; undefined: ours. */
  readonly of?: "new" | "old";
  /** Of a histogram: where its buckets end. */
  readonly ends?: readonly number[];
  /** It can go down. */
  readonly isBalance?: true;
};

const TOKENS = Array.from({ length: 14 }, (_, i) => 4 ** i);
const SECONDS = Array.from({ length: 14 }, (_, i) => 0.01 * 2 ** i);

const USAGE = "gen_ai.client.inference.usage";
export const METRICS = {
  cost: { name: "keymeter.cost", unit: "USD", says: "What attempts cost, as they were booked." },
  adjustment: {
    name: "keymeter.cost.adjustment",
    unit: "USD",
    says: "What was corrected afterwards; cost and this together are what the books say.",
    isBalance: true,
  },
  seatValue: {
    name: "keymeter.seat.value",
    unit: "USD",
    says: "What use by subscriptions would have cost at the prices of the API; it is billed to nobody.",
  },
  requests: { name: "keymeter.requests", unit: "{request}", says: "Attempts that ended, by how." },
  inputTokens: { name: `${USAGE}.input_tokens`, unit: "{token}", says: "Input, cached or not.", of: "new" },
  outputTokens: { name: `${USAGE}.output_tokens`, unit: "{token}", says: "Output, reasoning included.", of: "new" },
  cacheRead: { name: `${USAGE}.cache_read.input_tokens`, unit: "{token}", says: "Input from a cache.", of: "new" },
  cacheWrite: { name: `${USAGE}.cache_write.input_tokens`, unit: "{token}", says: "Input into a cache.", of: "new" },
  reasoning: { name: `${USAGE}.reasoning.output_tokens`, unit: "{token}", says: "Output that is thought.", of: "new" },
  inputOfCall: {
    name: "gen_ai.client.inference.operation.input_tokens",
    unit: "{token}",
    says: "Input of a call.",
    of: "new",
    ends: TOKENS,
  },
  outputOfCall: {
    name: "gen_ai.client.inference.operation.output_tokens",
    unit: "{token}",
    says: "Output of a call.",
    of: "new",
    ends: TOKENS,
  },
  duration: {
    name: "gen_ai.client.inference.duration",
    unit: "s",
    says: "How long a call took.",
    of: "new",
    ends: SECONDS,
  },
  firstChunk: {
    name: "gen_ai.client.inference.time_to_first_chunk",
    unit: "s",
    says: "Until the first byte of the answer.",
    of: "new",
    ends: SECONDS,
  },
  tokenUsage: {
    name: "gen_ai.client.token.usage",
    unit: "{token}",
    says: "Input and output of a call.",
    of: "old",
    ends: TOKENS,
  },
  operationDuration: {
    name: "gen_ai.client.operation.duration",
    unit: "s",
    says: "How long a call took.",
    of: "old",
    ends: SECONDS,
  },
} as const satisfies { readonly [name: string]: Metric };
export type MetricName = keyof typeof METRICS;

export function isOffered(metric: Metric, names: Names): boolean {
  return metric.of === undefined || names === "both" || metric.of === names;
}

/** What all points and spans name of a call. */
export const PLACE = {
  operation: "gen_ai.operation.name",
  provider: "gen_ai.provider.name",
  requestModel: "gen_ai.request.model",
  responseModel: "gen_ai.response.model",
  errorType: "error.type",
} as const;
/** Of before, beside those. */
export const OLD_PROVIDER = "gen_ai.system";
export const TOKEN_TYPE = "gen_ai.token.type";
export const MODALITY = "gen_ai.token.modality";
/** All series that came after there were too many. */
export const OVERFLOW = "otel.metric.overflow";

/** Ours. */
export const OWN = {
  team: "keymeter.team",
  project: "keymeter.project",
  env: "keymeter.env",
  key: "keymeter.key",
  /** `api` or `seat`. */
  billing: "keymeter.billing",
  outcome: "keymeter.outcome",
  /** reported, estimated or unknown. */
  usageState: "keymeter.usage.state",
  /** exact, inferred or unpriced; absent: nothing was to be priced. */
  price: "keymeter.price",
} as const;

/** What only spans have. */
export const SPAN = {
  input: "gen_ai.usage.input_tokens",
  output: "gen_ai.usage.output_tokens",
  cacheRead: "gen_ai.usage.cache_read.input_tokens",
  cacheWrite: { new: "gen_ai.usage.cache_write.input_tokens", old: "gen_ai.usage.cache_creation.input_tokens" },
  reasoning: "gen_ai.usage.reasoning.output_tokens",
  responseId: "gen_ai.response.id",
  /** No convention has it; several backends read it. */
  cost: "gen_ai.usage.cost",
  status: "http.response.status_code",
  firstByte: "keymeter.first_byte_ms",
  ownCost: "keymeter.cost",
  attempt: "keymeter.attempt_id",
  endpoint: "keymeter.endpoint",
  tags: "keymeter.tag.",
} as const;

/** Our endpoints by the convention's operations; others are named as they are. */
const OPERATIONS: { readonly [endpoint: string]: string } = {
  chat_completions: "chat",
  messages: "chat",
  responses: "chat",
  completions: "text_completion",
  generate_content: "generate_content",
  stream_generate_content: "generate_content",
  embeddings: "embeddings",
  embed_content: "embeddings",
  batch_embed_contents: "embeddings",
};

export function operationOf(endpoint: string): string {
  return OPERATIONS[endpoint] ?? endpoint;
}

type Modality = "text" | "image" | "audio" | "unknown";

/** Of which kind the tokens of a class are. */
export function modalityOf(unit: TokenClass): Modality {
  if (unit.endsWith("_audio")) return "audio";
  if (unit.endsWith("_image")) return "image";
  // The convention has no word for film.
  return unit.endsWith("_video") ? "unknown" : "text";
}
