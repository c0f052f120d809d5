// Secrets of this machine: variables of the environment, and files, as Docker, Kubernetes and systemd leave them.
import { copyFile, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Reference } from "./reference.ts";
import { fieldOf, StoreError, withField } from "./store.ts";
import type { Staging, Store } from "./store.ts";

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
    staging: stagingOf,
  };
}

/** Files beside it. Each takes the place of another at once, or not at all. */
function stagingOf(reference: Reference): Staging {
  const { path } = reference;
  const [next, previous] = [`${path}.next`, `${path}.previous`];
  const said = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      throw error instanceof StoreError ? error : failed(error, path, "written");
    }
  };
  const isThere = async (file: string): Promise<boolean> => (await stat(file).catch(() => undefined)) !== undefined;
  const moved = async (from: string, to: string): Promise<void> => {
    await rename(from, to);
    await sync(dirname(path));
  };
  return {
    stage: (text) =>
      said(
        (async () => {
          const { mode } = await stat(path);
          const made = `${next}.${process.pid}`;
          const file = await open(made, "w", mode & 0o777);
          try {
            await file.writeFile(withField(await readFile(path, "utf8"), reference, text));
            await file.sync();
          } finally {
            await file.close();
          }
          await moved(made, next);
        })(),
      ),
    staged: async () =>
      (await isThere(next)) ? fieldOf(await said(readFile(next, "utf8")), reference).replace(/\r?\n$/, "") : undefined,
    promote: () =>
      said(
        (async () => {
          if (!(await isThere(next))) return;
          await copyFile(path, `${previous}.${process.pid}`);
          await moved(`${previous}.${process.pid}`, previous);
          await moved(next, path);
        })(),
      ),
    restore: () => said((async () => ((await isThere(previous)) ? moved(previous, path) : undefined))()),
    clear: () =>
      said((async () => void (await Promise.all([next, previous].map((file) => rm(file, { force: true })))))()),
  };
}

/** What was renamed stays renamed after a power cut. */
async function sync(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function failed(error: unknown, path: string, what: "read" | "written" = "read"): StoreError {
  const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
  if (code === "ENOENT" || code === "ENOTDIR") return new StoreError("missing", `there is no file ${path}`);
  if (code === "EACCES" || code === "EPERM")
    return new StoreError(
      "refused",
      `${path} may not be ${what} by this user: give it the right, or run as another one`,
    );
  return new StoreError("away", `${path} cannot be ${what} (${code})`);
}
