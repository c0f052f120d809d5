// The command's way to the books: reading is free; a change goes through the proxy that owns the file, or, when none runs,
// takes its lock and calls the same function.
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Scope } from "../ledger/budgets.ts";
import type { Change } from "../ledger/changes.ts";
import { ChangeRefused } from "../ledger/change-refused.ts";
import { LedgerError, LedgerInUse, openForReading } from "../ledger/open.ts";
import type { Sqlite } from "../ledger/open.ts";
import { openWriter } from "../ledger/writer.ts";
import type { SharedConfig } from "../service/config.ts";
import { toJson } from "./table.ts";

/** Opens usage.db for reading, or says that there is none yet. */
export function openUsage(config: SharedConfig): Sqlite {
  const path = join(config.dataDir, "usage.db");
  const books = openForReading(path);
  if (!books) throw noBooks(path);
  return books;
}

function noBooks(path: string): LedgerError {
  return new LedgerError(
    `${resolve(path)} does not exist: nothing has been metered here yet. Start Keymeter (npm start), or name its data folder with KEYMETER_DATA_DIR.`,
  );
}

/** Makes a change, whoever owns the books now. Throws ChangeRefused or LedgerError. */
export async function makeChange(config: SharedConfig, change: Change): Promise<void> {
  const path = join(config.dataDir, "usage.db");
  if (!existsSync(path)) throw noBooks(path);
  try {
    const writer = await openWriter({ path, durability: "power", zone: config.timezone, capMode: "enforce" });
    try {
      return await writer.change(change, "command");
    } finally {
      await writer.close();
    }
  } catch (error) {
    if (!(error instanceof LedgerInUse)) throw error;
  }
  await askProxy(config, "POST", "/admin/changes", toChangeJson(change));
}

/** Ends what goes on now in a scope; 0 when no proxy runs. */
export async function cutLive(config: SharedConfig, scope: Scope): Promise<number> {
  try {
    const answer = (await askProxy(config, "POST", "/admin/cut", JSON.stringify(scope))) as { cut: number };
    return answer.cut;
  } catch (error) {
    if (error instanceof ProxyGone) return 0;
    throw error;
  }
}

/** Nobody answers where the proxy should be. */
class ProxyGone extends LedgerError {}

/** Calls the admin API of the running proxy with the token of the data folder. */
async function askProxy(config: SharedConfig, method: "GET" | "POST", path: string, body?: string): Promise<unknown> {
  const host = config.host === "0.0.0.0" || config.host === "::" ? "127.0.0.1" : config.host;
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${config.opsPort}${path}`;
  const token = readFileSync(join(config.dataDir, "admin-token"), "utf8").trim();
  let answer: Response;
  try {
    answer = await fetch(url, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body }),
    });
  } catch {
    throw new ProxyGone(
      `the books are in use, but no proxy answers at ${url}. Set KEYMETER_OPS_PORT to the port it was started with.`,
    );
  }
  const parsed = (await answer.json().catch(() => ({}))) as { error?: string };
  if (answer.status === 409) throw new ChangeRefused(parsed.error ?? "refused");
  if (!answer.ok)
    throw new LedgerError(`the proxy at ${url} answered ${answer.status}: ${parsed.error ?? "no reason"}`);
  return parsed;
}

/** The wire form: bigint as digits, absent members left out. */
function toChangeJson(change: Change): string {
  return toJson(change);
}
