// A Keymeter elsewhere: a real proxy and a real collector program, a token of each role, and a key of each of two teams.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { issueToken } from "../../ledger/usage/tokens.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { freePorts } from "../free-ports.ts";
import { runKeymeter, startKeymeter } from "../run-keymeter.ts";
import { startProxy, temporaryFolder } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

export type Elsewhere = {
  readonly provider: FakeProvider;
  readonly running: RunningProxy;
  /** Where its collector listens. */
  readonly server: string;
  /** By the name of who holds it: rob reads, lea leads search, fin is finance, ann is admin. */
  readonly tokens: { [who: string]: string };
  readonly readToken: string;
  readonly keyOf: { readonly [team: string]: { readonly id: string; readonly secret: string } };
  /** Runs words of the command from another machine, as somebody. */
  there(who: string, ...words: string[]): ReturnType<typeof runKeymeter>;
  close(): Promise<void>;
};

const HOLDERS = [
  { name: "rob", role: "read" },
  { name: "lea", role: "lead", team: "search" },
  { name: "fin", role: "finance" },
  { name: "ann", role: "admin" },
] as const;
const READY_MS = 30_000;

/** `environment`: of the collector. */
export async function startElsewhere(
  environment: (server: string) => { readonly [name: string]: string } = () => ({}),
): Promise<Elsewhere> {
  const provider = await startFakeProvider(json(chatAnswer()));
  const running = await startProxy(provider.url, { KEYMETER_DURABILITY: "process" });
  const { KEYMETER_COLLECTOR_PORT: port = "" } = await freePorts();
  const server = `http://127.0.0.1:${port}`;
  const own = { KEYMETER_COLLECTOR_PORT: port, KEYMETER_LOG_LEVEL: "silent", ...environment(server) };
  const collector = startKeymeter({ ...running, environment: own }, "collector");
  const tokens: { [who: string]: string } = {};
  for (const holder of HOLDERS) {
    const { token, digest, secret } = issueToken(holder, undefined, Date.now());
    await running.change({ type: "createToken", token, digest });
    tokens[holder.name] = secret;
  }
  const keyOf = {
    search: await running.createKey({ name: "of-search", team: "search" }),
    ads: await running.createKey({ name: "of-ads", team: "ads" }),
  };
  for (const untilMs = Date.now() + READY_MS; ;) {
    const status = await fetch(`${server}/readyz`).then(
      (answer) => answer.status,
      () => 0,
    );
    if (status === 200) break;
    if (Date.now() > untilMs) throw new Error(`the collector is not ready: ${status}`);
    await sleep(100);
  }
  // A clean home, so that nobody's own profile counts.
  const home = temporaryFolder();
  return {
    provider,
    running,
    server,
    tokens,
    readToken: readFileSync(join(running.dataDir, "read-token"), "utf8").trim(),
    keyOf,
    there: (who, ...words) =>
      runKeymeter(
        {
          dataDir: join(home, "nothing"),
          opsUrl: "http://127.0.0.1:1",
          environment: { HOME: home, KEYMETER_SERVER: server, KEYMETER_TOKEN: tokens[who] ?? who },
        },
        ...words,
      ),
    async close() {
      await collector.stop();
      await running.stop();
      await provider.close();
    },
  };
}
