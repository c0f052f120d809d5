// A call to a receiver's API, and what became of it.
import { FormData, request } from "undici";
import type { Outcome } from "./receiver.ts";

type Failure = Exclude<Outcome, { ok: true }>;

const TIMEOUT_MS = 10_000;
export const AGAIN_MS = 2_000;
/** Errors that stay until somebody mends them are tried again rarely. */
export const BROKEN_MS = 60_000;
const MOST_BYTES = 256 * 1024;

export type Called = {
  readonly status: number;
  readonly json: { readonly [name: string]: unknown };
  readonly headers: { readonly [name: string]: unknown };
};

/** What came back; a Failure where nothing did, or nothing that is JSON in an answer that should be. */
export async function callReceiver(
  url: string,
  {
    method = "POST",
    headers = {},
    body,
  }: {
    readonly method?: "GET" | "POST" | "PATCH" | "PUT";
    readonly headers?: { readonly [name: string]: string };
    readonly body?: string | FormData;
  },
): Promise<Called | Failure> {
  try {
    const answer = await request(url, {
      method,
      headers: { ...(typeof body === "string" ? { "content-type": "application/json" } : {}), ...headers },
      body: body ?? null,
      headersTimeout: TIMEOUT_MS,
      bodyTimeout: TIMEOUT_MS,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const text = (await answer.body.text()).slice(0, MOST_BYTES);
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      json = {};
    }
    return {
      status: answer.statusCode,
      json: typeof json === "object" && json !== null && !Array.isArray(json) ? (json as Called["json"]) : {},
      headers: answer.headers,
    };
  } catch (error) {
    const why = error instanceof Error ? error.message || error.name : String(error);
    // The address holds secrets at some of them.
    return {
      ok: false,
      retryAfterMs: AGAIN_MS,
      error: `no answer (${why.replaceAll(url, "…")})`,
      isKnown: false,
      about: "call",
    };
  }
}

export function failed(about: Failure["about"], error: string, retryAfterMs = BROKEN_MS): Failure {
  return { ok: false, retryAfterMs, error, isKnown: true, about };
}

/** A server that is in trouble may have taken it. */
export function inTrouble(status: number): Failure {
  return { ok: false, retryAfterMs: AGAIN_MS, error: `it answers ${status}`, isKnown: false, about: "call" };
}

/** What a service says of itself in one field, or "no reason". */
export function saidIn({ json }: Called, field: string): string {
  const said = json[field];
  return typeof said === "string" ? said : "no reason";
}

/** 429, with the seconds of its Retry-After where it says some. */
export function askedToWait({ headers }: Called): Failure {
  const seconds = Number(headers["retry-after"] ?? Number.NaN);
  return failed("everything", "it answers 429", Number.isFinite(seconds) ? seconds * 1000 : AGAIN_MS);
}
