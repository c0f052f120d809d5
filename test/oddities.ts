// What an organisation's quiet weeks (organisation.ts) do not have: one of everything else that books can hold, in all
// three of them.
import { join } from "node:path";
import { replaceBilledHours } from "../ledger/billing/billed-hours.ts";
import { noteImport, noteUsage, replaceBills, replaceProviderKeys, replaceUsage } from "../ledger/billing/bills.ts";
import { readClosed } from "../ledger/billing/closed-days.ts";
import { dismissLeak } from "../ledger/billing/leaks.ts";
import { addPlan } from "../ledger/billing/plans.ts";
import { beginRotation, moveRotation, noteWaiting } from "../ledger/billing/rotations.ts";
import * as notices from "../ledger/notices/notices.ts";
import { openToWrite } from "../ledger/open.ts";
import { issueToken } from "../ledger/usage/tokens.ts";
import { SEAT } from "../ledger/usage/usage-event.ts";
import { openWriter } from "../ledger/usage/writer.ts";
import { DAY_MS, HOUR_MS, utcDay } from "../ledger/windows.ts";
import { event } from "./usage-event.ts";

/** Writes them into books that end at `nowMs` and began at `sinceMs`. Returns the id of the odd key. */
const NO_LIMITS = {
  requestsPerMinute: undefined,
  tokensPerMinute: undefined,
  concurrent: undefined,
  bodyBytes: undefined,
};

/** One that is good, one that has ended, one that is revoked. */
export const TOKENS = [
  issueToken({ name: "lea", role: "lead", team: "search" }, undefined, 1),
  issueToken({ name: "old", role: "read" }, 5, 2),
  issueToken({ name: "gone", role: "admin" }, undefined, 3),
];

export async function writeOddities(folder: string, sinceMs: number, nowMs: number): Promise<string> {
  let clock = nowMs - 3 * DAY_MS;
  const open = () =>
    openWriter({
      path: join(folder, "usage.db"),
      durability: "process",
      zone: "Asia/Kathmandu",
      capMode: "enforce",
      now: () => clock,
    });
  const writer = await open();
  const key = (id: string, name: string) => ({
    type: "createKey" as const,
    digest: id.padEnd(64, "0"),
    key: {
      id,
      kind: "virtual" as const,
      provider: undefined,
      name,
      team: "search",
      project: "",
      env: "",
      user: "",
      state: "active" as const,
      hint: "odd1",
      createdAtMs: clock,
      expiresAtMs: clock + 90 * DAY_MS,
      purpose: "what is odd",
      policy: { models: ["gpt-*"] },
    },
  });
  await writer.change(key("key_odd", "odd — ключ 🔑"), "somebody@example.test");
  const scopes = [{ team: "search" }, { keyId: "key_odd", model: "g*t_5%" }, { provider: "openai", env: "prod" }];
  for (const [i, window] of (["hour", "week", "total"] as const).entries())
    await writer.change(
      {
        type: "setBudget",
        budget: {
          id: `bud_odd_${i}`,
          scope: scopes[i] ?? {},
          window,
          amountNanoUsd: 9_007_199_254_740_993n,
          kind: "hard",
          mode: i === 1 ? "expected" : "strict",
          createdAtMs: clock,
          thresholds: [50, 90],
        },
      },
      "test",
    );
  await writer.change(
    {
      type: "askRaise",
      asked: {
        id: "ask_1",
        keyId: "key_odd",
        budgetId: "bud_odd_1",
        amountNanoUsd: 9_007_199_254_740_993n,
        why: 'it\'s "urgent"',
        createdAtMs: clock,
      },
    },
    "test",
  );
  await writer.change(
    {
      type: "raiseBudget",
      raise: {
        id: "raise_1",
        budgetId: "bud_odd_1",
        amountNanoUsd: 5n,
        reason: "it's a launch",
        createdAtMs: clock,
        untilMs: nowMs + DAY_MS,
      },
    },
    "test",
  );
  await writer.change(
    {
      type: "freeze",
      freeze: { id: "fr_1", scope: { team: "nobody" }, reason: 'quiet; "please"', createdAtMs: clock },
    },
    "test",
  );
  await writer.change(
    {
      type: "setLimits",
      limits: { scope: "team:search", requestsPerMinute: 60, tokensPerMinute: undefined, concurrent: 2, bodyBytes: 9 },
    },
    "test",
  );
  await writer.change(
    { type: "setLimits", limits: { scope: "key:key_odd", ...NO_LIMITS, seatTokensPer5Hours: 5, seatTokensPerWeek: 7 } },
    "test",
  );
  for (const [month, priceNanoUsd] of [
    ["2026-01", 20_000_000_000n],
    ["2026-06", 200_000_000_000n],
  ] as const)
    await writer.change({ type: "setSeatPrice", seat: { scope: "key:key_odd", month, priceNanoUsd } }, "test");
  for (const { token, digest } of TOKENS) await writer.change({ type: "createToken", token, digest }, "test");
  await writer.change({ type: "revokeToken", tokenId: TOKENS[2]?.token.id ?? "" }, "test");
  writer.countRefused("key_odd", "gpt-5.2", "limit");
  writer.countRefused("", "", "unknown_key");
  await writer.noteSeen({
    credentials: ["openai", "anthropic", "gcp.gemini"].map((provider, i) => ({
      provider,
      credential: `fp_${i}`,
      hint: `hin${i}`,
      atMs: sinceMs,
    })),
    addresses: [
      { keyId: "key_odd", address: "192.0.2.1", atMs: sinceMs },
      { keyId: "key_odd", address: "2001:db8::7", atMs: nowMs - HOUR_MS },
    ],
  });
  const tags = [
    undefined,
    '{"feature":"search"}',
    '{"feature":"a \\"quoted\\" — one","n":"007"}',
    '{"other":"x","session":"s 1","agent":"a","client":"claude-code"}',
    '{"feature":""}',
  ];
  const settled: number[] = [];
  for (let i = 0; i < 40; i++) {
    clock += 37 * 60_000;
    const attemptId = writer.nextAttemptId();
    settled.push(attemptId);
    const isUnsure = i % 4 === 0;
    await writer.settle(
      event(attemptId, i % 7 === 0 ? undefined : BigInt(i) * 1_234_567n, {
        keyId: "key_odd",
        team: i % 3 === 0 ? "" : "search",
        project: i % 5 === 0 ? "Zürich" : "alpha_1%",
        requestedModel: ["gpt-5.2", "latest", "g%t_5x"][i % 3] ?? "",
        servedModel: i % 3 === 1 ? "gpt-5-2026" : undefined,
        tier: i % 6 === 0 ? "batch,flex" : undefined,
        endpoint: i % 8 === 0 ? "batches" : "chat_completions",
        tags: tags[i % tags.length],
        usage: { input: i, cache_write_30m: 3, cache_write_12h: 4, cache_write_5m: 1, output: i * 2 },
        usageState: isUnsure ? "estimated" : i % 9 === 1 ? "unknown" : "reported",
        priceConfidence: i % 7 === 0 ? "unpriced" : i % 5 === 0 ? "inferred" : "exact",
        priceVersion: "odd",
        costLines: i % 7 === 0 ? [] : [{ unit: "input", quantity: i, price: 5n, costNanoUsd: BigInt(i) }],
        statedCostNanoUsd: i % 6 === 1 ? BigInt(i) * 1_300_000n : undefined,
        outcome: (["complete", "client_left", "upstream_failed", "upstream_rejected"] as const)[i % 4] ?? "complete",
        httpStatus: [200, 500, undefined, 401][i % 4],
        durationMs: i % 10 === 0 ? 50 * 60_000 : 900,
        firstByteMs: i % 3 === 0 ? undefined : 100 + i,
        reasoning: i % 2 === 0 ? i : undefined,
        ...(i % 13 === 5 ? { payer: SEAT, costNanoUsd: 0n, seatNanoUsd: BigInt(i) * 1_000_000n } : {}),
      }),
    );
  }
  await writer.change(
    {
      type: "adjust",
      adjustments: settled.slice(0, 6).map((attemptId, i) => ({
        source: i % 2 === 0 ? "reprice" : "bill",
        sourceId: `odd-${i}`,
        attemptId,
        amountNanoUsd: BigInt(i) * 1_000n - 2_000n,
        unpriced: i === 0 ? -1 : 0,
        inferred: 0,
        detail: "odd",
      })),
    },
    "test",
  );
  await writer.change(
    {
      type: "reassign",
      keyId: "key_odd",
      first: 0,
      end: settled[20] ?? 0,
      from: {},
      to: { team: "later" },
      current: {},
    },
    "test",
  );
  const work = writer.nextAttemptId();
  const subject = {
    keyId: "key_odd",
    team: "search",
    project: "",
    env: "",
    user: "",
    provider: "openai",
    model: "gpt-5.2",
  };
  await writer.reserve({ attemptId: work, subject, boundNanoUsd: 77n, expectedNanoUsd: 70n }, "batches", '{"a":"b"}');
  await writer.suspend(work, "batch_1", ["batch"]);
  await writer.own(settled[1] ?? 0, "openai", "key_odd", ["file_1", "file_2"]);
  await writer.own(settled[2] ?? 0, "anthropic", "key_odd", ["file_1"]);
  await writer.close();
  // A start seals the days that are over.
  clock = nowMs;
  await (await open()).close();
  const billing = await openToWrite(folder, "billing", "process");
  await addPlan(billing, {
    id: "plan_1",
    scope: "team",
    scopeId: "search",
    fromMs: nowMs - 5 * HOUR_MS,
    toMs: nowMs + 5 * HOUR_MS,
    factor: 1.75,
    why: "a launch",
    madeBy: "somebody@example.test",
    madeAtMs: nowMs - DAY_MS,
  });
  await replaceUsage(billing, "openai", sinceMs, nowMs, [
    { hourMs: sinceMs, unit: "requests", quantity: 12, billedKey: "key_demo", model: "gpt-5.2" },
    { hourMs: sinceMs, unit: "input", quantity: 3 },
  ]);
  await replaceProviderKeys(
    billing,
    "openai",
    [{ billedKey: "key_demo", name: "demo", hint: "sk-…demo", state: "active" }],
    nowMs,
  );
  await noteImport(billing, "openai", nowMs, { error: "no answer" });
  await noteUsage(billing, "openai", nowMs, { asOfMs: nowMs - HOUR_MS });
  await replaceBilledHours(billing, "openai", [
    { provider: "openai", hourMs: sinceMs, billedKey: "", model: "gpt-5.2", costNanoUsd: 1_000_000_000_000_007n },
    { provider: "openai", hourMs: sinceMs + HOUR_MS, billedKey: "key_demo", model: "", costNanoUsd: -5n },
  ]);
  // A closed day's bill says more now.
  const [closed] = await readClosed(billing, utcDay(sinceMs), utcDay(nowMs));
  if (!closed) throw new Error("no day is closed");
  const { provider, day } = closed;
  const fee = { kind: "fee", amountNanoUsd: 7n, resolutionNanoUsd: 1n, raw: "{}" } as const;
  await replaceBills(billing, [{ provider, day, source: "test", asOfMs: nowMs + 1, lines: [fee] }], nowMs, {
    isForced: true,
  });
  const begun = { place: "openai/staging", startedBy: "anna", why: 'it\'s "old"', isLeaked: false };
  const rotation = await beginRotation(billing, begun, nowMs - HOUR_MS);
  await moveRotation(
    billing,
    rotation,
    { state: "stored", newHint: "…ö", newKeyId: "key_new", newPrint: "0123456789abcdef", oldCredential: "fp_0" },
    "made; it's new",
    nowMs,
  );
  await noteWaiting(billing, { ...rotation, state: "stored", waitsFor: "the provider", isTrouble: true });
  await beginRotation(billing, { ...begun, place: "xai", isLeaked: true }, nowMs);
  await dismissLeak(billing, "openai", "key_nobody_knows", "ours", nowMs - 2 * HOUR_MS);
  await billing.close();
  await writeNotices(folder, sinceMs, nowMs);
  return "key_odd";
}

async function writeNotices(place: string, sinceMs: number, nowMs: number): Promise<void> {
  const books = await openToWrite(place, "notices", "process");
  await notices.keepDelivery(books, "group-1", "keymeter", '{"a":1}', sinceMs);
  await notices.keepDelivery(books, "group-1", "http://127.0.0.1:9093", '{"b":2}', nowMs);
  await notices.keepReply(books, "group-1", '{"text":"reply"}', nowMs);
  await notices.keepDigest(books, "digest-1", nowMs);
  const [row] = await notices.readOutbox(books);
  if (!row) throw new Error("nothing waits");
  const said = {
    channel: "C1",
    ts: "1.2",
    state: "firing",
    text: "key-1 spends 100%",
    severity: "critical",
    body: "of key-1",
    figureNanoUsd: 5n,
  } as const;
  await notices.noteSending(books, row.id, nowMs);
  await notices.noteSaid(books, row, undefined, said, [{ kind: "picture", payload: "{}" }], nowMs, nowMs);
  await notices.keepMute(books, {
    groupKey: "group-1",
    untilMs: nowMs + 1,
    mutedBy: "U1",
    mutedAtMs: nowMs,
    silence: null,
  });
  await books.close();
}
