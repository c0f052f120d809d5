// promtool and amtool over the shipped rules and configuration. Where they are not installed it says so, loudly.
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";

const checks: readonly (readonly string[])[] = [
  ["promtool", "check", "rules", ...globSync("alerts/rules/*.yaml")],
  ["promtool", "test", "rules", ...globSync("test/rules/*.yaml")],
  ["promtool", "check", "config", "alerts/prometheus.yaml"],
  ["amtool", "check-config", "alerts/alertmanager.yaml"],
];
for (const [tool = "", ...args] of checks) {
  const { status, error, stdout, stderr } = spawnSync(tool, args, { encoding: "utf8" });
  if (error) process.stderr.write(`SKIPPED: ${tool} ${args.slice(0, 2).join(" ")}: ${tool} is not installed\n`);
  else if (status !== 0) {
    process.stderr.write(`${tool} ${args.join(" ")}\n${stdout}${stderr}\n`);
    process.exitCode = 1;
  }
}
