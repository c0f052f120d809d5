// A program whose every change is known: it writes, syncs, and dies. After each step it says the step's name and the
// instant. Its syncs on a pool thread and SQLite on a thread of its own are what the ledger has too.
import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  renameSync,
  unlinkSync,
  writeSync,
  writevSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { isMainThread, Worker } from "node:worker_threads";
import Database from "better-sqlite3";

const folder = process.env["KEYMETER_RECORD_UNDER"] ?? "";

function passed(step: string): void {
  writeSync(1, `${step} ${process.hrtime.bigint()}\n`);
}

function syncFolder(): void {
  const names = openSync(folder, "r");
  fsyncSync(names);
  closeSync(names);
}

function changeFiles(): void {
  const file = openSync(join(folder, "first"), "w");
  writeSync(file, "one");
  passed("written");
  fsyncSync(file);
  passed("synced");
  syncFolder();
  passed("named");
  writevSync(file, [Buffer.from(","), Buffer.from("two")]);
  passed("appended");
  fdatasyncSync(file);
  writeSync(file, "x".repeat(2_048 - 7), 7);
  passed("large");
  ftruncateSync(file, 3);
  passed("cut");
  fsyncSync(file);
  passed("cut for good");
  closeSync(file);
  renameSync(join(folder, "first"), join(folder, "second"));
  passed("renamed");
  syncFolder();
  passed("renamed for good");
  unlinkSync(join(folder, "second"));
  passed("unlinked");
}

/** By threads of libuv's pool. */
async function changeInPool(): Promise<void> {
  const file = await open(join(folder, "pool"), "w");
  syncFolder();
  await file.write("pool");
  await file.datasync();
  passed("pool");
  await file.close();
}

/** What SQLite does in a log: the first row is committed with an fsync, the second without. */
function changeBooks(): void {
  const books = new Database(join(folder, "books.db"));
  books.pragma("journal_mode = WAL");
  books.pragma("synchronous = FULL");
  books.exec("CREATE TABLE rows (n INTEGER); INSERT INTO rows VALUES (1)");
  passed("one row");
  books.pragma("synchronous = OFF");
  books.exec("INSERT INTO rows VALUES (2)");
  passed("two rows");
}

if (isMainThread) {
  changeFiles();
  await changeInPool();
  const thread = new Worker(new URL(import.meta.url));
  thread.on("error", (error) => process.stderr.write(`${String(error)}\n`));
} else {
  changeBooks();
  process.kill(process.pid, "SIGKILL");
}
