// Where secrets are that settings name by a reference: each store's address, and how it is signed in to. What is lacking matters
// to who names that store.
import { z } from "zod";
import { googleCredentialsAt, machineCredentials } from "./google-credentials.ts";
import { HeldSecret } from "./secrets/index.ts";
import type { Scheme } from "./secrets/reference.ts";
import type { VaultLogin } from "./secrets/vault.ts";
import type { Secret } from "./secret.ts";
import { secret, webUrl } from "./settings.ts";
import type { Reading, SettingTree, Values } from "./settings.ts";

const seconds = z.coerce.number("a number of seconds").int("whole seconds").min(1).max(86_400);

export const STORES = {
  refreshSeconds: {
    place: "secrets.refresh",
    env: "KEYMETER_SECRETS_REFRESH",
    schema: seconds,
    fallback: undefined,
    says: "seconds after which a secret is asked for again; absent: 60, of files 10",
  },
  maxStaleSeconds: {
    place: "secrets.max_stale",
    env: "KEYMETER_SECRETS_MAX_STALE",
    schema: seconds,
    fallback: undefined,
    says: "seconds after which a secret that cannot be asked for again is used no longer; absent: the last good one goes on",
  },
  vaultAddress: {
    place: "secrets.vault.address",
    env: "VAULT_ADDR",
    schema: z.string().min(1),
    fallback: undefined,
    says: "Vault or OpenBao, for vault:MOUNT/PATH#FIELD (key-value store, version 2)",
    example: "https://vault.example.com:8200",
  },
  vaultNamespace: {
    place: "secrets.vault.namespace",
    env: "VAULT_NAMESPACE",
    schema: z.string().min(1),
    fallback: undefined,
    says: "the namespace there",
  },
  vaultToken: secret({
    place: "secrets.vault.token",
    env: "VAULT_TOKEN",
    schema: z.string().min(1),
    says: "a token for it, such as file:/run/secrets/vault-token; or one of the sign-ins below",
  }),
  vaultRoleId: {
    place: "secrets.vault.role_id",
    env: "VAULT_ROLE_ID",
    schema: z.string().min(1),
    fallback: undefined,
    says: "AppRole: the role",
  },
  vaultSecretId: secret({
    place: "secrets.vault.secret_id",
    env: "VAULT_SECRET_ID",
    schema: z.string().min(1),
    says: "AppRole: its secret",
  }),
  vaultRole: {
    place: "secrets.vault.role",
    env: "KEYMETER_VAULT_ROLE",
    schema: z.string().min(1),
    fallback: undefined,
    says: "sign-in by a JWT: the role",
  },
  vaultJwtFile: {
    place: "secrets.vault.jwt_file",
    env: "KEYMETER_VAULT_JWT_FILE",
    schema: z.string().min(1),
    fallback: undefined,
    says: "where the JWT is; absent: Kubernetes' own token",
  },
  vaultMount: {
    place: "secrets.vault.mount",
    env: "KEYMETER_VAULT_MOUNT",
    schema: z.string().regex(/^[\w-]+(\/[\w-]+)*$/, "a path such as approle"),
    fallback: undefined,
    says: "where the sign-in is mounted; absent: approle; kubernetes, or jwt with a jwt_file",
  },
  connectAddress: {
    place: "secrets.onepassword.address",
    env: "OP_CONNECT_HOST",
    schema: z.string().min(1),
    fallback: undefined,
    says: "1Password's Connect server, for op://VAULT/ITEM/FIELD",
    example: "http://connect.example.com:8080",
  },
  connectToken: secret({
    place: "secrets.onepassword.token",
    env: "OP_CONNECT_TOKEN",
    schema: z.string().min(1),
    says: "a token for it, such as file:/run/secrets/connect-token",
  }),
  serviceAccountToken: secret({
    place: "secrets.onepassword.service_account_token",
    env: "OP_SERVICE_ACCOUNT_TOKEN",
    schema: z.string().min(1),
    says: "a service account's token, in place of a Connect server; needs the package @1password/sdk",
  }),
  awsRegion: {
    place: "secrets.aws.region",
    env: "AWS_REGION",
    schema: z.string().min(1),
    fallback: undefined,
    says: "AWS's region, for aws-sm:NAME#FIELD; absent: as AWS's tools find it. Needs the package @aws-sdk/client-secrets-manager",
  },
  awsAddress: {
    place: "secrets.aws.url",
    env: "KEYMETER_SECRETS_AWS_URL",
    schema: webUrl,
    fallback: undefined,
    says: "where AWS Secrets Manager is; absent: the region's own",
  },
  awsAccessKeyId: {
    place: "secrets.aws.access_key_id",
    env: "KEYMETER_SECRETS_AWS_ACCESS_KEY_ID",
    schema: z.string().min(1),
    fallback: undefined,
    says: "a user's access key; absent: what this machine is to AWS (a role, a profile)",
  },
  awsSecretAccessKey: secret({
    place: "secrets.aws.secret_access_key",
    env: "KEYMETER_SECRETS_AWS_SECRET_ACCESS_KEY",
    schema: z.string().min(1),
    says: "its secret",
  }),
  azureTenantId: {
    place: "secrets.azure.tenant_id",
    env: "KEYMETER_SECRETS_AZURE_TENANT_ID",
    schema: z.string().min(1),
    fallback: undefined,
    says: "an application's tenant, for azure-kv:https://VAULT.vault.azure.net/NAME; absent: what this machine is to Azure. Needs the package @azure/identity",
  },
  azureClientId: {
    place: "secrets.azure.client_id",
    env: "KEYMETER_SECRETS_AZURE_CLIENT_ID",
    schema: z.string().min(1),
    fallback: undefined,
    says: "the application",
  },
  azureClientSecret: secret({
    place: "secrets.azure.client_secret",
    env: "KEYMETER_SECRETS_AZURE_CLIENT_SECRET",
    schema: z.string().min(1),
    says: "its secret",
  }),
  azureAuthority: {
    place: "secrets.azure.authority",
    env: "KEYMETER_SECRETS_AZURE_AUTHORITY",
    schema: webUrl,
    fallback: undefined,
    says: "who signs in, where that is not Azure's public cloud",
    example: "https://login.microsoftonline.us",
  },
  githubToken: secret({
    place: "secrets.github.token",
    env: "KEYMETER_SECRETS_GITHUB_TOKEN",
    schema: z.string().min(1),
    says: "may write secrets of GitHub Actions, for github:OWNER/REPO/NAME in `keymeter keys rotate --to` and collector.key_rotation; needs the package libsodium-wrappers",
  }),
  githubAddress: {
    place: "secrets.github.url",
    env: "KEYMETER_SECRETS_GITHUB_URL",
    schema: webUrl,
    fallback: "https://api.github.com",
    says: "where GitHub's API is",
  },
  googleAddress: {
    place: "secrets.google.url",
    env: "KEYMETER_SECRETS_GOOGLE_URL",
    schema: webUrl,
    fallback: "https://secretmanager.googleapis.com",
    says: "where Google's Secret Manager is, for gcp-sm:projects/PROJECT/secrets/NAME",
  },
  googleCredentials: {
    place: "secrets.google.credentials",
    env: "KEYMETER_SECRETS_GOOGLE_CREDENTIALS",
    schema: z.string().min(1),
    fallback: undefined,
    says: "a service account's key file, or a reference to what it holds; absent: what this machine is to Google",
    mayRefer: true,
  },
} as const satisfies SettingTree;

/** The part of the settings that each store has, by its reference's word. Whoever names none of a store needs nothing of it. */
const PARTS: { readonly [part: string]: StoreName } = {
  vault: "vault",
  onepassword: "op",
  aws: "aws-sm",
  google: "gcp-sm",
  azure: "azure-kv",
  github: "github",
};
/** Of GitHub nothing is read; secrets are written there. */
type StoreName = Scheme | "github";

/** Whose sign-in a variable is part of: a store, by its word. Undefined: no store's. */
export function storeOfVariable(name: string): StoreName | undefined {
  return STORE_VARIABLES.get(name);
}

const STORE_VARIABLES: ReadonlyMap<string, StoreName> = new Map(
  Object.values(STORES).flatMap(({ place, env }) => {
    const part = /^secrets\.(\w+)\./.exec(place)?.[1];
    const store = PARTS[part ?? ""];
    return store === undefined ? [] : [[env, store] as const];
  }),
);

const KUBERNETES_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/** Tells the room of secrets where its stores are. What is lacking matters to who names one. */
export function configureStores(values: Values<typeof STORES>, { room }: Reading): undefined {
  const {
    refreshSeconds,
    maxStaleSeconds,
    connectAddress,
    connectToken,
    serviceAccountToken,
    googleAddress,
    googleCredentials,
  } = values;
  room.configure(
    {
      vault: vaultOf(values),
      // As 1Password's own command does: a server that is named comes first.
      op:
        connectAddress === undefined && serviceAccountToken
          ? (cannotOpen(serviceAccountToken, "op") ?? { account: () => serviceAccountToken.reveal().trim() })
          : onePasswordOf(connectAddress, connectToken),
      "aws-sm": awsOf(values),
      "gcp-sm": googleOf(googleAddress, googleCredentials, room),
      "azure-kv": azureOf(values),
    },
    { refreshSeconds, maxStaleSeconds },
    { address: values.githubAddress, token: values.githubToken },
  );
}

function onePasswordOf(address: string | undefined, token: Secret | undefined) {
  if (address === undefined)
    return "secrets.onepassword.address (OP_CONNECT_HOST) or service_account_token (OP_SERVICE_ACCOUNT_TOKEN)";
  if (!isWebUrl(address)) return "an http or https URL in secrets.onepassword.address (OP_CONNECT_HOST)";
  if (!token) return "secrets.onepassword.token (OP_CONNECT_TOKEN)";
  return cannotOpen(token, "op") ?? { address, token: () => token.reveal().trim() };
}

function awsOf({
  awsRegion: region,
  awsAddress: address,
  awsAccessKeyId: id,
  awsSecretAccessKey: secret,
}: Values<typeof STORES>) {
  if (id === undefined && secret === undefined) return { region, address, accessKey: undefined };
  if (id === undefined) return "secrets.aws.access_key_id beside its secret";
  if (!secret) return "secrets.aws.secret_access_key beside its id";
  return cannotOpen(secret, "aws-sm") ?? { region, address, accessKey: { id, secret: () => secret.reveal().trim() } };
}

function azureOf({
  azureTenantId: tenantId,
  azureClientId: clientId,
  azureClientSecret: secret,
  azureAuthority: authority,
}: Values<typeof STORES>) {
  if (tenantId === undefined && clientId === undefined && !secret) return { application: undefined, authority };
  if (tenantId === undefined) return "secrets.azure.tenant_id beside client_id and client_secret";
  if (clientId === undefined) return "secrets.azure.client_id beside tenant_id and client_secret";
  if (!secret) return "secrets.azure.client_secret beside tenant_id and client_id";
  const application = { tenantId, clientId, secret: () => secret.reveal().trim() };
  return cannotOpen(secret, "azure-kv") ?? { application, authority };
}

function googleOf(address: string, given: string | undefined, room: Reading["room"]) {
  const machine = machineCredentials();
  if (given === undefined) return { address, token: () => machine.reveal() };
  const problems: string[] = [];
  const { place, env } = STORES.googleCredentials;
  const credentials = googleCredentialsAt({ place, env }, given, { room, problems });
  if (!credentials) return `another ${problems.join("; ")}`;
  return cannotOpen(credentials.secret, "gcp-sm") ?? { address, token: () => credentials.reveal() };
}

/** Other programs use the same variables, in forms of their own: what is wrong with them matters to who names the store. */
function isWebUrl(text: string): boolean {
  return webUrl.safeParse(text).success;
}

/** What is in a store cannot open it. */
function cannotOpen(opener: Secret | undefined, scheme: string): string | undefined {
  return opener instanceof HeldSecret && opener.reference.scheme === scheme
    ? `another ${opener.place} than ${opener.reference.text}: it cannot open the store that it is in`
    : undefined;
}

function vaultOf({ vaultAddress: address, vaultNamespace: namespace, ...values }: Values<typeof STORES>) {
  if (address === undefined) return "secrets.vault.address (VAULT_ADDR)";
  if (!isWebUrl(address)) return "an http or https URL in secrets.vault.address (VAULT_ADDR)";
  const login = vaultLogin(values);
  return typeof login === "string" ? login : { address, namespace, login };
}

/** The one way to sign in that settings name; as a text, what they lack. */
function vaultLogin({
  vaultToken: token,
  vaultRoleId: roleId,
  vaultSecretId: secretId,
  vaultRole: role,
  vaultJwtFile: file,
  vaultMount: mount,
}: Omit<Values<typeof STORES>, "vaultAddress" | "vaultNamespace">): VaultLogin | string {
  const unfit = cannotOpen(token, "vault") ?? cannotOpen(secretId, "vault");
  if (unfit !== undefined) return unfit;
  if (role !== undefined)
    return file === undefined
      ? { by: "kubernetes", mount: mount ?? "kubernetes", role, file: KUBERNETES_TOKEN }
      : { by: "jwt", mount: mount ?? "jwt", role, file };
  if (roleId !== undefined && secretId)
    return { by: "approle", mount: mount ?? "approle", roleId, secretId: () => secretId.reveal().trim() };
  if (token) return { by: "token", token: () => token.reveal().trim() };
  return "a sign-in: secrets.vault.token (VAULT_TOKEN), role_id and secret_id (VAULT_ROLE_ID, VAULT_SECRET_ID), or role";
}
