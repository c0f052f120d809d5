// The price list of several machines: the one that was fetched last lies in the books in Postgres, and each data folder
// has a copy of it.
import { hash } from "node:crypto";
import { openPool, runOn } from "../postgres.ts";
import type { Pool } from "../postgres.ts";
import { parsePriceList, readPriceList, writePriceList } from "./price-list.ts";

/** Puts a list that was checked where all take it from. Rejects with a LedgerError when the books cannot be used. */
export async function sharePriceList(ledgerUrl: string, text: string, nowMs: number): Promise<void> {
  await withPool(ledgerUrl, (pool) =>
    runOn(
      pool,
      `INSERT INTO price_list VALUES (1, ?, ?, ?)
      ON CONFLICT (one) DO UPDATE SET digest = excluded.digest, text = excluded.text, at_ms = excluded.at_ms`,
      [digestOf(text), text, nowMs],
    ),
  );
}

/** Takes the list that lies there, if it is another one and newer than the folder's own. Rejects with a PriceListError where it is odd, with a
 *  LedgerError when the books cannot be used: then the folder's own goes on. */
export async function takePriceList(ledgerUrl: string, dataDir: string): Promise<void> {
  await withPool(ledgerUrl, async (pool) => {
    const own = readPriceList(dataDir);
    const rows = await runOn(pool, "SELECT text, at_ms FROM price_list WHERE digest <> ?", [digestOf(own?.text ?? "")]);
    const [text, atMs] = (rows[0] ?? []) as [string?, bigint?];
    if (text === undefined || Number(atMs) <= (own?.atMs ?? 0)) return;
    parsePriceList(text);
    writePriceList(dataDir, text, Number(atMs));
  });
}

async function withPool<T>(ledgerUrl: string, use: (pool: Pool) => Promise<T>): Promise<T> {
  const { pool, release } = await openPool(ledgerUrl);
  try {
    return await use(pool);
  } finally {
    await release();
  }
}

function digestOf(text: string): string {
  return hash("sha256", text);
}
