// Many keys in parallel against caps inside caps: a key's, its team's, the organisation's.
import { describe, expect, it } from "vitest";
import { parseUsd } from "../../ledger/money.ts";
import { chatAnswer, json } from "../fake/provider.ts";
import { IS_CI, random, SEED } from "../seed.ts";
import { withProxy } from "../with-proxy.ts";

const KEYS = 50;
const TEAMS = 5;
const REQUESTS = IS_CI ? 2_000 : 400;
/** Of all that are asked for: half fit the organisation, more than half a team's share, all the keys of some teams only
 *  in part. */
const ORG = REQUESTS / 2;
const TEAM = REQUESTS / 8;
const KEY = Math.floor(REQUESTS / KEYS / 2);

const bench = withProxy(json(chatAnswer()), {}, { each: true });

function ask(secret: string, n: number, more: object = { max_tokens: 50 }): Promise<Response> {
  return fetch(`${bench.running.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify({ model: "gpt-4o-mini", user: String(n).padStart(6, "0"), messages: [], ...more }),
  });
}

type Made = { readonly id: string; readonly team: string; readonly secret: string };

async function makeKeys(prefix: string): Promise<Made[]> {
  const keys: Made[] = [];
  for (let i = 0; i < KEYS; i++) {
    const team = `${prefix}-${i % TEAMS}`;
    keys.push({ team, ...(await bench.running.createKey({ name: `${prefix}-${i}`, team })) });
  }
  return keys;
}

/** What every budget has been passed by, at the most, in nano-USD; looked at again and again while `during` runs. */
async function worstOvershoot(during: Promise<unknown>): Promise<bigint> {
  let worst = -(10n ** 18n);
  const state = { isOver: false };
  const look = async (): Promise<void> => {
    for (const { amountNanoUsd, settledNanoUsd, reservedNanoUsd } of await bench.running.proxy.writer.states()) {
      const over = settledNanoUsd + reservedNanoUsd - amountNanoUsd;
      if (over > worst) worst = over;
    }
  };
  void during.finally(() => (state.isOver = true));
  while (!state.isOver) await look();
  await look();
  return worst;
}

describe(`${REQUESTS} requests of ${KEYS} keys at once, against caps of key, team and organisation`, () => {
  it("in strict mode: as many reach the provider as fit all three, and no cap is ever passed, by nothing at all", async () => {
    const keys = await makeKeys("strict");
    const [first] = keys as [Made];
    await bench.running.setBudget({ id: "probe", scope: { keyId: first.id }, amountNanoUsd: 0n, mode: "strict" });
    const bound = parseUsd((await ask(first.secret, 0)).headers.get("x-keymeter-budget-asked-usd") ?? "");
    await bench.running.change({ type: "removeBudget", budgetId: "probe" });
    expect(bound).toBeGreaterThan(0n);
    const cap = { mode: "strict", window: "total" } as const;
    // Half a bound more than fits: no cap is met exactly.
    const of = (count: number): bigint => bound * BigInt(count) + bound / 2n;
    await bench.running.setBudget({ ...cap, amountNanoUsd: of(ORG) });
    for (let i = 0; i < TEAMS; i++)
      await bench.running.setBudget({ ...cap, scope: { team: `strict-${i}` }, amountNanoUsd: of(TEAM) });
    // Keys of the first two teams have caps of their own, which are tighter than the team's.
    for (const { id, team } of keys)
      if (/-[01]$/.test(team)) await bench.running.setBudget({ ...cap, scope: { keyId: id }, amountNanoUsd: of(KEY) });

    let letGo = (): void => {};
    const held = new Promise<void>((resolve) => (letGo = resolve));
    bench.provider.script = async (arrived, response, request) => {
      await held;
      await json(chatAnswer())(arrived, response, request);
    };
    const before = bench.provider.journal.length;
    const perTeam = REQUESTS / TEAMS;
    const expected = [0, 1, 2, 3, 4].map((team) => Math.min(team < 2 ? (KEYS / TEAMS) * KEY : perTeam, TEAM));
    const fits = Math.min(
      ORG,
      expected.reduce((sum, count) => sum + count, 0),
    );

    const answers = Array.from({ length: REQUESTS }, (_, i) => ask((keys[i % KEYS] as Made).secret, i));
    let refused = 0;
    for (const answer of answers) void answer.then(({ status }) => (refused += status === 402 ? 1 : 0));
    const all = Promise.all(answers.map(async (answer) => (await answer).text()));
    const watched = worstOvershoot(all);
    await expect.poll(() => refused, { timeout: 60_000 }).toBe(REQUESTS - fits);
    // All that may go are at the provider, and hold their bounds.
    await expect.poll(() => bench.provider.journal.length - before, { timeout: 60_000 }).toBe(fits);
    letGo();
    expect(await watched).toBeLessThanOrEqual(0n);
    expect(bench.provider.journal.length - before).toBe(fits);

    // What was held beyond the cost is free again: more fit, and still nothing is passed.
    const more = Promise.all(
      Array.from({ length: REQUESTS }, async (_, i) => (await ask((keys[i % KEYS] as Made).secret, i)).status),
    );
    expect(await worstOvershoot(more)).toBeLessThanOrEqual(0n);
    expect((await more).filter((status) => status === 200).length).toBeGreaterThan(0);
    expect((await bench.running.events()).length).toBe(bench.provider.journal.length);
    expect(await bench.running.proxy.writer.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });
  });

  it("in expected mode: a cap is passed by no more than what answers cost beyond what was held for them", async () => {
    const keys = await makeKeys("expected");
    console.log(`seed ${SEED}`);
    const next = random(SEED);
    // Whole answers, of which nobody says how long they may be: most are shorter than the 4,096 tokens that are held,
    // some far longer.
    const outputs = Array.from({ length: REQUESTS }, () =>
      Math.floor(next() < 0.8 ? next() * 3_000 : 4_096 + next() * 12_000),
    );
    bench.provider.script = async (arrived, response, request) => {
      const { user } = JSON.parse(arrived.body.toString("utf8")) as { user: string };
      await json(chatAnswer(10, outputs[Number(user)] ?? 1))(arrived, response, request);
    };
    const average = (outputs.reduce((sum, output) => sum + BigInt(output), 0n) * 600n) / BigInt(REQUESTS);
    const cap = { mode: "expected", window: "total" } as const;
    const budgets = [await bench.running.setBudget({ ...cap, window: "day", amountNanoUsd: average * BigInt(ORG) })];
    for (let i = 0; i < TEAMS; i++)
      budgets.push(
        await bench.running.setBudget({
          ...cap,
          scope: { team: `expected-${i}` },
          amountNanoUsd: average * BigInt(TEAM),
        }),
      );
    const count = (await bench.running.events()).length;
    const statuses = await Promise.all(
      Array.from({ length: REQUESTS }, async (_, i) => {
        const answer = await ask((keys[i % KEYS] as Made).secret, i, {});
        await answer.text();
        return answer.status;
      }),
    );
    expect(new Set(statuses)).toEqual(new Set([200, 402]));
    const states = await bench.running.proxy.writer.states();
    const events = (await bench.running.events()).slice(count);
    for (const { id, scope } of budgets) {
      const state = states.find(({ budget }) => budget.id === id);
      if (!state) throw new Error(`no budget ${id}`);
      const mine = events.filter(({ team }) => scope.team === undefined || team === scope.team);
      // What each cost beyond what was held for it: 4,096 tokens of output, until 50 answers of a key are known.
      const beyond = mine.reduce((sum, { usage }) => sum + Math.max(0, (usage.output ?? 0) - 4_096), 0);
      const over = state.settledNanoUsd - state.amountNanoUsd;
      expect(over, id).toBeLessThanOrEqual(BigInt(beyond) * 600n);
    }
    expect(await bench.running.proxy.writer.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });
  });
});
