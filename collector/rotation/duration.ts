// Times in the settings of rotations.
import { z } from "zod";

const UNITS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

/** In milliseconds. */
export const duration = z
  .string()
  .regex(/^\d{1,5}[smhd]$/, "a time such as 24h or 60d")
  .transform((text) => Number(text.slice(0, -1)) * UNITS[text.slice(-1) as keyof typeof UNITS] * 1000);

/** What begins by itself, and asks others for keys, does so once an hour at most. */
export const interval = duration.refine((ms) => ms >= 3_600_000, "at least 1h");
