// Secrets of this machine: variables of the environment, and files, as Docker, Kubernetes and systemd leave them.
import { open, readFile, realpath, rename, rm, stat } from "node:fs/promises";
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

/** Files beside it, which hold what the file holds, with another value in its field. Each takes the place of another at
 *  once, or not at all; owner and mode stay. */
function stagingOf(reference: Reference): Staging {
  const said = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw error instanceof StoreError ? error : failed(error, reference.path, "written");
    }
  };
  /** Of the file itself, where a link leads to it. */
  const places = async (): Promise<{ path: string; next: string; previous: string }> => {
    const path = await realpath(reference.path);
    return { path, next: `${path}.next`, previous: `${path}.previous` };
  };
  const read = async (file: string): Promise<string | undefined> => {
    const text = await readFile(file, "utf8").catch((error: unknown) => {
      if ((error as { code?: unknown }).code === "ENOENT") return undefined;
      throw error;
    });
    return text === undefined ? undefined : fieldOf(text, reference).replace(/\r?\n$/, "");
  };
  /** The file with another value, in the place of `target`. */
  const write = async (path: string, value: string, target: string): Promise<void> => {
    const { mode, uid, gid } = await stat(path);
    const made = `${target}.tmp`;
    await rm(made, { force: true });
    const file = await open(made, "wx", mode & 0o777);
    try {
      await file.chmod(mode & 0o777);
      const own = await file.stat();
      if (own.uid !== uid || own.gid !== gid) await file.chown(uid, gid);
      await file.writeFile(withField(await readFile(path, "utf8"), reference, value));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(made, target);
    await sync(dirname(path));
  };
  return {
    stage: (text) =>
      said(async () => {
        const { path, next } = await places();
        await write(path, text, next);
      }),
    staged: () => said(async () => read((await places()).next)),
    previous: () => said(async () => read((await places()).previous)),
    promote: () =>
      said(async () => {
        const { path, next, previous } = await places();
        const [value, current] = [await read(next), await read(path)];
        if (value === undefined || current === undefined) return;
        // After a crash the next one is current already: what it followed stays what it was.
        if (value !== current) {
          await write(path, current, previous);
          await write(path, value, path);
        }
        await rm(next, { force: true });
        await sync(dirname(path));
      }),
    restore: () =>
      said(async () => {
        const { path, previous } = await places();
        const value = await read(previous);
        if (value !== undefined) await write(path, value, path);
      }),
    clear: () =>
      said(async () => {
        const { path, next, previous } = await places();
        for (const file of [next, previous, path].flatMap((one) => [`${one}.tmp`, ...(one === path ? [] : [one])]))
          await rm(file, { force: true });
        await sync(dirname(path));
      }),
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
