// Admission: may this key spend this, and is the money held? Prices the request's bound and its expectation, and asks the
// ledger for a reservation. What it returns is all that forwarding and settling need to know.
import type { Subject } from "../ledger/budgets.ts";
import type { Expectations } from "../ledger/expectations.ts";
import type { AttemptId } from "../ledger/ids.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { ceilingPrice } from "../ledger/prices.ts";
import type { Price, PriceBook } from "../ledger/prices.ts";
import type { Growth } from "../ledger/reservations.ts";
import { LedgerUnavailable } from "../ledger/writer.ts";
import type { Writer } from "../ledger/writer.ts";
import { bound, expectation, inputTokensOf } from "./bound.ts";
import type { Call } from "./dialects/dialect.ts";
import type { Provider } from "./providers/provider.ts";
import { Refused, refuseForMoney, refuseFrozen } from "./refusals.ts";
import type { Principal } from "./register.ts";
import type { Tags } from "./tags.ts";

export type Admission = {
  readonly attemptId: AttemptId;
  readonly principal: Principal;
  readonly provider: Provider;
  readonly priceList: string;
  readonly call: Call;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  /** Compact JSON, or undefined without tags. */
  readonly tags: string | undefined;
  readonly inputTokens: number;
  /** The price at which the key's policy lets a model without one be held and booked. */
  readonly ceiling?: Price | undefined;
  /** What it was asked for at; undefined where there is none. */
  readonly price?: Price | undefined;
  readonly boundNanoUsd: NanoUsd | undefined;
  readonly expectedNanoUsd: NanoUsd | undefined;
  /** A strict budget covers it. */
  readonly isStrict: boolean;
  /** Whether what is held may have to grow while it flows. */
  readonly growth: Growth;
  /** What is held: the bound under a strict budget, else the expectation. */
  readonly reservedNanoUsd: NanoUsd | undefined;
  /** What is left of the tightest hard budget after this reservation. */
  readonly leftNanoUsd: NanoUsd | undefined;
};

export type Admitting = {
  readonly writer: Writer;
  readonly prices: PriceBook;
  readonly expectations: Expectations;
  readonly refusalStatus: number;
};

/** Who asks for what, and where it would go. */
export type Asked = {
  readonly principal: Principal;
  readonly provider: Provider;
  readonly priceList: string;
  readonly call: Call;
  readonly tags: Tags;
  readonly bodyBytes: number;
};

/** Reserves in one transaction, in every budget or in none. Throws Refused, with the numbers, when it does not fit or
 *  cannot be committed; then no byte has gone upstream. */
export async function admit(
  { writer, prices, expectations, refusalStatus }: Admitting,
  asked: Asked,
): Promise<Admission> {
  const { principal, provider, priceList, call, tags, bodyBytes } = asked;
  const attemptId = writer.nextAttemptId();
  const found = prices.find(priceList, provider.modelOf(call.model), Date.now(), [
    ...call.tiers,
    ...(call.placeTiers ?? []),
  ]);
  // A model that sells no tokens, asked for nothing that it sells, would be held at nothing.
  const listed = found && (sellsTokens(found) || Object.keys(call.fees ?? {}).length > 0) ? found : undefined;
  const { unpriced } = principal.key?.policy ?? {};
  if (!listed && unpriced === "refuse")
    throw new Refused(
      "unpriced",
      `${call.model} has no price, and key ${principal.keyId} uses only models that have one`,
    );
  const ceiling = !listed && typeof unpriced === "object" ? ceilingPrice(unpriced) : undefined;
  const price = listed ?? ceiling;
  const inputTokens = inputTokensOf(bodyBytes, price);
  // A key that may use models without a price has them at nothing, in every budget.
  const isFree = !price && unpriced === "allow";
  const boundNanoUsd = isFree ? 0n : price && bound(call, bodyBytes, price);
  const expectedNanoUsd = isFree
    ? 0n
    : price &&
      expectation(call, inputTokens, price, expectations.outputTokens(principal.keyId, call.model), boundNanoUsd);

  // The key's own team counts; a tag names one only where the key has none.
  const team = principal.team || tags["team"] || "";
  const project = principal.project || tags["project"] || "";
  const env = principal.env || tags["env"] || "";
  const all = { ...tags, ...principal.key?.policy.tags };
  const tagText = Object.keys(all).length === 0 ? undefined : JSON.stringify(all);
  const subject = { keyId: principal.keyId, team, project, env, provider: provider.name, model: call.model };

  const decision = await writer
    .reserve({ attemptId, subject, boundNanoUsd, expectedNanoUsd }, call.endpoint, tagText)
    .catch((error: unknown) => {
      if (error instanceof LedgerUnavailable)
        throw new Refused(
          "ledger_unavailable",
          "the ledger cannot be written now, so nothing is sent that could not be booked; try again shortly",
        );
      throw error;
    });
  if (!decision.admitted)
    throw "frozen" in decision ? refuseFrozen(decision.frozen) : refuseForMoney(decision.refusal, refusalStatus);
  return {
    attemptId,
    principal,
    provider,
    priceList,
    call,
    team,
    project,
    env,
    tags: tagText,
    inputTokens,
    ceiling,
    price,
    boundNanoUsd,
    expectedNanoUsd,
    isStrict: decision.isStrict,
    growth: decision.growth,
    reservedNanoUsd: decision.isStrict ? boundNanoUsd : expectedNanoUsd,
    leftNanoUsd: decision.leftNanoUsd,
  };
}

function sellsTokens({ units }: Price): boolean {
  return units.input !== undefined || units.output !== undefined;
}

/** What scopes are held against. */
export function subjectOf({ principal, team, project, env, provider, call }: Admission): Subject {
  return { keyId: principal.keyId, team, project, env, provider: provider.name, model: call.model };
}
