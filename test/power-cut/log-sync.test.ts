// The order of commits and fdatasyncs, with a disk that answers when the test says so: what a power cut may or may not find
// by luck is here each time.
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createLogSync } from "../../ledger/usage/log-sync.ts";
import type { LogSync } from "../../ledger/usage/log-sync.ts";

type Answer = (error: Error | null) => void;
/** Of fdatasyncs that have begun, in their order. */
const begun = vi.hoisted(() => [] as Answer[]);
vi.mock("node:fs", async (original) => ({
  ...(await original<typeof import("node:fs")>()),
  fdatasync: (_file: number, answer: Answer) => void begun.push(answer),
}));

describe("the log of the books", () => {
  let sync: LogSync;
  /** Of rewritings that have begun. */
  let rewritings: ((isWhole: boolean) => void)[];
  beforeEach(() => {
    begun.length = 0;
    rewritings = [];
    const path = join(mkdtempSync(join(tmpdir(), "keymeter-")), "usage.db");
    writeFileSync(`${path}-wal`, "");
    const rewrite = (): Promise<boolean> => new Promise((resolve) => rewritings.push(resolve));
    sync = createLogSync({ path, lagMs: 3_600_000, rewrite });
  });
  afterEach(async () => {
    for (const answer of begun) answer(null);
    await sync.close();
  });

  const isOver = async (waiting: Promise<void> | undefined): Promise<boolean> => {
    let over = waiting === undefined;
    void waiting?.then(() => (over = true));
    await sleep(0);
    return over;
  };

  it("covers what was committed before an fdatasync began, and nothing that came while it ran", async () => {
    sync.committed(1);
    const first = sync.whenDurable(1);
    expect(begun).toHaveLength(1);
    sync.committed(2);
    const second = sync.whenDurable(2);
    expect(begun).toHaveLength(1);
    expect(await isOver(first)).toBe(false);
    begun[0]?.(null);
    expect(await isOver(first)).toBe(true);
    expect(await isOver(second)).toBe(false);
    expect(sync.whenDurable(1)).toBeUndefined();
    // What waits begins the next one.
    expect(begun).toHaveLength(2);
    begun[1]?.(null);
    expect(await isOver(second)).toBe(true);
  });

  it("goes to no disk between a failure and its having been written again", async () => {
    sync.committed(1);
    const first = sync.whenDurable(1);
    begun[0]?.(new Error("EIO"));
    expect(await isOver(first)).toBe(false);
    expect(sync.failed()).toContain("EIO");
    sync.committed(2);
    const second = sync.whenDurable(2);
    expect(begun).toHaveLength(1);
    await expect.poll(() => rewritings.length).toBe(1);
    expect(begun).toHaveLength(1);
    // Once more, for not all of it was written.
    rewritings[0]?.(false);
    await expect.poll(() => rewritings.length).toBe(2);
    expect(begun).toHaveLength(1);
    rewritings[1]?.(true);
    await expect.poll(() => begun.length).toBe(2);
    begun[1]?.(null);
    expect(await isOver(first)).toBe(true);
    expect(await isOver(second)).toBe(true);
    expect(sync.failed()).toBeUndefined();
  });
});
