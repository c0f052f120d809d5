// The figures people quote, as gauges: read from the ledger, refreshed together, so that a restart changes no total.
// One file a topic, with a figure and the line that it must not cross side by side and under the same labels: the rules
// compare the two, in Prometheus or in the alerts program. The conversion to a float is the last step.
import { Gauge, Registry } from "prom-client";
import type { PriceBook } from "../../ledger/prices/price-book.ts";
import { createCalendar } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import type { CollectorConfig } from "../config.ts";
import { billGauges } from "./bills.ts";
import { budgetGauges } from "./budgets.ts";
import { forecastGauges } from "./forecast.ts";
import type { MakeGauge, Topic } from "./gauge.ts";
import { keyGauges } from "./keys.ts";
import { leakGauges } from "./leaks.ts";
import { overForecastGauges } from "./over-forecast.ts";
import { priceGauges } from "./prices.ts";
import { providerGauges } from "./providers.ts";
import { rotationGauges } from "./rotations.ts";
import { startReading } from "./reading.ts";
import { spendGauges } from "./spend.ts";

const TOPICS: readonly Topic[] = [
  spendGauges,
  forecastGauges,
  overForecastGauges,
  budgetGauges,
  keyGauges,
  billGauges,
  leakGauges,
  providerGauges,
  rotationGauges,
  priceGauges,
];

export type CollectorMetrics = {
  readonly registry: Registry;
  /** Reads the books again. */
  refresh(nowMs: number): Promise<void>;
};

type CollectorMetricsSettings = Pick<
  CollectorConfig,
  "timezone" | "dataDir" | "capMode" | "thresholds" | "teamThresholds" | "providers" | "rotations" | "ownKeyRotations"
> & { readonly prices: PriceBook; readonly pagesUrl: string };

/** `sources`: whose bills are read here; of others there may be old notes. */
export function createCollectorMetrics(
  books: CollectorBooks,
  settings: CollectorMetricsSettings,
  sources: readonly string[] = [],
): CollectorMetrics {
  const registry = new Registry();
  const calendar = createCalendar(settings.timezone);
  const make: MakeGauge = (name, help, labels) => {
    const gauge = new Gauge({ name, help, labelNames: [...labels], registers: [registry] });
    if (name.endsWith(LINE)) serveFormerName(gauge, name, labels, registry);
    return gauge;
  };
  const topics = TOPICS.map((topic) => topic(make, books, { ...settings, calendar, sources }));
  make("keymeter_pages_info", "Where the report pages are; always 1.", ["url"]).set({ url: settings.pagesUrl }, 1);
  const refreshed = make(
    "keymeter_collector_refresh_timestamp_seconds",
    "When these gauges were last read from the ledger.",
    [],
  );
  return {
    registry,
    async refresh(nowMs) {
      const reading = startReading(books, calendar, nowMs);
      for (const topic of topics) await topic(reading);
      refreshed.set({}, nowMs / 1000);
    },
  };
}

const LINE = "_line_usd";

/** Lines of money were called limits. For one release more they are served under that name too, for rules and
 *  dashboards that were made with it. */
function serveFormerName<L extends string>(
  gauge: Gauge<L>,
  name: string,
  labels: readonly L[],
  registry: Registry,
): void {
  const former = new Gauge({
    name: name.replace(LINE, "_limit_usd"),
    help: `The former name of ${name}.`,
    labelNames: [...labels],
    registers: [],
    async collect() {
      this.reset();
      for (const one of (await gauge.get()).values) this.set(one.labels, one.value);
    },
  });
  registry.registerMetric(former);
}
