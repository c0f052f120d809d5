// Gauges of keys: whose each is, which woke up after a long silence and spends again, and when the secret of one in use
// should be replaced.
import { toUsdNumber } from "../../ledger/money.ts";
import { readSecretAges } from "../../ledger/usage/read-keys.ts";
import { readSpendOfHours } from "../../ledger/usage/hours.ts";
import { readLastUsed } from "../../ledger/usage/key-use.ts";
import { DAY_MS, HOUR_MS } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import { thresholdsOf } from "../thresholds.ts";
import type { GaugeSettings, MakeGauge, Refresh } from "./gauge.ts";
import { MOST_KEYS } from "./spend-sums.ts";

/** A key that was used in this time is in use. */
const IN_USE_MS = 30 * DAY_MS;

export function keyGauges(make: MakeGauge, { usage }: CollectorBooks, settings: GaugeSettings): Refresh {
  const key = ["scope", "id", "team"] as const;
  const info = make("keymeter_key_info", "Who a key belongs to, the user by id; always 1.", [
    "id",
    "name",
    "team",
    "project",
    "env",
    "user",
    // One release longer.
    "owner",
  ]);
  const woken = make("keymeter_key_woken_usd", "Spend of the last day by a key that was silent for long before.", key);
  const wokenLine = make("keymeter_key_woken_line_usd", "Such a key may spend this much unheard.", key);
  const secretDue = make(
    "keymeter_key_secret_due_timestamp_seconds",
    "When the secret of a key that is in use should be replaced.",
    key,
  );
  return async (reading) => {
    for (const one of [info, woken, wokenLine, secretDue]) one.reset();
    const { nowMs } = reading;
    const keys = await reading.keys();
    for (const { id, name, team, project, env, user } of keys.slice(0, MOST_KEYS))
      info.set({ id, name, team, project, env, user, owner: user }, 1);

    const secrets = await readSecretAges(usage);
    const dayAgo = Math.floor((nowMs - DAY_MS) / HOUR_MS) * HOUR_MS;
    const lately = await readSpendOfHours(usage, dayAgo, nowMs, "key");
    const before = await readLastUsed(usage, dayAgo);
    let shown = 0;
    for (const { id, team, createdAtMs, kind } of keys.filter(({ state }) => state === "active")) {
      const spent = lately.get(id);
      const labels = { scope: "key", id, team };
      const { key_idle_days: idleDays, key_idle_usd: idleUsd, key_age_days: ageDays } = thresholdsOf(settings, team);
      const silentMs = dayAgo - (before.get(id) ?? createdAtMs);
      if (spent !== undefined && spent > 0n && silentMs > idleDays * DAY_MS) {
        woken.set(labels, toUsdNumber(spent));
        wokenLine.set(labels, idleUsd);
      }
      const secretMs = secrets.get(id);
      const isUsed = spent !== undefined || nowMs - (before.get(id) ?? 0) < IN_USE_MS;
      if (kind !== "virtual" || secretMs === undefined || !isUsed || ++shown > MOST_KEYS) continue;
      secretDue.set(labels, (secretMs + ageDays * DAY_MS) / 1000);
    }
  };
}
