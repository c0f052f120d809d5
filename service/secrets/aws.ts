// AWS Secrets Manager, by AWS's own client: it signs, and finds out who this machine is (a role of a pod, a task or an
// instance; a profile; variables).
import { loadPackage } from "./package.ts";
import { fieldOf, StoreError } from "./store.ts";
import type { Store } from "./store.ts";

export type AwsStoreSettings = {
  /** Absent: as AWS's tools find it. */
  readonly region: string | undefined;
  /** Where the API is; absent: the region's own. */
  readonly address: string | undefined;
  /** A user's access key; absent: what this machine is to AWS. */
  readonly accessKey: { readonly id: string; readonly secret: () => string } | undefined;
};

const PACKAGE = "@aws-sdk/client-secrets-manager";
type Client = InstanceType<Awaited<ReturnType<typeof load>>["SecretsManagerClient"]>;

export function createAwsStore({ region, address, accessKey }: AwsStoreSettings): Store {
  /** By region: a secret that is named by its ARN may be in another. */
  const clients = new Map<string | undefined, Client>();
  const clientIn = async (place: string | undefined): Promise<Client> => {
    const { SecretsManagerClient } = await load();
    const made =
      clients.get(place) ??
      new SecretsManagerClient({
        // The room asks again by itself.
        maxAttempts: 1,
        ...(place === undefined ? {} : { region: place }),
        ...(address === undefined ? {} : { endpoint: address }),
        ...(accessKey === undefined
          ? {}
          : // The room may have another one by now.
            { credentials: async () => ({ accessKeyId: accessKey.id, secretAccessKey: accessKey.secret() }) }),
      });
    clients.set(place, made);
    return made;
  };
  return {
    async read(reference, signal) {
      const { path } = reference;
      const client = await clientIn(/^arn:[\w-]+:secretsmanager:([\w-]+):/.exec(path)?.[1] ?? region);
      const { GetSecretValueCommand } = await load();
      const answer = await client
        .send(new GetSecretValueCommand({ SecretId: path, VersionStage: "AWSCURRENT" }), { abortSignal: signal })
        .catch((error: unknown) => {
          throw failureOf(error, path);
        });
      const { SecretString: text, SecretBinary: bytes, VersionId: version } = answer;
      const whole = text ?? (bytes === undefined ? undefined : Buffer.from(bytes).toString("utf8"));
      if (whole === undefined) throw new StoreError("unusable", `${path} is neither text nor bytes`);
      return { text: fieldOf(whole, reference), version };
    },
  };
}

function load() {
  return loadPackage(PACKAGE, () => import("@aws-sdk/client-secrets-manager"));
}

/** What AWS says of a request may repeat parts of it: only the name of the error is kept. */
function failureOf(error: unknown, path: string): StoreError {
  const { name = "", $metadata } = error as { readonly name?: string; readonly $metadata?: Metadata };
  const status = $metadata?.httpStatusCode;
  if (name === "ResourceNotFoundException")
    return new StoreError("missing", `there is no secret ${path} in this region`);
  if (name === "InvalidRequestException") return new StoreError("missing", `${path} is to be deleted, or has no value`);
  if (name === "CredentialsProviderError")
    return new StoreError("refused", "there is no sign-in to AWS: a role, a profile, or secrets.aws.access_key_id");
  if (/Region is missing/i.test((error as Error).message ?? ""))
    return new StoreError("away", "no region is named: secrets.aws.region (AWS_REGION)");
  if (name === "DecryptionFailure" || status === 401 || status === 403 || REFUSALS.has(name))
    return new StoreError(
      "refused",
      `AWS refuses to give ${path} (${name}): the sign-in needs secretsmanager:GetSecretValue, and kms:Decrypt where a key of its own seals it`,
    );
  const why = status ?? codeOf(error) ?? (/^(?:Timeout|Abort)Error$/.test(name) ? "it did not answer in time" : name);
  return new StoreError("away", `AWS Secrets Manager cannot be asked (${why})`);
}

type Metadata = { readonly httpStatusCode?: number };

/** Of a network's failure. */
function codeOf(error: unknown): string | undefined {
  const { code } = error as { readonly code?: unknown };
  return typeof code === "string" ? code : undefined;
}

const REFUSALS: ReadonlySet<string> = new Set([
  "AccessDeniedException",
  "UnrecognizedClientException",
  "InvalidSignatureException",
  "SignatureDoesNotMatch",
  "ExpiredTokenException",
]);
