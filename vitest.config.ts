import { defineConfig } from "vitest/config";

const report = process.env["KEYMETER_TEST_REPORT"];

export default defineConfig({
  test: {
    globalSetup: "test/temporary.ts",
    include: ["test/**/*.test.ts"],
    testTimeout: process.env["CI"] === "true" ? 900_000 : 120_000,
    hookTimeout: 60_000,
    // Two cores: more at once only makes timing tests lie.
    maxWorkers: 2,
    reporters: report === undefined ? ["default"] : ["default", ["json", { outputFile: report }]],
  },
});
