// Any export, imported any number of times, in any order, overlapping, cut off by kill -9: the same books.
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { readBillFile } from "../../collector/importers/file.ts";
import { replaceBills } from "../../ledger/billing/bills.ts";
import type { BillingBooks } from "../../ledger/books.ts";
import { openToWrite } from "../../ledger/open.ts";
import { sqliteOf } from "../../ledger/sqlite-books.ts";
import { addDays } from "../../ledger/windows.ts";
import { IS_CI, random, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";

const NOW = Date.parse("2026-11-20T00:00:00Z");
const FIRST = "2026-10-01";
const KILLS = IS_CI ? 60 : 3;
const ORDERS = IS_CI ? 100 : 8;

/** Exports of overlapping ranges: a later one has revised its days, and the same range may have been exported twice
 *  with other figures. */
function makeExports(folder: string, rowsPerDay: number): string[] {
  const next = random(SEED);
  return Array.from({ length: 6 }, (_, i) => {
    const from = Math.floor(next() * 8);
    const until = from + 3 + Math.floor(next() * 8);
    const rows: string[] = [];
    for (let day = from; day < until; day++)
      for (let row = 0; row < rowsPerDay; row++)
        rows.push(
          `${addDays(FIRST, day)}T00:00:00Z,${(day + row / 1_000 + i).toFixed(6)},usd,"gpt-5.2, ${row % 2 === 0 ? "input" : "output"}",proj_${row % 7},${row}`,
        );
    const file = join(folder, `export-${i}.csv`);
    writeFileSync(
      file,
      `start_time_iso,amount_value,amount_currency,line_item,project_id,quantity\n${rows.join("\n")}\n`,
    );
    return file;
  });
}

/** All that was booked, but for when. */
function booksOf(billing: BillingBooks): unknown {
  const sqlite = sqliteOf(billing);
  return [
    sqlite.prepare("SELECT * FROM billed_lines ORDER BY provider, day, line").all(),
    sqlite
      .prepare("SELECT provider, day, source, as_of_ms, digest, lines, amount_nano_usd FROM bill_days ORDER BY 1, 2")
      .all(),
  ];
}

function shuffled<T>(list: readonly T[], next: () => number): T[] {
  const left = [...list];
  const out: T[] = [];
  while (left.length > 0) out.push(...left.splice(Math.floor(next() * left.length), 1));
  return out;
}

describe(`exports (seed ${SEED})`, () => {
  it(`imported in ${ORDERS} orders, some of them twice, make the same books`, async () => {
    const folder = temporaryFolder();
    const files = makeExports(folder, 4);
    const bills = await Promise.all(files.map(async (file) => readBillFile(file, readFileSync(file))));
    const next = random(SEED + 1);
    let expected: unknown;
    for (let order = 0; order < ORDERS; order++) {
      const billing = await openToWrite(temporaryFolder(), "billing", "process");
      for (const bill of shuffled([...bills, ...bills], next)) await replaceBills(billing, bill, NOW + order);
      const books = booksOf(billing);
      await billing.close();
      expected ??= books;
      expect(books).toEqual(expected);
    }
    expect((expected as unknown[][])[0]?.length).toBeGreaterThan(20);
  });

  it(
    `cut off by kill -9, ${KILLS} times, and begun again, make the same books`,
    async () => {
      const source = temporaryFolder();
      const files = makeExports(source, 1_500);
      const whole = await openToWrite(temporaryFolder(), "billing", "process");
      for (const file of files) await replaceBills(whole, await readBillFile(file, readFileSync(file)), NOW);
      const expected = booksOf(whole);
      await whole.close();

      const folder = temporaryFolder();
      const next = random(SEED + 2);
      let cutOff = 0;
      for (let kill = 0; kill < KILLS; kill++) {
        const killed = await importAll(folder, shuffled(files, next), Math.floor(next() * 1_200));
        if (killed) cutOff += 1;
        const between = await openToWrite(folder, "billing", "process");
        // A day is there whole, or not at all.
        const torn = sqliteOf(between)
          .prepare(
            "SELECT d.day FROM bill_days d WHERE d.lines <> (SELECT COUNT(*) FROM billed_lines l WHERE l.provider = d.provider AND l.day = d.day)",
          )
          .all();
        expect(torn).toEqual([]);
        await between.close();
      }
      expect(cutOff).toBeGreaterThan(0);
      expect(await importAll(folder, files, undefined)).toBe(false);
      const billing = await openToWrite(folder, "billing", "process");
      expect(booksOf(billing)).toEqual(expected);
      await billing.close();
    },
    IS_CI ? 300_000 : 60_000,
  );
});

/** Runs an import in a process of its own; kills it so long after it was ready. Whether it was killed before its
 *  end. */
async function importAll(folder: string, files: readonly string[], killAfterMs: number | undefined): Promise<boolean> {
  const program = fileURLToPath(new URL("./read-again.ts", import.meta.url));
  const child = spawn(process.execPath, [program, folder, ...files], { stdio: ["ignore", "pipe", "inherit"] });
  let timer: NodeJS.Timeout | undefined;
  child.stdout.once("data", () => {
    if (killAfterMs !== undefined) timer = setTimeout(() => child.kill("SIGKILL"), killAfterMs);
  });
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) =>
    child.once("exit", (exitCode, exitSignal) => resolve([exitCode, exitSignal])),
  );
  clearTimeout(timer);
  if (signal !== "SIGKILL") expect(code).toBe(0);
  return signal === "SIGKILL";
}
