// Things that keys made at providers, and work that goes on there: two nouns. A name has one key and one charge, for
// ever.
import { expect, it } from "vitest";
import { hasBatchesSince, readWorkTokens } from "../../ledger/usage/metered-hours.ts";
import { firstAttemptId } from "../../ledger/ids.ts";
import { openScratch } from "../../ledger/sqlite.ts";
import { createBooking } from "../../ledger/usage/booking.ts";
import { eventRow } from "../../ledger/usage/event-columns.ts";
import { readPendingWork } from "../../ledger/usage/pending-work.ts";
import { readThingOwners, readThings } from "../../ledger/usage/things.ts";
import { booksOn } from "../books.ts";
import { event, SUBJECT } from "../usage-event.ts";

const NOW_MS = Date.parse("2026-11-29T10:30:00Z");
const HOUR_MS = 3_600_000;

it("files are things and no work; a batch is both, until its result is booked; the same name is never charged twice", async () => {
  const sqlite = openScratch("usage");
  const books = booksOn<"usage">(sqlite);
  const booking = createBooking(sqlite, "UTC", "enforce", NOW_MS);
  const [file, batch, again] = [firstAttemptId(NOW_MS), firstAttemptId(NOW_MS) + 1, firstAttemptId(NOW_MS) + 2];
  const reserve = (attemptId: number) =>
    booking.book([
      {
        type: "reserve",
        request: { attemptId, subject: SUBJECT, boundNanoUsd: 5n, expectedNanoUsd: 5n },
        endpoint: "batches",
        tags: null,
      },
    ])[0];
  const suspend = (attemptId: number) =>
    booking.book([{ type: "suspend", attemptId, workId: "batch_1", tiers: ["batch"], proven: undefined }])[0];
  const settle = (attemptId: number) => {
    const row = eventRow(event(attemptId, 7n, { endpoint: "batches", usage: { input: 3, cache_write_30m: 2 } }));
    return booking.book([{ type: "settle", row, proven: null }])[0];
  };
  const work = () => readWorkTokens(books, "openai", NOW_MS - HOUR_MS);
  const isBatchSeen = (sinceMs = NOW_MS - HOUR_MS) => hasBatchesSince(books, "openai", sinceMs);

  booking.book([
    { type: "own", attemptId: file, provider: "openai", keyId: "key_1", names: ["file-1", "file-2", "file-1"] },
    { type: "own", attemptId: batch, provider: "openai", keyId: "key_2", names: ["file-1"] },
  ]);
  expect([...(await readThingOwners(books, "openai", ["file-1", "file-9"]))]).toEqual([["file-1", "key_1"]]);
  expect([await work(), await isBatchSeen(), await readPendingWork(books)]).toEqual([[], false, []]);

  reserve(batch);
  expect(suspend(batch)).toEqual({ type: "suspended", isFirst: true });
  expect([(await work()).map(({ tokens }) => tokens), await isBatchSeen(NOW_MS + HOUR_MS)]).toEqual([
    [undefined],
    true,
  ]);
  expect((await readPendingWork(books)).map(({ workId }) => workId)).toEqual(["batch_1"]);
  reserve(again);
  expect(suspend(again)).toEqual({ type: "suspended", isFirst: false });
  expect(await readPendingWork(books)).toHaveLength(1);

  expect(settle(batch)).toEqual({ type: "done" });
  expect(await readPendingWork(books)).toEqual([]);
  expect([(await work()).map(({ tokens }) => tokens), await isBatchSeen()]).toEqual([[5], true]);
  expect(await isBatchSeen(NOW_MS + HOUR_MS)).toBe(false);
  // It is over, and stays one thing with one charge.
  expect(suspend(again)).toEqual({ type: "suspended", isFirst: false });
  const names = [];
  for await (const { name, keyId } of readThings(books, 10)) names.push([name, keyId]);
  expect(names.toSorted()).toEqual([
    ["batch_1", "key_1"],
    ["file-1", "key_1"],
    ["file-2", "key_1"],
  ]);
});
