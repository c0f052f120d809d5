// kill -9 under load, at named and at random points, then a restart: what the provider saw and what the books say.
import type { ChildProcess } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openWriter } from "../../ledger/usage/writer.ts";
import { startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { answerSlowly, numberOf, slowChat, slowChatNanoUsd, slowChatUsage } from "../fake/slow-chat.ts";
import { askStanding, forkProxy, KILL_POINTS } from "../kill-proxy.ts";
import { countOf, IS_CI, random, SEED } from "../seed.ts";
import { readAllEvents, temporaryFolder } from "../start-proxy.ts";

const PARALLEL = 8;
/** kill -9 so often, at named points and at random. */
const ROUNDS_AT_RANDOM = countOf(4, 60, 360);
const ROUNDS_AT_POINTS = countOf(1, 6, 24);
/** As often the same books are killed. */
const ROUNDS_PER_BOOKS = 40;

type Saw = { readonly n: number; readonly end: boolean };
type How = { readonly point: string; readonly nth: number } | { readonly afterMs: number };

describe("kill -9", () => {
  let provider: FakeProvider;
  beforeAll(async () => {
    provider = await startFakeProvider(answerSlowly);
  });
  afterAll(() => provider.close());

  const chosen = KILL_POINTS.filter((_point, i) => IS_CI || (SEED + i) % 3 === 0);
  it.each(chosen)(
    "%s: one event for each attempt the provider saw, exact where the client saw the end",
    async (point) => {
      const next = random(SEED);
      await killAgainAndAgain(provider, ROUNDS_AT_POINTS, () => ({ point, nth: 1 + Math.floor(next() * 40) }));
    },
  );

  it("at random points", { timeout: 2_400_000 }, async () => {
    const next = random(SEED);
    await killAgainAndAgain(provider, ROUNDS_AT_RANDOM, () => ({ afterMs: 30 + next() * 300 }));
  });
});

/** Each start finds the books as the last kill left them; they are checked before the next one. */
async function killAgainAndAgain(provider: FakeProvider, rounds: number, howOf: () => How): Promise<void> {
  console.log(`seed ${SEED}`);
  for (let done = 0; done < rounds; done += ROUNDS_PER_BOOKS) {
    const dataDir = temporaryFolder();
    await setBudgets(dataDir);
    const load = createLoad();
    let last: { arrived: number[]; saw: Saw[]; events: number } | undefined;
    for (let round = done; round <= Math.min(rounds, done + ROUNDS_PER_BOOKS); round++) {
      const label = `seed ${SEED}, round ${round}`;
      const how = howOf();
      const isLast = round === Math.min(rounds, done + ROUNDS_PER_BOOKS);
      const { child, url } = await forkProxy(provider.url, dataDir, !isLast && "point" in how ? how : undefined);
      const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
      const events = await checkBooks(child, dataDir, last, label);
      if (isLast) {
        child.kill("SIGTERM");
        await exited;
        break;
      }
      const before = provider.journal.length;
      const saw = await load(url, child, "afterMs" in how ? how.afterMs : undefined);
      await exited;
      expect(child.signalCode, label).toBe("SIGKILL");
      const arrived = provider.journal.slice(before).map((one) => numberOf(one.body));
      last = { arrived, saw, events };
    }
  }
}

/** A hard budget of each mode covers everything, and a third one that cannot be passed by what is asked. */
async function setBudgets(dataDir: string): Promise<void> {
  const writer = await openWriter({
    path: join(dataDir, "usage.db"),
    durability: "power",
    zone: "UTC",
    capMode: "enforce",
  });
  for (const mode of ["strict", "expected"] as const) {
    const window = mode === "strict" ? "total" : "month";
    const common = { id: mode, scope: {}, amountNanoUsd: 10n ** 15n, kind: "hard", createdAtMs: Date.now() } as const;
    await writer.change({ type: "setBudget", budget: { ...common, mode, window } }, "test");
  }
  await writer.close();
}

/** After a restart: memory is the books, nothing is held, budgets stand where all events put them; and what the last
 *  round sent is there, once each. Returns how many events there are. */
async function checkBooks(
  child: ChildProcess,
  dataDir: string,
  last: { readonly arrived: readonly number[]; readonly saw: readonly Saw[]; readonly events: number } | undefined,
  label: string,
): Promise<number> {
  const { differences, reservedNanoUsd, budgets, recovered } = await askStanding(child);
  const all = await readAllEvents(dataDir);
  const sum = String(all.reduce((total, { costNanoUsd }) => total + BigInt(costNanoUsd ?? 0), 0n));
  expect({ differences, reservedNanoUsd, budgets }, label).toEqual({
    differences: [],
    reservedNanoUsd: "0",
    budgets: { strict: [sum, "0"], expected: [sum, "0"] },
  });
  if (!last) return all.length;

  const events = all.slice(last.events);
  expect(events.filter(({ outcome }) => outcome === "crash").length, label).toBe(recovered);
  const byN = new Map<number, typeof events>();
  for (const event of events) {
    const n = Number(event.tags["n"]);
    byN.set(n, [...(byN.get(n) ?? []), event]);
  }
  const { arrived, saw } = last;
  expect(new Set(arrived).size, `${label}: the proxy sent an attempt twice`).toBe(arrived.length);
  for (const n of arrived) expect(byN.get(n)?.length, `${label}: attempt ${n}`).toBe(1);
  for (const { n, end } of saw) {
    if (!end) continue;
    const [event] = byN.get(n) ?? [];
    expect(event?.usageState, `${label}: attempt ${n} ended for the client`).toBe("reported");
    expect(event?.usage, `${label}: attempt ${n}`).toEqual(slowChatUsage(n));
    expect(event?.costNanoUsd, `${label}: attempt ${n}`).toBe(String(slowChatNanoUsd(n)));
  }
  const without = events.filter((event) => !arrived.includes(Number(event.tags["n"])));
  expect(
    without.every((event) => event.outcome === "crash"),
    `${label}: an event without an attempt that is no crash`,
  ).toBe(true);
  expect(without.length, label).toBeLessThanOrEqual(PARALLEL);
  return all.length;
}

type Load = (url: string, child: ChildProcess, killAfterMs: number | undefined) => Promise<Saw[]>;

/** Clients that go on until the proxy is dead; each of their requests has a number of its own. */
function createLoad(): Load {
  let n = 0;
  const nextNumber = (): number => (n += 1);
  return (url, child, killAfterMs) => goOn(url, child, killAfterMs, nextNumber);
}

async function goOn(
  url: string,
  child: ChildProcess,
  killAfterMs: number | undefined,
  nextNumber: () => number,
): Promise<Saw[]> {
  const saw: Saw[] = [];
  const timer = killAfterMs === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), killAfterMs);
  await Promise.all(
    Array.from({ length: PARALLEL }, async () => {
      while (child.exitCode === null && child.signalCode === null) {
        const mine = nextNumber();
        const stream = mine % 2 === 0;
        try {
          const answer = await fetch(`${url}/openai/v1/chat/completions`, {
            method: "POST",
            headers: { "content-type": "application/json", authorization: "Bearer sk-test-kill-client-key" },
            body: slowChat(mine, stream),
          });
          const text = await answer.text();
          saw.push({ n: mine, end: stream ? text.includes("[DONE]") : text.endsWith("}") });
        } catch {
          saw.push({ n: mine, end: false });
        }
      }
    }),
  );
  clearTimeout(timer);
  return saw;
}
