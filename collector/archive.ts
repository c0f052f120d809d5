// Days of events as Parquet files: what retention takes out of the books goes there first, and is read back and held against
// the day's seal before anything is deleted.
import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
} from "node:fs";
import { join } from "node:path";
import { refreshMetered } from "../ledger/billing/metered.ts";
import { findClosed } from "../ledger/billing/closed-days.ts";
import { readBillDays } from "../ledger/billing/bills.ts";
import { attemptAtMs, firstAttemptId } from "../ledger/ids.ts";
import type { AttemptId } from "../ledger/ids.ts";
import { readBudgets } from "../ledger/usage/changes.ts";
import type { Change } from "../ledger/usage/changes.ts";
import { ARCHIVED, findDayToExpire, heldBy, readArchivedRows } from "../ledger/usage/retention.ts";
import type { Expiry } from "../ledger/usage/retention.ts";
import { createDayDigest, isLateRow, readSealOf } from "../ledger/usage/seals.ts";
import { addDays, createCalendar, DAY_MS, utcDay } from "../ledger/windows.ts";
import type { Log } from "../service/log.ts";
import type { CollectorBooks } from "./compare.ts";

/** Rows that are read at once: others get a turn in between. */
const PAGE = 2_000;
/** Days of one turn. */
const MOST_DAYS = 40;

type RetentionSettings = { readonly eventsDays: number; readonly folder: string; readonly timezone: string };

/** Takes days that are kept no longer out of the books, in their order. Returns what stands in the way, in sentences. */
export async function expireDays(
  books: CollectorBooks,
  { eventsDays, folder, timezone }: RetentionSettings,
  change: (change: Change) => Promise<void>,
  log: Log,
  nowMs: number,
): Promise<string[]> {
  const calendar = createCalendar(timezone);
  for (let i = 0; i < MOST_DAYS; i++) {
    const found = await findDayToExpire(books.usage, eventsDays, nowMs);
    if (!found) return [];
    const { day, firstAttemptId: first } = found;
    if (found.isOpen)
      return [
        `events of ${day} are kept longer than ${eventsDays} days: work of that time is open (\`keymeter work\` lists it)`,
      ];
    const endMs = attemptAtMs(first) + DAY_MS;
    const holding = heldBy(await readBudgets(books.usage), calendar, endMs, nowMs);
    if (holding.length > 0)
      return [
        `events of ${day} are kept longer than ${eventsDays} days: ${holding.map(({ id }) => id).join(", ")} sums up tags over a longer window`,
      ];
    for (const { provider } of await readBillDays(books.billing, day, addDays(day, 1)))
      if (!(await findClosed(books.billing, provider, day)))
        return [`events of ${day} are kept longer than ${eventsDays} days: ${provider}'s bill of it is not closed`];
    // Reports go by this from now on.
    await refreshMetered(books, day, addDays(day, 1), nowMs);
    const expiry = await writeDay(books, first, folder);
    await change({ type: "expire", ...expiry });
    log.info({ day, events: expiry.events, file: expiry.file }, "events of a day left the books for a file");
  }
  return [];
}

function fileOf(first: AttemptId): string {
  return `events-${utcDay(attemptAtMs(first))}.parquet`;
}

/** Writes a sealed day, reads it back, and holds it against its seal. Rejects where they differ: then nothing may be
 *  deleted. A file that is there already is written anew. */
async function writeDay({ usage }: CollectorBooks, first: AttemptId, folder: string): Promise<Expiry> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const file = fileOf(first);
  const path = join(folder, file);
  const making = `${path}.making`;
  const { fileWriter, ParquetWriter } = await import("hyparquet-writer");
  const writer = new ParquetWriter({
    writer: fileWriter(making),
    createdBy: "keymeter",
    schema: [
      { name: "root", num_children: ARCHIVED.length },
      ...ARCHIVED.map(({ name, isNumber }) => ({
        name,
        repetition_type: "OPTIONAL" as const,
        ...(isNumber ? { type: "INT64" as const } : { type: "BYTE_ARRAY" as const, converted_type: "UTF8" as const }),
      })),
    ],
  });
  let count = 0;
  for (let next = first, isAll = false; !isAll;) {
    const rows = await readArchivedRows(usage, next, first + IDS_PER_DAY, PAGE);
    isAll = rows.length < PAGE;
    if (rows.length > 0)
      await writer.write({
        columnData: ARCHIVED.map(({ name }, i) => ({ name, data: rows.map((row) => row[i] ?? undefined) })),
        rowGroupSize: PAGE,
      });
    count += rows.length;
    next = Number(rows.at(-1)?.[0] ?? next) + 1;
    await new Promise((resolve) => setImmediate(resolve));
  }
  await writer.finish();
  chmodSync(making, 0o600);
  sync(making);
  const expiry: Expiry = { firstAttemptId: first, events: count, file, sha256: await digestOfFile(making) };
  const difference = await compareFile(usage, making, expiry);
  if (difference !== undefined) {
    rmSync(making, { force: true });
    throw new Error(`${file}: ${difference}; nothing was deleted`);
  }
  renameSync(making, path);
  // It is the only copy soon: it has to be on the disk, and so has its name.
  sync(folder);
  return expiry;
}

function sync(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

const IDS_PER_DAY = firstAttemptId(attemptAtMs(0) + DAY_MS);

async function digestOfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** What of a file is not as the day was sealed; undefined: it is. */
async function compareFile(
  usage: CollectorBooks["usage"],
  path: string,
  { firstAttemptId: first, events: count }: Expiry,
): Promise<string | undefined> {
  const { parquetMetadataAsync, parquetReadObjects, asyncBufferFromFile } = await import("hyparquet");
  const opened = await asyncBufferFromFile(path);
  const metadata = await parquetMetadataAsync(opened);
  const { seal, late } = await readSealOf(usage, first);
  const digest = createDayDigest(seal);
  let found = 0;
  // A day may be large: a group of rows at a time, and others get a turn in between.
  for (let from = 0; from < Number(metadata.num_rows); from += PAGE) {
    const rows = await parquetReadObjects({ file: opened, metadata, rowStart: from, rowEnd: from + PAGE });
    for (const row of rows) {
      found += 1;
      const own = late.get(Number(row["attempt_id"]));
      if (own === undefined) digest.add(row);
      else if (!isLateRow(own, row)) return `event ${own.attemptId}, which came late, is not as it was booked`;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  if (found !== count) return `it has ${found} events, ${count} were written`;
  const is = digest.end();
  if (is.events !== seal.events) return `${seal.events} events were sealed, it has ${is.events}`;
  const hour = seal.hours.findIndex((one, i) => one !== is.hours[i]);
  return hour === -1 ? undefined : `its events of ${hour}:00 UTC are not as they were sealed`;
}

/** Holds the files that are there against the audit and the seals. `missing`: what is kept elsewhere by now. */
export async function checkArchive(
  usage: CollectorBooks["usage"],
  folder: string,
  expiries: readonly Expiry[],
): Promise<{ readonly checked: number; readonly missing: number; readonly differences: readonly string[] }> {
  const differences: string[] = [];
  let [checked, missing] = [0, 0];
  for (const expiry of expiries) {
    const path = join(folder, expiry.file);
    if (!existsSync(path)) {
      missing += 1;
      continue;
    }
    checked += 1;
    if ((await digestOfFile(path)) !== expiry.sha256)
      differences.push(`${expiry.file}: it is not the file that the events left the books for`);
    else {
      const difference = await compareFile(usage, path, expiry);
      if (difference !== undefined) differences.push(`${expiry.file}: ${difference}`);
    }
  }
  return { checked, missing, differences };
}
