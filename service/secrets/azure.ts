// Azure Key Vault, over one call of its REST API: `azure-kv:https://VAULT.vault.azure.net/NAME[/VERSION]`.
import type { TokenCredential } from "@azure/identity";
import { askStore } from "./ask.ts";
import { loadPackage } from "./package.ts";
import { fieldOf, StoreError } from "./store.ts";
import type { Store } from "./store.ts";

export type AzureStoreSettings = {
  /** An application that signs in with its secret; absent: what this machine is to Azure. */
  readonly application:
    | { readonly tenantId: string; readonly clientId: string; readonly secret: () => string }
    | undefined;
  /** Who signs in, where that is not Azure's public cloud. */
  readonly authority: string | undefined;
};

const PACKAGE = "@azure/identity";
const VERSION = "7.4";

export function createAzureStore(settings: AzureStoreSettings): Store {
  let made: { readonly secret: string | undefined; readonly credential: TokenCredential } | undefined;
  /** Of the secret as it is now. */
  const credentialOf = async (): Promise<TokenCredential> => {
    const secret = settings.application?.secret();
    if (made === undefined || made.secret !== secret) made = { secret, credential: await signIn(settings, secret) };
    return made.credential;
  };
  return {
    async read(reference, signal) {
      const { host, pathname } = new URL(reference.path);
      const [name = "", version] = pathname.slice(1).split("/");
      const token = await tokenFor(await credentialOf(), host, signal);
      const url = new URL(
        `https://${host}/secrets/${name}${version === undefined ? "" : `/${version}`}?api-version=${VERSION}`,
      );
      const { status, body } = await askStore(url, signal, { headers: { authorization: `Bearer ${token}` } });
      const { value, id, error } = (body ?? {}) as Answer;
      if (status === 403 && error?.innererror?.code === "SecretDisabled")
        throw new StoreError("missing", `${name} is disabled, or not valid at this time`);
      if (status === 401 || status === 403)
        throw new StoreError(
          "refused",
          `${host} does not let this sign-in read ${name}: it needs the role Key Vault Secrets User`,
        );
      if (status === 404) throw new StoreError("missing", `there is no ${pathname.slice(1)} in ${host}`);
      if (status !== 200 || typeof value !== "string")
        throw new StoreError("away", `${host} answered ${status} without a secret`);
      return { text: fieldOf(value, reference), version: typeof id === "string" ? id.split("/").at(-1) : undefined };
    },
  };
}

type Answer = {
  readonly value?: unknown;
  readonly id?: unknown;
  readonly error?: { readonly innererror?: { readonly code?: unknown } | null };
};

async function signIn(
  { application, authority }: AzureStoreSettings,
  secret: string | undefined,
): Promise<TokenCredential> {
  const { ClientSecretCredential, DefaultAzureCredential } = await loadPackage(
    PACKAGE,
    () => import("@azure/identity"),
  );
  // Another cloud's authority is none that Azure's public one knows of.
  const options = authority === undefined ? {} : { authorityHost: authority, disableInstanceDiscovery: true };
  return application === undefined || secret === undefined
    ? new DefaultAzureCredential(options)
    : new ClientSecretCredential(application.tenantId, application.clientId, secret, options);
}

/** For the service behind a vault: `https://vault.azure.net` of `https://NAME.vault.azure.net`. What the sign-in says may
 *  hold parts of what it sent. */
async function tokenFor(credential: TokenCredential, host: string, abortSignal: AbortSignal): Promise<string> {
  const service = host.split(".").slice(1).join(".");
  const given = await credential.getToken(`https://${service}/.default`, { abortSignal }).catch((error: unknown) => {
    throw new StoreError(
      abortSignal.aborted ? "away" : "refused",
      `the sign-in to Azure failed (${error instanceof Error ? error.name : "no reason"})`,
    );
  });
  if (!given) throw new StoreError("refused", "the sign-in to Azure gave no token");
  return given.token;
}
