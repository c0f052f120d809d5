// Files that the chart shows and other folders own: rules and dashboards, copied, for a chart is packed by itself and links do not
// travel everywhere. `--check` says where a copy is old.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const FILES = join(import.meta.dirname, "chart", "files");
const OWNERS = [
  ["alerts/rules", "rules"],
  ["dashboards/json", "dashboards"],
  ["dashboards/rules.yaml", "dashboard-rules.yaml"],
] as const;

const copies = OWNERS.flatMap(([from, to]) => {
  const whole = join(ROOT, from);
  return from.includes(".")
    ? [[whole, to] as const]
    : readdirSync(whole).map((name) => [join(whole, name), join(to, name)] as const);
});
const isSame = (from: string, to: string): boolean => existsSync(to) && readFileSync(from).equals(readFileSync(to));
const there = existsSync(FILES)
  ? readdirSync(FILES, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  : [];

if (process.argv.includes("--check")) {
  const old = copies.filter(([from, to]) => !isSame(from, join(FILES, to))).map(([, to]) => to);
  if (old.length > 0 || there.length !== copies.length) {
    process.stderr.write(
      `deploy/chart/files is not what alerts/ and dashboards/ have (${old.join(", ") || "files too many"}); run \`npm run manifests\`\n`,
    );
    process.exitCode = 1;
  }
} else {
  rmSync(FILES, { recursive: true, force: true });
  for (const [from, to] of copies) {
    mkdirSync(dirname(join(FILES, to)), { recursive: true });
    cpSync(from, join(FILES, to));
  }
}
