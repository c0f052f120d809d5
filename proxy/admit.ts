// Admission: may this key spend this, and is the money held? Prices the request's bound and its expectation, and asks
// the ledger for a reservation. What it returns is all that forwarding and the event need to know.
import type { BudgetRefusal, Subject } from "../ledger/budgets.ts";
import type { Expectations } from "../ledger/usage/expectations.ts";
import type { AttemptId } from "../ledger/ids.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { ceilingPrice } from "../ledger/prices/price-book.ts";
import type { Price, PriceBook } from "../ledger/prices/price-book.ts";
import type { Growth } from "../ledger/usage/reservations.ts";
import { cleanName } from "../ledger/usage/people.ts";
import { SEAT } from "../ledger/usage/usage-event.ts";
import { LedgerUnavailable } from "../ledger/usage/writer.ts";
import type { Writer } from "../ledger/usage/writer.ts";
import { bound, expectation, expectedOutput, hidesThought, inputTokensOf, most } from "./bound.ts";
import type { ProxyConfig } from "./config.ts";
import type { Call } from "./dialects/call.ts";
import type { Names } from "./names.ts";
import type { People } from "./people.ts";
import type { Provider } from "./providers/provider.ts";
import type { Register } from "./register.ts";
import { Refused, refuseFrozen } from "./refusals.ts";
import { refuseForMoney } from "./money-refusals.ts";
import type { Asker, Principal } from "./principal.ts";
import type { Tags } from "./tags.ts";

/** Who asked for what, and where it goes: what an event says of an attempt before its answer. */
export type Asked = {
  readonly asker: Asker;
  readonly provider: Provider;
  readonly priceList: string;
  readonly call: Call;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  /** By id. */
  readonly user: string;
  /** Who pays: empty, SEAT, or a credential of the client's own. */
  readonly payer: string;
  /** Compact JSON, or undefined without tags. */
  readonly tags: string | undefined;
  /** The client's trace. */
  readonly trace?: string | undefined;
  /** Under which name the model is booked while no provider has accepted it. */
  readonly shortModel: string;
};

/** What is held for it, and by which reckoning. */
export type Held = Costs & {
  /** The price at which the key's policy lets a model without one be held and booked. */
  readonly ceiling?: Price | undefined;
  /** A strict budget covers it. */
  readonly isStrict: boolean;
  /** Whether what is held may have to grow while it flows. */
  readonly growth: Growth;
  /** What is held: the bound under a strict budget, else the expectation. */
  readonly reservedNanoUsd: NanoUsd | undefined;
  /** What is left of the tightest hard budget after this reservation. */
  readonly leftNanoUsd: NanoUsd | undefined;
  /** In which batch of the books it was committed; undefined where it stood there before. */
  readonly batch?: number | undefined;
};

/** What a request can cost. */
type Costs = {
  readonly inputTokens: number;
  /** What it was asked for at; undefined where there is none. */
  readonly price?: Price | undefined;
  readonly boundNanoUsd: NanoUsd | undefined;
  readonly expectedNanoUsd: NanoUsd | undefined;
  /** The most it can come to, proven or reckoned. */
  readonly mostNanoUsd: NanoUsd | undefined;
};

/** An attempt whose money is held. */
export type Admission = { readonly attemptId: AttemptId; readonly asked: Asked; readonly held: Held };

export type Admitting = {
  readonly writer: Writer;
  readonly prices: PriceBook;
  readonly expectations: Expectations;
  readonly names: Names;
  readonly people: People;
  readonly config: Pick<ProxyConfig, "refusalStatus">;
};

/** What is asked now. */
export type Asking = {
  readonly principal: Principal;
  readonly provider: Provider;
  readonly priceList: string;
  readonly call: Call;
  readonly tags: Tags;
  readonly trace?: string | undefined;
  readonly bodyBytes: number;
};

/** Reserves in one transaction, in every budget or in none. Throws Refused, with the numbers, when it does not fit or
 *  cannot be committed; then no byte has gone upstream. */
export async function admit(admitting: Admitting, given: Asking): Promise<Admission> {
  const { writer, names, people, config } = admitting;
  const { principal, provider, bodyBytes } = given;
  // Another name for a model says nothing of what it does.
  const isItself = provider.modelOf(given.call.model) === given.call.model;
  const asking = isItself ? given : { ...given, call: { ...given.call, mayThink: true } };
  const { call } = asking;
  const attemptId = writer.nextAttemptId();
  const reckon = createReckoning(admitting, asking);
  const costs = reckon(call, bodyBytes);
  const { price, boundNanoUsd, expectedNanoUsd, mostNanoUsd } = costs;
  const isSeat = principal.isSeat === true;
  const payer = isSeat ? SEAT : (principal.payer?.keyId ?? principal.swappedFor ?? "");
  const named = { ...nameIt(names, asking), user: principal.user, payer };
  const subject = subjectOf({ ...named, asker: principal, provider, call });

  // A subscription is billed by the month: no budget of money holds it, and it uses none up.
  const asks = isSeat
    ? { attemptId, subject, ...NOTHING, payer, seatNanoUsd: expectedNanoUsd }
    : { attemptId, subject, boundNanoUsd, expectedNanoUsd, mostNanoUsd, payer };
  let decision: Awaited<ReturnType<Writer["reserve"]>>;
  try {
    decision = await writer.reserve(asks, call.endpoint, named.tags);
  } catch (error) {
    if (!(error instanceof LedgerUnavailable)) throw error;
    throw unavailable();
  }
  if (!decision.admitted) {
    if ("frozen" in decision) throw refuseFrozen(decision.frozen, (id) => people.nameOf(id));
    const { refusal } = decision;
    throw refuseForMoney(refusal, config.refusalStatus, {
      principal,
      userName: people.nameOf(named.user),
      model: call.model,
      open: call.unknown ?? call.unbounded ?? call.openInput,
      fittingTokens:
        price &&
        fittingTokens(call, price, refusal, (shorter) =>
          // A limit that was not stated makes the body longer when it is.
          reckon(shorter, bodyBytes + (call.maxOutputTokens === undefined ? LIMIT_BYTES : 0)),
        ),
    });
  }
  const { isStrict, growth, leftNanoUsd, batch } = decision;
  return {
    attemptId,
    asked: {
      asker: principal,
      provider,
      priceList: asking.priceList,
      call,
      trace: asking.trace,
      ...named,
      shortModel: price ? call.model : takenModel(names, principal, call.model),
    },
    held: {
      ...costs,
      ceiling: ceilingOf(principal),
      isStrict: isStrict && !isSeat,
      growth: isSeat ? "none" : growth,
      reservedNanoUsd: isStrict && !isSeat ? boundNanoUsd : expectedNanoUsd,
      leftNanoUsd: isSeat ? undefined : leftNanoUsd,
      batch,
    },
  };
}

const NOTHING = { boundNanoUsd: 0n, expectedNanoUsd: 0n, mostNanoUsd: 0n };

/** What scopes are held against. */
export function subjectOf(asked: Omit<Asked, "priceList" | "tags" | "shortModel" | "payer">): Subject {
  const { asker, team, project, env, user, provider, call } = asked;
  return { keyId: asker.keyId, team, project, env, user, provider: provider.name, model: call.model };
}

function ceilingOf({ key }: Principal): Price | undefined {
  const { unpriced } = key?.policy ?? {};
  return typeof unpriced === "object" ? ceilingPrice(unpriced) : undefined;
}

/** The key's own team is named; a tag names one, for reports, only where the key has none. */
function nameIt(names: Names, { principal, tags }: Asking): Pick<Asked, "team" | "project" | "env" | "tags"> {
  const team = principal.team || names.of("team", tags["team"] ?? "");
  const project = principal.project || names.of("project", tags["project"] ?? "");
  const env = principal.env || names.of("env", tags["env"] ?? "");
  // A key that nobody has accepted yet uses no names up.
  if (principal.proven === undefined) names.take({ team, project, env });
  const { user: _, ...all } = { ...tags, ...principal.key?.policy.tags };
  return { team, project, env, tags: Object.keys(all).length === 0 ? undefined : JSON.stringify(all) };
}

/** Who is behind it: whose the key is, or whom the request names. What no provider has accepted brings no new names, a key
 *  that nobody said may name people only so many, and one that may do so no longer none at all. */
export function userOf(
  { people, register }: { readonly people: People; readonly register: Pick<Register, "wasOf"> },
  { principal, tags }: Pick<Asking, "principal" | "tags">,
): string | Promise<string> {
  const { key, keyId } = principal;
  if (principal.user !== "") return principal.user;
  const fixed = key?.policy.tags?.["user"];
  const name = cleanName(fixed ?? tags["user"] ?? "");
  const mayName = fixed !== undefined || key?.policy.users !== undefined;
  if (name === "") return "";
  const known = people.known(name);
  if (!mayName && register.wasOf(keyId, known ?? "")) return "";
  return known ?? (principal.proven === undefined ? people.idOf(name, mayName ? undefined : keyId) : "");
}

/** Whether whom a request names is more than its own word. */
export function isVouched(
  { config }: { readonly config: Pick<ProxyConfig, "tagsInBudgets"> },
  { key }: Principal,
): boolean {
  return config.tagsInBudgets || key?.policy.users !== undefined;
}

function unavailable(): Refused {
  return new Refused(
    "ledger_unavailable",
    "the ledger cannot be written now, so nothing is sent that could not be booked; try again shortly",
  );
}

/** What the request costs, in this or a shorter form: at the dearest of the models any of which may answer. Throws
 *  Refused where the key uses only models that have a price. */
function createReckoning(
  { prices, expectations }: Admitting,
  { principal, provider, priceList, call }: Asking,
): (shorter: Call, bodyBytes: number) => Costs {
  const { unpriced } = principal.key?.policy ?? {};
  const ceiling = ceilingOf(principal);
  const listedOf = (model: string, tiers = call.tiers): Price | undefined => {
    const all = call.placeTiers ? [...tiers, ...call.placeTiers] : tiers;
    const found = prices.find(priceList, provider.modelOf(model), Date.now(), all);
    // A model that sells no tokens, asked for nothing that it sells, would be held at nothing.
    return found && (sellsTokens(found) || Object.keys(call.fees ?? {}).length > 0) ? found : undefined;
  };
  const others = (call.otherModels?.instead ?? []).filter((model) => model !== call.model);
  const learned = expectations.outputTokens(principal.keyId, call.model);
  const costsAt = (model: string, asked: Call, bodyBytes: number): Costs => {
    const listed = listedOf(model);
    if (!listed && unpriced === "refuse")
      throw new Refused(
        "unpriced",
        `${model === "" ? "a model that the request does not name" : `the model ${model.slice(0, 80)}`} has no price, and key ${principal.key?.name ?? ""} (${principal.keyId}) uses only models that have one`,
      );
    // A discount that is asked for need not be given.
    const sure = call.tiers.includes(FLEX)
      ? listedOf(
          model,
          call.tiers.filter((tier) => tier !== FLEX),
        )
      : listed;
    return costsOf(asked, bodyBytes, listed ?? ceiling, sure ?? listed ?? ceiling, unpriced === "allow", learned);
  };
  // Any of them may answer: the dearest is held.
  return (asked, bodyBytes) =>
    others.reduce(
      (costs, model) => dearer(costs, costsAt(model, asked, bodyBytes)),
      costsAt(call.model, asked, bodyBytes),
    );
}

/** `"max_completion_tokens":1000000,` and as much again. */
const LIMIT_BYTES = 64;

/** The longest answer with which a refused request would fit, in tokens; undefined where a shorter answer is no
 *  help. */
function fittingTokens(
  call: Call,
  price: Price,
  { reason, budget, amountNanoUsd, settledNanoUsd, reservedNanoUsd }: BudgetRefusal,
  costsOfCall: (call: Call) => Costs,
): number | undefined {
  const longest = call.maxOutputTokens ?? price.maxOutputTokens ?? price.contextWindow ?? 0;
  const isLimited = call.isText === true && call.hidden === undefined && longest > 0;
  if (reason !== "budget_exceeded" || !isLimited) return undefined;
  const left = amountNanoUsd - settledNanoUsd - reservedNanoUsd;
  const fits = (maxOutputTokens: number): boolean => {
    const { boundNanoUsd, expectedNanoUsd } = costsOfCall({ ...call, maxOutputTokens });
    const held = budget.mode === "strict" ? boundNanoUsd : expectedNanoUsd;
    return held !== undefined && held <= left;
  };
  let [least, most] = [0, longest];
  while (least < most) {
    const middle = Math.ceil((least + most) / 2);
    if (fits(middle)) least = middle;
    else most = middle - 1;
  }
  return least;
}

function takenModel(names: Names, { proven }: Principal, model: string): string {
  const name = names.of("model", model);
  if (proven === undefined) names.take({ model: name });
  return name;
}

const FLEX = "flex";
/** A long turn of speech is so many usual ones. */
const LONG_TURNS = 4n;

/** What a request can cost at a price; at the most at `surePrice`. `isFree`: without a price it costs nothing, in every
 *  budget. */
function costsOf(
  call: Call,
  bodyBytes: number,
  price: Price | undefined,
  surePrice: Price | undefined,
  isFree: boolean,
  learned: number | undefined,
): Costs {
  const inputTokens = inputTokensOf(call, bodyBytes, price);
  if (!price || !surePrice) {
    const nothing = isFree ? 0n : undefined;
    return { price, inputTokens, boundNanoUsd: nothing, expectedNanoUsd: nothing, mostNanoUsd: nothing };
  }
  const boundNanoUsd = bound(call, bodyBytes, surePrice);
  const expectedNanoUsd = expectation(call, inputTokens, price, learned, boundNanoUsd);
  // A stream that is held up when its money is out comes to no more than its input and what was expected of its answer,
  // as long as nothing in it is unseen.
  const isHeldUp =
    call.stream &&
    call.isTurn !== true &&
    !hidesThought(call) &&
    call.hidden === undefined &&
    call.unbounded === undefined;
  const longTurn = call.isSpeech && expectedNanoUsd !== undefined ? LONG_TURNS * expectedNanoUsd : undefined;
  const mostNanoUsd = isHeldUp
    ? most(call, bodyBytes, price, expectedOutput(call, price, learned))
    : (boundNanoUsd ?? longTurn ?? most(call, bodyBytes, price));
  return { price, inputTokens, boundNanoUsd, expectedNanoUsd, mostNanoUsd };
}

/** Of two models either of which may answer: what is not known of one is not known. */
function dearer(one: Costs, other: Costs): Costs {
  const higher = (a: NanoUsd | undefined, b: NanoUsd | undefined): NanoUsd | undefined =>
    a === undefined || b === undefined ? undefined : a > b ? a : b;
  const dear = (other.expectedNanoUsd ?? 0n) > (one.expectedNanoUsd ?? 0n) ? other : one;
  return {
    price: one.price && other.price && dear.price,
    inputTokens: Math.max(one.inputTokens, other.inputTokens),
    boundNanoUsd: higher(one.boundNanoUsd, other.boundNanoUsd),
    expectedNanoUsd: higher(one.expectedNanoUsd, other.expectedNanoUsd),
    mostNanoUsd: higher(one.mostNanoUsd, other.mostNanoUsd),
  };
}

function sellsTokens({ units }: Price): boolean {
  return units.input !== undefined || units.output !== undefined;
}
