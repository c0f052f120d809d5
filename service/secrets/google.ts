// Google Secret Manager, over its REST API, signed in as Google's tools are: a key file, or what the machine is.
import { askStore, inStore } from "./ask.ts";
import type { Answered } from "./ask.ts";
import { fieldOf, StoreError } from "./store.ts";
import type { Store } from "./store.ts";
import { stagingOfVersions } from "./versions.ts";

export type GoogleStoreSettings = {
  /** Where the API is. */
  readonly address: string;
  /** A token of now. */
  readonly token: () => Promise<string>;
};

type Payload = {
  readonly name?: unknown;
  readonly payload?: { readonly data?: unknown; readonly dataCrc32c?: string | number };
};

export function createGoogleStore({ address, token }: GoogleStoreSettings): Store {
  const call = async (
    path: string,
    signal: AbortSignal,
    how: { readonly method?: "POST"; readonly body?: object } = {},
  ): Promise<Answered> => {
    const bearer = await token().catch(() => {
      throw new StoreError("refused", "there is no sign-in to Google: secrets.google.credentials names a key file");
    });
    const answered = await askStore(inStore(address, path), signal, {
      ...how,
      headers: { authorization: `Bearer ${bearer}` },
    });
    const role = how.method === undefined ? "Secret Accessor" : "Secret Version Manager";
    if (answered.status === 401 || answered.status === 403)
      throw new StoreError(
        "refused",
        `${path.replace(/[:?].*$/, "")} may not be ${how.method ? "written" : "read"}: the sign-in needs the role Secret Manager ${role}`,
      );
    return answered;
  };
  const access = async (
    secret: string,
    version: string,
    signal: AbortSignal,
  ): Promise<{ text: string; id: unknown }> => {
    const { status, body } = await call(`${secret}/versions/${version}:access`, signal);
    if (status === 404) throw new StoreError("missing", `there is no version ${version} of ${secret}`);
    // A version that was disabled or destroyed.
    if (status === 400) throw new StoreError("missing", `version ${version} of ${secret} is disabled, or destroyed`);
    const { name, payload } = (body ?? {}) as Payload;
    if (status !== 200 || typeof payload?.data !== "string")
      throw new StoreError("away", `${address} answered ${status} without a secret`);
    const data = Buffer.from(payload.data, "base64");
    if (payload.dataCrc32c !== undefined && String(payload.dataCrc32c) !== String(crc32c(data)))
      throw new StoreError("away", "what arrived is not what was sent (CRC32C)");
    return { text: data.toString("utf8"), id: name };
  };
  /** Numbers of versions that can be read, the newest first. */
  const enabled = async (secret: string, signal: AbortSignal): Promise<string[]> => {
    const { status, body } = await call(`${secret}/versions?pageSize=100&filter=state%3AENABLED`, signal);
    if (status === 404) return [];
    const { versions = [] } = (body ?? {}) as { versions?: { readonly name?: string; readonly state?: string }[] };
    return versions.flatMap(({ name, state }) => (state === "ENABLED" && name ? [name.split("/").at(-1) ?? ""] : []));
  };
  const add = async (secret: string, text: string, signal: AbortSignal): Promise<boolean> => {
    const body = { payload: { data: Buffer.from(text).toString("base64") } };
    const { status } = await call(`${secret}:addVersion`, signal, { method: "POST", body });
    if (status !== 200 && status !== 404)
      throw new StoreError("away", `${address} answered ${status} to a new version`);
    return status === 200;
  };
  /** A secret where the other one is. */
  const make = async (secret: string, like: string, signal: AbortSignal): Promise<void> => {
    const { body } = await call(like, signal);
    const { replication } = (body ?? {}) as { replication?: object };
    const [parent = "", name = ""] = secret.split("/secrets/");
    const how = { method: "POST", body: { replication: replication ?? { automatic: {} } } } as const;
    const { status } = await call(`${parent}/secrets?secretId=${name}`, signal, how);
    if (status !== 200 && status !== 409) throw new StoreError("away", `${address} answered ${status} to a new secret`);
  };

  return {
    async read(reference, signal) {
      const { secret, version } = placeOf(reference.path);
      const { text, id } = await access(secret, version, signal);
      return {
        text: fieldOf(text, reference),
        version: typeof id === "string" ? id.split("/").at(-1) : undefined,
      };
    },
    staging(reference) {
      const { secret, version } = placeOf(reference.path);
      if (version !== "latest")
        throw new StoreError("refused", `${reference.text} is one version for ever: name the secret without it`);
      const beside = `${secret}-next`;
      return stagingOfVersions(reference, {
        current: async (signal) => (await access(secret, "latest", signal)).text,
        async *history(signal) {
          for (const one of await enabled(secret, signal)) yield (await access(secret, one, signal)).text;
        },
        async write(text, signal) {
          if (!(await add(secret, text, signal))) throw new StoreError("missing", `there is no secret ${secret}`);
        },
        next: {
          read(signal) {
            return access(beside, "latest", signal).then(({ text }) => text, noneWhereMissing);
          },
          async write(text, signal) {
            if (await add(beside, text, signal)) return;
            await make(beside, secret, signal);
            if (!(await add(beside, text, signal)))
              throw new StoreError("away", `${beside} is not there after it was made`);
          },
          async drop(signal) {
            for (const one of await enabled(beside, signal))
              await call(`${beside}/versions/${one}:destroy`, signal, { method: "POST", body: {} });
          },
        },
      });
    },
  };
}

function noneWhereMissing(error: unknown): undefined {
  if (error instanceof StoreError && error.why === "missing") return undefined;
  throw error;
}

/** `projects/P/secrets/NAME[/versions/N]` */
function placeOf(path: string): { readonly secret: string; readonly version: string } {
  const [secret = "", version = "latest"] = path.split("/versions/");
  return { secret, version };
}

/** Castagnoli's, which Google sends along; zlib has the other one. */
function crc32c(data: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}
