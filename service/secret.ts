// Secrets: a type that cannot be printed by accident, and the three that an installation makes for itself.
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";

const SHORTEST = 16;
const PLACEHOLDERS = new Set(["changeme", "change-me", "secret", "password", "xxxxxxxxxxxxxxxx"]);

/** Text that prints as [secret]. `reveal()` is the only way to it, and easy to search for. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
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
export function ownSecret(
  dataDir: string,
  name: "admin-token" | "read-token" | "pepper",
  given: string | undefined,
): Secret {
  if (given !== undefined) {
    if (given.length < SHORTEST || PLACEHOLDERS.has(given.toLowerCase()))
      throw new Error(
        `the ${name} that was given is too short or a placeholder: use at least ${SHORTEST} random characters, or leave it out and one is made`,
      );
    return new Secret(given);
  }
  const path = join(dataDir, name);
  if (!existsSync(path)) {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    // Programs start together: whichever links its file first has made the secret of all.
    const mine = `${path}.${process.pid}`;
    writeFileSync(mine, `${randomBytes(32).toString("base64url")}\n`, { mode: 0o600 });
    chmodSync(mine, 0o600);
    try {
      linkSync(mine, path);
    } catch (error) {
      if (!existsSync(path)) throw error;
    }
    unlinkSync(mine);
  }
  const text = readFileSync(path, "utf8").trim();
  if (text.length < SHORTEST)
    throw new Error(`${path} is empty or too short: delete it, and the next start makes a new one`);
  return new Secret(text);
}
