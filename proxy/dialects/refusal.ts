// Why a request is not served, before it has the words of a dialect.

/** Why a request is not served, as data; each dialect has its own words for it. */
export type Refusal = {
  readonly kind:
    | "invalid"
    | "unauthorized"
    | "forbidden"
    | "not_found"
    | "too_large"
    | "unsupported_media"
    | "money"
    | "unpriced"
    | "rate"
    | "upstream"
    | "timeout"
    | "unavailable"
    | "upgrade";
  readonly status: number;
  readonly message: string;
  /** For `money`: when the window of the budget ends; undefined: never. */
  readonly resetsAtMs?: number;
};
