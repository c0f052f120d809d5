// Mistakes in the order of things between a commit, the disk, the provider and the client: each is put into a copy of
// the product, and the tests beside this file have to find it. `is` stands once in the file.
import type { Bug } from "../simulation/bugs.ts";

export const MISTAKES: readonly Bug[] = [
  {
    what: "an fdatasync counts for commits that came while it ran",
    file: "ledger/usage/log-sync.ts",
    is: "durable = covers;",
    becomes: "durable = committed;",
  },
  {
    what: "a commit counts as on the disk",
    file: "ledger/usage/log-sync.ts",
    is: "if (batch <= durable) return undefined;",
    becomes: "if (batch <= committed) return undefined;",
  },
  {
    what: "a failed fdatasync counts as one that did not fail",
    file: "ledger/usage/log-sync.ts",
    is: "if (error) return void mend(error);",
    becomes: "",
  },
  {
    what: "after a failed fdatasync the log is not written again",
    file: "ledger/usage/log-sync.ts",
    is: "isWhole = isClosed || (await rewrite());",
    becomes: "isWhole = true;",
  },
  {
    what: "an fdatasync runs before the log is written again",
    file: "ledger/usage/log-sync.ts",
    is: "since !== undefined || isMending ||",
    becomes: "since !== undefined ||",
  },
  {
    what: "the database goes to the disk, not its log",
    file: "ledger/usage/log-sync.ts",
    is: "openSync(`${path}-wal`",
    becomes: "openSync(`${path}`",
  },
  {
    what: "what nobody asks for never goes to the disk",
    file: "ledger/usage/log-sync.ts",
    is: "      want(batch);\n      if (committed",
    becomes: "      if (committed",
  },
  {
    what: "a batch counts as on the disk with the one before it",
    file: "ledger/usage/appender.ts",
    is: "sync.whenDurable(one);",
    becomes: "sync.whenDurable(one - 1);",
  },
  {
    what: "an event is answered after its commit",
    file: "ledger/usage/appender.ts",
    is: '  "reserve",\n  "refused",',
    becomes: '  "reserve",\n  "settle",\n  "refused",',
  },
  {
    what: "a change is answered after its commit",
    file: "ledger/usage/appender.ts",
    is: '  "reserve",\n  "refused",',
    becomes: '  "reserve",\n  "change",\n  "refused",',
  },
  {
    what: "while the disk hangs everything is sent",
    file: "ledger/usage/appender.ts",
    is: "> MOST_AHEAD_MS",
    becomes: "> Infinity",
  },
  {
    what: "the old order is not kept where it is set",
    file: "ledger/usage/appender.ts",
    is: 'durability === "power_before_send" ||',
    becomes: "",
  },
  {
    what: "a stream begins before its reservation is on the disk",
    file: "proxy/dispatch.ts",
    is: "mayBegin: attempt.kept,",
    becomes: "",
  },
  {
    what: "what came early is dropped",
    file: "proxy/answer.ts",
    is: "for (const piece of this.#early) this.#response.write(piece);",
    becomes: "",
  },
];
