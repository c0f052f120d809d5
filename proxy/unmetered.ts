// What passed unmetered since the start, by key and path: a hard budget that covers such a key will refuse it, and whoever sets one is told
// so beforehand. In memory, bounded.
import type { Principal } from "./register.ts";

type UnmeteredUse = {
  readonly keyId: string;
  readonly key: string;
  readonly team: string;
  readonly provider: string;
  /** Method and path, ids left out: "POST /v1/vector_stores/{id}/files". */
  readonly path: string;
  readonly requests: number;
  readonly lastAtMs: number;
};

export type Unmetered = {
  note(principal: Principal, provider: string, method: string, path: string, nowMs: number): void;
  list(): UnmeteredUse[];
};

const MOST_NOTED = 500;

export function createUnmetered(): Unmetered {
  const noted = new Map<string, UnmeteredUse>();
  return {
    note({ keyId, key, proven, team }, provider, method, path, nowMs) {
      const shape = `${method} ${path.replace(/\/[^/]*\d[^/]*(?=\/|$)/g, (segment) => (/^\/v\d/.test(segment) ? segment : "/{id}"))}`;
      const place = JSON.stringify([keyId, provider, shape]);
      const before = noted.get(place);
      if (!before && noted.size >= MOST_NOTED) return;
      noted.set(place, {
        keyId,
        key: key?.name ?? proven?.name ?? "",
        team,
        provider,
        path: shape,
        requests: (before?.requests ?? 0) + 1,
        lastAtMs: nowMs,
      });
    },
    list: () => [...noted.values()],
  };
}
