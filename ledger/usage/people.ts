// People: who is behind requests. Books know each by a random id; what names a person stands in one table alone, which can be
// emptied: then sums and seals are what they were, and nobody can say whose they are.
import { randomBytes } from "node:crypto";
import { answerIn, ask, askValue } from "../asking.ts";
import type { Asking } from "../asking.ts";
import type { UsageBooks } from "../books.ts";
import { ChangeRefused } from "./change-refused.ts";

/** Requests may name as many; who comes after them is booked under one id, and is under one cap with all others. */
export const MOST_NAMED = 20_000;
export const OTHERS = "user_others";
const LONGEST_NAME = 200;

export function newPersonId(): string {
  return `user_${randomBytes(8).toString("hex")}`;
}

/** A name as it is shown: without what surrounds it, and without control characters. Empty: it is none. */
export function cleanName(text: string): string {
  return text
    .slice(0, 4 * LONGEST_NAME)
    .replace(/\p{Cc}/gu, " ")
    .trim()
    .normalize("NFC")
    .slice(0, LONGEST_NAME)
    .toWellFormed();
}

/** A name as it is compared: small and capital letters (of ASCII, as SQLite has it) are the same. */
export function foldName(name: string): string {
  return cleanName(name).replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

/** The id of a name, which is a new one where nobody has it yet: `newId`, or OTHERS where there are enough. */
export function* askPerson(name: string, newId: string, nowMs: number): Asking<string> {
  const folded = foldName(name);
  const known = yield* askValue<string>("SELECT id FROM people WHERE folded = ?", folded);
  if (known !== undefined) return known;
  if (Number((yield* askValue<bigint>("SELECT COUNT(*) FROM people WHERE name IS NOT NULL")) ?? 0) >= MOST_NAMED)
    return OTHERS;
  yield* insertPerson(newId, name, nowMs);
  return (yield* askValue<string>("SELECT id FROM people WHERE folded = ?", folded)) ?? OTHERS;
}

/** A person that somebody names on purpose. Throws ChangeRefused for a name that is taken, or none. */
export function* addPerson(id: string, name: string, nowMs: number): Asking<void> {
  if (foldName(name) === "") throw new ChangeRefused("a user's name is empty");
  yield* insertPerson(id, name, nowMs);
  if ((yield* askValue<string>("SELECT id FROM people WHERE folded = ?", foldName(name))) !== id)
    throw new ChangeRefused(`a user of that name was made meanwhile; say it again`);
}

/** Takes the name of a person away, for ever. Throws ChangeRefused where there is none. */
export function* emptyPerson(id: string): Asking<void> {
  const known = yield* ask("SELECT 1 FROM people WHERE id = ? AND name IS NOT NULL", id);
  if (known.length === 0) throw new ChangeRefused(`there is no user ${id}, or the name was taken away before`);
  yield* ask("UPDATE people SET name = NULL, folded = NULL WHERE id = ?", id);
}

function* insertPerson(id: string, name: string, nowMs: number): Asking<void> {
  yield* ask(
    "INSERT INTO people (id, name, folded, created_at_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    id,
    cleanName(name),
    foldName(name),
    nowMs,
  );
}

/** Names by id. Who was emptied is not among them. */
export function readPeople(books: UsageBooks): Promise<ReadonlyMap<string, string>> {
  return answerIn(books, askPeople());
}

export function* askPeople(): Asking<ReadonlyMap<string, string>> {
  return new Map(
    yield* ask<[id: string, name: string]>("SELECT id, name FROM people WHERE name IS NOT NULL ORDER BY id"),
  );
}
