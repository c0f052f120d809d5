// What bookings write, engine by engine: SQLite takes it as they decide (sqlite-entries.ts), a batch for Postgres gathers it
// (node-entries.ts). Nothing is decided here.
import type { AttemptId } from "../../ids.ts";
import type { NanoUsd } from "../../money.ts";
import type { EventRow } from "../event-columns.ts";
import type { Holder, ReservationRequest } from "../reservations.ts";
import type { RollupRow } from "../rollups.ts";

export type Entries = {
  /** An attempt that holds money. */
  hold(request: ReservationRequest, endpoint: string, tags: string | null): void;
  /** What it holds from now on, in mode expected. */
  extend(attemptId: AttemptId, expectedNanoUsd: NanoUsd): void;
  /** An attempt is over: its event is there, and nothing is held. `isLate`: its day is sealed. */
  event(row: EventRow, attemptId: AttemptId, isLate: boolean): void;
  /** Its work goes on at the provider. False: another attempt stands for this work. */
  suspend(holder: Holder, workId: string, tiers: readonly string[]): boolean;
  sums(rows: Iterable<RollupRow>): void;
  servedName(provider: string, model: string, servedModel: string): void;
  /** A provider key that was seen; one that is known stays as it is. */
  fingerprint(key: Fingerprint): void;
  secret(digest: string, keyId: string, atMs: number): void;
  refusal(refusal: RefusalRow): void;
  /** Something that a key made at a provider: its first name stays. */
  thing(provider: string, name: string, keyId: string, attemptId: AttemptId): void;
  meterHour(hourMs: number): void;
  /** What virtual keys are swapped for, where it is another than the last. */
  credential(provider: string, sinceMs: number, credential: string, hint: string): void;
  address(keyId: string, address: string, atMs: number): void;
};

export type Fingerprint = {
  readonly keyId: string;
  readonly provider: string | null;
  readonly name: string;
  readonly hint: string;
  readonly atMs: number;
};

/** A count; `isTried`: it was let through, by a budget that is tried out. */
type RefusalRow = {
  readonly minuteMs: number;
  readonly keyId: string;
  readonly model: string;
  readonly reason: string;
  readonly budgetId: string;
  readonly isTried: boolean;
};
