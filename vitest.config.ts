import { fileURLToPath } from "node:url";
import { configDefaults, defineConfig } from "vitest/config";
import { BaseSequencer } from "vitest/node";
import type { TestSpecification } from "vitest/node";
import { OTHER_TURNS } from "./test/turns.ts";

// As start.mjs does: the types of each file are stripped once, not in every worker and writer thread.
process.env["NODE_COMPILE_CACHE"] ??= fileURLToPath(new URL("node_modules/.cache/keymeter", import.meta.url));

const report = process.env["KEYMETER_TEST_REPORT"];
const isProof = process.env["KEYMETER_PROOF"] === "1";
const isCi = process.env["CI"] === "true" || isProof;

/** Those that wait for real alerts begin first: the others fill the time. */
const WAITING = ["demo.test.ts", "up.test.ts", "leak.test.ts"];
class WaitingFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const waits = ({ moduleId }: TestSpecification): boolean => WAITING.some((name) => moduleId.endsWith(`/${name}`));
    // oxlint-disable-next-line unicorn/no-array-sort -- vitest's own, which returns a new list
    const sorted = await super.sort(files);
    return [...sorted.filter(waits), ...sorted.filter((file) => !waits(file))];
  }
}

const shared = {
  globalSetup: "test/temporary.ts",
  testTimeout: isCi ? 900_000 : 120_000,
  hookTimeout: 60_000,
};
/** What proxies promise holds with books in Postgres too. Without: what is about SQLite's files, about clients, and about
 *  reading what comes, which knows no books. */
const onPostgres = {
  name: "books in Postgres",
  include: ["test/proxy/**/*.test.ts"],
  exclude: [
    "ledger-trouble",
    "kill",
    "overshoot",
    "promises",
    "clients-*",
    "recordings*",
    "readers*",
    "media",
    "headers*",
  ].map((name) => `test/proxy/${name}.test.ts`),
  env: { TEST_BOOKS: "postgres" },
};
const all = {
  name: "all",
  include: ["test/**/*.test.ts"],
  exclude: [...configDefaults.exclude, ...OTHER_TURNS.map(({ file }) => file)],
};
const projects = (isCi && !isProof) || process.env["TEST_BOOKS"] === "postgres" ? [all, onPostgres] : [all];

export default defineConfig({
  test: {
    projects: projects.map((test) => ({ test: { ...shared, ...test } })),
    sequence: { sequencer: WaitingFirst },
    // On two cores, full counts: more at once only makes timing tests lie. With small counts three files wait for real
    // alerts most of the time, so there is room for a fourth.
    maxWorkers: isCi ? 2 : 4,
    reporters: report === undefined ? ["default"] : ["default", ["json", { outputFile: report }]],
  },
});
