// How operations travel between the proxy's thread and the writer's. Cloning an object graph costs ten times the work
// that is asked for, so the two hot operations and their usual answers go as one text a batch; everything rare goes as
// it is.
import type { BudgetState, Caller, Freeze } from "../budgets.ts";
import type { Author, Change } from "./changes.ts";
import type { EventRow } from "./event-columns.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import type { Decision, Extension, Growth, ReservationRequest } from "./reservations.ts";
import type { Seal } from "./seals.ts";

/** What makes a fingerprint a key: the provider accepted the secret. */
export type ProvenKey = { readonly digest: string; readonly name: string; readonly hint: string };

/** What the proxy noticed beside its requests: which provider credential virtual keys are swapped for, and from where
 *  keys are used. */
export type Noticed = {
  readonly credentials?: readonly {
    readonly provider: string;
    readonly credential: string;
    readonly hint: string;
    readonly atMs: number;
  }[];
  readonly addresses?: readonly { readonly keyId: string; readonly address: string; readonly atMs: number }[];
};

export type Operation =
  | {
      readonly type: "reserve";
      readonly request: ReservationRequest;
      readonly endpoint: string;
      readonly tags: string | undefined;
    }
  | { readonly type: "settle"; readonly row: EventRow; readonly proven: ProvenKey | undefined }
  | {
      /** A stream has cost what was held for it, and goes on. */
      readonly type: "extend";
      readonly attemptId: AttemptId;
      readonly leastNanoUsd: NanoUsd;
      readonly wantedNanoUsd: NanoUsd;
      readonly atMs: number;
    }
  | {
      /** The work of an attempt goes on: its reservation stays, under the provider's id. */
      readonly type: "suspend";
      readonly attemptId: AttemptId;
      readonly workId: string;
      readonly tiers: readonly string[];
      readonly proven: ProvenKey | undefined;
    }
  | {
      /** Things at the provider that a key's request made: the key may reach them. */
      readonly type: "own";
      readonly attemptId: AttemptId;
      readonly provider: string;
      readonly keyId: string;
      readonly names: readonly string[];
    }
  | {
      readonly type: "refused";
      readonly atMs: number;
      readonly keyId: string;
      readonly model: string;
      readonly reason: string;
    }
  | { readonly type: "load"; readonly atMs: number }
  | { readonly type: "states"; readonly atMs: number; readonly caller: Caller | undefined }
  | { readonly type: "freezes" }
  | { readonly type: "newest"; readonly atMs: number }
  /** Who is behind a name: `newId`, where nobody was known by it. */
  | { readonly type: "person"; readonly name: string; readonly newId: string; readonly atMs: number }
  | { readonly type: "change"; readonly change: Change; readonly author: Author }
  | { readonly type: "seal"; readonly seal: Seal; readonly atMs: number }
  | { readonly type: "meterRan"; readonly sinceMs: number; readonly untilMs: number }
  | { readonly type: "seen"; readonly seen: Noticed }
  | { readonly type: "verify"; readonly after: string };

export type Answer =
  | { readonly type: "done" }
  /** `isFirst`: no other attempt stands for this work yet. */
  | { readonly type: "suspended"; readonly isFirst: boolean }
  | { readonly type: "decision"; readonly decision: Decision }
  | { readonly type: "extended"; readonly extension: Extension }
  /** `isWhole`: nothing of what was asked for is missing in memory. */
  | { readonly type: "loaded"; readonly isWhole: boolean }
  | { readonly type: "states"; readonly states: BudgetState[] }
  | { readonly type: "freezes"; readonly freezes: readonly Freeze[] }
  | { readonly type: "person"; readonly id: string }
  | { readonly type: "newest"; readonly lastAttemptId: AttemptId; readonly ahead: readonly AttemptId[] }
  /** `next`: where the next slice goes on; undefined when this was the last. */
  | {
      readonly type: "verified";
      readonly differences: string[];
      readonly reservedNanoUsd: bigint;
      readonly next: string | undefined;
    }
  | {
      readonly type: "failure";
      readonly message: string;
      readonly kind: "storage" | "constraint" | "refused" | "notAllowed";
    };

/** A reservation as a row: the columns of `reservations`, money as digits. */
type ReserveRow = readonly [
  attemptId: number,
  keyId: string,
  provider: string,
  endpoint: string,
  model: string,
  team: string,
  project: string,
  env: string,
  user: string,
  payer: string,
  seat: string | null,
  tags: string | null,
  bound: string | null,
  expected: string | null,
  most: string | null,
];

/** An operation as the writer's thread takes it up. */
export type Task =
  | {
      readonly type: "reserve";
      readonly request: ReservationRequest;
      readonly endpoint: string;
      readonly tags: string | null;
    }
  | { readonly type: "settle"; readonly row: EventRow; readonly proven: ProvenKey | null }
  | Exclude<Operation, { type: "reserve" | "settle" }>;

export type BatchMessage = { readonly type: "batch"; readonly text: string; readonly rare: readonly Operation[] };
export type AnswersMessage = { readonly type: "answers"; readonly text: string; readonly rare: readonly Answer[] };

/** In a batch's text: a rare operation, or answer, that stands in `rare` in its turn. */
const RARE = 0;
const DONE = 1;
/** Admitted: this, and more by how. */
const ADMITTED = 2;
const GROWTHS: readonly Growth[] = ["none", "counted", "enforced"];

export function encodeBatch(operations: readonly Operation[]): BatchMessage {
  const rare: Operation[] = [];
  const entries = operations.map((operation) => {
    if (operation.type === "reserve") return reserveRow(operation);
    if (operation.type === "settle") return [operation.row, operation.proven ?? null];
    rare.push(operation);
    return RARE;
  });
  return { type: "batch", text: JSON.stringify(entries), rare };
}

export function decodeBatch({ text, rare }: BatchMessage): Task[] {
  let next = 0;
  return (JSON.parse(text) as (typeof RARE | ReserveRow | readonly [EventRow, ProvenKey | null])[]).map((entry) => {
    if (entry === RARE) return rare[next++] as Exclude<Operation, { type: "reserve" | "settle" }>;
    return entry.length === 2 ? { type: "settle", row: entry[0], proven: entry[1] } : reserveTask(entry);
  });
}

export function encodeAnswers(answers: readonly Answer[]): AnswersMessage {
  const rare: Answer[] = [];
  const entries = answers.map((answer) => {
    if (answer.type === "done") return DONE;
    if (answer.type === "decision" && answer.decision.admitted && answer.decision.wouldRefuse === undefined) {
      const { isStrict, growth, leftNanoUsd } = answer.decision;
      return [ADMITTED + (isStrict ? 1 : 0) + 2 * GROWTHS.indexOf(growth), leftNanoUsd?.toString() ?? null];
    }
    rare.push(answer);
    return RARE;
  });
  return { type: "answers", text: JSON.stringify(entries), rare };
}

export function decodeAnswers({ text, rare }: AnswersMessage): Answer[] {
  let next = 0;
  return (JSON.parse(text) as (number | readonly [number, string | null])[]).map((entry) => {
    if (entry === RARE) return rare[next++] as Answer;
    if (typeof entry === "number") return { type: "done" };
    const [kind, left] = entry;
    return {
      type: "decision",
      decision: {
        admitted: true,
        leftNanoUsd: left === null ? undefined : BigInt(left),
        isStrict: (kind - ADMITTED) % 2 === 1,
        growth: GROWTHS[(kind - ADMITTED) >> 1] ?? "none",
        wouldRefuse: undefined,
      },
    };
  });
}

function reserveRow({ request, endpoint, tags }: Extract<Operation, { type: "reserve" }>): ReserveRow {
  const { attemptId, subject, boundNanoUsd, expectedNanoUsd, mostNanoUsd, payer = "", seatNanoUsd } = request;
  const { keyId, provider, model, team, project, env, user } = subject;
  return [
    attemptId,
    keyId,
    provider,
    endpoint,
    model,
    team,
    project,
    env,
    user,
    payer,
    seatNanoUsd?.toString() ?? null,
    tags ?? null,
    boundNanoUsd?.toString() ?? null,
    expectedNanoUsd?.toString() ?? null,
    mostNanoUsd?.toString() ?? null,
  ];
}

function reserveTask([
  attemptId,
  keyId,
  provider,
  endpoint,
  model,
  team,
  project,
  env,
  user,
  payer,
  seat,
  tags,
  bound,
  expected,
  most,
]: ReserveRow): Task {
  const subject = { keyId, provider, model, team, project, env, user };
  return {
    type: "reserve",
    endpoint,
    tags,
    request: {
      attemptId,
      subject,
      boundNanoUsd: bound === null ? undefined : BigInt(bound),
      expectedNanoUsd: expected === null ? undefined : BigInt(expected),
      mostNanoUsd: most === null ? undefined : BigInt(most),
      ...(payer === "" ? {} : { payer }),
      ...(seat === null ? {} : { seatNanoUsd: BigInt(seat) }),
    },
  };
}
