// Keys at a stand-in of a provider that makes them.

export type FakeKey = {
  readonly id: string;
  name: string;
  readonly value: string;
  state: "active" | "disabled" | "revoked";
  readonly madeAtMs: number;
  /** Other parts of the provider do not know it before. */
  usableAtMs: number;
  readonly usedAtMs: number[];
  revokedAtMs: number | undefined;
  /** What it may do, and how much, as its provider writes it. */
  limits: object;
};

export type KeyRing = {
  readonly keys: FakeKey[];
  /** The key file of a service account of Google's that may make keys. */
  readonly adminFile: string;
  /** A key that is there already. */
  add(name: string, value?: string, id?: string, ageMs?: number): FakeKey;
};
