// Amazon Bedrock's long-term API keys: credentials of an IAM user for this one service, made, switched off and on, and deleted by
// IAM, of which a user has two at most. They have no names. Source: the client of IAM (@aws-sdk/client-iam 3.1164).
import { DAY_MS } from "../../../ledger/windows.ts";
import { clientOf } from "../../../service/secrets/client.ts";
import { loadPackage } from "../../../service/secrets/package.ts";
import { MakerError, inApi, probeWith } from "../maker.ts";
import type { Maker, MakerSettings } from "../maker.ts";

type Package = typeof import("@aws-sdk/client-iam");
type Client = InstanceType<Package["IAMClient"]>;

const SERVICE = "bedrock.amazonaws.com";
const TIMEOUT_MS = 20_000;

/** Ids are IAM's (ACCA...). */
export function bedrockMaker({ adminId, adminKey, adminUrl, url, user }: MakerSettings): Maker {
  const load = (): Promise<Package> => loadPackage("@aws-sdk/client-iam", () => import("@aws-sdk/client-iam"));
  const clientNow = clientOf({ reveal: adminKey }, async (secretAccessKey): Promise<Client> => {
    const { IAMClient } = await load();
    return new IAMClient({
      // Where IAM of AWS's commercial partition is signed for.
      region: "us-east-1",
      endpoint: adminUrl.href,
      maxAttempts: 1,
      ...(adminId === "" ? {} : { credentials: { accessKeyId: adminId, secretAccessKey } }),
    });
  });
  const send = async <T>(
    work: (client: Client, iam: Package, limits: { readonly abortSignal: AbortSignal }) => Promise<T>,
  ): Promise<T> => {
    const [client, iam] = [await clientNow(), await load()];
    try {
      return await work(client, iam, { abortSignal: AbortSignal.timeout(TIMEOUT_MS) });
    } catch (error) {
      throw failureOf(error, user);
    }
  };
  const list = () =>
    send(async (client, { ListServiceSpecificCredentialsCommand }, limits) => {
      const command = new ListServiceSpecificCredentialsCommand({ UserName: user, ServiceName: SERVICE });
      return (await client.send(command, limits)).ServiceSpecificCredentials ?? [];
    });
  const set = (id: string, Status: "Active" | "Inactive"): Promise<void> =>
    send(async (client, { UpdateServiceSpecificCredentialCommand }, limits) => {
      const command = new UpdateServiceSpecificCredentialCommand({
        UserName: user,
        ServiceSpecificCredentialId: id,
        Status,
      });
      await client.send(command, limits);
    }).catch((error: unknown) => {
      if (!isGone(error)) throw error;
    });
  return {
    list: async () =>
      (await list()).flatMap(({ ServiceSpecificCredentialId: id, CreateDate: made }) =>
        id === undefined ? [] : [{ id, madeAtMs: made?.getTime() ?? 0 }],
      ),
    async create(_name, currentId) {
      // It lives as long as the one that it follows was to live.
      const old = (await list()).find(({ ServiceSpecificCredentialId: id }) => id === currentId);
      const livesMs = (old?.ExpirationDate?.getTime() ?? NaN) - (old?.CreateDate?.getTime() ?? NaN);
      const age = Number.isNaN(livesMs) ? {} : { CredentialAgeDays: Math.max(1, Math.round(livesMs / DAY_MS)) };
      const made = await send((client, { CreateServiceSpecificCredentialCommand }, limits) =>
        client.send(
          new CreateServiceSpecificCredentialCommand({ UserName: user, ServiceName: SERVICE, ...age }),
          limits,
        ),
      );
      const { ServiceSpecificCredentialId: id, ServiceCredentialSecret: value } = made.ServiceSpecificCredential ?? {};
      if (id === undefined || value === undefined) throw new MakerError("AWS made a key without its value");
      return { id, value };
    },
    async identify(value) {
      const alias = aliasOf(value);
      return (await list()).find(({ ServiceCredentialAlias: its }) => its !== undefined && its === alias)
        ?.ServiceSpecificCredentialId;
    },
    disable: (id) => set(id, "Inactive"),
    enable: (id) => set(id, "Active"),
    revoke: (id) =>
      send(async (client, { DeleteServiceSpecificCredentialCommand }, limits) => {
        await client.send(
          new DeleteServiceSpecificCredentialCommand({ UserName: user, ServiceSpecificCredentialId: id }),
          limits,
        );
        return true;
      }).catch((error: unknown) => {
        if (isGone(error)) return false;
        throw error;
      }),
    probe: (value) => probeWith(freeCallOf(url), { authorization: `Bearer ${value}` }),
  };
}

/** A key is four letters and, in base64, the name that IAM shows of it, a colon, and what is secret. */
function aliasOf(value: string): string {
  return Buffer.from(value.slice("ABSK".length), "base64").toString("utf8").split(":")[0] ?? "";
}

/** bedrock-runtime lists no models; the service beside it does. */
function freeCallOf(url: URL): URL {
  if (!url.hostname.startsWith("bedrock-runtime.")) return inApi(url, "/v1/models");
  const beside = new URL("/foundation-models", url);
  beside.hostname = url.hostname.replace("bedrock-runtime.", "bedrock.");
  return beside;
}

class Gone extends MakerError {}

function isGone(error: unknown): boolean {
  return error instanceof Gone;
}

/** What AWS says may repeat what was sent: only the name of the error is kept. */
function failureOf(error: unknown, user: string): Error {
  if (error instanceof MakerError) return error;
  const { name = "", $metadata } = error as {
    readonly name?: string;
    readonly $metadata?: { readonly httpStatusCode?: number };
  };
  const status = $metadata?.httpStatusCode;
  switch (name) {
    case "NoSuchEntityException":
      return new Gone(`IAM has no user ${user}, or no such key of it`, status);
    case "LimitExceededException":
      return new MakerError(
        `${user} has two keys for Bedrock, which is all that it may have: delete the one that nobody uses`,
        status,
      );
    case "CredentialsProviderError":
      return new MakerError("there is no sign-in to AWS: a role, a profile, or admin_id with admin_key");
    default:
      return new MakerError(
        `IAM answered ${status ?? "nothing"} (${name})${
          status === 403
            ? `: the sign-in needs iam:CreateServiceSpecificCredential, iam:ListServiceSpecificCredentials, iam:UpdateServiceSpecificCredential and iam:DeleteServiceSpecificCredential on ${user}`
            : ""
        }`,
        status,
      );
  }
}
