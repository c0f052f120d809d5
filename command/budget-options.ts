// What the commands say of a budget: its scope, its amount.
import { randomBytes } from "node:crypto";
import type { Budget, Each, Scope } from "../ledger/budgets.ts";
import { parseUsd } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { WINDOWS } from "../ledger/windows.ts";
import type { WindowKind } from "../ledger/windows.ts";
import { findKey } from "./find-key.ts";
import { findUser } from "./find-user.ts";
import { knownProvider } from "./providers.ts";
import { UsageError } from "./usage-error.ts";

const text = { type: "string" } as const;
export const SCOPE_OPTIONS = {
  team: text,
  project: text,
  env: text,
  user: text,
  key: text,
  provider: text,
  model: text,
  tag: text,
};

/** Throws UsageError for a key or a provider that does not exist. */
export async function scopeOf({
  key,
  user,
  provider,
  ...parts
}: { readonly [part in keyof typeof SCOPE_OPTIONS]?: string | undefined } & {
  [other: string]: unknown;
}): Promise<Scope> {
  const { team, project, env, model, tag } = parts;
  return Object.fromEntries(
    Object.entries({
      team,
      project,
      env,
      user: user === undefined ? undefined : await findUser(user),
      keyId: key === undefined ? undefined : (await findKey(key)).id,
      provider: provider === undefined ? undefined : knownProvider(provider),
      model,
      tag: tag === undefined ? undefined : parseTag(tag),
    }).filter(([, value]) => value !== undefined),
  );
}

/** "50/month" -> amount and window. */
export function parseAmount(text: string): { amountNanoUsd: NanoUsd; window: WindowKind } {
  const [, amount = "", window = ""] = /^([^/]*)\/([^/]*)$/.exec(text) ?? [];
  if (!(WINDOWS as readonly string[]).includes(window))
    throw new UsageError(
      `"${text}" is no budget: write an amount in USD and a window, such as 50/month (${WINDOWS.join(", ")})`,
    );
  return { amountNanoUsd: parseUsdOption("an amount", amount), window: window as WindowKind };
}

/** "customer=acme". */
function parseTag(text: string): string {
  if (!/^[a-z0-9][a-z0-9_.-]{0,63}=[^\p{Cc}]{1,256}$/u.test(text))
    throw new UsageError(`"${text}" is no tag: write its name, in small letters, and its value, such as customer=acme`);
  return text;
}

/** "user", "key" or "tag:customer". */
export function parseEach(text: string): Each {
  if (text === "user" || text === "key") return text;
  if (/^tag:[a-z0-9][a-z0-9_.-]{0,63}$/.test(text)) return text as Each;
  throw new UsageError(`--each "${text}" is nobody: write user, key, or a tag's name such as tag:customer`);
}

/** An amount of USD that is not negative. */
export function parseUsdOption(option: string, text: string): NanoUsd {
  try {
    const amountNanoUsd = parseUsd(text);
    if (amountNanoUsd < 0n) throw new RangeError(`${option} of "${text}" is negative`);
    if (amountNanoUsd > MOST_NANO_USD) throw new RangeError(`${option} of "${text}" is more than 900 million USD`);
    return amountNanoUsd;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** "50,80,100": shares in percent at which somebody is told. */
export function parseThresholds(text: string): number[] {
  const shares = [...new Set(text.split(",").map((one) => Number(one.trim().replace(/%$/, ""))))].toSorted(
    (a, b) => a - b,
  );
  if (
    text.trim() === "" ||
    shares.length > MOST_THRESHOLDS ||
    shares.some((share) => !Number.isInteger(share) || share < 1 || share > 1000)
  )
    throw new UsageError(
      `thresholds "${text}" are no shares in percent: write whole numbers from 1 to 1000, at most ${MOST_THRESHOLDS}, such as 50,80,100`,
    );
  return shares;
}

const MOST_THRESHOLDS = 10;
/** What the admin API takes: eighteen digits. */
const MOST_NANO_USD = 900_000_000_000_000_000n;

export function newBudget({
  scope,
  amountNanoUsd,
  window,
  hard,
  strict,
  observe = false,
  thresholds,
  each,
}: {
  scope: Scope;
  each?: Each | undefined;
  amountNanoUsd: NanoUsd;
  window: WindowKind;
  hard: boolean;
  strict: boolean;
  observe?: boolean;
  thresholds?: readonly number[] | undefined;
}): Budget {
  return {
    id: `bud_${randomBytes(5).toString("hex")}`,
    scope,
    ...(each === undefined ? {} : { each }),
    amountNanoUsd,
    window,
    kind: hard ? "hard" : "soft",
    mode: strict ? "strict" : "expected",
    ...(observe ? { observe } : {}),
    ...(thresholds ? { thresholds } : {}),
    createdAtMs: Date.now(),
  };
}
