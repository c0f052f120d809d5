// Why a request is refused: one list. Expected refusals travel as a value, are rendered in the client's own dialect and
// are counted; none of them reaches a provider.
import type { Freeze } from "../ledger/budgets.ts";
import { describeScope } from "../ledger/budgets.ts";
import type { Refusal } from "./dialects/refusal.ts";

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
  | "seat_tokens"
  | "busy"
  | "draining"
  | "websocket";

/** Thrown by the gate and by admission; answered in refuse.ts. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly reason: RefusalReason;
  readonly refusal: Refusal;
  readonly headers: readonly string[];
  /** A budget said no: the ledger has counted it. */
  readonly isOfBudget: boolean;

  constructor(
    reason: RefusalReason,
    message: string,
    details: {
      readonly headers?: readonly string[];
      readonly resetsAtMs?: number | undefined;
      readonly status?: number;
      readonly isOfBudget?: boolean;
    } = {},
  ) {
    super(message);
    this.reason = reason;
    this.headers = details.headers ?? [];
    this.isOfBudget = details.isOfBudget === true;
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
  unpriced: { kind: "unpriced", status: 402 },
  in_flight: { kind: "money", status: 402 },
  ledger_unavailable: { kind: "unavailable", status: 503 },
  not_allowed: { kind: "forbidden", status: 403 },
  frozen: { kind: "forbidden", status: 403 },
  rate_limited: { kind: "rate", status: 429 },
  seat_tokens: { kind: "money", status: 402 },
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
export function refuseFrozen({ scope, reason, id }: Freeze, nameOf?: (id: string) => string | undefined): Refused {
  return new Refused(
    "frozen",
    `${describeScope(scope, nameOf)} is frozen (${id}): ${reason}. Whoever runs Keymeter can lift that`,
    {
      headers: ["x-should-retry", "false"],
    },
  );
}
