// Work that goes on at the provider after its answer: a batch, a background response. It is a reservation that stays
// open, under the provider's id of the work, until its result passes; then it becomes one event, whoever asked for the
// result and however often.
import { and, asc, eq, isNotNull } from "../drizzle.ts";
import type { SQL } from "../drizzle.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { tablesOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import { reservations } from "./schema.ts";

export type PendingWork = {
  readonly attemptId: AttemptId;
  readonly provider: string;
  /** The provider's id of the work: of the response, of the batch. */
  readonly workId: string;
  readonly keyId: string;
  readonly endpoint: string;
  readonly requestedModel: string;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  readonly user: string;
  readonly payer: string;
  readonly seatNanoUsd: NanoUsd | undefined;
  /** Compact JSON object of tags, or undefined. */
  readonly tags: string | undefined;
  readonly tiers: readonly string[];
  readonly boundNanoUsd: NanoUsd | undefined;
  readonly expectedNanoUsd: NanoUsd | undefined;
  readonly mostNanoUsd: NanoUsd | undefined;
};

/** All of it, oldest first. */
export function readPendingWork(books: UsageBooks): Promise<PendingWork[]> {
  return readWork(books, isNotNull(reservations.workId));
}

/** Work of a provider, by the provider's id of it. */
export async function findPendingWork(
  books: UsageBooks,
  provider: string,
  workId: string,
): Promise<PendingWork | undefined> {
  const [found] = await readWork(books, and(eq(reservations.provider, provider), eq(reservations.workId, workId)));
  return found;
}

async function readWork(books: UsageBooks, where: SQL | undefined): Promise<PendingWork[]> {
  const rows = await tablesOf(books)
    .select()
    .from(reservations)
    .where(where)
    .orderBy(asc(reservations.attemptId))
    .all();
  return rows.map(({ workId, seatNanoUsd, tags, tiers, boundNanoUsd, expectedNanoUsd, mostNanoUsd, ...row }) => ({
    ...row,
    workId: workId ?? "",
    seatNanoUsd: seatNanoUsd ?? undefined,
    tags: tags ?? undefined,
    tiers: tiers === null || tiers === "" ? [] : tiers.split(","),
    boundNanoUsd: boundNanoUsd ?? undefined,
    expectedNanoUsd: expectedNanoUsd ?? undefined,
    mostNanoUsd: mostNanoUsd ?? undefined,
  }));
}
