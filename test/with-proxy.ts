// A proxy before a provider for all tests of a file or of a describe, or anew for each of them: started and stopped by
// hooks, which are registered where this is called. Hooks of the test's own come after the start and before the stop.
import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";
import type { KeyFields } from "../ledger/usage/keys.ts";
import { startFakeProvider } from "./fake/provider.ts";
import type { FakeProvider, Script } from "./fake/provider.ts";
import { startProxy } from "./start-proxy.ts";
import type { RunningProxy } from "./start-proxy.ts";

type Environment = { [name: string]: string };

/** Settings, or how they come from the provider's address. */
type Settings = Environment | ((url: string) => Environment);

type Options = {
  /** A new provider and a new proxy for each test. */
  readonly each?: boolean;
  /** A key is made at the start: its `secret`. */
  readonly key?: Partial<KeyFields>;
};

export type WithProxy<P> = {
  readonly provider: P;
  readonly running: RunningProxy;
  /** Of the key that was asked for. */
  readonly secret: string;
  /** Another proxy in the place of one that the test has stopped, before the same provider or elsewhere. */
  startAgain(environment?: Environment, upstream?: string): Promise<void>;
};

/** Before a provider that answers so. */
export function withProxy(script: Script, settings?: Settings, options?: Options): WithProxy<FakeProvider> {
  return withProxyBefore(() => startFakeProvider(script), settings, options);
}

/** Before a provider of another kind. */
export function withProxyBefore<P extends { readonly url: string; close(): Promise<void> }>(
  startProvider: () => Promise<P>,
  settings: Settings = {},
  { each = false, key }: Options = {},
): WithProxy<P> {
  let provider: P | undefined;
  let running: RunningProxy | undefined;
  let secret: string | undefined;
  const [start, stop] = each ? [beforeEach, afterEach] : [beforeAll, afterAll];
  start(async () => {
    provider = await startProvider();
    running = await startProxy(provider.url, typeof settings === "function" ? settings(provider.url) : settings);
    if (key) ({ secret } = await running.createKey(key));
  });
  stop(async () => {
    await running?.stop();
    await provider?.close();
  });
  return {
    get provider() {
      return started(provider);
    },
    get running() {
      return started(running);
    },
    get secret() {
      return started(secret);
    },
    async startAgain(environment, upstream = started(provider).url) {
      running = await startProxy(upstream, environment);
    },
  };
}

function started<T>(one: T | undefined): T {
  if (one === undefined)
    throw new Error("not before the hooks have run, and a key's secret only where one is asked for");
  return one;
}
