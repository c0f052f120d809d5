// Anthropic's format: which fields, tools, blocks and betas are known, which models and things a body names.
// Source: platform.claude.com API reference, and what its command line sends.
import { unknownField } from "./fields.ts";
import type { KnownBy } from "./fields.ts";
import { findAll, listOf, memberOf, objectAt, objectsIn, printed, textAt } from "./json.ts";
import { idOf, modelsIn } from "./named.ts";
import type { JsonObject } from "./json.ts";
import { allowable, unproven } from "./why.ts";
import type { Why } from "./why.ts";

const MESSAGES = new Set(
  `model messages system max_tokens metadata stop_sequences stream temperature top_k top_p tools tool_choice thinking output_config
  output_format context_management cache_control service_tier inference_geo speed diagnostics anthropic_version anthropic_beta
  fallback_credit_token mcp_servers container`.split(/\s+/),
);

/** Tools of the client: they cost what the body shows. Other typed ones run at the provider (search, fetch, code). */
const CLIENT_TOOLS = /^(custom$|(bash|text_editor|computer|memory)_)/;
/** Blocks that bring files, models or tools of their own. */
const COSTLY_BLOCKS = /^(container_upload|fallback|mcp_\w+)$/;

/** Betas that change no price and open no second way to use tokens that the body does not show. Any other may: no bound
 *  is claimed with it. */
const NEUTRAL_BETA = new RegExp(
  `^(${[
    "prompt-caching",
    "prompt-caching-scope",
    "extended-cache-ttl",
    "token-efficient-tools",
    "fine-grained-tool-streaming",
    "interleaved-thinking",
    "dev-full-thinking",
    "structured-outputs",
    "output-128k",
    "output-300k",
    "pdfs",
    "message-batches",
    "token-counting",
    "claude-code",
    "oauth",
    "computer-use",
    "effort",
    "max-effort",
    "adaptive-thinking",
    "max-tokens-3-5-sonnet",
    "tool-examples",
    "search-results",
    "afk-mode",
    "summarize-connector-text",
    "context-management",
    "thinking-token-count",
    "advanced-tool-use",
    "mid-conversation-tool-changes",
    "mid-conversation-output-config",
    "mid-conversation-system",
    "per-turn-control",
    "thinking-display-updates",
    "thinking-binding-controls",
    "redact-thinking",
    "model-context-window-exceeded",
    "cache-diagnosis",
    "task-budgets",
    "fallback-credit",
    "tool-search-tool",
    "inline-tools",
    "files-api",
    "request-tags",
    // These have a price that is known: a step of the context, a tier.
    "context-1m",
    "fast-mode",
  ].join("|")})-\\d{4}-?\\d{2}-?\\d{2}$`,
);

/** Why nothing bounds what a body asks for, or undefined. */
export function unknownCost(body: JsonObject, by: KnownBy): Why | undefined {
  const stated = ["mcp_servers", "container"].find((field) => isSomething(body[field]));
  const edits = objectAt(body, "context_management");
  return (
    (stated !== undefined && !by.allowed.includes(stated) ? unproven(stated) : undefined) ??
    objectsIn(edits?.["edits"])
      .map((edit) => textAt(edit, "type") ?? "")
      .filter((type) => !/^clear_(thinking|tool_uses)_\d+$/.test(type) && !by.allowed.includes(type))
      .map((type) => type.slice(0, 60))
      .map((type) => allowable(type, `context_management of type ${type}`))[0] ??
    hostedTool(body["tools"] ?? [], by) ??
    costlyBlock(body["messages"], by)
  );
}

/** The first field or beta in a body that nobody knows, as a reason. */
export function unknownName(body: JsonObject, by: KnownBy): Why | undefined {
  const betas = body["anthropic_beta"];
  return (
    unknownField(body, MESSAGES, by) ??
    unknownField(objectAt(body, "context_management"), new Set(["edits"]), by, "context_management.") ??
    (Array.isArray(betas) ? unknownBeta(betas.map(printed), by) : unknownBeta(textAt(body, "anthropic_beta"), by))
  );
}

/** An empty list asks for nothing. */
function isSomething(value: unknown): boolean {
  return value !== undefined && value !== null && !(Array.isArray(value) && value.length === 0);
}

function hostedTool(tools: unknown, by: KnownBy): Why | undefined {
  if (!Array.isArray(tools)) return unproven("tools");
  for (const tool of listOf(tools)) {
    const type = textAt(tool, "type");
    const callers = memberOf(tool, "allowed_callers");
    const isDirect = !Array.isArray(callers) || callers.every((caller) => caller === "direct");
    if (type !== undefined && !CLIENT_TOOLS.test(type) && !by.allowed.includes(`tool ${type}`))
      return allowable(`tool ${type.slice(0, 60)}`);
    if (!isDirect) return unproven("a tool that code at the provider may call");
  }
  return undefined;
}

function costlyBlock(messages: unknown, by: KnownBy): Why | undefined {
  for (const message of objectsIn(messages))
    for (const block of objectsIn(message["content"])) {
      const type = textAt(block, "type") ?? "";
      if (COSTLY_BLOCKS.test(type) && !by.allowed.includes(type)) return allowable(type, `a block of type ${type}`);
      const definition = objectAt(objectAt(block, "tool"), "definition");
      const inner = type === "tool_addition" && definition ? hostedTool([definition], by) : undefined;
      if (inner !== undefined) return inner;
    }
  return undefined;
}

/** The first beta that nobody knows, as a reason; from the header, or a list in the body. */
export function unknownBeta(header: string | string[] | undefined, by: KnownBy): Why | undefined {
  const unknown = String(header ?? "")
    .split(",")
    .map((beta) => beta.trim())
    .find((beta) => beta !== "" && !NEUTRAL_BETA.test(beta) && !by.allowed.includes(beta));
  if (unknown === undefined) return undefined;
  const name = unknown.slice(0, 60);
  return allowable(name, `anthropic-beta ${name}`);
}

/** Models beside the one that is asked for: those it falls back to, and advisors. */
export function otherModels(body: JsonObject): { instead: readonly string[]; beside: readonly string[] } {
  const inline = objectsIn(body["messages"]).flatMap((message) =>
    objectsIn(message["content"]).flatMap((block) => objectAt(objectAt(block, "tool"), "definition") ?? []),
  );
  const tools = [...objectsIn(body["tools"]), ...inline];
  const advisors = tools.flatMap((tool) => textAt(tool, "model") ?? []);
  const fallbacks = body["fallbacks"];
  // "default": whichever the provider takes.
  return { instead: fallbacks === "default" ? [""] : modelsIn(fallbacks), beside: advisors };
}

const REFERENCES = new Set(["file_id", "skill_id", "container"]);

/** Names of files, skills and containers in a body. */
export function referencesOf(body: JsonObject): string[] {
  return findAll(body, REFERENCES).flatMap(idOf);
}
