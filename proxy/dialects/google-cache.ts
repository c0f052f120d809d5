// Explicit caches of Gemini: what is put into one is read once, and kept for money until it expires or is deleted.
// Source: ai.google.dev, context caching reference and pricing.
import { readCount } from "../../ledger/usage.ts";
import { compactUsage } from "./stated.ts";
import { NO_READING } from "./reading.ts";
import { objectAt, rawOf, textAt } from "./json.ts";
import { PLAIN_CALL } from "./call.ts";
import type { Call } from "./call.ts";
import type { JsonObject } from "./json.ts";
import type { Reading, UsageReader } from "./reading.ts";
import type { Route } from "./routes.ts";
import { unproven } from "./why.ts";

export const CACHE_ROUTES: readonly Route[] = [
  { method: "POST", path: "/cachedContents", endpoint: "cached_contents", kind: "metered" },
  { method: "PATCH", path: "/cachedContents/{id}", endpoint: "cached_contents", kind: "metered", scope: "work" },
  { method: "GET", path: "/cachedContents", endpoint: "cached_contents_list", kind: "free", scope: "account" },
  { method: "GET", path: "/cachedContents/{id}", endpoint: "cached_contents_state", kind: "free", scope: "work" },
  { method: "DELETE", path: "/cachedContents/{id}", endpoint: "cached_contents_state", kind: "free", scope: "work" },
];

/** How long it is kept, and how many tokens it holds, shows in the answer. `id`: of one that is changed. */
export function describeCache(body: JsonObject, id: string | undefined): Call {
  const model = modelOf(textAt(body, "model"));
  return {
    ...PLAIN_CALL,
    endpoint: "cached_contents",
    // A change of the expiry names no model; the answer does.
    model: model ?? "cached-content",
    ...(id === undefined ? {} : { cache: { name: `cachedContents/${id}`, isModelOpen: model === undefined } }),
    maxOutputTokens: 0,
    unbounded: unproven("what a cache keeps, and for how long"),
  };
}

/** What was put in is input; the storage is booked at once, until the expiry, as an estimate: a cache that is deleted
 *  sooner costs less. A later expiry is booked beyond the one that is booked already; when that is not known, from the
 *  change on. */
export function createCacheReader({ cache }: Call): UsageReader {
  let answer: JsonObject | undefined;
  return {
    needsWholeBody: true,
    body: (body) => void (answer = body),
    event: () => "pass",
    reading(): Reading {
      const stated = objectAt(answer, "usageMetadata");
      const tokens = readCount(stated?.["totalTokenCount"]);
      const [created, updated, expires] = ["createTime", "updateTime", "expireTime"].map((name) =>
        Date.parse(textAt(answer, name) ?? ""),
      ) as [number, number, number];
      const hours = Math.max(0, expires - Math.max(updated, cache?.bookedUntilMs ?? 0)) / HOUR_MS;
      const isKnown = tokens !== undefined && Number.isFinite(hours);
      const name = textAt(answer, "name");
      const model = modelOf(textAt(answer, "model"));
      const keeps =
        isKnown && name !== undefined && model !== undefined
          ? { name, model, untilMs: Math.max(expires, cache?.bookedUntilMs ?? 0) }
          : undefined;
      return {
        ...NO_READING,
        usage: isKnown
          ? compactUsage({
              input: created === updated ? tokens : 0,
              cache_token_hour: Math.ceil(tokens * Math.min(hours, MOST_HOURS)),
            })
          : undefined,
        servedModel: model,
        responseId: name,
        makes: name === undefined ? [] : [name],
        ...(keeps ? { keeps } : {}),
        raw: stated && rawOf({ ...stated, updateTime: answer?.["updateTime"], expireTime: answer?.["expireTime"] }),
        final: isKnown,
        isEstimate: true,
        ended: answer !== undefined,
        failed: answer?.["error"] !== undefined,
      };
    },
  };
}

const HOUR_MS = 3_600_000;
const MOST_HOURS = 24 * 366;

/** "models/x", or a longer name that ends so. */
function modelOf(name: string | undefined): string | undefined {
  return name?.replace(/^.*\//, "");
}
