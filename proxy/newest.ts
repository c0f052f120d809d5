// So many values by name: when there are more, those are let go whose names came first.
export type Newest<T> = {
  get(name: string): T | undefined;
  has(name: string): boolean;
  /** True where another one was let go for it. */
  set(name: string, value: T): boolean;
  delete(name: string): void;
};

export function createNewest<T>(most: number): Newest<T> {
  const values = new Map<string, T>();
  // In the order in which they came, round and round. A Map knows that order too, but looks for its first name among all
  // that were deleted before it: microseconds for each, of many.
  const names: string[] = [];
  let next = 0;
  return {
    get: (name) => values.get(name),
    has: (name) => values.has(name),
    set(name, value) {
      if (values.has(name)) {
        values.set(name, value);
        return false;
      }
      const oldest = names[next];
      const isFull = oldest !== undefined && values.delete(oldest);
      names[next] = name;
      next = (next + 1) % most;
      values.set(name, value);
      return isFull;
    },
    delete: (name) => void values.delete(name),
  };
}
