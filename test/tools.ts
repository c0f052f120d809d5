// Whether the real Prometheus and Alertmanager are on this machine.
import { spawnSync } from "node:child_process";
import { noteSkipped } from "./skipped.ts";

const has = (tool: string): boolean => spawnSync("which", [tool]).status === 0;

export const hasPrometheus =
  has("prometheus") && has("promtool") && (has("prometheus-alertmanager") || has("alertmanager"));
if (!hasPrometheus)
  noteSkipped("Prometheus and Alertmanager are not installed; every test of the real alert chain is skipped");
