// Whether the pepper of an installation can be made anew. Each program asks at its start: nothing more is loaded for it.
import { openForReading } from "../sqlite.ts";

/** Whether books are there whose keys only one pepper opens. Books that cannot be read say nothing here: whoever opens
 *  them for writing says why. */
export function needPepper(path: string): boolean {
  try {
    const books = openForReading(path);
    if (!books) return false;
    try {
      return (
        books
          .prepare(
            `SELECT 1 FROM meta WHERE name = 'pepper'
            UNION SELECT 1 FROM key_secrets JOIN keys ON keys.id = key_id WHERE kind = 'virtual' LIMIT 1`,
          )
          .get() !== undefined
      );
    } finally {
      books.close();
    }
  } catch {
    return false;
  }
}
