// A sign-in to Azure, by Azure's own package: an application with its secret, or what this machine is to Azure.
import type { TokenCredential } from "@azure/identity";
import { clientOf } from "./secrets/client.ts";
import { loadPackage } from "./secrets/package.ts";
import { StoreError } from "./secrets/store.ts";

export type AzureSignIn = {
  /** An application that signs in with its secret; absent: what this machine is to Azure. */
  readonly application:
    | { readonly tenantId: string; readonly clientId: string; readonly secret: () => string }
    | undefined;
  /** Who signs in, where that is not Azure's public cloud. */
  readonly authority: string | undefined;
};

const PACKAGE = "@azure/identity";

/** Gives tokens for a service (`https://vault.azure.net`), of the application's secret as it is now. Rejects with a StoreError;
 *  what the sign-in says may hold parts of what it sent. */
export function azureTokens(signIn: AzureSignIn): (service: string, signal: AbortSignal) => Promise<string> {
  const credentialOf = clientOf({ reveal: () => signIn.application?.secret() ?? "" }, (secret) => open(signIn, secret));
  return async (service, abortSignal) => {
    const credential = await credentialOf();
    const given = await credential.getToken(`${service}/.default`, { abortSignal }).catch((error: unknown) => {
      throw new StoreError(
        abortSignal.aborted ? "away" : "refused",
        `the sign-in to Azure failed (${error instanceof Error ? error.name : "no reason"}): ${signIn.application ? "look at the application's tenant, id and secret" : "this machine has no identity there; name an application"}`,
      );
    });
    if (!given) throw new StoreError("refused", "the sign-in to Azure gave no token");
    return given.token;
  };
}

async function open({ application, authority }: AzureSignIn, secret: string): Promise<TokenCredential> {
  const { ClientSecretCredential, DefaultAzureCredential } = await loadPackage(
    PACKAGE,
    () => import("@azure/identity"),
  );
  // Another cloud's authority is none that Azure's public one knows of.
  const options = authority === undefined ? {} : { authorityHost: authority, disableInstanceDiscovery: true };
  return application === undefined
    ? new DefaultAzureCredential(options)
    : new ClientSecretCredential(application.tenantId, application.clientId, secret, options);
}
