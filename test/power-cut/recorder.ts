// Has a program recorded: builds record.c with the C compiler that is here, once a test file, and says what a program's
// environment needs. Its syncs can be made to fail, or to wait.
import { spawnSync } from "node:child_process";
import { mkdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { noteSkipped } from "../skipped.ts";
import { temporaryFolder } from "../start-proxy.ts";

export type Recorder = {
  /** The program's files. What it does elsewhere is not recorded. */
  readonly folder: string;
  /** For readRecording (power-cut.ts). */
  readonly record: string;
  /** What the program has to be started with. */
  readonly environment: { readonly [name: string]: string };
  /** While `during` runs, its fsyncs fail with EIO, or wait. */
  whileSyncs<T>(fare: "fail" | "wait", during: () => Promise<T>): Promise<T>;
};

const library = build();

/** Whether this machine can record at all. */
export const canRecord = library !== undefined;
if (!canRecord) noteSkipped("no C compiler, or no glibc on Linux: tests of power cuts are skipped");

/** Of one program that is about to be started, in a folder of its own. `syncMs`: what each of its fsyncs takes beyond
 *  what the disk does. */
export function createRecorder(syncMs = 0): Recorder {
  if (library === undefined) throw new Error("nothing can be recorded here: ask canRecord first");
  const place = realpathSync(temporaryFolder());
  const [folder, record] = [join(place, "data"), join(place, "record")];
  const controls = { fail: join(place, "syncs-fail"), wait: join(place, "syncs-wait") };
  mkdirSync(folder);
  return {
    folder,
    record,
    environment: {
      LD_PRELOAD: library,
      KEYMETER_RECORD_UNDER: folder,
      KEYMETER_RECORD_TO: record,
      KEYMETER_SYNC_FAILS_WHILE: controls.fail,
      KEYMETER_SYNC_WAITS_WHILE: controls.wait,
      KEYMETER_SYNC_TAKES_US: String(syncMs * 1_000),
    },
    async whileSyncs(fare, during) {
      writeFileSync(controls[fare], "");
      try {
        return await during();
      } finally {
        rmSync(controls[fare]);
      }
    },
  };
}

/** The library; undefined where it cannot be built or would see nothing. */
function build(): string | undefined {
  const { header } = process.report.getReport() as { readonly header: { readonly glibcVersionRuntime?: string } };
  if (process.platform !== "linux" || header.glibcVersionRuntime === undefined) return undefined;
  const source = fileURLToPath(new URL("record.c", import.meta.url));
  const compiler = ["cc", "gcc", "clang"].find((name) => spawnSync("which", [name]).status === 0);
  if (compiler === undefined) return undefined;
  const file = join(temporaryFolder(), "record.so");
  const flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-pthread"];
  const { status, stderr } = spawnSync(compiler, [...flags, "-o", file, source], { encoding: "utf8" });
  // A compiler without the headers of its libc is none; what it says belongs to whoever changes the source.
  if (status !== 0) process.stderr.write(stderr);
  return status === 0 ? file : undefined;
}
