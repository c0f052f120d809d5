// What columns hold, as drizzle sees them, in all three books.
import { customType } from "./drizzle.ts";
import type { NanoUsd } from "./money.ts";

/** INTEGER <-> bigint. Needs a connection with safe integers. */
export const nanoUsd = customType<{ data: NanoUsd; driverData: bigint | number }>({
  dataType: () => "integer",
  fromDriver: (value) => BigInt(value),
  toDriver: (value) => value,
});
/** Counts and instants, which safe integers bring as bigint too. */
export const count = customType<{ data: number; driverData: bigint | number }>({
  dataType: () => "integer",
  fromDriver: Number,
  toDriver: (value) => value,
});
/** INTEGER of 0 or 1 <-> boolean. */
export const flag = customType<{ data: boolean; driverData: bigint | number }>({
  dataType: () => "integer",
  fromDriver: (value) => Number(value) === 1,
  toDriver: (value) => (value ? 1 : 0),
});
