// The tool itself, on a program whose every change is known.
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import Database from "better-sqlite3";
import { beforeAll, describe, expect, it } from "vitest";
import { random, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { byChance, diskAt, EVERYTHING, layOut, NOTHING, readRecording } from "./power-cut.ts";
import type { Choose, Recording } from "./power-cut.ts";
import { canRecord, createRecorder } from "./recorder.ts";

const PROGRAM = fileURLToPath(new URL("small-program.ts", import.meta.url));

describe.skipIf(!canRecord)("after a power cut", () => {
  let recording: Recording;
  const instants = new Map<string, bigint>();
  beforeAll(() => {
    const { folder, record, environment } = createRecorder();
    const { stdout, stderr } = spawnSync(process.execPath, [PROGRAM], { env: environment, encoding: "utf8" });
    for (const [, step = "", ns = ""] of stdout.matchAll(/^(.+) (\d+)$/gm)) instants.set(step, BigInt(ns));
    if (!instants.has("two rows")) throw new Error(`the program ended early: ${stderr}`);
    recording = readRecording(record, folder);
  });

  const diskAfter = (step: string, choose: Choose) => diskAt(recording, instants.get(step) ?? 0n, choose);
  const textsAfter = (step: string, choose: Choose): object =>
    Object.fromEntries(
      [...diskAfter(step, choose)]
        .filter(([name]) => !name.startsWith("books"))
        .map(([name, bytes]) => [name, bytes.toString()]),
    );
  const x = "x".repeat(2_048 - 7);

  it.each([
    ["written", { first: "one" }, {}],
    // A file that was synced and whose folder was not has no name.
    ["synced", { first: "one" }, {}],
    ["named", { first: "one" }, { first: "one" }],
    ["appended", { first: "one,two" }, { first: "one" }],
    ["large", { first: `one,two${x}` }, { first: "one,two" }],
    ["cut", { first: "one" }, { first: "one,two" }],
    ["cut for good", { first: "one" }, { first: "one" }],
    ["renamed", { second: "one" }, { first: "one" }],
    ["renamed for good", { second: "one" }, { second: "one" }],
    ["unlinked", {}, { second: "one" }],
    ["pool", { pool: "pool" }, { pool: "pool" }],
  ])("at the step %s all there is may be there, and what was synced is", (step, most, least) => {
    expect(textsAfter(step, EVERYTHING)).toEqual(most);
    expect(textsAfter(step, NOTHING)).toEqual(least);
  });

  it("a write that was not synced is there, or not, or in some of its sectors", () => {
    console.log(`seed ${SEED}`);
    const next = random(SEED);
    const seen = new Set<string>();
    for (let i = 0; i < 2_000; i++) {
      const text = diskAfter("large", byChance(next)).get("first")?.toString() ?? "";
      expect(text.slice(0, 7), `seed ${SEED}`).toBe("one,two");
      const sectors = [0, 1, 2, 3].map((n) => text.slice(Math.max(7, n * 512), (n + 1) * 512));
      for (const sector of sectors) expect(sector, `seed ${SEED}`).toMatch(/^(x*|\0*)$/);
      seen.add(sectors.map((sector) => sector.charAt(0)).join(","));
    }
    // Small without the new size; else each of the four sectors new or not.
    expect(seen.size).toBe(17);
  });

  it("SQLite has what it committed with an fsync, on whatever thread", () => {
    const rowsAfter = (step: string, choose: Choose): unknown[] => {
      const folder = temporaryFolder();
      layOut(diskAfter(step, choose), folder);
      const books = new Database(join(folder, "books.db"));
      const rows = books.prepare("SELECT n FROM rows").pluck().all();
      books.close();
      return rows;
    };
    expect(rowsAfter("one row", NOTHING)).toEqual([1]);
    expect(rowsAfter("two rows", NOTHING)).toEqual([1]);
    expect(rowsAfter("two rows", EVERYTHING)).toEqual([1, 2]);
  });
});

describe.skipIf(!canRecord)("an fsync", () => {
  const start = (environment: { readonly [name: string]: string }) => {
    const child = spawn(process.execPath, [PROGRAM], { env: environment });
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
    return { text: () => text, ended: new Promise<void>((resolve) => child.once("close", () => resolve())) };
  };

  it("fails while it is to fail, and makes nothing durable", async () => {
    const recorder = createRecorder();
    await recorder.whileSyncs("fail", async () => {
      const { text, ended } = start(recorder.environment);
      await ended;
      expect(text()).toContain("EIO: i/o error, fsync");
    });
    const recording = readRecording(recorder.record, recorder.folder);
    expect(recording.entries).toContainEqual(expect.objectContaining({ type: "sync", failed: true }));
    expect(diskAt(recording, process.hrtime.bigint(), NOTHING)).toEqual(new Map());
  });

  it("waits while it is to wait", async () => {
    const recorder = createRecorder();
    const { text, ended } = await recorder.whileSyncs("wait", async () => {
      const started = start(recorder.environment);
      await expect.poll(started.text).toContain("written");
      await sleep(50);
      expect(started.text()).not.toContain("synced");
      return started;
    });
    await ended;
    expect(text()).toContain("synced");
  });
});
