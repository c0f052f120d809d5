// One HTTP call to a store of secrets: never followed to another host, never longer than a secret, and every way in which it
// fails is a StoreError without a secret in it.
import { StoreError } from "./store.ts";

export type Answered = { readonly status: number; readonly body: unknown };

const MOST_ANSWER_BYTES = 4 * 1024 * 1024;

/** A path of a store's API, behind whatever path its address has. */
export function inStore(address: string, path: string): URL {
  return new URL(`${address.replace(/\/+$/, "")}/v1/${path}`);
}

/** What a store answers, as JSON. Rejects with a StoreError (`away`) where it answers nothing that can be read. */
export async function askStore(
  url: URL,
  signal: AbortSignal,
  {
    method = "GET",
    headers,
    body,
  }: {
    readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
    readonly headers: { readonly [name: string]: string };
    readonly body?: object;
  },
): Promise<Answered> {
  const { origin } = url;
  const response = await fetch(url, {
    method,
    headers: { ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    // A token goes to no other host.
    redirect: "manual",
    signal,
  }).catch((error: unknown) => {
    throw new StoreError("away", `${origin} cannot be reached (${reasonOf(error)})`);
  });
  const { status } = response;
  const text = await readAll(response, origin);
  if (status >= 300 && status < 400)
    throw new StoreError("away", `${origin} sends on to another host: name the active one, or a load balancer`);
  if (status === 429 || status >= 500)
    throw new StoreError("away", `${origin} answered ${status}${status === 503 ? " (sealed, or standing by)" : ""}`);
  if (status === 204 || (status === 201 && text === "")) return { status, body: undefined };
  try {
    return { status, body: JSON.parse(text) };
  } catch {
    throw new StoreError("away", `what ${origin} answered (${status}) is no JSON`);
  }
}

/** Never more than a secret can have. */
async function readAll(response: Response, origin: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response.body ?? []) {
      bytes += chunk.length;
      if (bytes > MOST_ANSWER_BYTES) throw new StoreError("away", `${origin} answers with more than a secret can have`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof StoreError ? error : new StoreError("away", `${origin} broke off (${reasonOf(error)})`);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError" || error.name === "AbortError") return "it did not answer in time";
  const { cause } = error;
  // Without a cause it is about what was to be sent, and may repeat it.
  return cause instanceof Error ? ("code" in cause ? String(cause.code) : cause.message) : error.name;
}
