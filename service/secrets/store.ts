// What a store of secrets is, and what it may say instead of a secret.

import type { Reference } from "./reference.ts";

export type Found = {
  readonly text: string;
  /** What the store calls this one; undefined: it tells none apart. */
  readonly version?: string | undefined;
};

export type Store = {
  /** What a reference names now. Rejects with a StoreError. */
  read(reference: Reference, signal: AbortSignal): Promise<Found>;
  /** So often it is asked again, where nothing else is said, in seconds. */
  readonly usualRefresh?: number | undefined;
  /** Where the one that follows a secret waits; absent: this store is not written to. */
  staging?(reference: Reference): Staging;
};

/** Two places beside a secret: for the one that is to follow it, and for the one that it followed. Readers of the secret
 *  see nothing of them. Each call may be made again, after a crash too, and rejects with a StoreError. */
export type Staging = {
  /** Makes the text current in one step, in stores that need no staging for that. */
  write?(text: string, signal: AbortSignal): Promise<void>;
  /** The next one is this. */
  stage(text: string, signal: AbortSignal): Promise<void>;
  /** The next one; undefined: there is none. */
  staged(signal: AbortSignal): Promise<string | undefined>;
  /** The one that it followed; undefined: there is none. */
  previous(signal: AbortSignal): Promise<string | undefined>;
  /** The next one is the current one, at once for whoever reads it, and the current one the previous. Without a next one
   *  nothing changes. */
  promote(signal: AbortSignal): Promise<void>;
  /** The previous one is the current one again. Without a previous one nothing changes. */
  restore(signal: AbortSignal): Promise<void>;
  /** There is no next one and no previous one. */
  clear(signal: AbortSignal): Promise<void>;
};

/** `away`: the store cannot be reached, is sealed, or answers nonsense. `refused`: it does not let us. `missing`: it has no
 *  such secret. `unusable`: what it has is no secret of this kind. Messages hold no secret. */
export type Why = "away" | "refused" | "missing" | "unusable";

export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly why: Why;

  constructor(why: Why, message: string) {
    super(message);
    this.why = why;
  }
}

/** A field of a JSON text; without one the text itself, as it is. Throws StoreError. */
export function fieldOf(text: string, { field }: Reference): string {
  if (field === undefined) return text;
  let value: unknown;
  try {
    value = (JSON.parse(text) as { readonly [name: string]: unknown } | null)?.[field];
  } catch {
    throw new StoreError("unusable", `it is no JSON, so it has no field "${field}"`);
  }
  return textOf(value, field);
}

/** A text with another value of a field; without a field the value is all of it. Throws StoreError. */
export function withField(text: string, { field }: Reference, value: string): string {
  if (field === undefined) return value;
  try {
    return JSON.stringify({ ...(JSON.parse(text) as object), [field]: value });
  } catch {
    throw new StoreError("unusable", `it is no JSON, so it has no field "${field}"`);
  }
}

/** A value as text. Throws StoreError where there is none. */
export function textOf(value: unknown, field: string): string {
  if (value === undefined || value === null) throw new StoreError("missing", `it has no field "${field}"`);
  // A service account's key, say, is an object.
  return typeof value === "string" ? value : JSON.stringify(value);
}
