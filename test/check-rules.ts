// promtool and amtool over the shipped rules and configuration. Where they are not installed it says so, loudly.
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";

const checks: readonly (readonly string[])[] = [
  ["promtool", "check", "rules", ...globSync("alerts/rules/*.yaml"), "dashboards/rules.yaml"],
  ["promtool", "test", "rules", ...globSync("test/rules/*.yaml")],
  ["promtool", "check", "config", "--syntax-only", "alerts/prometheus.yaml"],
  ["amtool", "check-config", "alerts/alertmanager.yaml", "alerts/alertmanager.receivers.yaml"],
];
for (const [tool = "", ...args] of checks) {
  const { status, error, stdout, stderr } = spawnSync(tool, args, { encoding: "utf8" });
  if (error) process.stderr.write(`SKIPPED: ${tool} ${args.slice(0, 2).join(" ")}: ${tool} is not installed\n`);
  else if (status !== 0) {
    process.stderr.write(`${tool} ${args.join(" ")}\n${stdout}${stderr}\n`);
    process.exitCode = 1;
  }
}

/** What the example of other receivers sends where. */
const ROUTES: readonly (readonly [labels: string, receivers: string])[] = [
  ["alertname=KeymeterWatchdog severity=none", "watchdog"],
  [
    "alertname=KeymeterSpendFarOverForecast severity=critical team=search topic=forecast",
    "pagerduty,telegram-search,keymeter",
  ],
  ["alertname=KeymeterSpendOverForecast severity=warning team=ads topic=forecast", "discord-ads,keymeter"],
  ["alertname=KeymeterBudgetThreshold severity=info team=search topic=budget", "finance,keymeter"],
  ["alertname=KeymeterNotifierFailing severity=warning topic=notifier", "pagerduty,keymeter"],
  ["alertname=KeymeterUnpricedModel severity=warning topic=prices", "keymeter"],
];
for (const [labels, receivers] of ROUTES) {
  const args = [
    "config",
    "routes",
    "test",
    "--config.file=alerts/alertmanager.receivers.yaml",
    `--verify.receivers=${receivers}`,
  ];
  const { status, error, stdout, stderr } = spawnSync("amtool", [...args, ...labels.split(" ")], { encoding: "utf8" });
  if (error) process.stderr.write(`SKIPPED: amtool config routes test: amtool is not installed\n`);
  else if (status !== 0) {
    process.stderr.write(`amtool ${args.join(" ")} ${labels}\n${stdout}${stderr}\n`);
    process.exitCode = 1;
  }
}
for (const labels of [
  "severity=critical team=search topic=forecast",
  "severity=info topic=prices",
  "severity=warning team=ads",
]) {
  const args = ["config", "routes", "test", "--config.file=alerts/alertmanager.yaml", "--verify.receivers=keymeter"];
  const { status, error, stdout, stderr } = spawnSync("amtool", [...args, ...labels.split(" ")], { encoding: "utf8" });
  if (!error && status !== 0) {
    process.stderr.write(`${labels}\n${stdout}${stderr}\n`);
    process.exitCode = 1;
  }
}
