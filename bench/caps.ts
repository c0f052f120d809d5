// What each mode of a hard budget does to real traffic: npm run bench:caps. Nothing is timed; the figures are the same
// on any machine.
import { hasTraffic, readTraffic, runCap } from "../test/simulation/traffic.ts";

const rows = [
  ["strict", { mode: "strict", stream: true }],
  ["strict, 2,000 tokens asked for at most", { mode: "strict", stream: true, maxOutputTokens: 2_000 }],
  ["expected, whole answers", { mode: "expected", stream: false }],
  ["expected, streams", { mode: "expected", stream: true }],
] as const;

if (!hasTraffic) process.exit(1);
for (const series of ["azure-conv", "azure-code"] as const) {
  const traffic = readTraffic(series);
  for (const share of [0.01, 0.3]) {
    process.stdout.write(
      `\n${series}, ${traffic.length} requests in an hour, cap ${share * 100} % of what they cost\n\n` +
        `| mode | overshoot, % of the cap | used, % | refused | of those, would have fitted | cut |\n| --- | --- | --- | --- | --- | --- |\n`,
    );
    for (const [name, options] of rows) {
      const run = await runCap(traffic, { ...options, share });
      const percent = (part: bigint): string => (Number((part * 1_000_000n) / run.amountNanoUsd) / 10_000).toFixed(3);
      process.stdout.write(
        `| ${name} | ${run.overshootNanoUsd === 0n ? "0" : percent(run.overshootNanoUsd)} | ${percent(run.spentNanoUsd)} | ${run.refused} | ${run.fitted} | ${run.cut} |\n`,
      );
    }
  }
}
