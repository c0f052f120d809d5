// For whom a command runs, where somebody elsewhere asked for it (remote/server.ts): then it changes the books as that person's
// token allows, shows a lead what is of the team, and reads and writes no file but those that came with the question.
import { basename, join } from "node:path";
import { z } from "zod";
import { ROLES } from "../ledger/usage/tokens.ts";
import type { Holder } from "../ledger/usage/tokens.ts";
import { commandEnvironment } from "./config.ts";
import { UsageError } from "./usage-error.ts";

/** The variable that says it. Who could set it could do all of it anyhow: what it says only narrows. */
export const ASKER = "KEYMETER_ASKER";

const asker = z.strictObject({
  name: z.string(),
  role: z.enum(ROLES),
  team: z.string().optional(),
  tokenId: z.string().optional(),
  isOfSso: z.literal(true).optional(),
  /** The folder of files that came, and of those that go back. */
  folder: z.string(),
});

type Asker = Holder & { readonly folder: string };

/** Undefined: somebody at this machine. */
export function findAsker(): Asker | undefined {
  const given = commandEnvironment()[ASKER];
  return given === undefined ? undefined : asker.parse(JSON.parse(given));
}

/** Where a file is that somebody named. */
export function pathOf(given: string): string {
  const folder = findAsker()?.folder;
  if (folder === undefined) return given;
  if (given !== basename(given) || given.startsWith("."))
    throw new UsageError(`${given} is not a file that was sent along`);
  return join(folder, given);
}
