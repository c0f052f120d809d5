// One at a time, in the order in which they came: what reads and writes the same books, or takes long. One that fails
// is no matter of the next.

export type InTurn = <T>(work: () => Promise<T>) => Promise<T>;

export function createTurn(): InTurn {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const mine = last.then(work);
    last = mine.catch(() => undefined);
    return mine;
  };
}
