// Google service accounts: keys are made, switched off and on, and deleted by the IAM API. They have no names; each knows its own
// id and account. Source: IAM's REST reference (projects.serviceAccounts.keys, v1).
import { credentialsIn, machineCredentials, serviceAccountKey } from "../../../service/google-credentials.ts";
import { clientOf } from "../../../service/secrets/client.ts";
import { MakerError, askMaker, inApi, probeWith } from "../maker.ts";
import type { ListedKey, Maker, MakerSettings } from "../maker.ts";

const LIMITS = {
  400: ": the organisation forbids keys of service accounts, or the account has ten, which is all that it may have",
  429: ": too many requests right now, or the account has ten keys, which is all that it may have",
};

/** Ids are `projects/-/serviceAccounts/EMAIL/keys/ID`. */
export function vertexMaker({ adminKey, adminUrl, url }: MakerSettings): Maker {
  const signIn = clientOf({ reveal: adminKey }, (text) => (text === "" ? machineCredentials() : credentialsIn(text)));
  const headers = async (): Promise<{ authorization: string }> => {
    const given = adminKey();
    try {
      return { authorization: `Bearer ${await signIn().reveal()}` };
    } catch (error) {
      throw new MakerError(
        given === ""
          ? "this machine is not signed in to Google: give admin_key, a reference to a service account's key file"
          : `what admin_key refers to is no service account's key file (${error instanceof Error ? error.name : "no reason"})`,
      );
    }
  };
  const at = (path: string): URL => inApi(adminUrl, `/v1/${path}`);
  const list = async (account: string): Promise<ListedKey[]> => {
    const { body } = await askMaker(at(`${account}/keys?keyTypes=USER_MANAGED`), { headers: await headers() });
    const { keys = [] } = body as { keys?: { readonly name?: string; readonly validAfterTime?: string }[] };
    return keys.flatMap(({ name, validAfterTime: made = "" }) =>
      name === undefined ? [] : [{ id: `${account}/keys/${name.split("/").at(-1)}`, madeAtMs: Date.parse(made) || 0 }],
    );
  };
  const set = async (id: string, verb: "disable" | "enable"): Promise<void> => {
    await askMaker(at(`${id}:${verb}`), { method: "POST", headers: await headers(), body: {}, also: [404] });
  };
  return {
    list: (currentId) => list(accountOf(currentId)),
    async create(_name, currentId) {
      const account = accountOf(currentId);
      const body = { privateKeyType: "TYPE_GOOGLE_CREDENTIALS_FILE", keyAlgorithm: "KEY_ALG_RSA_2048" };
      const made = await askMaker(at(`${account}/keys`), {
        method: "POST",
        headers: await headers(),
        body,
        means: LIMITS,
      });
      const { name, privateKeyData: data } = made.body as { name?: unknown; privateKeyData?: unknown };
      if (typeof name !== "string" || typeof data !== "string")
        throw new MakerError("Google made a key without its value");
      // Stores give a text back without the end of its last line.
      const value = Buffer.from(data, "base64").toString("utf8").trimEnd();
      return { id: `${account}/keys/${name.split("/").at(-1)}`, value };
    },
    async identify(value) {
      const key = serviceAccountKey(value);
      if (!key) return undefined;
      const account = `projects/-/serviceAccounts/${key.email}`;
      return (await list(account)).find(({ id }) => id === `${account}/keys/${key.id}`)?.id;
    },
    disable: (id) => set(id, "disable"),
    enable: (id) => set(id, "enable"),
    async revoke(id) {
      const { status } = await askMaker(at(id), { method: "DELETE", headers: await headers(), also: [404] });
      return status !== 404;
    },
    async probe(value) {
      const authorization = `Bearer ${await credentialsIn(value).reveal()}`;
      const { project = "" } = serviceAccountKey(value) ?? {};
      const status = await probeWith(inApi(url, `/v1/projects/${project}/locations`), { authorization });
      // The account is known, and may not list places; it may not with the old key either.
      return status === 403 ? 200 : status;
    },
  };
}

function accountOf(id: string): string {
  return id.replace(/\/keys\/[^/]+$/, "");
}
