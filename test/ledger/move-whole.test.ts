// A year of books, there and back: what people take out of them is byte for byte what it was: the audit's head, sums, bills'
// comparison, exports. A million events by `npm run proof`, fewer in CI.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { DAYS, makeBooks } from "../../bench/large-books.ts";
import { migratePostgres } from "../../ledger/postgres.ts";
import { openForReading } from "../../ledger/sqlite.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { addDays, utcDay } from "../../ledger/windows.ts";
import { hasPostgres, startPostgres } from "../postgres.ts";
import { IS_CI, IS_PROOF } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";

const EVENTS = IS_PROOF ? 1_000_000 : 20_000;
const START = fileURLToPath(new URL("../../start.mjs", import.meta.url));
const LAST_DAY = utcDay(Date.now());
/** As much of an output is looked at. */
const LONGEST_START = 200_000;
const SINCE = addDays(LAST_DAY, -DAYS);

/** What is taken out of books: a verb and its options. */
const OUTPUTS: readonly (readonly string[])[] = [
  ["verify", "--json"],
  ["spend", "--since", SINCE, "--by", "day,key,model", "--csv"],
  ["spend", "--since", SINCE, "--by", "team,tag:feature", "--json"],
  ["events", "--since", SINCE, "--csv"],
  ["export", "focus", "--since", SINCE],
  ["export", "chargeback", "--month", SINCE.slice(0, 7), "--by", "team,key", "--csv"],
  ["export", "openmetrics", "--since", addDays(LAST_DAY, -7)],
  ["reconcile", "--json"],
  ["keys", "list", "--json"],
];

/** What a verb printed, by its digest: an export may be longer than memory. */
async function digestOf(folder: string, url: string | undefined, args: readonly string[]) {
  const child = spawn(process.execPath, [START, ...args], {
    env: {
      PATH: process.env["PATH"] ?? "",
      KEYMETER_DATA_DIR: folder,
      ...(url === undefined ? {} : { KEYMETER_LEDGER_URL: url }),
      KEYMETER_OPS_PORT: "1",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const hash = createHash("sha256");
  let [bytes, start, said] = [0, "", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
    if (start.length < LONGEST_START) start += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { digest: hash.digest("hex"), bytes, start, said, code };
}

async function outputsOf(folder: string, url?: string): Promise<Map<string, Awaited<ReturnType<typeof digestOf>>>> {
  const all = new Map<string, Awaited<ReturnType<typeof digestOf>>>();
  for (const args of OUTPUTS) all.set(args.join(" "), await digestOf(folder, url, args));
  return all;
}

/** The writer's thread seals each day that is over. */
async function seal(folder: string): Promise<void> {
  const writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    tagsInBudgets: false,
  });
  const sealed = (): number => {
    const books = openForReading(join(folder, "usage.db"));
    const count = Number(books?.prepare("SELECT COUNT(*) FROM sealed_days").pluck().get());
    books?.close();
    return count;
  };
  while (sealed() < DAYS - 1) await sleep(200);
  await writer.close();
}

describe.skipIf(!hasPostgres || !IS_CI)(`${EVENTS} events that move`, () => {
  it("there and back are the same to who reads them, byte for byte", { timeout: 3_600_000 }, async () => {
    const server = await startPostgres();
    try {
      const folder = temporaryFolder();
      await makeBooks(folder, EVENTS, LAST_DAY, () => {});
      await seal(folder);
      const before = await outputsOf(folder);
      expect(JSON.parse(before.get("verify --json")?.start ?? "")).toMatchObject({
        events: Math.floor(EVENTS / DAYS) * DAYS,
        sumsThatDoNotFold: [],
        costsThatDoNotRecompute: [],
        brokenAudit: null,
        brokenSeals: [],
        sealedUntil: addDays(LAST_DAY, -2),
      });
      for (const [what, { bytes, said }] of before) expect(bytes, `${what}: ${said}`).toBeGreaterThan(50);

      const url = await server.database("moved");
      await migratePostgres(url);
      expect(await digestOf(folder, undefined, ["ledger", "move", "--to", url])).toMatchObject({ code: 0 });
      const there = await outputsOf(folder, url);
      const back = join(temporaryFolder(), "back");
      mkdirSync(back);
      expect(await digestOf(folder, url, ["ledger", "move", "--to", back])).toMatchObject({ code: 0 });
      const again = await outputsOf(back);
      for (const [what, one] of before) {
        const { digest, bytes, code } = one;
        expect(there.get(what), `${what}, in Postgres`).toMatchObject({ digest, bytes, code });
        expect(again.get(what), `${what}, back`).toMatchObject({ digest, bytes, code });
      }
    } finally {
      await server.stop();
    }
  });
});
