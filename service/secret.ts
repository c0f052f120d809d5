// Secrets: a type that cannot be printed by accident, and the three that an installation makes for itself.
import { randomBytes } from "node:crypto";
import {
  closeSync,
  existsSync,
  fchmodSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";
import { needPepper } from "../ledger/usage/pepper.ts";

const SHORTEST = 16;
const PLACEHOLDERS = new Set(["changeme", "change-me", "secret", "password", "xxxxxxxxxxxxxxxx"]);

/** Text that prints as [secret]. `reveal()` is the only way to it, and easy to search for. */
export class Secret {
  readonly #text: string;
  /** Made just now, by this start. */
  readonly isNew: boolean;

  constructor(text: string, isNew = false) {
    this.#text = text;
    this.isNew = isNew;
  }

  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [inspect.custom](): string {
    return "[secret]";
  }
}

/** A secret that was given, or the one that this installation made on its first start: 32 random bytes in a file that
 *  only its user can read. Throws an Error when a given one is empty, short or a placeholder. */
export function ownSecret(dataDir: string, name: OwnSecret, given: Secret | undefined): Secret {
  if (given !== undefined) {
    const fault = weaknessOf(name, given.reveal());
    if (fault !== undefined) throw new Error(fault);
    return given;
  }
  const path = join(dataDir, name);
  if (existsSync(path) && !isFilled(path)) throw new Error(`${path} is empty. ${RESTORE[name]}`);
  const isNew = !existsSync(path);
  // A new pepper would make every key unknown.
  if (isNew && name === "pepper" && needPepper(join(dataDir, "usage.db")))
    throw new Error(`${path} is gone. ${RESTORE.pepper}`);
  if (isNew) {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    // Programs start together: whichever links its file first has made the secret of all.
    const mine = `${path}.${process.pid}`;
    writeDurably(mine, `${randomBytes(32).toString("base64url")}\n`);
    try {
      linkSync(mine, path);
    } catch (error) {
      if (!existsSync(path)) throw error;
    }
    unlinkSync(mine);
    syncFolder(dataDir);
  }
  const text = readFileSync(path, "utf8").trim();
  if (text.length < SHORTEST)
    throw new Error(
      `${path} is too short to be a secret. ${RESTORE[name] ?? "Delete it, and the next start makes a new one."}`,
    );
  return new Secret(text, isNew);
}

/** Why a text is none of an installation's own secrets; undefined: it may be. */
export function weaknessOf(name: OwnSecret, text: string): string | undefined {
  if (text.length >= SHORTEST && !PLACEHOLDERS.has(text.toLowerCase())) return undefined;
  return `the ${name} that was given is too short or a placeholder: use at least ${SHORTEST} random characters, or leave it out and one is made`;
}

/** Writes a secret that was given in the settings where another program looks for it. */
export function keepSecret(dataDir: string, name: string, secret: Secret): void {
  const path = join(dataDir, name);
  if (isFilled(path) && readFileSync(path, "utf8").trim() === secret.reveal()) return;
  // Whoever reads it meanwhile, or after a power cut, finds the old one or the new one, whole.
  const mine = `${path}.${process.pid}`;
  writeDurably(mine, `${secret.reveal()}\n`);
  renameSync(mine, path);
  syncFolder(dataDir);
}

export type OwnSecret = keyof typeof RESTORE;

/** What to do when one is gone. */
export const RESTORE = {
  pepper:
    "Without the one that the keys in usage.db were made with no key is recognised. Restore the file from a backup, or give what it held as KEYMETER_PEPPER.",
  "admin-token":
    "Restore the file from a backup, or give a token as KEYMETER_ADMIN_TOKEN; whoever has scripts with the old one needs the same.",
  "webhook-token":
    "Restore the file from a backup, or delete it, and the next start makes a new one; Alertmanager needs the same.",
  "metrics-token":
    "Restore the file from a backup, or delete it, and the next start makes a new one; Prometheus needs the same.",
  "read-token": "Restore the file from a backup, or delete it, and the next start makes a new one.",
} as const;

function isFilled(path: string): boolean {
  return (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0;
}

/** A file whose text is on the disk, not only on its way there: a machine that stops now must not leave it empty. */
function writeDurably(path: string, text: string): void {
  const file = openSync(path, "w", 0o600);
  try {
    fchmodSync(file, 0o600);
    writeSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function syncFolder(path: string): void {
  // Windows opens no folders.
  if (process.platform === "win32") return;
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
