// What the attacks of this folder ask, and what they count in the books.
import { join } from "node:path";
import { openForReading } from "../../ledger/sqlite.ts";

export const CHAT = "/openai/v1/chat/completions";
export const RESPONSES = "/openai/v1/responses";
export const EMBEDDINGS = "/openai/v1/embeddings";
export const MESSAGES = "/anthropic/v1/messages";
export const GEMINI = "/google/v1beta/models/gemini-2.5-flash:generateContent";
export const GEMINI_STREAM = "/google/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
export const SSE = "text/event-stream";

/** A number from the books of a proxy, by a query that counts. */
export function countInBooks(dataDir: string, query: string): number {
  const books = openForReading(join(dataDir, "usage.db"));
  if (!books) throw new Error("no books");
  const count = Number(books.prepare(query).pluck().get());
  books.close();
  return count;
}

/** Reservations that are open in the books, with a budget or without. */
export function heldAttempts(dataDir: string): number {
  return countInBooks(dataDir, "SELECT count(*) FROM reservations");
}

/** Posts a JSON body. */
export async function ask(
  url: string,
  secret: string,
  path: string,
  body: object,
  headers: { readonly [name: string]: string } = {},
): Promise<{ readonly status: number; readonly text: string }> {
  const answer = await fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, ...headers },
    body: JSON.stringify(body),
  });
  return { status: answer.status, text: await answer.text() };
}
