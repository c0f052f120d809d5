// What may be made after we have started: another program's books.
export type Late<T> = { readonly get: () => Promise<T | undefined>; close(): Promise<void> };

/** Looked for again each time it is asked for, until it is. */
export function createLate<T extends { close(): Promise<void> }>(open: () => Promise<T | undefined>): Late<T> {
  let found: T | undefined;
  let opening: Promise<T | undefined> | undefined;
  const look = async (): Promise<T | undefined> => {
    try {
      return (found = await open());
    } finally {
      opening = undefined;
    }
  };
  return {
    get: async () => found ?? (opening ??= look()),
    async close() {
      await found?.close();
    },
  };
}
