// Why a request is refused: one list. Expected refusals travel as a value, are rendered in the client's own dialect and
// are counted; none of them reaches a provider.
import type { BudgetRefusal, Freeze } from "../ledger/budgets.ts";
import { describeScope } from "../ledger/budgets.ts";
import { formatUsd, formatUsdExact } from "../ledger/money.ts";
import type { Dialect, Refusal } from "./dialects/dialect.ts";

/** Closed set: a metric label. */
export type RefusalReason =
  | "bad_target"
  | "bad_headers"
  | "bad_body"
  | "body_too_large"
  | "unsupported_media"
  | "no_credential"
  | "unknown_key"
  | "key_expired"
  | "key_paused"
  | "pass_through_off"
  | "no_provider_credential"
  | "not_metered"
  | "budget_exceeded"
  | "unbounded"
  | "unpriced"
  | "in_flight"
  | "ledger_unavailable"
  | "not_allowed"
  | "frozen"
  | "rate_limited"
  | "busy"
  | "draining"
  | "websocket";

/** Thrown by the gate and by admission; caught once, in handle.ts. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly reason: RefusalReason;
  readonly refusal: Refusal;
  readonly headers: readonly string[];

  constructor(
    reason: RefusalReason,
    message: string,
    details: { readonly headers?: readonly string[]; readonly resetsAtMs?: number; readonly status?: number } = {},
  ) {
    super(message);
    this.reason = reason;
    this.headers = details.headers ?? [];
    const { kind, status } = REASONS[reason];
    this.refusal = {
      kind,
      status: details.status ?? status,
      message: `Keymeter: ${message}`,
      ...(details.resetsAtMs === undefined ? {} : { resetsAtMs: details.resetsAtMs }),
    };
  }
}

const REASONS: { readonly [reason in RefusalReason]: { readonly kind: Refusal["kind"]; readonly status: number } } = {
  bad_target: { kind: "invalid", status: 400 },
  bad_headers: { kind: "invalid", status: 400 },
  bad_body: { kind: "invalid", status: 400 },
  body_too_large: { kind: "too_large", status: 413 },
  unsupported_media: { kind: "unsupported_media", status: 415 },
  no_credential: { kind: "unauthorized", status: 401 },
  unknown_key: { kind: "unauthorized", status: 401 },
  key_expired: { kind: "unauthorized", status: 401 },
  key_paused: { kind: "forbidden", status: 403 },
  pass_through_off: { kind: "unauthorized", status: 401 },
  no_provider_credential: { kind: "forbidden", status: 403 },
  not_metered: { kind: "not_found", status: 404 },
  budget_exceeded: { kind: "money", status: 402 },
  unbounded: { kind: "money", status: 402 },
  unpriced: { kind: "money", status: 402 },
  in_flight: { kind: "money", status: 402 },
  ledger_unavailable: { kind: "unavailable", status: 503 },
  not_allowed: { kind: "forbidden", status: 403 },
  frozen: { kind: "forbidden", status: 403 },
  rate_limited: { kind: "rate", status: 429 },
  busy: { kind: "unavailable", status: 503 },
  draining: { kind: "unavailable", status: 503 },
  websocket: { kind: "upgrade", status: 426 },
};

/** The refusal of a path that leads to no provider. */
export function nowhere(path: string): Refused {
  return new Refused(
    "not_metered",
    `${path.slice(0, 80)} leads to no provider; base URLs start with /openai/v1, /anthropic or /google`,
  );
}

/** The refusal in a scope that somebody froze. */
export function refuseFrozen({ scope, reason, id }: Freeze): Refused {
  return new Refused(
    "frozen",
    `${describeScope(scope)} is frozen (${id}): ${reason}. Whoever runs Keymeter can lift that`,
    {
      headers: ["x-should-retry", "false"],
    },
  );
}

/** The refusal of a hard budget, with the numbers it used. Never a retry-after: some SDKs would sleep until the month
 *  ends, and no retry helps. */
export function refuseForMoney(refused: BudgetRefusal, status: number, open?: string): Refused {
  const { budget, window, amountNanoUsd, settledNanoUsd, reservedNanoUsd, askedNanoUsd, reason } = refused;
  return new Refused(reason, describeRefusal(refused, whyOf(refused, open)), {
    status,
    resetsAtMs: window.endMs,
    headers: [
      "x-should-retry",
      "false",
      "x-keymeter-budget-id",
      budget.id,
      "x-keymeter-budget-amount-usd",
      formatUsdExact(amountNanoUsd),
      "x-keymeter-budget-spent-usd",
      formatUsdExact(settledNanoUsd),
      "x-keymeter-budget-reserved-usd",
      formatUsdExact(reservedNanoUsd),
      "x-keymeter-budget-asked-usd",
      askedNanoUsd === undefined ? "unknown" : formatUsdExact(askedNanoUsd),
      "x-keymeter-budget-window-start",
      new Date(window.startMs).toISOString(),
      "x-keymeter-budget-window-end",
      endOf(refused),
    ],
  });
}

const WHY: { readonly [reason in BudgetRefusal["reason"]]: string } = {
  budget_exceeded: "the request does not fit",
  unbounded: "strict mode, and the most this request can cost cannot be proven",
  unpriced: "the model has no price, so its cost cannot be held",
  in_flight:
    "it would fit, but with it the answers under way could come to far more than the amount; send fewer at once, ask for shorter ones (max tokens), or fetch the results of work that goes on (keymeter work list)",
};

/** What has no bound is named, with what lets it pass. */
function whyOf({ reason }: BudgetRefusal, open: string | undefined): string {
  if (reason !== "unbounded" || open === undefined) return WHY[reason];
  const name = ALLOWABLE.exec(open)
    ?.slice(1)
    .find((part) => part !== undefined);
  return name === undefined
    ? `${WHY.unbounded}: ${open}. Leave it out, or ask under a budget that is not strict`
    : `${WHY.unbounded}: ${open}. Leave it out, or, if it costs nothing, whoever runs Keymeter adds "${name}" to proxy.allowed_fields`;
}

/** Names that a setting allows, as the reasons write them. */
const ALLOWABLE =
  /^the field "([^"]+)"$|^anthropic-beta (.+)$|^(tool .+)$|^a block of type (.+)$|^context_management of type (.+)$/;

/** Why a budget said no, with its numbers, in a sentence or two. */
export function describeRefusal(refused: BudgetRefusal, why = WHY[refused.reason]): string {
  const { budget, window, amountNanoUsd, settledNanoUsd, reservedNanoUsd, askedNanoUsd } = refused;
  return (
    `budget for ${describeScope(budget.scope)} (${budget.window}): ${why}. ` +
    `Amount ${formatUsd(amountNanoUsd)} USD, spent ${formatUsd(settledNanoUsd)}, reserved ${formatUsd(reservedNanoUsd)}, ` +
    `asked ${askedNanoUsd === undefined ? "unknown" : formatUsd(askedNanoUsd)}${refused.mostNanoUsd === undefined ? "" : `, with all under way at most ${formatUsd(refused.mostNanoUsd)}`}; window ${budget.window === "total" ? "without end" : `${new Date(window.startMs).toISOString()} to ${endOf(refused)}`}.`
  );
}

function endOf({ budget, window }: BudgetRefusal): string {
  return budget.window === "total" ? "never" : new Date(window.endMs).toISOString();
}

/** Codex CLI retries every status but its own final form of 429. */
const CODEX = /^codex_/;

/** The answer to a refused client, in its own dialect. */
export function renderRefusal(
  refused: Refused,
  dialect: Dialect,
  requestId: string,
  userAgent: string,
): { status: number; headers: string[]; body: string } {
  const headers = ["content-type", "application/json", "x-keymeter-request-id", requestId, ...refused.headers];
  if (refused.refusal.kind === "money" && CODEX.test(userAgent)) {
    const resetsAt = Math.floor((refused.refusal.resetsAtMs ?? 0) / 1000);
    return {
      status: 429,
      headers,
      body: JSON.stringify({
        error: { type: "usage_limit_reached", message: refused.refusal.message, resets_at: resetsAt },
      }),
    };
  }
  const rendered = dialect.refusal(refused.refusal, requestId);
  return { status: rendered.status, headers: [...headers, ...rendered.headers], body: rendered.body };
}
