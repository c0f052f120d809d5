// What a rule of each costs an admission: npm run bench:each. Two writers with books of their own, the same requests of 500
// users to both by turns; one of them has a rule beside its budget. Ratios of one run.
import { performance } from "node:perf_hooks";
import { openWriter } from "../ledger/usage/writer.ts";
import type { Writer } from "../ledger/usage/writer.ts";
import { temporaryFolder } from "../test/start-proxy.ts";
import { event, SUBJECT } from "../test/usage-event.ts";

const USERS = 500;
const ROUNDS = 20;
const REQUESTS = 1_000;
const AT_ONCE = 16;

async function open(hasRule: boolean): Promise<Writer> {
  const writer = await openWriter({
    path: `${temporaryFolder()}/usage.db`,
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    tagsInBudgets: true,
  });
  const budget = {
    scope: {},
    window: "month",
    amountNanoUsd: 10n ** 15n,
    kind: "hard",
    mode: "strict",
    createdAtMs: 0,
  } as const;
  await writer.change({ type: "setBudget", budget: { ...budget, id: "all" } }, "bench");
  if (hasRule) await writer.change({ type: "setBudget", budget: { ...budget, id: "rule", each: "user" } }, "bench");
  return writer;
}

/** How long each reservation of a round took, in ms. */
async function round(writer: Writer, first: number): Promise<number[]> {
  const took: number[] = [];
  const one = async (n: number): Promise<void> => {
    const attemptId = writer.nextAttemptId();
    const subject = { ...SUBJECT, user: `user_${n % USERS}` };
    const began = performance.now();
    await writer.reserve({ attemptId, subject, boundNanoUsd: 9n, expectedNanoUsd: 9n }, "chat_completions", undefined);
    took.push(performance.now() - began);
    await writer.settle(event(attemptId, 5n, subject));
  };
  for (let n = 0; n < REQUESTS; n += AT_ONCE)
    await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => one(first + n + i)));
  return took;
}

const percentile = (all: readonly number[], share: number): number =>
  all.toSorted((a, b) => a - b)[Math.floor(all.length * share)] ?? Number.NaN;

const [plain, ruled] = [await open(false), await open(true)];
await round(plain, 0);
await round(ruled, 0);
const ratios: { p50: number; p99: number }[] = [];
for (let i = 0; i < ROUNDS; i++) {
  const turns = i % 2 === 0 ? ([plain, ruled] as const) : ([ruled, plain] as const);
  const took = new Map<Writer, number[]>();
  for (const writer of turns) took.set(writer, await round(writer, i * REQUESTS));
  const of = (share: number): number =>
    percentile(took.get(ruled) ?? [], share) / percentile(took.get(plain) ?? [], share);
  ratios.push({ p50: of(0.5), p99: of(0.99) });
}
const median = (of: "p50" | "p99"): string =>
  percentile(
    ratios.map((one) => one[of]),
    0.5,
  ).toFixed(2);
process.stdout.write(
  `with a rule over without, ${USERS} users, medians of ${ROUNDS} rounds of ${REQUESTS}: p50 ${median("p50")}, p99 ${median("p99")}\n`,
);
await plain.close();
await ruled.close();
