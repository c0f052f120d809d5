// Google Secret Manager, over one call of its REST API, signed in as Google's tools are: a key file, or what the machine is.
import { askStore, inStore } from "./ask.ts";
import { fieldOf, StoreError } from "./store.ts";
import type { Store } from "./store.ts";

export type GoogleStoreSettings = {
  /** Where the API is. */
  readonly address: string;
  /** A token of now. */
  readonly token: () => Promise<string>;
};

type Answer = {
  readonly name?: unknown;
  readonly payload?: { readonly data?: unknown; readonly dataCrc32c?: string | number };
};

export function createGoogleStore({ address, token }: GoogleStoreSettings): Store {
  return {
    async read(reference, signal) {
      const [, secret = "", version = "latest"] =
        /^(projects\/[^/]+\/secrets\/[^/]+)(?:\/versions\/([^/]+))?$/.exec(reference.path) ?? [];
      const bearer = await token().catch(() => {
        throw new StoreError("refused", "there is no sign-in to Google: secrets.google.credentials names a key file");
      });
      const { status, body } = await askStore(inStore(address, `${secret}/versions/${version}:access`), signal, {
        headers: { authorization: `Bearer ${bearer}` },
      });
      if (status === 401 || status === 403)
        throw new StoreError(
          "refused",
          `${secret} may not be read: the sign-in needs the role Secret Manager Secret Accessor`,
        );
      if (status === 404) throw new StoreError("missing", `there is no version ${version} of ${secret}`);
      // A version that was disabled or destroyed.
      if (status === 400) throw new StoreError("missing", `version ${version} of ${secret} is disabled, or destroyed`);
      const { name, payload } = (body ?? {}) as Answer;
      if (status !== 200 || typeof payload?.data !== "string")
        throw new StoreError("away", `${address} answered ${status} without a secret`);
      const data = Buffer.from(payload.data, "base64");
      if (payload.dataCrc32c !== undefined && String(payload.dataCrc32c) !== String(crc32c(data)))
        throw new StoreError("away", "what arrived is not what was sent (CRC32C)");
      return {
        text: fieldOf(data.toString("utf8"), reference),
        version: typeof name === "string" ? name.split("/").at(-1) : undefined,
      };
    },
  };
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
