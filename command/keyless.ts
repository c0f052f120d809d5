// keymeter keyless: what has to be registered at a provider, so that it gives tokens for what Keymeter signs.
import { parseArgs } from "node:util";
import { PROXY_SETTINGS } from "../proxy/config.ts";
import type { IssuerCreateParams } from "@anthropic-ai/sdk/resources/organization/federation/issuers";
import type { RuleCreateParams } from "@anthropic-ai/sdk/resources/organization/federation/rules/rules";
import type { FederationRuleCreateParams } from "openai/resources/admin/organization/workload-identity-providers/federation-rules";
import type { WorkloadIdentityProviderCreateParams } from "openai/resources/admin/organization/workload-identity-providers/workload-identity-providers";
import { SHARED_SETTINGS } from "../service/config.ts";
import { openSecrets } from "../service/secrets/index.ts";
import { readConfig } from "../service/settings.ts";
import { keptSigningKey, makeSigningKey, signingKeyOf } from "../service/signing-key.ts";
import { AUDIENCES } from "../service/signing-key.ts";
import type { PublicJwk, SigningKey } from "../service/signing-key.ts";
import type { Secret } from "../service/secret.ts";
import { commandEnvironment, QUIET } from "./config.ts";
import { UsageError } from "./usage-error.ts";

const PROVIDERS = ["anthropic", "openai"] as const;
type Provider = (typeof PROVIDERS)[number];

export const USAGE = `keymeter keyless anthropic|openai [--issuer https://keymeter.example.com]
  Instead of a provider key: Keymeter signs who it is, and gets tokens of minutes. Prints what to register there, and what to write
  into keymeter.yaml then. Makes the signing key on the first call. Changes nothing at the provider.`;

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { issuer: { type: "string" } } });
  const provider = PROVIDERS.find((one) => one === positionals[0]);
  if (!provider) throw new UsageError(USAGE);
  const { signer } = PROXY_SETTINGS;
  const config = readConfig({ ...SHARED_SETTINGS, ...signer }, "", commandEnvironment(), (read) => read);
  (await openSecrets(config, QUIET)).stop();
  const issuer = values.issuer ?? config.issuer;
  if (issuer === undefined || !signer.issuer.schema.safeParse(issuer).success)
    throw new UsageError(
      "say --issuer, an https URL of yours that names this Keymeter, such as https://keymeter.example.com",
    );
  const kept = config.key ?? keptSigningKey(config.dataDir);
  const key = kept ?? makeSigningKey(config.dataDir);
  if (!kept)
    process.stderr.write(
      `The signing key was made: signing-key.json in ${config.dataDir}. Several proxies need the same one: proxy.keyless.signing_key.\n\n`,
    );
  const { jwk } = readKey(key, config.dataDir);
  process.stdout.write(`${TEXTS[provider](issuer, config.subject, jwk).trim()}\n`);
}

function readKey(key: Secret, dataDir: string): SigningKey {
  try {
    return signingKeyOf(key.reveal());
  } catch (error) {
    throw new UsageError(
      `the signing key (proxy.keyless.signing_key, or ${dataDir}/signing-key.json): ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** What is sent, as the makers' own types have it. */
const anthropicBodies = (
  issuer: string,
  subject: string,
  jwk: PublicJwk,
): { readonly issuer: IssuerCreateParams; readonly rule: RuleCreateParams } => ({
  issuer: {
    name: "keymeter",
    issuer_url: issuer,
    jwks: { type: "inline", keys: [{ ...jwk }] },
    max_jwt_lifetime_seconds: 600,
    check_jti: true,
  },
  rule: {
    name: "keymeter",
    issuer_id: "THE ISSUER'S ID",
    match: { subject_prefix: subject, audience: AUDIENCES.anthropic },
    target: { type: "service_account", service_account_id: "THE SERVICE ACCOUNT'S ID" },
    oauth_scope: "workspace:inference",
    workspace_id: "THE WORKSPACE'S ID",
  },
});

const openaiBodies = (
  issuer: string,
  subject: string,
  jwk: PublicJwk,
): { readonly provider: WorkloadIdentityProviderCreateParams; readonly rule: FederationRuleCreateParams } => ({
  provider: {
    type: "oidc",
    name: "keymeter",
    issuer,
    audience: AUDIENCES.openai,
    verification: { type: "uploaded_jwks", jwks: { keys: [jwk] } },
  },
  rule: {
    name: "keymeter",
    project_id: "THE PROJECT'S ID",
    service_account_id: "THE SERVICE ACCOUNT'S ID",
    attribute_matchers: { sub: subject },
    permissions: { type: "service_account_default" },
  },
});

const asJson = (value: object): string => JSON.stringify(value, undefined, 2);

const TEXTS: { readonly [provider in Provider]: (issuer: string, subject: string, jwk: PublicJwk) => string } = {
  anthropic(issuer, subject, jwk) {
    const bodies = anthropicBodies(issuer, subject, jwk);
    return `
Once, by an administrator of the organisation (Console > Workload identity, or these calls with an OAuth token of the scope org:admin; admin keys are refused):

1. POST https://api.anthropic.com/v1/organizations/service_accounts
${asJson({ name: "keymeter" })}

2. POST https://api.anthropic.com/v1/organizations/federation_issuers
${asJson(bodies.issuer)}

3. POST https://api.anthropic.com/v1/organizations/federation_rules
${asJson(bodies.rule)}

Then in keymeter.yaml, in place of api_key:

proxy:
  keyless: { issuer: ${issuer}, subject: ${subject} }
  anthropic:
    keyless: { organization: "THE ORGANISATION'S ID", rule: "THE RULE'S ID", service_account: "THE SERVICE ACCOUNT'S ID" }

\`keymeter doctor\` says whether it works.
`;
  },
  openai(issuer, subject, jwk) {
    const bodies = openaiBodies(issuer, subject, jwk);
    return `
Once, with an admin key:

1. POST https://api.openai.com/v1/organization/workload_identity_providers
${asJson(bodies.provider)}

2. POST https://api.openai.com/v1/organization/workload_identity_providers/THE PROVIDER'S ID/federation_rules
${asJson(bodies.rule)}

Then in keymeter.yaml, in place of api_key:

proxy:
  keyless: { issuer: ${issuer}, subject: ${subject} }
  openai:
    keyless: { identity_provider: "THE PROVIDER'S ID", service_account: "THE SERVICE ACCOUNT'S ID" }

\`keymeter doctor\` says whether it works.
`;
  },
};
