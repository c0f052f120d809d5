// The file that a program logs to: it has an end, and a disk that takes nothing stops nobody.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openLogFile } from "../../service/log-file.ts";
import { temporaryFolder } from "../start-proxy.ts";

describe("fault 19: the log of a program", () => {
  const linesOf = (path: string): string[] => readFileSync(path, "utf8").trimEnd().split("\n");

  it("turns over at a size and keeps three older files, so that it has an end", async () => {
    const folder = temporaryFolder();
    const path = join(folder, "proxy.log");
    const log = openLogFile(path, 100);
    for (let i = 0; i < 40; i++) {
      log.write(Buffer.from(`line ${String(i).padStart(2, "0")} ${"x".repeat(40)}\n`));
      await log.end();
    }
    expect(readdirSync(folder).toSorted()).toEqual(["proxy.log", "proxy.log.1", "proxy.log.2", "proxy.log.3"]);
    const all = ["proxy.log.3", "proxy.log.2", "proxy.log.1", "proxy.log"].map((name) => join(folder, name));
    for (const file of all) expect(statSync(file).size).toBeLessThanOrEqual(100 + 49);
    // The newest lines, in their order and without a gap.
    const numbers = all.flatMap(linesOf).map((line) => Number(line.slice(5, 7)));
    expect(numbers.at(-1)).toBe(39);
    expect(numbers).toEqual(numbers.map((_number, i) => 39 - numbers.length + 1 + i));
    expect(numbers.length).toBeGreaterThanOrEqual(10);
  });

  it("goes on where the last start ended", async () => {
    const path = join(temporaryFolder(), "proxy.log");
    writeFileSync(path, `${"x".repeat(200)}\n`);
    const log = openLogFile(path, 100);
    log.write(Buffer.from("new\n"));
    await log.end();
    expect([readFileSync(path, "utf8"), statSync(`${path}.1`).size]).toEqual(["new\n", 201]);
  });

  it("of a disk that takes nothing is dropped and counted, throws nothing, and goes on when it takes something", async () => {
    const folder = temporaryFolder();
    const path = join(folder, "logs", "proxy.log");
    const log = openLogFile(path);
    for (let i = 0; i < 3; i++) {
      log.write(Buffer.from("0123456789"));
      await log.end();
    }
    expect(existsSync(path)).toBe(false);
    mkdirSync(join(folder, "logs"));
    log.write(Buffer.from("it works again\n"));
    await log.end();
    // It is said once.
    log.write(Buffer.from("as before\n"));
    await log.end();
    expect(readFileSync(path, "utf8")).toBe(
      "30 bytes of this log were dropped: the disk did not take them\nit works again\nas before\n",
    );
  });

  it.runIf(existsSync("/dev/full"))("of a full disk is dropped too", async () => {
    const log = openLogFile("/dev/full");
    for (let i = 0; i < 10; i++) log.write(Buffer.from("0123456789"));
    await expect(log.end()).resolves.toBeUndefined();
  });

  it("holds no more than a megabyte of what waits, and counts the rest", async () => {
    const path = join(temporaryFolder(), "proxy.log");
    const log = openLogFile(path);
    // Nothing is written within this turn of the loop: all but a first piece waits.
    for (let i = 0; i < 50; i++) log.write(Buffer.alloc(100_000, 0x61));
    await log.end();
    log.write(Buffer.from("end\n"));
    await log.end();
    const text = readFileSync(path, "utf8");
    const dropped = Number(/(\d+) bytes of this log were dropped/.exec(text)?.[1]);
    const kept = text.split("a").length - 1;
    expect(kept).toBeLessThanOrEqual(1_148_576);
    expect(dropped).toBeGreaterThan(3_000_000);
    expect(text.endsWith("end\n")).toBe(true);
  });
});
