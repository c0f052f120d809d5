// AWS Secrets Manager, by AWS's own client: it signs, and finds out who this machine is (a role of a pod, a task or an
// instance; a profile; variables).
import { loadPackage } from "./package.ts";
import { fieldOf, StoreError, withField } from "./store.ts";
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
      const client = await clientIn(regionOf(path) ?? region);
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
    // AWS's own labels of versions.
    staging(reference) {
      const { path } = reference;
      const send = async <T>(work: (client: Client, commands: Commands) => Promise<T>): Promise<T> => {
        const commands = await load();
        try {
          return await work(await clientIn(regionOf(path) ?? region), commands);
        } catch (error) {
          throw error instanceof StoreError ? error : failureOf(error, path);
        }
      };
      /** By label: the id of its version, and its text. */
      const versionOf = (label: string, abortSignal: AbortSignal) =>
        send(async (client, { GetSecretValueCommand }) => {
          const command = new GetSecretValueCommand({ SecretId: path, VersionStage: label });
          const { SecretString: text, VersionId: id } = await client.send(command, { abortSignal });
          return { id, text: text ?? "" };
        }).catch((error: unknown) => {
          if (error instanceof StoreError && error.why === "missing") return undefined;
          throw error;
        });
      const label = (stage: string, to: string | undefined, from: string | undefined, abortSignal: AbortSignal) =>
        send((client, { UpdateSecretVersionStageCommand }) =>
          client.send(
            new UpdateSecretVersionStageCommand({
              SecretId: path,
              VersionStage: stage,
              MoveToVersionId: to,
              RemoveFromVersionId: from,
            }),
            { abortSignal },
          ),
        );
      const unlabel = async (stage: string, abortSignal: AbortSignal): Promise<void> => {
        const at = await versionOf(stage, abortSignal);
        if (at) await label(stage, undefined, at.id, abortSignal);
      };
      const put = (text: string, stage: string, abortSignal: AbortSignal) =>
        send((client, { PutSecretValueCommand }) =>
          client.send(new PutSecretValueCommand({ SecretId: path, SecretString: text, VersionStages: [stage] }), {
            abortSignal,
          }),
        );
      /** Of what holds several, only the one field is taken along. AWS labels the previous version by itself. */
      const makeCurrent = async (
        version: { readonly id: string | undefined; readonly text: string },
        abortSignal: AbortSignal,
      ): Promise<void> => {
        const current = await versionOf("AWSCURRENT", abortSignal);
        if (version.id === current?.id) return;
        if (reference.field === undefined)
          return void (await label("AWSCURRENT", version.id, current?.id, abortSignal));
        const value = fieldOf(version.text, reference);
        if (current && fieldOf(current.text, reference) === value) return;
        await put(withField(current?.text ?? "", reference, value), "AWSCURRENT", abortSignal);
      };
      return {
        async stage(value, abortSignal) {
          const current = await versionOf("AWSCURRENT", abortSignal);
          const text = withField(current?.text ?? "", reference, value);
          await put(text, "AWSPENDING", abortSignal);
        },
        async staged(abortSignal) {
          const pending = await versionOf("AWSPENDING", abortSignal);
          return pending && fieldOf(pending.text, reference);
        },
        async previous(abortSignal) {
          const previous = await versionOf("AWSPREVIOUS", abortSignal);
          return previous && fieldOf(previous.text, reference);
        },
        async promote(abortSignal) {
          const pending = await versionOf("AWSPENDING", abortSignal);
          if (pending) await makeCurrent(pending, abortSignal);
          await unlabel("AWSPENDING", abortSignal);
        },
        async restore(abortSignal) {
          const previous = await versionOf("AWSPREVIOUS", abortSignal);
          if (previous) await makeCurrent(previous, abortSignal);
        },
        clear: (abortSignal) => unlabel("AWSPENDING", abortSignal),
      };
    },
  };
}

type Commands = Awaited<ReturnType<typeof load>>;

/** Of a secret that is named by its ARN. */
function regionOf(path: string): string | undefined {
  return /^arn:[\w-]+:secretsmanager:([\w-]+):/.exec(path)?.[1];
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
      `AWS refuses ${path} (${name}): the sign-in needs secretsmanager:GetSecretValue, for rotations PutSecretValue and UpdateSecretVersionStage too, and kms:Decrypt and GenerateDataKey where a key of its own seals it`,
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
