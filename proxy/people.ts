// People as the request path sees them: a name that a request gives, as the id under which books know who that is. In
// memory, read from the books at start and after each change; a new name is asked of the books once.
import { cleanName, foldName, MOST_NAMED, OTHERS } from "../ledger/usage/people.ts";
import type { Writer } from "../ledger/usage/writer.ts";

export type People = {
  /** Reads the books again. */
  reload(): Promise<void>;
  /** Who has this name, as far as is known here. */
  known(name: string): string | undefined;
  /** The same; a new person where nobody has it. `by`: a key that may bring only so many; empty: it brought enough.
   *  Rejects with LedgerUnavailable. */
  idOf(name: string, by?: string): Promise<string>;
  /** The name of an id; undefined: nobody's, or it was taken away. */
  nameOf(id: string): string | undefined;
};

const READ_AGAIN_MS = 10_000;
/** By one key that nobody said may name people, since the start. */
const MOST_BROUGHT = 1_000;

/** `read`: names by id, as the books have them. */
export function createPeople(
  read: () => Promise<ReadonlyMap<string, string>>,
  writer: Pick<Writer, "personOf">,
): People {
  let names: ReadonlyMap<string, string> = new Map();
  let ids = new Map<string, string>();
  /** Named by requests since they were read. */
  const fresh = new Map<string, string>();
  const asked = new Map<string, Promise<string>>();
  const broughtBy = new Map<string, number>();
  let readAtMs = 0;
  const reload = async (): Promise<void> => {
    readAtMs = performance.now();
    names = await read();
    fresh.clear();
    ids = new Map([...names].map(([id, name]) => [foldName(name), id]));
  };
  return {
    reload,
    known: (name) => ids.get(foldName(name)),
    async idOf(name, by) {
      const folded = foldName(name);
      const known = ids.get(folded);
      if (known !== undefined) return known;
      // Nobody is named any more: a crowd of new names makes no work. Another proxy may have named one before.
      if (ids.size >= MOST_NAMED) {
        if (performance.now() - readAtMs > READ_AGAIN_MS) await reload();
        return ids.get(folded) ?? OTHERS;
      }
      if (by !== undefined) {
        const brought = broughtBy.get(by) ?? 0;
        if (brought >= MOST_BROUGHT) return "";
        broughtBy.set(by, brought + 1);
      }
      const asking = asked.get(folded) ?? writer.personOf(name).finally(() => asked.delete(folded));
      asked.set(folded, asking);
      const id = await asking;
      if (id === OTHERS) return id;
      ids.set(folded, id);
      fresh.set(id, cleanName(name));
      return id;
    },
    nameOf: (id) => names.get(id) ?? fresh.get(id),
  };
}
