// Do the provider credentials that this proxy holds work? Asked of the proxy itself, for a shell beside it may hold
// others.
import { reasonOf } from "../service/finding.ts";
import { HeldSecret, SecretUnavailable } from "../service/secrets/index.ts";
import type { SecretState } from "../service/secrets/index.ts";
import type { Finding } from "../service/finding.ts";
import type { ProviderFacts } from "../ledger/providers.ts";
import type { ProxyConfig } from "./config.ts";
import { credentialsOf } from "./credential-source.ts";
import type { CredentialSource, ProviderSettings } from "./providers/provider.ts";

const TIMEOUT_MS = 8_000;
const MOST_SKEW_MS = 30_000;

type Probe = NonNullable<ProviderFacts["probe"]>;
type Held = Pick<ProxyConfig, "own" | "providers" | "upstreams">;

/** Asks each provider for its list of models; `isPaid`: for one token too, for what a spent quota looks like shows only
 *  then. */
export async function checkCredentials({ own, providers, upstreams }: Held, isPaid: boolean): Promise<Finding[]> {
  const checks = Object.entries(own).map(async ([name, settings]) =>
    checkProvider(providers.find(name), settings, isPaid),
  );
  const ofUpstreams = upstreams.flatMap(({ name, settings }) =>
    credentialsOf(settings).map(async (one) =>
      checkUpstream(titleOf(name, one.name), providers.find(name)?.probe, settings, one.source),
    ),
  );
  return (await Promise.all([...checks, ...ofUpstreams])).flat();
}

async function checkUpstream(
  title: string,
  known: Probe | undefined,
  { url, version }: Pick<ProviderSettings, "url" | "version">,
  source: CredentialSource,
): Promise<Finding[]> {
  const read = stored(title, source);
  if (!known || read.some(({ state }) => state === "fail")) return read;
  const list = version === "none" ? known.list.replace(/^\/v1/, "") : known.list;
  const check = { title, variable: "its place in keymeter.yaml", probe: { ...known, list }, mayLackList: true };
  return checkCredential(check, url, source, false);
}

/** Of a credential: the provider's own, or one of several. */
function titleOf(provider: string, name: string): string {
  return name === "" ? provider : `${provider}, credential "${name}"`;
}

/** Of an upstream whose key is in a store: whether it can be read there. */
function stored(what: string, credential: CredentialSource): Finding[] {
  const held = credential instanceof HeldSecret ? credential : credential.secret;
  if (!held) return [];
  const { failure, readAtMs, place } = held.state;
  const read: Finding = { what, state: readAtMs === undefined ? "fail" : "ok", said: "the key was read" };
  const found = fromStore(read, held.state);
  if (readAtMs !== undefined) return [found];
  return [
    {
      ...found,
      said: `the key cannot be read: ${failure?.message ?? "not yet"}`,
      mend: `look at the store of ${place}`,
    },
  ];
}

async function checkProvider(
  provider: ProviderFacts | undefined,
  settings: ProviderSettings,
  isPaid: boolean,
): Promise<Finding[]> {
  const { displayName = "", keyVariable: variable, probe } = provider ?? {};
  const all = credentialsOf(settings);
  if (variable === undefined || !probe)
    return all.flatMap(({ name, source }) => stored(titleOf(displayName, name), source));
  if (all.length === 0) {
    const said = `${variable} is not set: clients bring their own keys, or do not use it`;
    return [{ what: displayName, state: "off", said }];
  }
  const checks = all.map(async ({ name, source }) =>
    checkCredential(
      { title: titleOf(displayName, name), variable: name === "" ? variable : `its place in keymeter.yaml`, probe },
      settings.url,
      source,
      isPaid,
    ),
  );
  return (await Promise.all(checks)).flat();
}

type Check = {
  readonly title: string;
  readonly variable: string;
  readonly probe: Probe;
  /** Not every vendor lists its models. */
  readonly mayLackList?: boolean;
};

async function checkCredential(
  { title: name, variable, probe, mayLackList = false }: Check,
  origin: URL,
  credential: CredentialSource,
  isPaid: boolean,
): Promise<Finding[]> {
  const { list, headers, token } = probe;
  let key: string;
  try {
    key = await credential.reveal();
  } catch (error) {
    if (credential.isKeyless)
      return [
        {
          what: name,
          state: "fail",
          said: `no token can be had for what Keymeter signs (${reasonOf(error)})`,
          mend: "`keymeter keyless PROVIDER` says what has to be registered there; the provider's console shows refused sign-ins",
        },
      ];
    if (!(error instanceof SecretUnavailable)) throw error;
    return [
      { what: name, state: "fail", said: error.message, mend: "look at that store, and at who may read it there" },
    ];
  }
  const { sentAs } = credential;
  const { "x-api-key": asKey, ...others } = headers(key);
  const sent = sentAs
    ? { ...others, authorization: `Bearer ${key}`, "anthropic-beta": sentAs.beta }
    : { ...others, ...(asKey === undefined ? {} : { "x-api-key": asKey }) };
  const call = async (path: string, body?: object): Promise<Response> =>
    fetch(new URL(`${origin.href.replace(/\/+$/, "")}${path}`), {
      headers: { ...sent, ...(body ? { "content-type": "application/json" } : {}) },
      ...(body ? { method: "POST", body: JSON.stringify(body) } : {}),
      // The key goes to no other host.
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  try {
    const sentMs = Date.now();
    const listed = await call(list);
    const verdictOf = (status: number, text: string): Finding => {
      const found: Finding =
        mayLackList && (status === 404 || status === 405)
          ? {
              what: name,
              state: "off",
              said: `${listed.url} answered ${status}: it lists no models, the key was not tried`,
            }
          : verdict(name, variable, status, text, origin.origin);
      return credential instanceof HeldSecret ? fromStore(found, credential.state) : found;
    };
    const findings = [verdictOf(listed.status, await listed.text())];
    findings.push(...clock(name, listed.headers.get("date"), (sentMs + Date.now()) / 2));
    if (token && isPaid && findings[0]?.state === "ok") {
      const answered = await call(token.path, token.body);
      findings[0] = verdictOf(answered.status, await answered.text());
    }
    return findings;
  } catch (error) {
    return [
      {
        what: name,
        state: "fail",
        said: `${origin.origin} cannot be reached: ${reasonOf(error)}`,
        mend: "check the base URL under `proxy` in keymeter.yaml, the network, and a proxy in between",
      },
    ];
  }
}

/** What an answer says of the key. */
function verdict(what: string, variable: string, status: number, text: string, origin: string): Finding {
  const isMoney = /insufficient_quota|billing|credit balance|BILLING_DISABLED|payment/i.test(text);
  if (status < 300 && isJson(text)) return { what, state: "ok", said: `the key works at ${origin}` };
  if (status < 400)
    return {
      what,
      state: "fail",
      said: status < 300 ? `what ${origin} answers is no JSON` : `${status}: ${origin} sends on to another address`,
      mend: "write the base URL of the API itself; this may be a sign-in page in front of it",
    };
  if (isMoney)
    return {
      what,
      state: "fail",
      said: `${status}: the account has no credit, or billing is off`,
      mend: "top up, or switch billing on, in the provider's console; the key itself is right",
    };
  switch (status) {
    case 400:
    case 401:
      return {
        what,
        state: "fail",
        said: `${status}: the key is wrong or was revoked`,
        mend: `put a working one into ${variable} and restart the proxy`,
      };
    case 403:
      return {
        what,
        state: "fail",
        said: "403: the key may not do this",
        mend: "give it the right to list and use models in the provider's console, or lift its address and project restrictions",
      };
    case 404:
    case 405:
      return {
        what,
        state: "fail",
        said: `${status}: ${origin} is no such API`,
        mend: "write the base URL without /v1 at its end",
      };
    case 429:
      return {
        what,
        state: "warn",
        said: "429: too many requests right now",
        mend: "wait a minute; if it stays, raise the organisation's rate limit",
      };
    default:
      return {
        what,
        state: status >= 500 ? "warn" : "fail",
        said: `${status} from ${origin}`,
        mend: "look at the provider's status page",
      };
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** With where the key came from: a wrong one is mended there. */
function fromStore(found: Finding, { place, reference, version, readAtMs = 0, failure }: SecretState): Finding {
  const age = Math.round((Date.now() - readAtMs) / 1000);
  const of = `${reference}${version === undefined ? "" : `, version ${version}`}, read ${age} s ago`;
  const stale = failure ? `; not read since: ${failure.message}` : "";
  const said = `${found.said} (${of}${stale})`;
  if (found.state === "ok" && failure)
    return { ...found, state: "warn", said, mend: `look at the store of ${place}: the last good key goes on` };
  return found.mend?.startsWith("put a working one into ")
    ? { ...found, said, mend: `put a working one where ${place} says: ${reference}; it is taken within a minute` }
    : { ...found, said };
}

function clock(name: string, date: string | null, nowMs: number): Finding[] {
  const theirs = Date.parse(date ?? "");
  if (Number.isNaN(theirs)) return [];
  const skewMs = Math.abs(theirs - nowMs);
  if (skewMs < MOST_SKEW_MS) return [];
  return [
    {
      what: "clock",
      state: "fail",
      said: `${Math.round(skewMs / 1000)} s away from ${name}'s`,
      mend: "switch time synchronisation on (timedatectl set-ntp true): days and budgets begin by this clock",
    },
  ];
}
