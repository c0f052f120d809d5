// Starts a real proxy in this process, on free ports, with books in a temporary folder.
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EventRecord } from "../ledger/usage/events.ts";
import { readEvents } from "../ledger/usage/events.ts";
import { issueVirtualKey, createDigest } from "../ledger/usage/keys.ts";
import type { KeyFields } from "../ledger/usage/keys.ts";
import type { Change } from "../ledger/usage/changes.ts";
import type { Budget } from "../ledger/budgets.ts";
import { openUsage } from "../ledger/open.ts";
import { createProxy } from "../proxy/app.ts";
import type { Proxy } from "../proxy/app.ts";
import { loadProxyConfig } from "../proxy/config.ts";
import { createLog } from "../service/log.ts";
import { migratePostgres } from "../ledger/postgres.ts";
import { startPostgres } from "./postgres.ts";
import type { PostgresServer } from "./postgres.ts";

/** Where the books of a data folder are, where tests run with books in Postgres (TEST_BOOKS=postgres). */
const databases = new Map<string, Promise<string>>();
let server: Promise<PostgresServer> | undefined;

async function databaseOf(): Promise<string> {
  server ??= startPostgres().then((started) => {
    process.once("exit", () => void started.kill());
    return started;
  });
  const url = await (await server).database(`books_${databases.size}`);
  await migratePostgres(url);
  return url;
}

async function placeOf(dataDir: string): Promise<string> {
  if (process.env["TEST_BOOKS"] !== "postgres") return dataDir;
  let url = databases.get(dataDir);
  if (!url) databases.set(dataDir, (url = databaseOf()));
  return url;
}

export type RunningProxy = {
  readonly url: string;
  readonly opsUrl: string;
  readonly dataDir: string;
  /** Where its books are: the data folder, or a database. */
  readonly place: string;
  readonly adminToken: string;
  readonly proxy: Proxy;
  /** Every event in the books, oldest first. */
  events(): Promise<EventRecord[]>;
  createKey(fields?: Partial<KeyFields> & { readonly userName?: string }): Promise<{ id: string; secret: string }>;
  /** Makes a change through the admin API; returns the status. */
  change(change: Change): Promise<number>;
  setBudget(budget: Partial<Budget> & { amountNanoUsd: bigint }): Promise<Budget>;
  stop(): Promise<void>;
};

export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), "keymeter-"));
}

/** A keymeter.yaml in a folder of its own. */
export function writeSettings(text: string): string {
  const file = join(temporaryFolder(), "keymeter.yaml");
  writeFileSync(file, text);
  return file;
}

/** `upstream` is used for all providers; `environment` overrides. */
export async function startProxy(
  upstream: string,
  environment: { [name: string]: string } = {},
): Promise<RunningProxy> {
  const dataDir = environment["KEYMETER_DATA_DIR"] ?? temporaryFolder();
  const place = environment["KEYMETER_LEDGER_URL"] ?? (await placeOf(dataDir));
  const config = loadProxyConfig({
    KEYMETER_DATA_DIR: dataDir,
    ...(place === dataDir ? {} : { KEYMETER_LEDGER_URL: place }),
    KEYMETER_OPENAI_URL: upstream,
    KEYMETER_ANTHROPIC_URL: upstream,
    KEYMETER_GOOGLE_URL: upstream,
    OPENAI_API_KEY: "sk-proj-provider-credential-openai",
    ANTHROPIC_API_KEY: "sk-ant-api03-provider-credential",
    GEMINI_API_KEY: "AIzaProviderCredentialGoogle",
    KEYMETER_DRAIN_SECONDS: "1",
    ...environment,
  });
  const proxy = await createProxy(config, createLog("test", "silent"));
  await proxy.app.listen({ host: "127.0.0.1", port: 0 });
  await proxy.ops.listen({ host: "127.0.0.1", port: 0 });
  const portOf = (app: Proxy["app"]): number => (app.server.address() as { port: number }).port;
  let made = 0;
  return {
    url: `http://127.0.0.1:${portOf(proxy.app)}`,
    opsUrl: `http://127.0.0.1:${portOf(proxy.ops)}`,
    dataDir,
    place,
    adminToken: config.adminToken.reveal(),
    proxy,
    events: () => readAllEvents(place),
    async createKey({ userName, ...fields } = {}) {
      const user = userName === undefined ? "" : await proxy.writer.personOf(userName);
      const named = { name: `key-${(made += 1)}`, team: "search", env: "test", user, ...fields };
      const { key, secret } = issueVirtualKey(named, Date.now());
      await proxy.writer.change(
        { type: "createKey", digest: createDigest(config.pepper.reveal())(secret), key },
        "test",
      );
      await proxy.context.register.reload();
      await proxy.context.people.reload();
      return { id: key.id, secret };
    },
    async change(change) {
      const body = JSON.stringify(change, (_name, value: unknown) =>
        typeof value === "bigint" ? value.toString() : value,
      );
      const { status } = await fetch(`http://127.0.0.1:${portOf(proxy.ops)}/admin/changes`, {
        method: "POST",
        headers: { authorization: `Bearer ${config.adminToken.reveal()}`, "content-type": "application/json" },
        body,
      });
      return status;
    },
    async setBudget(given) {
      const budget: Budget = {
        id: `budget_${(made += 1)}`,
        scope: {},
        window: "month",
        kind: "hard",
        mode: "expected",
        createdAtMs: Date.now(),
        ...given,
      };
      await proxy.writer.change({ type: "setBudget", budget }, "test");
      return budget;
    },
    stop: () => proxy.stop(),
  };
}

export async function readAllEvents(place: string): Promise<EventRecord[]> {
  const books = await openUsage(place);
  if (!books) return [];
  try {
    return await readEvents(books, { limit: 10_000_000 });
  } finally {
    await books.close();
  }
}
