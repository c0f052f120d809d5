// Gauges of the secrets that references name: how long ago the store said what each is.
import { Counter, Gauge } from "prom-client";
import type { Registry } from "prom-client";
import { secretStates } from "./index.ts";

/** Series of a program's secrets; none where no reference stands in its settings. `secret` is the place in the settings. */
export function addSecretGauges(registry: Registry, config: object): void {
  if (secretStates(config).length === 0) return;
  const startedMs = Date.now();
  const register = (metric: Gauge<"secret"> | Counter<"secret">): void => registry.registerMetric(metric);
  register(
    new Gauge({
      name: "keymeter_secret_age_seconds",
      help: "Seconds since the store last said what a secret is; since the start, where it has not yet.",
      labelNames: ["secret"],
      aggregator: "max",
      registers: [],
      collect() {
        for (const { place, readAtMs = startedMs } of secretStates(config))
          this.set({ secret: place }, (Date.now() - readAtMs) / 1000);
      },
    }),
  );
  register(
    new Gauge({
      name: "keymeter_secret_failing_seconds",
      help: "Seconds for which a secret could not be read from its store; 0 where the last reading was good.",
      labelNames: ["secret"],
      aggregator: "max",
      registers: [],
      collect() {
        for (const { place, failure } of secretStates(config))
          this.set({ secret: place }, failure ? (Date.now() - failure.sinceMs) / 1000 : 0);
      },
    }),
  );
  register(
    new Gauge({
      name: "keymeter_secret_loaded",
      help: "1 where a secret was read since the start.",
      labelNames: ["secret"],
      aggregator: "min",
      registers: [],
      collect() {
        for (const { place, readAtMs } of secretStates(config))
          this.set({ secret: place }, readAtMs === undefined ? 0 : 1);
      },
    }),
  );
  const told = new Map<string, number>();
  register(
    new Counter({
      name: "keymeter_secret_refresh_errors_total",
      help: "Readings of a secret that failed.",
      labelNames: ["secret"],
      registers: [],
      collect() {
        for (const { place, failures } of secretStates(config)) {
          this.inc({ secret: place }, failures - (told.get(place) ?? 0));
          told.set(place, failures);
        }
      },
    }),
  );
}
