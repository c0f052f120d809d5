// How the OpenAI format says no, over HTTP and over a WebSocket, and which clients need a form of their own.
import type { Refusal } from "./refusal.ts";

type Rendered = { readonly status: number; readonly body: string; readonly headers: readonly string[] };

const TYPES: { readonly [kind in Refusal["kind"]]: readonly [type: string, code: string | null] } = {
  invalid: ["invalid_request_error", "invalid_request"],
  unauthorized: ["invalid_request_error", "invalid_api_key"],
  forbidden: ["invalid_request_error", "permission_denied"],
  not_found: ["invalid_request_error", "not_metered"],
  too_large: ["invalid_request_error", "request_too_large"],
  unsupported_media: ["invalid_request_error", "unsupported_media_type"],
  money: ["insufficient_quota", "insufficient_quota"],
  unpriced: ["invalid_request_error", "model_not_priced"],
  rate: ["requests", "rate_limit_exceeded"],
  upstream: ["server_error", "upstream_unreachable"],
  timeout: ["server_error", "upstream_timeout"],
  unavailable: ["server_error", "ledger_unavailable"],
  upgrade: ["invalid_request_error", "upgrade_not_metered"],
};

/** A client that would retry, wait or hide the reason. `form`: what it takes as the last word, and shows. */
type ClientForm = {
  readonly agent: RegExp;
  readonly kinds: ReadonlySet<Refusal["kind"]>;
  form(refusal: Refusal): { readonly status: number; readonly error: object; readonly headers: readonly string[] };
};

const CLIENTS: readonly ClientForm[] = [
  {
    // Codex tries each status again but this one, on HTTP and on its WebSocket, and shows none of the message: only
    // what this header says.
    agent: /^codex_/,
    kinds: new Set(["money", "unpriced", "forbidden"]),
    form: ({ message, resetsAtMs }) => ({
      status: 429,
      error: {
        type: "usage_limit_reached",
        message,
        ...(resetsAtMs === undefined ? {} : { resets_at: Math.floor(resetsAtMs / 1000) }),
      },
      headers: ["x-codex-promo-message", plainWords(message)],
    }),
  },
];

function formFor(refusal: Refusal, userAgent: string): ReturnType<ClientForm["form"]> | undefined {
  return CLIENTS.find(({ agent, kinds }) => kinds.has(refusal.kind) && agent.test(userAgent))?.form(refusal);
}

/** A header holds printable ASCII; the client goes on with a comma behind it. */
function plainWords(message: string): string {
  return message.replace(/[^\x20-\x7e]/g, "?").replace(/\.$/, "");
}

/** The answer of a request that is refused. */
export function renderOpenAiRefusal(refusal: Refusal, requestId: string, userAgent: string): Rendered {
  const own = formFor(refusal, userAgent);
  if (own)
    return {
      status: own.status,
      body: JSON.stringify({ error: own.error }),
      headers: ["x-request-id", requestId, ...own.headers],
    };
  const [type, code] = TYPES[refusal.kind];
  return {
    status: refusal.status,
    body: JSON.stringify({ error: { message: refusal.message, type, param: null, code } }),
    headers: ["x-request-id", requestId],
  };
}

/** The last message of a session that is refused to go on. */
export function renderOpenAiErrorMessage(refusal: Refusal, userAgent: string): string {
  const own = formFor(refusal, userAgent);
  const [type, code] = TYPES[refusal.kind];
  return JSON.stringify(
    own
      ? { type: "error", status: own.status, error: own.error, headers: Object.fromEntries([own.headers]) }
      : {
          type: "error",
          event_id: "event_keymeter",
          status: refusal.status,
          error: { type, code, message: refusal.message, param: null, event_id: null },
        },
  );
}

/** An error in the middle of a stream. */
export function renderOpenAiErrorEvent(kind: "unavailable" | "money", message: string): string {
  const [type, code] = kind === "money" ? TYPES.money : ["server_error", "server_error"];
  return `event: error\ndata: ${JSON.stringify({ type: "error", code, message, param: null, error: { message, type, param: null, code } })}\n\n`;
}
