// How commits get to the disk. A commit stands in the write-ahead log when it returns: it survives the end of the
// process. It survives a power cut when an fdatasync of the log that began after it has returned. Commits do not wait
// for the disk here, only whoever asks does.
import { closeSync, fdatasync, openSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export type LogSync = {
  /** All batches up to this one are committed. They go to the disk soon, asked for or not. */
  committed(batch: number): void;
  /** Undefined: the batch is on the disk. Else resolves when it is. Never rejects. */
  whenDurable(batch: number): Promise<void> | undefined;
  /** Since when an fdatasync has not returned, by `performance.now()`. */
  since(): number | undefined;
  /** What the disk said of the last fdatasync, where it failed. */
  failed(): string | undefined;
  /** Waits for what is asked for, as long as the disk does not fail. */
  close(): Promise<void>;
};

export type LogSyncSettings = {
  /** The file of the books. */
  readonly path: string;
  /** How long a commit that nobody asks for stays off the disk. Each fdatasync takes all commits before it, so an
   *  answer that comes at once needs one, not two. */
  readonly lagMs: number;
  /** Writes the log's bytes again: the kernel takes a page whose write failed for written, and would never write it
   *  again. Whether all of them were. Never rejects. */
  readonly rewrite: () => Promise<boolean>;
};

const RETRY_MS = 250;

/** The log has to be there. */
export function createLogSync({ path, lagMs, rewrite }: LogSyncSettings): LogSync {
  // SQLite locks other files: to open and close this one takes no lock of its away.
  const file = openSync(`${path}-wal`, "r");
  let committed = 0;
  let wanted = 0;
  let durable = 0;
  let since: number | undefined;
  let failed: string | undefined;
  /** An fdatasync failed, and what it should have kept is not written again yet: one that succeeds now says nothing. */
  let isMending = false;
  let isClosed = false;
  let soon: NodeJS.Timeout | undefined;
  let waiting: { readonly batch: number; readonly resolve: () => void }[] = [];

  const start = (): void => {
    if (since !== undefined || isMending || wanted <= durable || isClosed) return;
    const covers = committed;
    since = performance.now();
    fdatasync(file, (error) => {
      since = undefined;
      if (error) return void mend(error);
      failed = undefined;
      durable = covers;
      const asked = waiting;
      waiting = asked.filter(({ batch }) => batch > durable);
      for (const { batch, resolve } of asked) if (batch <= durable) resolve();
      start();
    });
  };

  const mend = async (error: Error): Promise<void> => {
    failed = `the disk failed to keep the ledger's log (${error.message})`;
    isMending = true;
    let isWhole = false;
    while (!isWhole) {
      await sleep(RETRY_MS, undefined, { ref: false });
      isWhole = isClosed || (await rewrite());
    }
    isMending = false;
    start();
  };

  const want = (batch: number): void => {
    if (batch > wanted) wanted = batch;
    start();
  };

  /** What is committed now is wanted when the time is over, and what has come since a time later: what has just been
   *  committed may be taken along by the answer that is on its way. */
  const wantSoon = (): void => {
    const batch = committed;
    soon = setTimeout(() => {
      soon = undefined;
      want(batch);
      if (committed > batch) wantSoon();
    }, lagMs).unref();
  };

  return {
    committed(batch) {
      committed = batch;
      if (soon === undefined) wantSoon();
    },
    whenDurable(batch) {
      if (batch <= durable) return undefined;
      want(batch);
      return new Promise((resolve) => waiting.push({ batch, resolve }));
    },
    since: () => since,
    failed: () => failed,
    async close() {
      const isBusy = (): boolean => since !== undefined || (waiting.length > 0 && failed === undefined);
      while (isBusy()) await sleep(1);
      isClosed = true;
      clearTimeout(soon);
      closeSync(file);
    },
  };
}
