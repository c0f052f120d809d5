// Fetches a newer price list into the data folder, where the proxy finds it, and into books in Postgres, where those on
// other machines do. What is odd is refused, and nothing changes.
import { REMOTE_DATA_JSON_URL } from "@pydantic/genai-prices";
import { LedgerError } from "../ledger/books.ts";
import { parsePriceList, PriceListError, writePriceList } from "../ledger/prices/price-list.ts";
import { sharePriceList } from "../ledger/prices/shared-list.ts";
import type { BooksConfig } from "../service/config.ts";

const TIMEOUT_MS = 60_000;
const MOST_BYTES = 32 * 1024 * 1024;

/** Returns what failed, as a sentence; undefined when the list is there. */
export async function fetchPriceList(
  { dataDir, ledgerUrl }: BooksConfig,
  url = REMOTE_DATA_JSON_URL,
): Promise<string | undefined> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) return `${url} answered ${answer.status}`;
    const text = await readAtMost(answer, MOST_BYTES);
    if (text === undefined) return `${url} is larger than any price list`;
    parsePriceList(text);
    writePriceList(dataDir, text, Date.now());
    if (ledgerUrl) await sharePriceList(ledgerUrl.reveal(), text, Date.now());
    return undefined;
  } catch (error) {
    if (error instanceof LedgerError)
      return `the price list is in this data folder, and other proxies do not get it: ${error.message}`;
    if (error instanceof PriceListError) return `the price list of ${url} is refused: ${error.message}`;
    const why = error instanceof Error ? ((error.cause as Error | undefined)?.message ?? error.message) : String(error);
    return `${url} could not be fetched (${why}); the prices that are known go on`;
  }
}

/** The text of an answer; undefined where it is longer than `mostBytes`, whatever its headers say. */
async function readAtMost(answer: Response, mostBytes: number): Promise<string | undefined> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of answer.body ?? []) {
    bytes += part.length;
    if (bytes > mostBytes) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}
