// Secrets of this machine: variables of the environment, and files, as Docker, Kubernetes and systemd leave them.
import { open, stat } from "node:fs/promises";
import { fieldOf, StoreError } from "./store.ts";
import type { Store } from "./store.ts";

/** No secret is longer. */
const MOST_BYTES = 256 * 1024;
/** A file is asked more often than a store far away: nobody pays for it. */
const FILE_SECONDS = 10;

export function createEnvironmentStore(environment: { readonly [name: string]: string | undefined }): Store {
  return {
    // oxlint-disable-next-line require-await -- as every store
    async read({ path }) {
      const text = environment[path];
      if (text === undefined) throw new StoreError("missing", `the variable ${path} is not set`);
      return { text };
    },
  };
}

/** Kubernetes swaps a mounted secret whole, by a link: what is read is one or the other. */
export function createFileStore(): Store {
  return {
    usualRefresh: FILE_SECONDS,
    async read(reference) {
      // What is no file may never let itself be opened.
      const found = await stat(reference.path).catch((error: unknown) => {
        throw failed(error, reference.path);
      });
      if (!found.isFile()) throw new StoreError("unusable", `${reference.path} is no file`);
      const file = await open(reference.path, "r").catch((error: unknown) => {
        throw failed(error, reference.path);
      });
      try {
        const { size, mtimeMs, ino } = await file.stat();
        if (size > MOST_BYTES) throw new StoreError("unusable", `${reference.path} has more than ${MOST_BYTES} bytes`);
        return { text: fieldOf(await file.readFile("utf8"), reference), version: `${ino}-${mtimeMs}` };
      } catch (error) {
        throw error instanceof StoreError ? error : failed(error, reference.path);
      } finally {
        await file.close();
      }
    },
  };
}

function failed(error: unknown, path: string): StoreError {
  const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
  if (code === "ENOENT" || code === "ENOTDIR") return new StoreError("missing", `there is no file ${path}`);
  if (code === "EACCES" || code === "EPERM")
    return new StoreError("refused", `${path} may not be read by this user: give it the right, or run as another one`);
  return new StoreError("away", `${path} cannot be read (${code})`);
}
