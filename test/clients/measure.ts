// One client, put on the stand twice: with a key that may spend, and with one whose team has spent what it may.
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { EventRecord } from "../../ledger/usage/events.ts";
import { NAMES_THE_BUDGET } from "./clients.ts";
import type { Client } from "./clients.ts";
import type { Counts, Entry } from "./fake.ts";
import { runClient } from "./run.ts";
import type { Ran } from "./run.ts";
import type { Stand } from "./stand.ts";

export type Metered = Ran & {
  /** What the providers counted, and what Keymeter booked, in the same order. */
  readonly counted: readonly Counts[];
  readonly booked: readonly Counts[];
  readonly events: readonly EventRecord[];
};

export type Capped = Ran & {
  /** Refusals by reason that are about money. */
  readonly refusals: number;
  /** Refusals for anything else: clients that ask for things that nobody meters. */
  readonly others: { readonly [reason: string]: number };
  /** Answers with usage that the providers gave all the same, and connections that were opened there. */
  readonly upstream: { readonly calls: number; readonly sockets: number };
};

const FOR_MONEY = ["budget_exceeded", "unbounded", "unpriced", "in_flight"];
/** What a client left open is booked when its end is noticed. */
const BOOKING_MS = 5_000;

export async function meter(stand: Stand, client: Client): Promise<Metered> {
  const { id, secret } = await stand.createKey("free");
  const before = stand.fake.journal.length;
  const ran = await run(stand, client, secret);
  const counted = callsOf(stand.fake.journal.slice(before)).map(({ counts }) => counts);
  let events = await stand.eventsOf(id);
  for (let waited = 0; events.length < counted.length && waited < BOOKING_MS; waited += 100) {
    await sleep(100);
    events = await stand.eventsOf(id);
  }
  return { ...ran, counted: inOrder(counted), booked: inOrder(events.map(countsOf)), events };
}

export async function cap(stand: Stand, client: Client): Promise<Capped> {
  const { secret } = await stand.createKey("capped");
  const before = stand.fake.journal.length;
  const refusedBefore = await stand.refusals();
  const ran = await run(stand, client, secret);
  const entries = stand.fake.journal.slice(before);
  const refused = Object.entries(await stand.refusals()).map(
    ([reason, count]) => [reason, count - (refusedBefore[reason] ?? 0)] as const,
  );
  return {
    ...ran,
    refusals: refused.reduce((sum, [reason, count]) => sum + (FOR_MONEY.includes(reason) ? count : 0), 0),
    others: Object.fromEntries(refused.filter(([reason, count]) => count > 0 && !FOR_MONEY.includes(reason))),
    upstream: { calls: callsOf(entries).length, sockets: entries.filter(({ kind }) => kind === "socket").length },
  };
}

/** What tells a user why, from where it begins; else how the output ends. */
export function whatIsSaid(client: Client, output: string): string {
  const line = onOneLine(output);
  const at = [client.atCap.prints ?? NAMES_THE_BUDGET, /Keymeter: /, /usage limit|rate limit|credits/i]
    .map((reason) => line.search(reason))
    .find((found) => found >= 0);
  if (at === undefined) return `... ${line.slice(-MOST_SAID)}`;
  const from = Math.max(at - BEFORE, 0);
  return `${from > 0 ? "... " : ""}${line.slice(from, from + MOST_SAID)} ...`;
}

/** An output as its words follow each other: terminals break lines anywhere. */
export const onOneLine = (output: string): string => output.replaceAll(/\s+/g, " ").trim();

const MOST_SAID = 160;
const BEFORE = 45;

async function run(stand: Stand, client: Client, key: string): Promise<Ran> {
  const home = realpathSync(mkdtempSync(join(tmpdir(), "client-home-")));
  const folder = join(home, "work");
  mkdirSync(folder);
  stand.fake.speech = client.speech ?? { text: "hello" };
  const seconds = secondsOf(client);
  let ran: Ran | undefined;
  try {
    for (const command of client.commands({ url: stand.url, key, home, folder }))
      ran = await runClient(command, { home, folder, seconds });
  } finally {
    rmSync(home, { recursive: true, force: true, maxRetries: 5 });
  }
  if (!ran) throw new Error(`${client.name} has no command`);
  return ran;
}

/** After so many seconds a command of it is ended. */
export const secondsOf = ({ seconds = 90 }: Client): number => seconds;

const callsOf = (entries: readonly Entry[]): Entry[] => entries.filter(({ kind }) => kind === "call");

const inOrder = (all: readonly Counts[]): Counts[] => all.toSorted((a, b) => a.input - b.input || a.output - b.output);

/** An event's quantities in the fake's terms: cache writes of every duration are one. */
function countsOf({ usage, reasoning }: EventRecord): Counts {
  const writes = [usage.cache_write_5m, usage.cache_write_1h, usage.cache_write_30m, usage.cache_write_12h];
  return {
    input: usage.input ?? 0,
    cacheRead: usage.cache_read ?? 0,
    cacheWrite: writes.reduce<number>((sum, count) => sum + (count ?? 0), 0),
    output: usage.output ?? 0,
    reasoning: reasoning ?? 0,
  };
}
