// Who makes a provider's keys, and takes them away: over its admin API, with a key that never stands in the proxy. What it
// cannot do is left out, and falls to somebody's hand.

import type { ProviderFacts } from "../../ledger/providers.ts";

export type MakerSettings = {
  /** Of now; "" where settings name none, and the machine's own sign-in counts. */
  readonly adminKey: () => string;
  /** Whose the admin key is, where it does not say so itself: a client id, an access key's id. */
  readonly adminId: string;
  /** Where keys are made. */
  readonly adminUrl: URL;
  /** Where keys are used. */
  readonly url: URL;
  readonly project: string;
  readonly serviceAccount: string;
  readonly team: string;
  /** IAM's. */
  readonly user: string;
  /** Azure's: who signs in where, and which account. */
  readonly tenant: string;
  readonly authority: string;
  readonly resource: string;
  /** The free call, where the maker knows of none. */
  readonly probe: Pick<NonNullable<ProviderFacts["probe"]>, "list" | "headers">;
};

export type MadeKey = {
  /** As the provider calls it. */
  readonly id: string;
  /** The key itself, said once. */
  readonly value: string;
};

export type ListedKey = { readonly id: string; readonly madeAtMs: number };

/** Each call may be made again; all reject with a MakerError. */
export type Maker = {
  /** A key that may do what the current one may. Absent: no API makes a key. */
  create?(name: string, currentId: string): Promise<MadeKey>;
  /** Ids of keys that have exactly this name. */
  find?(name: string): Promise<string[]>;
  /** Where keys have no names: all that the current one's account has, and when the provider made each. */
  list?(currentId: string): Promise<readonly ListedKey[]>;
  /** The key that ends at once when a new one is created. Absent: none does. */
  replaces?(currentId: string): Promise<string>;
  /** The id of the key that this is; undefined: that cannot be told. */
  identify?(value: string): Promise<string | undefined>;
  /** Off, in a way that can be taken back; and on again. */
  disable?(id: string): Promise<void>;
  enable?(id: string): Promise<void>;
  /** Gone for good. Whether it was there: one that is gone already, or that this admin key does not see, is no error. */
  revoke?(id: string): Promise<boolean>;
  /** When the provider last saw it used, wherever that was. */
  lastUsedMs?(id: string): Promise<number | undefined>;
  /** A free call with a key: the status that it is answered with. */
  probe(value: string): Promise<number>;
};

/** What went wrong at the provider: a sentence without a secret. */
export class MakerError extends Error {
  override readonly name = "MakerError";
  /** The provider said no: nothing was done there. */
  readonly isRefusal: boolean;

  constructor(message: string, status?: number) {
    super(message);
    this.isRefusal = status !== undefined && status >= 400 && status < 500;
  }
}

export type Asked = {
  readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly headers: { readonly [name: string]: string };
  readonly body?: object;
  /** Statuses that are an answer too. */
  readonly also?: readonly number[];
  /** What a status says here, where it says more than elsewhere. */
  readonly means?: { readonly [status: number]: string };
};

const TIMEOUT_MS = 20_000;

/** Asks an admin API. What it answers to an error may repeat what was sent: it is not kept. */
export async function askMaker(
  url: URL,
  { method = "GET", headers, body, also = [], means = {} }: Asked,
): Promise<{ readonly status: number; readonly body: unknown }> {
  const what = `${method} ${url.origin}${url.pathname}`;
  let status: number;
  let text: string;
  try {
    const answer = await fetch(url, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    ({ status } = answer);
    text = await answer.text();
  } catch (error) {
    const { cause, name } = error as { readonly cause?: { readonly code?: unknown }; readonly name: string };
    throw new MakerError(`${what} cannot be reached (${typeof cause?.code === "string" ? cause.code : name})`);
  }
  if (status >= 300 && !also.includes(status))
    throw new MakerError(`${what} answered ${status}${means[status] ?? meaningOf(status)}`, status);
  try {
    return { status, body: text === "" ? {} : (JSON.parse(text) as unknown) };
  } catch {
    throw new MakerError(`what ${what} answered (${status}) is no JSON`);
  }
}

/** A path of an API, behind whatever path its address has. */
export function inApi(url: URL, path: string): URL {
  return new URL(`${url.href.replace(/\/+$/, "")}${path}`);
}

/** The status of a free call with a key. */
export async function probeWith(url: URL, headers: { readonly [name: string]: string }): Promise<number> {
  try {
    const answer = await fetch(url, { headers, redirect: "manual", signal: AbortSignal.timeout(TIMEOUT_MS) });
    await answer.body?.cancel();
    return answer.status;
  } catch (error) {
    throw new MakerError(`${url.origin} cannot be reached (${(error as Error).name})`);
  }
}

function meaningOf(status: number): string {
  switch (status) {
    case 401:
      return ": the admin key is wrong or was revoked";
    case 403:
      return ": the admin key may not do this";
    case 404:
      return ": there is no such project, account or key";
    case 429:
      return ": too many requests right now";
    default:
      return "";
  }
}

/** Which of several keys a value is, by what the provider shows of each: its first and last characters. */
export function identifyBy(
  value: string,
  keys: readonly { readonly id: string; readonly shown: string | undefined }[],
): string | undefined {
  const found = keys.filter(({ shown }) => {
    const [, head = "", tail = ""] = /^([^.*…]*)[.*…]+([^.*…]*)$/.exec(shown ?? "") ?? [];
    return tail !== "" && value.startsWith(head) && value.endsWith(tail);
  });
  return found.length === 1 ? found[0]?.id : undefined;
}
