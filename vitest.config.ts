import { defineConfig } from "vitest/config";

const report = process.env["KEYMETER_TEST_REPORT"];
const isCi = process.env["CI"] === "true";

export default defineConfig({
  test: {
    globalSetup: "test/temporary.ts",
    include: ["test/**/*.test.ts"],
    testTimeout: isCi ? 900_000 : 120_000,
    hookTimeout: 60_000,
    // On two cores, full counts: more at once only makes timing tests lie. With small counts two files wait for real alerts most of the
    // time, so there is room for a third.
    maxWorkers: isCi ? 2 : 3,
    reporters: report === undefined ? ["default"] : ["default", ["json", { outputFile: report }]],
  },
});
