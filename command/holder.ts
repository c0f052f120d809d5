// The key that a person holds, and the proxy that knows it, as both stand in the environment: for commands that anybody with a
// key may run, on whichever machine.
import { request } from "undici";
import { commandEnvironment, loadCommandConfig } from "./config.ts";
import { UsageError } from "./usage-error.ts";

export const HOLDER_USAGE = `The key: KEYMETER_KEY, else ANTHROPIC_AUTH_TOKEN, ANTHROPIC_API_KEY, OPENAI_API_KEY,
  or x-keymeter-key in ANTHROPIC_CUSTOM_HEADERS; the proxy: KEYMETER_URL, else where ANTHROPIC_BASE_URL or OPENAI_BASE_URL leads, else this machine's.`;

type Holder = { readonly key: string; readonly origin: string };

/** Throws UsageError where there is no key. */
export function findHolder(usage: string): Holder {
  const env = commandEnvironment();
  const beside = /^x-keymeter-key: *(\S+)/im.exec(env["ANTHROPIC_CUSTOM_HEADERS"] ?? "")?.[1];
  const { ANTHROPIC_BASE_URL: anthropic, OPENAI_BASE_URL: openai } = env;
  // A key goes to no other address than the one that its own client has.
  const candidates: readonly (readonly [key: string | undefined, base: string | undefined])[] = [
    [env["KEYMETER_KEY"], undefined],
    [env["ANTHROPIC_AUTH_TOKEN"], anthropic],
    [env["ANTHROPIC_API_KEY"], anthropic],
    [env["OPENAI_API_KEY"], openai],
    [beside, anthropic],
  ];
  const [key, other] = candidates.find(([one]) => one?.startsWith("km_")) ?? [];
  if (key === undefined)
    throw new UsageError(`no Keymeter key is in the environment: set KEYMETER_KEY=km_...\n${usage}`);
  const base = env["KEYMETER_URL"] ?? other ?? localUrl();
  if (!URL.canParse(base)) throw new UsageError(`${base} is no URL`);
  return { key, origin: new URL(base).origin };
}

/** Where the settings of this machine have the proxy. */
export function localUrl(): string {
  return `http://127.0.0.1:${loadCommandConfig().proxyPort}`;
}

/** Asks the proxy as that holder. Rejects with an Error that says what it answered. */
export async function askAsHolder<T>(
  { key, origin }: Holder,
  path: string,
  { body, answerMs }: { readonly body?: unknown; readonly answerMs: number },
): Promise<T> {
  const { statusCode, body: answer } = await request(`${origin}${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: { authorization: `Bearer ${key}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    headersTimeout: answerMs,
    bodyTimeout: answerMs,
    signal: AbortSignal.timeout(answerMs),
  }).catch(() => {
    throw new Error(`${origin} does not answer; KEYMETER_URL says where else Keymeter is`);
  });
  const text = await answer.text();
  if (statusCode >= 300) throw new Error(`it answered ${statusCode}${whyOf(text)}`);
  return JSON.parse(text) as T;
}

/** What a refusal says, in whichever dialect. */
function whyOf(text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: { message?: unknown } };
    return typeof error?.message === "string" ? `: ${error.message}` : "";
  } catch {
    return "";
  }
}
