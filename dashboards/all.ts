// The dashboards, by the names of their files in json/.
import { chargeback } from "./chargeback.ts";
import { finance } from "./finance.ts";
import { key } from "./key.ts";
import { meterHealth } from "./meter-health.ts";
import { models } from "./models.ts";
import { reconciliation } from "./reconciliation.ts";
import { usage } from "./usage.ts";

export const DASHBOARDS = {
  finance,
  reconciliation,
  usage,
  "meter-health": meterHealth,
  key,
  models,
  chargeback,
};
