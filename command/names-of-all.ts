// Names of keys and users, by id.
import { readNames } from "../ledger/usage/key-use.ts";
import { requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";

export async function namesOfAll(): Promise<(id: string) => string | undefined> {
  const books = await requireUsage(loadCommandConfig());
  const names = await readNames(books);
  await books.close();
  return (id) => names.get(id);
}
