// Azure Key Vault, over its REST API: `azure-kv:https://VAULT.vault.azure.net/NAME[/VERSION]`.
import { azureTokens } from "../azure-credentials.ts";
import type { AzureSignIn } from "../azure-credentials.ts";
import { askStore } from "./ask.ts";
import { fieldOf, StoreError } from "./store.ts";
import type { Store } from "./store.ts";
import { stagingOfVersions } from "./versions.ts";

const VERSION = "7.4";
/** Of the list of a secret's versions; each has 25. */
const MOST_PAGES = 40;

type Bundle = {
  readonly value?: unknown;
  readonly id?: unknown;
  readonly contentType?: string;
  readonly tags?: object;
  readonly error?: { readonly innererror?: { readonly code?: unknown } | null };
};
type Page = {
  readonly value?: readonly {
    readonly id?: string;
    readonly attributes?: { readonly enabled?: boolean; readonly created?: number };
  }[];
  readonly nextLink?: string | null;
};
type How = { readonly method?: "PUT" | "PATCH"; readonly body?: object };

export function createAzureStore(settings: AzureSignIn): Store {
  const tokenFor = azureTokens(settings);
  const call = async (url: URL, name: string, signal: AbortSignal, how: How = {}): Promise<Bundle | undefined> => {
    const { host } = url;
    const token = await tokenFor(serviceOf(host), signal);
    const { status, body } = await askStore(url, signal, { ...how, headers: { authorization: `Bearer ${token}` } });
    const answer = (body ?? {}) as Bundle;
    if (status === 404 || (status === 403 && answer.error?.innererror?.code === "SecretDisabled")) return undefined;
    const [verb, role] = how.method ? ["write", "Key Vault Secrets Officer"] : ["read", "Key Vault Secrets User"];
    if (status === 401 || status === 403)
      throw new StoreError("refused", `${host} does not let this sign-in ${verb} ${name}: it needs the role ${role}`);
    // A secret of that name was deleted, and can be brought back.
    if (status === 409) throw new StoreError("refused", `${host} keeps ${name} as deleted: recover or purge it`);
    if (status !== 200) throw new StoreError("away", `${host} answered ${status} without a secret`);
    return answer;
  };
  const get = async (place: Place, signal: AbortSignal): Promise<Bundle & { readonly value: string }> => {
    const { host, name, version } = place;
    const path = version === undefined ? name : `${name}/${version}`;
    const answer = await call(urlOf(host, path), name, signal);
    if (!answer) throw new StoreError("missing", `there is no ${path} in ${host}, or it is disabled`);
    const { value } = answer;
    if (typeof value !== "string") throw new StoreError("away", `${host} answered without a secret`);
    return { ...answer, value };
  };
  /** Versions that can be read, the newest first. */
  const enabled = async (host: string, name: string, signal: AbortSignal): Promise<string[]> => {
    const found: { readonly id: string; readonly created: number }[] = [];
    let url: URL | undefined = urlOf(host, `${name}/versions`);
    for (let page = 0; url !== undefined && page < MOST_PAGES; page++) {
      const { value = [], nextLink } = ((await call(url, name, signal)) ?? {}) as Page;
      for (const { id, attributes } of value)
        if (id !== undefined && attributes?.enabled !== false)
          found.push({ id: id.split("/").at(-1) ?? "", created: attributes?.created ?? 0 });
      url = nextLink ? new URL(nextLink) : undefined;
      // A token goes to no other host.
      if (url && url.host !== host) throw new StoreError("away", `${host} sends on to another host`);
    }
    return found.toSorted((a, b) => b.created - a.created).map(({ id }) => id);
  };
  const put = async (host: string, name: string, body: object, signal: AbortSignal): Promise<void> => {
    const answer = await call(urlOf(host, name), name, signal, { method: "PUT", body });
    if (!answer) throw new StoreError("away", `${host} did not take a new version of ${name}`);
  };

  return {
    async read(reference, signal) {
      const { value, id } = await get(placeOf(reference.path), signal);
      return { text: fieldOf(value, reference), version: typeof id === "string" ? id.split("/").at(-1) : undefined };
    },
    staging(reference) {
      const { host, name, version } = placeOf(reference.path);
      if (version !== undefined)
        throw new StoreError("refused", `${reference.text} is one version for ever: name the secret without it`);
      const beside = `${name}-next`;
      return stagingOfVersions(reference, {
        current: async (signal) => (await get({ host, name }, signal)).value,
        async *history(signal) {
          for (const one of await enabled(host, name, signal))
            yield (await get({ host, name, version: one }, signal)).value;
        },
        async write(value, signal) {
          // What people noted on the secret stays on it.
          const { contentType, tags } = await get({ host, name }, signal);
          await put(host, name, { value, contentType, tags }, signal);
        },
        next: {
          async read(signal) {
            const found = await call(urlOf(host, beside), beside, signal);
            return typeof found?.value === "string" ? found.value : undefined;
          },
          write: (value, signal) => put(host, beside, { value }, signal),
          // Deleted, its name could not be used again for weeks.
          async drop(signal) {
            for (const one of await enabled(host, beside, signal)) {
              const how = { method: "PATCH", body: { attributes: { enabled: false } } } as const;
              await call(urlOf(host, `${beside}/${one}`), beside, signal, how);
            }
          },
        },
      });
    },
  };
}

type Place = { readonly host: string; readonly name: string; readonly version?: string | undefined };

function placeOf(path: string): Place {
  const { host, pathname } = new URL(path);
  const [name = "", version] = pathname.slice(1).split("/");
  return { host, name, version };
}

function urlOf(host: string, path: string): URL {
  return new URL(`https://${host}/secrets/${path}?api-version=${VERSION}`);
}

/** The service behind a vault: `https://vault.azure.net` of `https://NAME.vault.azure.net`. */
function serviceOf(host: string): string {
  return `https://${host.split(".").slice(1).join(".")}`;
}
