// What passed unmetered since the start, by key and path: a hard budget that covers such a key will refuse it, and
// whoever sets one is told so beforehand. In memory, bounded.
import type { Principal } from "./principal.ts";

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

/** A name that a provider made: with a digit, very long, or a kind and letters ("thread_abcdEFGH"). */
function isId(name: string): boolean {
  if (/^v\d+\w*$/.test(name)) return false;
  return /\d/.test(name) || name.length > 24 || /^[a-z]+[_-](?=.*[A-Z])\w{8,}$/.test(name);
}

export function createUnmetered(): Unmetered {
  const noted = new Map<string, UnmeteredUse>();
  return {
    note({ keyId, key, proven, team }, provider, method, path, nowMs) {
      const shape = `${method} ${path.replace(/\/([^/]+)/g, (segment, name: string) => (isId(name) ? "/{id}" : segment))}`;
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
