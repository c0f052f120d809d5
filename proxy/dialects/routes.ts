// The paths of a dialect, and which of them a request takes.

/** A path that reaches the provider. `path` is without version, each `{name}` one segment or a part of it. `free`:
 *  forwarded without booking, for it costs nothing. `metered`: has a bound and a usage reader. `result`: brings the
 *  result of work that was begun earlier, `{id}` in the path. `socket`: a WebSocket whose turns are metered. */
export type Route = {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  readonly path: string;
  readonly endpoint: string;
  readonly kind: "metered" | "free" | "result" | "socket";
  /** Whose things a path reaches. `work`: what `{id}` names, for a Keymeter key only if it made that. `account`: what
   *  all keys of the provider's account made, so it is not for Keymeter keys. */
  readonly scope?: "work" | "account";
  /** Free by this price list alone: elsewhere nobody knows. */
  readonly freeAt?: string;
  /** Its answer is a thing that it made, `id` or `name`: the key that asked may reach it. */
  readonly makes?: boolean;
  /** Its answer names places at the provider that an SDK follows. */
  readonly namesPlaces?: boolean;
  /** The body may be a form (multipart/form-data) too: its text fields are then the members of the object that is
   *  read. */
  readonly takesForm?: boolean;
};

export type RouteMatch = { readonly route: Route; readonly parameters: { readonly [name: string]: string } };

/** Matches a path without version against the routes. */
export function matchRoute(routes: readonly Route[], method: string, path: string): RouteMatch | undefined {
  for (const route of routes) {
    if (route.method !== method) continue;
    const found = compiled(route.path).exec(path);
    if (found) return { route, parameters: found.groups ?? {} };
  }
  return undefined;
}

const patterns = new Map<string, RegExp>();

function compiled(path: string): RegExp {
  let pattern = patterns.get(path);
  if (!pattern) {
    const source = path
      .replace(/[.*+?^$()|[\]\\]/g, "\\$&")
      .replace(/\{(\w+)\}/g, "(?<$1>[^/:]+)")
      .replace(/\{(\w+)\\\+\}/g, "(?<$1>[^:]+)");
    patterns.set(path, (pattern = new RegExp(`^${source}$`)));
  }
  return pattern;
}
