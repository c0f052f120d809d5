// Credentials that nobody keeps: Keymeter signs who it is, and the provider gives a token of minutes for that. By the makers'
// own code, which keeps a token until shortly before its end and asks for the next one beside all work.
import { loadPackage } from "../../service/package.ts";
import type { Secret } from "../../service/secret.ts";
import { AUDIENCES, signingKeyOf } from "../../service/signing-key.ts";
import type { CredentialSource } from "./provider.ts";

/** Who Keymeter says that it is. */
export type Signer = {
  readonly key: Secret;
  readonly issuer: string;
  readonly subject: string;
};

export type AnthropicKeyless = {
  readonly organization: string;
  readonly rule: string;
  readonly service_account?: string | undefined;
  readonly workspace?: string | undefined;
};
export type OpenaiKeyless = {
  readonly identity_provider: string;
  readonly service_account: string;
  readonly token_url: string;
};

const JWT_SECONDS = 300;
const TIMEOUT_MS = 10_000;
/** Whoever was refused asks for another token no oftener. */
const SOONEST_MS = 5_000;

const call: typeof fetch = (url, init) => fetch(url, { ...init, signal: AbortSignal.timeout(TIMEOUT_MS) });

/** Anthropic: workload identity federation, by a rule of the organisation. */
export function anthropicKeyless(
  { organization, rule, service_account: account, workspace }: AnthropicKeyless,
  url: URL,
  signer: Signer,
): CredentialSource {
  const open = async (): Promise<Tokens> => {
    const { oidcFederationProvider, TokenCache } = await loadPackage("@anthropic-ai/sdk", async () => ({
      ...(await import("@anthropic-ai/sdk/lib/credentials/oidc-federation")),
      ...(await import("@anthropic-ai/sdk/lib/credentials/token-cache")),
    }));
    const cache = new TokenCache(
      oidcFederationProvider({
        identityTokenProvider: () => assertion(signer, AUDIENCES.anthropic),
        federationRuleId: rule,
        organizationId: organization,
        ...(account === undefined ? {} : { serviceAccountId: account }),
        ...(workspace === undefined ? {} : { workspaceId: workspace }),
        baseURL: url.href.replace(/\/+$/, ""),
        fetch: call,
      }),
    );
    return { get: () => cache.getToken() };
  };
  const identityOf = identified(`keyless ${organization} ${rule} ${account ?? ""} ${workspace ?? ""}`);
  return {
    ...sourceOf(open),
    identityOf,
    isKeyless: true,
    sentAs: { header: "authorization", beta: "oauth-2025-04-20" },
  };
}

/** OpenAI: workload identity of a project's service account. */
export function openaiKeyless(
  { identity_provider: provider, service_account: account, token_url: tokenUrl }: OpenaiKeyless,
  signer: Signer,
): CredentialSource {
  const open = async (): Promise<Tokens> => {
    const { WorkloadIdentityAuth } = await loadPackage("openai", () => import("openai/auth/workload-identity-auth"));
    const auth = new WorkloadIdentityAuth(
      {
        identityProviderId: provider,
        serviceAccountId: account,
        provider: { tokenType: "jwt", getToken: async () => assertion(signer, AUDIENCES.openai) },
      },
      (_url, init) => call(tokenUrl, init),
    );
    return { get: () => auth.getToken() };
  };
  return { ...sourceOf(open), identityOf: identified(`keyless ${provider} ${account}`), isKeyless: true };
}

/** A token of minutes is none of the provider's keys: nobody knows it by its last characters. */
function identified(text: string): NonNullable<CredentialSource["identityOf"]> {
  return () => ({ text, hint: "" });
}

type Tokens = { readonly get: () => Promise<string> };

/** The makers' code is loaded with the first token: most installations never ask. A token that was refused goes on until another
 *  one is there: a provider refuses some requests for their own reasons. */
function sourceOf(open: () => Promise<Tokens>): Pick<CredentialSource, "reveal" | "refreshSoon"> {
  let tokens: Promise<Tokens> | undefined;
  let askedAtMs = 0;
  return {
    async reveal() {
      tokens ??= open();
      try {
        return await (await tokens).get();
      } catch (error) {
        tokens = undefined;
        throw error;
      }
    },
    refreshSoon() {
      if (Date.now() - askedAtMs < SOONEST_MS) return;
      askedAtMs = Date.now();
      void (async () => {
        const fresh = await open();
        await fresh.get();
        tokens = Promise.resolve(fresh);
      })().catch(() => undefined);
    },
  };
}

function assertion({ key, issuer, subject }: Signer, audience: string): string {
  return signingKeyOf(key.reveal()).sign({ iss: issuer, sub: subject, aud: audience }, JWT_SECONDS);
}
