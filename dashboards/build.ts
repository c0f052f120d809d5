// Builds dashboards/json. With --check it writes nothing and fails when what is checked in differs.
import { readFileSync, writeFileSync } from "node:fs";
import { DASHBOARDS } from "./all.ts";

const isCheck = process.argv.includes("--check");

for (const [name, built] of Object.entries(DASHBOARDS)) {
  const file = new URL(`./json/${name}.json`, import.meta.url);
  const text = `${JSON.stringify(built, null, 2)}\n`;
  if (!isCheck) writeFileSync(file, text);
  else if (readFileSync(file, "utf8") !== text) {
    process.stderr.write(`dashboards/json/${name}.json is not what its source builds: run npm run dashboards\n`);
    process.exitCode = 1;
  }
}
