// keymeter apply -f budgets.yaml: budgets and limits as a file says. Shows what would change, then changes it, all or
// nothing.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { parse } from "yaml";
import { z } from "zod";
import { describeBudgetScope, isSamePlace, USUAL_THRESHOLDS } from "../ledger/budgets.ts";
import type { Budget } from "../ledger/budgets.ts";
import { readBudgets } from "../ledger/usage/changes.ts";
import type { Change } from "../ledger/usage/changes.ts";
import { readLimits } from "../ledger/usage/limits.ts";
import type { Limits } from "../ledger/usage/limits.ts";
import { formatUsdSet } from "../ledger/money.ts";
import { pathOf } from "./asker.ts";
import { makeChange, requireUsage } from "./books.ts";
import { newBudget, parseAmount, parseEach, parseThresholds, scopeOf } from "./budget-options.ts";
import { loadCommandConfig } from "./config.ts";
import { allKeys } from "./find-key.ts";
import { allUsers } from "./find-user.ts";
import { describeLimitScope, limitScopeOf } from "./limits.ts";
import { toJson } from "../service/json.ts";
import { UsageError } from "./usage-error.ts";
import { warningsOf } from "./warnings.ts";

export const USAGE = `keymeter apply -f budgets.yaml [--dry-run] [--yes] [--json]
  Makes budgets and limits what the file says, and removes those that it does not name; a section that is left out is left alone. Shows the
  difference first and asks; --yes does not ask, --dry-run changes nothing. All of it is one transaction. Raises stay.

    budgets:
      - amount: 5000/month                 # no scope: the organisation
      - { team: search, amount: 500/month, hard: true, thresholds: [50, 80, 100] }
      - { key: ci, provider: openai, model: gpt-4o*, amount: 20/day, strict: true }
      - { team: search, each: user, amount: 100/month, hard: true }   # of each: user, key, tag:customer
      - { tag: customer=acme, amount: 200/month }
      - { env: dev, amount: 50/week, hard: true, observe: true }
    limits:
      - { team: search, rpm: 600, tpm: 200000, concurrent: 20, body_mb: 10 }`;

const name = z.string().min(1).max(200);
const whole = z.number().int().positive().max(1_000_000_000);
const yes = z.boolean().default(false);
const file = z.strictObject({
  budgets: z
    .array(
      z.strictObject({
        team: name.optional(),
        project: name.optional(),
        env: name.optional(),
        user: name.optional(),
        key: name.optional(),
        provider: name.optional(),
        model: name.optional(),
        tag: name.optional(),
        each: name.optional(),
        amount: z.union([z.string(), z.number().transform(String)]),
        hard: yes,
        strict: yes,
        observe: yes,
        thresholds: z.array(z.number()).optional(),
      }),
    )
    .nullish(),
  limits: z
    .array(
      z.strictObject({
        key: name.optional(),
        team: name.optional(),
        user: name.optional(),
        rpm: whole.optional(),
        tpm: whole.optional(),
        concurrent: whole.optional(),
        body_mb: z.number().int().positive().max(1024).optional(),
        seat_5h: z.number().int().positive().optional(),
        seat_week: z.number().int().positive().optional(),
      }),
    )
    .nullish(),
});

/** What differs, as a line for people and as the change that mends it. */
type Difference = { readonly sign: "+" | "~" | "-"; readonly text: string; readonly change: Change };

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      file: { type: "string", short: "f" },
      yes: { type: "boolean", short: "y", default: false },
      "dry-run": { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  if (values.file === undefined) throw new UsageError(`which file?\n${USAGE}`);
  const wanted = readWanted(values.file);
  const config = loadCommandConfig();
  const books = await requireUsage(config);
  const [budgets, limits] = [await readBudgets(books), await readLimits(books)];
  await books.close();
  const names = new Map([...(await allUsers()), ...(await allKeys()).map((key) => [key.id, key.name] as const)]);
  const describe = (budget: Budget): string => describeBudget(budget, names);
  const differences = [
    ...(wanted.budgets ? compareBudgets(describe, budgets, await budgetsOf(wanted.budgets, values.file)) : []),
    ...(wanted.limits
      ? compareLimits((one) => describeLimits(one, names), limits, await limitsOf(wanted.limits, values.file))
      : []),
  ];

  if (values.json) process.stdout.write(`${toJson(differences)}\n`);
  else if (differences.length === 0) process.stdout.write("nothing differs\n");
  else for (const { sign, text } of differences) process.stdout.write(`${sign} ${text}\n`);
  if (differences.length === 0 || values["dry-run"]) return;
  if (!values.yes && (values.json || !(await isWanted()))) {
    process.stderr.write("nothing was changed; --yes applies this\n");
    process.exitCode = 1;
    return;
  }
  await makeChange(config, { type: "together", changes: differences.map(({ change }) => change) });
  if (!values.json) process.stdout.write(`${differences.length} changes made\n`);
  const set = differences.flatMap(({ change }) => (change.type === "setBudget" ? [change.budget] : []));
  for (const sentence of await warningsOf(set)) process.stderr.write(`${sentence}\n`);
}

async function isWanted(): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question("Apply? [y/N] ");
  terminal.close();
  return /^y(es)?$/i.test(answer.trim());
}

type Wanted = z.infer<typeof file>;

function readWanted(path: string): Wanted {
  const place = pathOf(path);
  let given: unknown;
  try {
    given = parse(readFileSync(place, "utf8"));
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  const parsed = file.safeParse(given);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `  - ${placeOf(issue.path)}: ${issue.message}`);
  throw new UsageError(`${path} is not applied, nothing was changed:\n${problems.join("\n")}`);
}

function placeOf(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, part) => (typeof part === "number" ? `${text}[${part}]` : `${text}${text === "" ? "" : "."}${String(part)}`),
    "",
  );
}

/** Says in which entry of the file something is wrong. */
async function inEntry<T>(path: string, place: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof UsageError) throw new UsageError(`${path}, ${place}: ${error.message}`);
    throw error;
  }
}

async function budgetsOf(entries: NonNullable<Wanted["budgets"]>, path: string): Promise<Budget[]> {
  const found: Budget[] = [];
  for (const [i, { amount, each, hard, strict, observe, thresholds, ...scope }] of entries.entries()) {
    const budget = await inEntry(path, `budgets[${i}]`, async () =>
      newBudget({
        scope: await scopeOf(scope),
        each: each === undefined ? undefined : parseEach(each),
        ...parseAmount(amount),
        hard: hard || strict || observe,
        strict,
        observe,
        thresholds: thresholds && parseThresholds(thresholds.join(",")),
      }),
    );
    const twin = found.findIndex((other) => isSamePlace(other, budget));
    if (twin >= 0)
      throw new UsageError(
        `${path}, budgets[${i}]: budgets[${twin}] is for ${describeBudgetScope(budget)} and a ${budget.window} too; leave one`,
      );
    found.push(budget);
  }
  return found;
}

async function limitsOf(entries: NonNullable<Wanted["limits"]>, path: string): Promise<Limits[]> {
  const found: Limits[] = [];
  for (const [i, { key, team, user, rpm, tpm, concurrent, body_mb, seat_5h, seat_week }] of entries.entries()) {
    const scope = await inEntry(path, `limits[${i}]`, () => limitScopeOf({ key, team, user }));
    if (found.some((other) => other.scope === scope))
      throw new UsageError(`${path}, limits[${i}]: ${scope} has limits above already; leave one`);
    if ([rpm, tpm, concurrent, body_mb, seat_5h, seat_week].every((one) => one === undefined))
      throw new UsageError(
        `${path}, limits[${i}]: ${scope} has no limit; say rpm, tpm, concurrent, body_mb, seat_5h or seat_week, or leave it out`,
      );
    found.push({
      scope,
      requestsPerMinute: rpm,
      tokensPerMinute: tpm,
      concurrent,
      bodyBytes: body_mb === undefined ? undefined : body_mb * 1024 * 1024,
      seatTokensPer5Hours: seat_5h,
      seatTokensPerWeek: seat_week,
    });
  }
  return found;
}

function compareBudgets(
  describe: (budget: Budget) => string,
  there: readonly Budget[],
  wanted: readonly Budget[],
): Difference[] {
  return [
    ...wanted.flatMap((budget): Difference[] => {
      const old = there.find((other) => isSamePlace(other, budget));
      const change = { type: "setBudget", budget } as const;
      if (!old) return [{ sign: "+", text: describe(budget), change }];
      return isSame(old, budget) ? [] : [{ sign: "~", text: `${describe(old)} -> ${termsOf(budget)}`, change }];
    }),
    ...there
      .filter((old) => !wanted.some((budget) => isSamePlace(old, budget)))
      .map((old): Difference => ({
        sign: "-",
        text: describe(old),
        change: { type: "removeBudget", budgetId: old.id },
      })),
  ];
}

function compareLimits(
  describe: (limits: Limits) => string,
  there: readonly Limits[],
  wanted: readonly Limits[],
): Difference[] {
  return [
    ...wanted.flatMap((limits): Difference[] => {
      const old = there.find(({ scope }) => scope === limits.scope);
      const change = { type: "setLimits", limits } as const;
      if (!old) return [{ sign: "+", text: describe(limits), change }];
      const [was, is] = [describe(old), describe(limits)];
      return was === is ? [] : [{ sign: "~", text: `${was} -> ${is}`, change }];
    }),
    ...there
      .filter((old) => !wanted.some(({ scope }) => scope === old.scope))
      .map((old): Difference => ({
        sign: "-",
        text: describe(old),
        change: { type: "removeLimits", scope: old.scope },
      })),
  ];
}

function isSame(one: Budget, other: Budget): boolean {
  const told = ({ thresholds = USUAL_THRESHOLDS }: Budget): string => thresholds.join();
  return (
    one.amountNanoUsd === other.amountNanoUsd &&
    one.kind === other.kind &&
    one.mode === other.mode &&
    (one.observe ?? false) === (other.observe ?? false) &&
    told(one) === told(other)
  );
}

function describeBudget(budget: Budget, names: ReadonlyMap<string, string>): string {
  return `budget for ${describeBudgetScope(budget, (id) => names.get(id))}: ${termsOf(budget)}`;
}

function termsOf({ amountNanoUsd, window, kind, mode, observe, thresholds }: Budget): string {
  return [
    `${formatUsdSet(amountNanoUsd)} a ${window}, ${kind}`,
    ...(kind === "hard" ? [mode] : []),
    ...(observe ? ["observed"] : []),
    ...(thresholds ? [`told at ${thresholds.join(", ")} %`] : []),
  ].join(", ");
}

function describeLimits(
  { scope, requestsPerMinute, tokensPerMinute, concurrent, bodyBytes, ...seats }: Limits,
  names: ReadonlyMap<string, string>,
): string {
  const parts = [
    requestsPerMinute === undefined ? [] : [`${requestsPerMinute} requests a minute`],
    tokensPerMinute === undefined ? [] : [`${tokensPerMinute} tokens a minute`],
    concurrent === undefined ? [] : [`${concurrent} at once`],
    bodyBytes === undefined ? [] : [`bodies of ${bodyBytes} bytes`],
    seats.seatTokensPer5Hours === undefined ? [] : [`${seats.seatTokensPer5Hours} tokens by subscriptions in 5 hours`],
    seats.seatTokensPerWeek === undefined ? [] : [`${seats.seatTokensPerWeek} tokens by subscriptions in a week`],
  ].flat();
  return `limits of ${describeLimitScope(scope, names)}: ${parts.join(", ") || "none"}`;
}
