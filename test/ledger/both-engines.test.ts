// Every reader of the books, asked of the same books in SQLite and in a real Postgres: both give the same, to the last
// byte and in the same order.
import { answerIn } from "../../ledger/asking.ts";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import Fastify from "fastify";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NOTHING_STATED } from "../../collector/match.ts";
import { addPages } from "../../collector/pages/routes.ts";
import { exportFocus, writeHistory } from "../../collector/reports.ts";
import { createTurn } from "../../collector/turn.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { createAccess } from "../../service/admin-routes.ts";
import { createLog } from "../../service/log.ts";
import { Secret } from "../../service/secret.ts";
import { readExpectations, readPlans, withoutPlans } from "../../ledger/billing/plans.ts";
import {
  readCredentialUse,
  readHeldCredentials,
  readPlacesByHint,
  readPlacesOf,
  readRotations,
  readRotationSteps,
  readUnaudited,
  readUsedPlaces,
} from "../../ledger/billing/rotations.ts";
import { SEAT } from "../../ledger/usage/usage-event.ts";
import * as bills from "../../ledger/billing/bills.ts";
import * as billedHours from "../../ledger/billing/billed-hours.ts";
import * as closedDays from "../../ledger/billing/closed-days.ts";
import * as forecasts from "../../ledger/billing/forecasts.ts";
import { readRests } from "../../ledger/billing/landings.ts";
import * as leaks from "../../ledger/billing/leaks.ts";
import { readMarks, readMetered } from "../../ledger/billing/metered.ts";
import type { BillingBooks, NoticesBooks, UsageBooks } from "../../ledger/books.ts";
import { copyToPostgres } from "../../ledger/move.ts";
import * as notices from "../../ledger/notices/notices.ts";
import { openNotices, openToWrite, openUsage } from "../../ledger/open.ts";
import { migratePostgres } from "../../ledger/postgres.ts";
import { firstAttemptId } from "../../ledger/ids.ts";
import { findMark } from "../../ledger/billing/telemetry.ts";
import * as commits from "../../ledger/usage/commits.ts";
import { LEAST_DAYS } from "../../ledger/usage/kept-days.ts";
import {
  findDayToExpire,
  readArchivedRows,
  readExpiries,
  readExpiryDifferences,
  readKeptFrom,
} from "../../ledger/usage/retention.ts";
import { readAdjusted, readAdjustmentDifferences } from "../../ledger/usage/adjustments.ts";
import { readAnswers, readUnpriced } from "../../ledger/usage/answers.ts";
import { checkAudit } from "../../ledger/usage/audit.ts";
import type { Budget } from "../../ledger/budgets.ts";
import * as budgetSpend from "../../ledger/usage/budget-spend.ts";
import { readAskedRaises } from "../../ledger/usage/asked-raises.ts";
import { readSessionParts, readSessions } from "../../ledger/usage/sessions.ts";
import { readCaps } from "../../ledger/usage/caps.ts";
import { readBudgets, readFreezes } from "../../ledger/usage/changes.ts";
import { readCredentials, readKeyAddresses, readMeteredCredentials, readPaid } from "../../ledger/usage/credentials.ts";
import { readEvents, walkEvents } from "../../ledger/usage/events.ts";
import { readPeople } from "../../ledger/usage/people.ts";
import { createExpectations, learnExpectations } from "../../ledger/usage/expectations.ts";
import { readHints } from "../../ledger/usage/hints.ts";
import * as hours from "../../ledger/usage/hours.ts";
import * as keyUse from "../../ledger/usage/key-use.ts";
import { readKeys, readSecretAges } from "../../ledger/usage/read-keys.ts";
import { readLimits } from "../../ledger/usage/limits.ts";
import { findHolder, findTokenHolder, readTokens } from "../../ledger/usage/tokens.ts";
import { readAudit } from "../../ledger/usage/audit.ts";
import { readSeatPrices, readSeats } from "../../ledger/usage/seat-prices.ts";
import { readSeatTokens } from "../../ledger/usage/seat-tokens.ts";
import * as meterHours from "../../ledger/usage/meter-hours.ts";
import * as meteredHours from "../../ledger/usage/metered-hours.ts";
import { readLastEvents, readOutcomes, readSpeeds } from "../../ledger/usage/outcomes.ts";
import { findPendingWork, readPendingWork } from "../../ledger/usage/pending-work.ts";
import { planReassignment } from "../../ledger/usage/reassign-plan.ts";
import { readReassignDifferences, stepsOf } from "../../ledger/usage/reassign.ts";
import { readRefused } from "../../ledger/usage/refused.ts";
import { readSealDifferences, readSealedUntil, readSealOf } from "../../ledger/usage/seals.ts";
import { readSpend, readSpendByTag } from "../../ledger/usage/spend.ts";
import { readStated } from "../../ledger/usage/stated.ts";
import { readThingOwners, readThings } from "../../ledger/usage/things.ts";
import { readUnsureEvents } from "../../ledger/usage/unsure-events.ts";
import { readFoldDifferences, readRegisterDifferences } from "../../ledger/usage/verify.ts";
import { createCalendar } from "../../ledger/windows.ts";
import { TOKENS, writeOddities } from "../oddities.ts";
import { writeOrganisation } from "../organisation.ts";
import { hasPostgres, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { IS_CI, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";

type All = { readonly usage: UsageBooks; readonly billing: BillingBooks; readonly notices: NoticesBooks };

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const NOW_MS = Date.parse("2026-11-24T10:20:00Z");
const DAYS = IS_CI ? 40 : 10;
const SINCE_MS = NOW_MS - (DAYS + 1) * DAY_MS;
const [FIRST, END] = [SINCE_MS, NOW_MS + DAY_MS].map((ms) => new Date(ms).toISOString().slice(0, 10)) as [
  string,
  string,
];
const ZONE = createCalendar("Asia/Kathmandu");
const PROVIDERS = ["openai", "anthropic", "gcp.gemini"];

/** Caps of each, which no books have to hold to be read. */
const RULES: readonly Budget[] = (["user", "key", "tag:feature"] as const).flatMap((each) =>
  (["total", "month", "hour"] as const).flatMap((window) =>
    [{}, { team: "search", model: "gpt*" }].map((scope) => ({
      id: `${each} ${window}`,
      each,
      window,
      scope,
      amountNanoUsd: 1n,
      kind: "hard",
      mode: "strict",
      createdAtMs: 0,
    })),
  ),
);

/** Each by the name under which the ledger exports it. */
const toText = (value: unknown): string =>
  JSON.stringify(value, (_name, one: unknown) => (typeof one === "bigint" ? String(one) : one));

const READERS: { readonly [name: string]: (all: All, keyId: string) => Promise<unknown> } = {
  readCredentials: async ({ usage }, keyId) => {
    const find = await readCredentials(usage);
    return PROVIDERS.map((provider) => [find(keyId, provider, NOW_MS), find("fp_1", provider, SINCE_MS)]);
  },
  readMeteredCredentials: ({ usage }) => readMeteredCredentials(usage),
  // Commits are numbered where they are made, and what is exported by them is not moved.
  readCommits: async ({ usage }) =>
    (await commits.readCommits(usage, commits.BEFORE_ALL, 1_000_000))
      .map(({ event, adjustedNanoUsd }) => [event, adjustedNanoUsd])
      .toSorted((one, other) => (String(one.map(toText)) < String(other.map(toText)) ? -1 : 1)),
  readLastCommit: async ({ usage }) => (await commits.readLastCommit(usage)).number > 0,
  readAuditAfter: ({ usage }) => commits.readAuditAfter(usage, 3, 5),
  readLastAudit: ({ usage }) => commits.readLastAudit(usage),
  findDayToExpire: ({ usage }) => findDayToExpire(usage, LEAST_DAYS, NOW_MS + 60 * DAY_MS),
  readArchivedRows: ({ usage }) => readArchivedRows(usage, firstAttemptId(SINCE_MS), firstAttemptId(NOW_MS), 50),
  readKeptFrom: ({ usage }) => readKeptFrom(usage),
  readExpiries: ({ usage }) => readExpiries(usage),
  readExpiryDifferences: ({ usage }) => readExpiryDifferences(usage),
  readSealOf: ({ usage }) => readSealOf(usage, firstAttemptId(NOW_MS - (NOW_MS % DAY_MS) - DAYS * DAY_MS)),
  findMark: ({ billing }) => findMark(billing, "metrics"),
  readThings: async ({ usage }) => [await listOf(readThings(usage, 3)), await listOf(readThings(usage, 100))],
  readThingOwners: ({ usage }) => readThingOwners(usage, "openai", ["file_1", "file_2", "none"]),
  readLimits: ({ usage }) => readLimits(usage),
  readSeatTokens: ({ usage }) => listOf(readSeatTokens(usage, SINCE_MS)),
  readSeatPrices: async ({ usage }) => [
    await readSeatPrices(usage, "2025-12"),
    await readSeatPrices(usage, "2026-05"),
    await readSeatPrices(usage, "2026-11"),
  ],
  readTokens: ({ usage }) => readTokens(usage),
  findHolder: ({ usage }) =>
    Promise.all([...TOKENS.map(({ secret }) => secret), "kmt_x"].map((one) => findHolder(usage, one, NOW_MS))),
  findTokenHolder: ({ usage }) =>
    Promise.all([...TOKENS.map(({ token }) => token.id), "tok_x"].map((one) => findTokenHolder(usage, one, NOW_MS))),
  readAudit: async ({ usage }) => [await readAudit(usage, 50), await readAudit(usage, 5, 9)],
  readSeats: ({ usage }) => readSeats(usage, ZONE, new Date(NOW_MS).toISOString().slice(0, 7)),
  hasBatchesSince: ({ usage }) => each((provider) => meteredHours.hasBatchesSince(usage, provider, SINCE_MS)),
  readMeteredHours: ({ usage }) => each((one) => meteredHours.readMeteredHours(usage, one, SINCE_MS, NOW_MS)),
  readWorkTokens: ({ usage }) => each((one) => meteredHours.readWorkTokens(usage, one, SINCE_MS)),
  readStraddling: ({ usage }) => each((one) => meteredHours.readStraddling(usage, one, SINCE_MS, NOW_MS)),
  readUnderWay: ({ usage }) => each((one) => meteredHours.readUnderWay(usage, one, NOW_MS - 5 * DAY_MS)),
  readMeterHours: ({ usage }) => meterHours.readMeterHours(usage, SINCE_MS, NOW_MS),
  findMeterBegan: ({ usage }) => meterHours.findMeterBegan(usage),
  firstMeteredDay: ({ usage }) => meterHours.firstMeteredDay(usage, NOW_MS),
  learnExpectations: async ({ usage }, keyId) => {
    const learned = createExpectations();
    await learnExpectations(usage, learned);
    return ["gpt-5.2", "gpt-4o-mini", "m"].map((model) => learned.outputTokens(keyId, model));
  },
  readRefused: ({ usage }) => readRefused(usage, 0, END_OF_TIME),
  readAdjustmentDifferences: ({ usage }) => readAdjustmentDifferences(usage),
  readAdjusted: ({ usage }) => readAdjusted(usage, 0),
  readAnswers: ({ usage }) => readAnswers(usage, SINCE_MS),
  readUnpriced: ({ usage }) => readUnpriced(usage, SINCE_MS),
  readSealDifferences: ({ usage }) => readSealDifferences(usage),
  readSealedUntil: ({ usage }) => readSealedUntil(usage),
  readUnsureEvents: ({ usage }) => each((provider) => readUnsureEvents(usage, provider, dayBefore(4))),
  readSecretAges: ({ usage }) => readSecretAges(usage),
  readKeys: ({ usage }) => readKeys(usage),
  readLastUsed: async ({ usage }) => [
    await keyUse.readLastUsed(usage),
    await keyUse.readLastUsed(usage, NOW_MS - DAY_MS),
  ],
  readMostUsed: ({ usage }) => keyUse.readMostUsed(usage, "requestedModel", SINCE_MS, 3),
  findLastUsed: ({ usage }, keyId) => keyUse.findLastUsed(usage, keyId),
  readKeyHours: ({ usage }, keyId) => keyUse.readKeyHours(usage, keyId, SINCE_MS),
  readNames: ({ usage }) => keyUse.readNames(usage),
  readAskedRaises: async ({ usage }) => [await readAskedRaises(usage, 0), await readAskedRaises(usage, NOW_MS)],
  readSessions: async ({ usage }, keyId) => [
    await readSessions(usage, 0, 5),
    await readSessions(usage, SINCE_MS, 100, { key: keyId }),
  ],
  readSessionParts: async ({ usage }) => {
    const parts = await readSessionParts(usage, "s 1", 0);
    expect(parts.length).toBeGreaterThan(1);
    return parts;
  },
  readPeople: ({ usage }) => readPeople(usage),
  checkAudit: ({ usage }) => checkAudit(usage),
  readHourlySpend: async ({ usage }, keyId) => [
    await hours.readHourlySpend(usage, SINCE_MS, NOW_MS, "org"),
    await hours.readHourlySpend(usage, SINCE_MS, NOW_MS, "model", { scope: "key", id: keyId }),
  ],
  readSpendByHour: ({ usage }) => hours.readSpendByHour(usage, SINCE_MS, NOW_MS),
  readSpendOfHours: async ({ usage }) => [
    await hours.readSpendOfHours(usage, SINCE_MS, NOW_MS, "org"),
    await hours.readSpendOfHours(usage, SINCE_MS, NOW_MS, "team", { scope: "model", id: "gpt-5.2" }),
  ],
  readSubjectSpend: async ({ usage }) => [
    await hours.readSubjectSpend(usage, SINCE_MS, "hours"),
    await hours.readSubjectSpend(usage, NOW_MS - 2 * DAY_MS, "events"),
  ],
  readEvents: async ({ usage }, keyId) => [
    await readEvents(usage, { limit: 50 }),
    await readEvents(usage, { keyId, sinceMs: SINCE_MS, untilMs: NOW_MS, limit: 20, within: { model: "gpt*" } }),
  ],
  walkEvents: ({ usage }) => listOf(walkEvents(usage, { pageSize: 100 })),
  askTagsCount: ({ usage }) => answerIn(usage, budgetSpend.askTagsCount()),
  askOwners: ({ usage }) => answerIn(usage, budgetSpend.askOwners()),
  readKeyOwners: ({ usage }, keyId) => budgetSpend.readKeyOwners(usage, keyId),
  readSettled: async ({ usage }) => {
    const found = [];
    for (const budget of await readBudgets(usage))
      found.push([
        budget.id,
        await budgetSpend.readSettled(usage, budget, ZONE.window(budget.window, NOW_MS - DAY_MS)),
      ]);
    return found;
  },
  readAllSettled: async ({ usage }) =>
    budgetSpend.readAllSettled(usage, await readBudgets(usage), ({ window }) => ZONE.window(window, NOW_MS - DAY_MS)),
  readOwnNames: async ({ usage }, keyId) =>
    (await budgetSpend.readOwnNames(usage))({
      keyId,
      team: "search",
      project: "p",
      env: "prod",
      user: "user_1",
      tags: '{"feature":"rag"}',
    }),
  readMembers: async ({ usage }) => {
    const found = [];
    for (const rule of RULES)
      found.push(await budgetSpend.readMembers(usage, rule, [], ZONE.window(rule.window, NOW_MS - DAY_MS)));
    expect(found.filter((members) => members.length === 0).length).toBeLessThan(RULES.length / 2);
    return found;
  },
  readCaps: ({ usage }) => readCaps(usage, ZONE, NOW_MS - DAY_MS),
  readHoursInScope: async ({ usage }) => [
    await budgetSpend.readHoursInScope(usage, { team: "search" }, SINCE_MS, NOW_MS),
    await budgetSpend.readHoursInScope(usage, { model: "g[p]t?5*" }, SINCE_MS, NOW_MS),
    await budgetSpend.readHoursInScope(usage, { model: "*5*" }, SINCE_MS, NOW_MS),
    await budgetSpend.readHoursInScope(usage, { tag: "feature=feature-1" }, SINCE_MS, NOW_MS),
  ],
  readHints: ({ usage }) => readHints(usage, NOW_MS),
  readFoldDifferences: ({ usage }) => readFoldDifferences(usage),
  readRegisterDifferences: ({ usage }) => readRegisterDifferences(usage),
  readPendingWork: ({ usage }) => readPendingWork(usage),
  findPendingWork: async ({ usage }) => {
    const [work] = await readPendingWork(usage);
    return work && findPendingWork(usage, work.provider, work.workId);
  },
  planReassignment: ({ usage }, keyId) =>
    planReassignment(
      usage,
      { keyId, from: { team: ["search"] }, to: { team: "moved", project: "new" } },
      [{ sinceMs: SINCE_MS }],
      ZONE,
      NOW_MS,
    ),
  stepsOf: ({ usage }, keyId) =>
    listOf(stepsOf(usage, { keyId, from: {}, to: { team: "x" }, current: {}, spans: [{ sinceMs: SINCE_MS }] })),
  readReassignDifferences: ({ usage }) => readReassignDifferences(usage),
  readLastEvents: ({ usage }, keyId) => readLastEvents(usage, keyId, 30),
  readOutcomes: ({ usage }) => readOutcomes(usage, SINCE_MS, NOW_MS),
  readSpeeds: ({ usage }) => readSpeeds(usage, SINCE_MS, NOW_MS, 500),
  readBudgets: ({ usage }) => readBudgets(usage),
  readFreezes: ({ usage }) => readFreezes(usage),
  readStated: ({ usage }) => readStated(usage, SINCE_MS),
  readSpend: async ({ usage }) => [
    await readSpend(usage, ["day", "team", "model"], FIRST, END),
    await readSpend(usage, ["key"], FIRST, END, { provider: "openai", model: "gpt*" }),
    await readSpend(usage, [], FIRST, END),
  ],
  readSpendByTag: ({ usage }) => readSpendByTag(usage, ["day", "tag:feature", "team"], ZONE, FIRST, END),
  readProviderKeys: ({ billing }) => each((provider) => bills.readProviderKeys(billing, provider)),
  readBilledLines: ({ billing }) => each((provider) => bills.readBilledLines(billing, provider, FIRST, END)),
  readBilledUsage: ({ billing }) => each((provider) => bills.readBilledUsage(billing, provider, SINCE_MS, NOW_MS)),
  readBillDays: ({ billing }) => bills.readBillDays(billing, FIRST, END),
  readUsageReads: ({ billing }) => bills.readUsageReads(billing),
  readImports: ({ billing }) => bills.readImports(billing),
  readBilledHours: async ({ billing }) => [
    await billedHours.readBilledHours(billing, SINCE_MS, NOW_MS, "org"),
    await billedHours.readBilledHours(billing, SINCE_MS, NOW_MS, "model"),
  ],
  readBilledSpend: ({ billing }) => billedHours.readBilledSpend(billing, ZONE, "provider", FIRST, END),
  readDismissals: ({ billing }) => leaks.readDismissals(billing, "openai"),
  readLeaks: ({ billing }) => leaks.readLeaks(billing),
  readMarks: ({ usage }) => readMarks(usage, FIRST, END),
  readMetered: async ({ usage, billing }) => {
    const kept: unknown[] = [];
    await readMetered({ usage, billing }, FIRST, END, (...one) => kept.push(one));
    // Folded anew, from the events themselves.
    await readMetered({ usage, billing: undefined }, FIRST, END, (...one) => kept.push(one));
    return kept;
  },
  readRests: (all) => readRests(all, NOW_MS),
  readForecasts: ({ billing }) => forecasts.readForecasts(billing, NOW_MS),
  readUnscored: ({ billing }) => forecasts.readUnscored(billing, 0, END_OF_TIME),
  readScores: ({ billing }) => forecasts.readScores(billing, SINCE_MS),
  readComparisons: ({ billing }) => closedDays.readComparisons(billing, FIRST, END),
  readUnmetered: ({ billing }) => each((provider) => closedDays.readUnmetered(billing, provider, "key_demo")),
  readVarianceSums: ({ billing }) => closedDays.readVarianceSums(billing, FIRST, END),
  findClosed: ({ billing }) => each((provider) => closedDays.findClosed(billing, provider, dayBefore(9))),
  readClosed: ({ billing }) => closedDays.readClosed(billing, FIRST, END),
  readCorrections: ({ billing }) => closedDays.readCorrections(billing, FIRST, END),
  readRotations: async ({ billing }) => [
    await readRotations(billing),
    await readRotations(billing, { isOpen: true, place: "openai/staging" }),
  ],
  readRotationSteps: async ({ billing }) =>
    Promise.all((await readRotations(billing)).map(({ id }) => readRotationSteps(billing, id))),
  readUnaudited: ({ billing }) => readUnaudited(billing),
  readHeldCredentials: async ({ usage }) =>
    Promise.all(PROVIDERS.map((provider) => readHeldCredentials(usage, provider))),
  readPaid: async ({ usage }, keyId) => [
    await readPaid(usage, keyId, SINCE_MS, END_OF_TIME),
    await readPaid(usage, SEAT, SINCE_MS, END_OF_TIME),
  ],
  readKeyAddresses: async ({ usage }, keyId) => [
    await readKeyAddresses(usage, keyId),
    await readKeyAddresses(usage, "key_odd"),
  ],
  readUsedPlaces: ({ usage }) => readUsedPlaces(usage),
  readPlacesOf: ({ usage }) => readPlacesOf(usage, "fp_1"),
  readPlacesByHint: ({ usage }) => readPlacesByHint(usage, "hin1"),
  readCredentialUse: async ({ usage }) => [
    await readCredentialUse(usage, SEAT, SINCE_MS),
    await readCredentialUse(usage, "fp_nobody", SINCE_MS),
  ],
  readPlans: ({ billing }) => readPlans(billing, 0, END_OF_TIME),
  readExpectations: (all) => readExpectations(all, NOW_MS),
  withPlans: (all) => readExpectations(all, NOW_MS, { scope: "team" }),
  withoutPlans: async ({ usage, billing }) =>
    withoutPlans(
      usage,
      await readPlans(billing, 0, END_OF_TIME),
      "team",
      await hours.readHourlySpend(usage, SINCE_MS, NOW_MS, "team"),
    ),
  readDeliveries: (all) => notices.readDeliveries(all.notices, "group-1"),
  readOutbox: (all) => notices.readOutbox(all.notices),
  findOpenNotice: (all) => notices.findOpenNotice(all.notices, "group-1"),
  findLastNotice: (all) => notices.findLastNotice(all.notices, "group-1"),
  readNoticesAbout: (all) => notices.readNoticesAbout(all.notices, ["key-1", "100%"], 0),
  readOpenNotices: (all) => notices.readOpenNotices(all.notices),
  readWords: (all) => notices.readWords(all.notices, "keymeter"),
  findMute: (all) => notices.findMute(all.notices, "group-1", NOW_MS),
};
const END_OF_TIME = 4_000_000_000_000;

async function listOf<T>(all: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of all) found.push(one);
  return found;
}

async function each<T>(read: (provider: string) => Promise<T>): Promise<T[]> {
  const found = [];
  for (const provider of PROVIDERS) found.push(await read(provider));
  return found;
}

function dayBefore(days: number): string {
  return new Date(NOW_MS - days * DAY_MS).toISOString().slice(0, 10);
}

async function openAll(place: string): Promise<All> {
  const [usage, billing, said] = [
    await openUsage(place),
    await openToWrite(place, "billing", "process"),
    await openNotices(place),
  ];
  if (!usage || !billing || !said) throw new Error(`no books in ${place}`);
  return { usage, billing, notices: said };
}

async function closeAll(all: All | undefined): Promise<void> {
  for (const books of Object.values(all ?? {})) await books.close();
}

it("every reader that the ledger exports is among them", () => {
  const root = new URL("../../ledger/", import.meta.url);
  const exported = readdirSync(root, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .flatMap((file) => [
      ...readFileSync(new URL(file, root), "utf8").matchAll(
        /^export (?:async )?function\*? (\w+)(?:<[^>]*>)?\(\s*(?:\w+|\{[^}]*\}): (?:UsageBooks|BillingBooks|NoticesBooks|\{[^}]*Books[^}]*\})/gm,
      ),
    ])
    .map(([, name = ""]) => name)
    // What writes is asked in its own tests.
    .filter((name) => /^(?:read|find|walk|has|first|check|plan|steps|learn|with)/.test(name));
  expect(exported.length).toBeGreaterThan(70);
  expect(
    exported.filter((name) => !(name in READERS) && name !== "readBillingMark" && name !== "refreshMetered"),
  ).toEqual([]);
});

describe.skipIf(!hasPostgres)("the same books in SQLite and in Postgres", () => {
  let server: PostgresServer;
  let keyId: string;
  let folder: string;
  let url: string;
  let sqlite: All | undefined;
  let postgres: All | undefined;
  let migrated: readonly (readonly string[])[];
  let copied: ReadonlyMap<string, number>;

  beforeAll(async () => {
    console.log(`seed ${SEED}`);
    folder = temporaryFolder();
    const [organisation, started] = await Promise.all([
      writeOrganisation({ folder, days: DAYS, keys: 6, seed: SEED, nowMs: NOW_MS }),
      startPostgres(),
    ]);
    server = started;
    await writeOddities(folder, SINCE_MS, NOW_MS);
    keyId = organisation.keyIds[0] ?? "";
    url = await server.database("books");
    migrated = [await migratePostgres(url), await migratePostgres(url)];
    copied = await copyToPostgres(folder, url);
    sqlite = await openAll(folder);
    postgres = await openAll(url);
  }, 120_000);
  afterAll(async () => {
    await closeAll(sqlite);
    await closeAll(postgres);
    await server?.stop();
  });

  it("were made and copied: the schema once, and rows of every table", () => {
    expect(migrated).toEqual([
      [
        "0001-ledger.sql",
        "0002-nodes.sql",
        "0003-escrow.sql",
        "0004-limits.sql",
        "0005-batches.sql",
        "0006-price-list.sql",
        "0007-people.sql",
        "0008-each.sql",
        "0009-asked.sql",
        "0010-texts.sql",
        "0011-charged-users.sql",
        "0012-seats.sql",
        "0013-forecasts.sql",
        "0014-rotations.sql",
        "0015-keys-before.sql",
        "0016-tokens.sql",
        "0017-telemetry.sql",
        "0018-retention.sql",
      ],
      [],
    ]);
    expect([...copied].filter(([, count]) => count === 0).map(([table]) => table)).toEqual([]);
  });

  it("pages and files are the same, byte for byte", async () => {
    if (!sqlite || !postgres) throw new Error("no books");
    const [one, other] = [await pagesOf(sqlite, folder, "key_odd"), await pagesOf(postgres, folder, "key_odd")];
    expect([...one.keys()].filter((name) => / [345]/.test(name))).toEqual([]);
    expect([...other.keys()]).toEqual([...one.keys()]);
    for (const [name, bytes] of one) {
      expect(bytes.length, name).toBeGreaterThan(500);
      expect(other.get(name)?.toString("latin1"), name).toBe(bytes.toString("latin1"));
    }
  });

  it.each(Object.keys(READERS))("%s", async (name) => {
    const read = READERS[name];
    if (!read || !sqlite || !postgres) throw new Error("no books");
    for (const id of [keyId, "key_odd"]) {
      const [one, other] = [await read(sqlite, id), await read(postgres, id)];
      expect(isEmpty(one), `${name} finds something`).toBe(NOTHING.has(name));
      expect(other).toEqual(one);
    }
  });

  it("what is written after the move goes on from what was moved", async () => {
    const books = await openToWrite(url, "notices");
    const before = await notices.readOutbox(books);
    await notices.keepReply(books, "group-9", "{}", NOW_MS);
    const after = await notices.readOutbox(books);
    expect(after.length).toBe(before.length + 1);
    expect(after.at(-1)?.id).toBeGreaterThan(before.at(-1)?.id ?? 0);
    await books.close();
  });
});

/** Every page and file of the collector's, over some books. */
async function pagesOf({ usage, billing }: All, place: string, keyId: string): Promise<Map<string, Buffer>> {
  const app = Fastify();
  const token = new Secret("a-token-of-this-test");
  await addPages(
    app,
    () => ({
      books: { usage, billing },
      calendar: ZONE,
      prices: createPriceBook(),
      stated: NOTHING_STATED,
      place,
      capMode: "enforce",
      sources: PROVIDERS,
      nowMs: NOW_MS,
    }),
    {
      readToken: token,
      adminToken: token,
      access: createAccess(token, { bySecret: async () => undefined, byId: async () => undefined }),
      pagesUrl: "",
    },
    createLog("test", "silent"),
    createTurn(),
  );
  const made = new Map<string, Buffer>();
  const paths = ["overview", "changes", "teams", "keys", "bills", "models", "refused", "chargeback", `key.ID`].flatMap(
    (page) => ["", ".json"].map((form) => (page === "key.ID" ? `key${form}?id=${keyId}` : `${page}${form}`)),
  );
  for (const path of [
    ...paths,
    "team?id=search",
    `bill?provider=openai&day=${dayBefore(9)}`,
    `focus.csv?since=${FIRST}&until=${END}`,
  ]) {
    const answer = await app.inject({ url: `/${path}`, headers: { authorization: `Bearer ${token.reveal()}` } });
    made.set(`${path} ${answer.statusCode}`, answer.rawPayload);
  }
  await app.close();
  const focus = { sinceDay: FIRST, untilDay: END, version: "1.4", format: "parquet" } as const;
  const file = join(temporaryFolder(), "focus.parquet");
  await exportFocus({ usage, billing }, { ...focus, file }, NOTHING_STATED, () => undefined);
  made.set("focus.parquet", readFileSync(file));
  const history: string[] = [];
  for await (const piece of writeHistory({ usage, billing }, ZONE.zone, FIRST, END, () => undefined))
    history.push(piece);
  made.set("openmetrics", Buffer.from(history.join("")));
  return made;
}

/** What finds nothing in books that are whole. */
const NOTHING = new Set<string>([
  "readAdjustmentDifferences",
  "readSealDifferences",
  "readFoldDifferences",
  "readRegisterDifferences",
  "readReassignDifferences",
  "findMark",
  "readKeptFrom",
  "readExpiries",
  "readExpiryDifferences",
]);

function isEmpty(value: unknown): boolean {
  if (value instanceof Map || value instanceof Set) return value.size === 0;
  return value === undefined || (Array.isArray(value) && value.length === 0);
}
