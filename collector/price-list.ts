// Fetches a newer price list into the data folder, where the proxy finds it. What is odd is refused, and nothing changes.
import { REMOTE_DATA_JSON_URL } from "@pydantic/genai-prices";
import { parsePriceList, PriceListError, writePriceList } from "../ledger/price-list.ts";

const TIMEOUT_MS = 60_000;
const MOST_BYTES = 32 * 1024 * 1024;

/** Returns what failed, as a sentence; undefined when the list is there. */
export async function fetchPriceList(dataDir: string, url = REMOTE_DATA_JSON_URL): Promise<string | undefined> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) return `${url} answered ${answer.status}`;
    if (Number(answer.headers.get("content-length") ?? 0) > MOST_BYTES) return `${url} is larger than any price list`;
    const text = await answer.text();
    parsePriceList(text);
    writePriceList(dataDir, text);
    return undefined;
  } catch (error) {
    if (error instanceof PriceListError) return `the price list of ${url} is refused: ${error.message}`;
    const why = error instanceof Error ? ((error.cause as Error | undefined)?.message ?? error.message) : String(error);
    return `${url} could not be fetched (${why}); the prices that are known go on`;
  }
}

/** Whose price list a provider's use goes by. */
export const PRICE_LISTS: { readonly [provider: string]: string } = {
  openai: "openai",
  anthropic: "anthropic",
  "gcp.gemini": "google",
};
