// Dashboards as readers see them, as far as that goes without Grafana: drawn by Grafana's own components over a real
// Prometheus, and their JSON held against Grafana's published types. Both stand in test/grafana, a folder with packages
// of its own.
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import Fastify from "fastify";
import type { FastifyInstance } from "fastify";
import type { Browser, Locator, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { HAS_BROWSER, openBrowser } from "../browser.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { hasPrometheus } from "../tools.ts";
import { dashboards, MAY_BE_EMPTY, nameOf, startHistory } from "./history.ts";
import type { Dashboard, History, Panel } from "./history.ts";

const FOLDER = fileURLToPath(new URL("../grafana/", import.meta.url));
const HAS_GRAFANA = existsSync(join(FOLDER, "node_modules/@grafana/ui"));
if (!HAS_GRAFANA)
  process.stderr.write("SKIPPED: Grafana's own panels and types are not installed: npm ci in test/grafana\n");
const TYPES: { readonly [extension: string]: string } = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
};
const SCREENSHOTS = process.env["KEYMETER_SCREENSHOTS"];
/** Sharp where it is looked at. */
const SCALE = SCREENSHOTS ? 1.5 : 1;

describe.skipIf(!HAS_GRAFANA)("Grafana's published types", () => {
  /** What tsc says of a dashboard. */
  async function complaintsOf(dashboard: object, name: string): Promise<string> {
    const folder = join(FOLDER, "node_modules/.cache", `types-${name}`);
    mkdirSync(folder, { recursive: true });
    const panels = (dashboard as Dashboard).panels;
    writeFileSync(
      join(folder, "dashboard.ts"),
      [
        'import type { Dashboard } from "@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen";',
        'import type { Options as Stat } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";',
        'import type { Options as Bargauge } from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";',
        'import type { Options as Timeseries, FieldConfig as TimeseriesField } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";',
        'import type { Options as Table, FieldConfig as TableField } from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";',
        "// JSON has the words of string enums, not their names.",
        "type Plain<T> = unknown extends T ? T : T extends string ? `${T}` : T extends number | boolean | null | undefined ? T",
        "  : T extends readonly (infer U)[] ? Plain<U>[] : { [K in keyof T]: Plain<T[K]> };",
        // A panel's own options are optional in JSON: Grafana fills in what is not there.
        "type Deep<T> = T extends readonly unknown[] ? T : T extends object ? { [K in keyof T]?: Deep<T[K]> } : T;",
        "type Fields = { Timeseries: TimeseriesField; Table: TableField; Stat: object; Bargauge: object };",
        // What Prometheus' own annotations have beside: fields of the data source, which the dashboard's types leave
        // open to it.
        "type Asked = { expr: string; step: string; titleFormat: string; textFormat: string; useValueForTime: boolean };",
        'type Whole = Omit<Plain<Dashboard>, "annotations"> & { annotations: { list: (NonNullable<NonNullable<Plain<Dashboard>["annotations"]>["list"]>[number] & Asked)[] } };',
        `export const dashboard: Whole = ${JSON.stringify(dashboard, undefined, 1)};`,
        ...panels
          .filter(({ type }) => type !== "row")
          .flatMap((panel, i) => {
            const kind = `${panel.type.charAt(0).toUpperCase()}${panel.type.slice(1)}`;
            const { options, fieldConfig } = panel as unknown as {
              options: object;
              fieldConfig: { defaults: { custom?: object } };
            };
            return [
              `export const options${i}: Deep<Plain<${kind}>> = ${JSON.stringify(options)};`,
              `export const custom${i}: Deep<Plain<Fields["${kind}"]>> = ${JSON.stringify(fieldConfig.defaults.custom ?? {})};`,
            ];
          }),
      ].join("\n"),
    );
    writeFileSync(
      join(folder, "tsconfig.json"),
      JSON.stringify({
        compilerOptions: {
          strict: true,
          noEmit: true,
          skipLibCheck: true,
          module: "nodenext",
          target: "es2023",
          types: [],
        },
        files: ["dashboard.ts"],
      }),
    );
    const done = await promisify(execFile)("node_modules/.bin/tsc", ["-p", folder]).catch(
      (error: unknown) => error as { stdout: string },
    );
    return done.stdout;
  }

  it.each(dashboards.map((dashboard) => [dashboard.title, dashboard] as const))(
    "know all of %s",
    async (_title, dashboard) => {
      expect(await complaintsOf(dashboard, dashboard.uid)).toBe("");
    },
  );

  it("know the page that draws them", async () => {
    const done = await promisify(execFile)("node_modules/.bin/tsc", ["-p", FOLDER]).catch(
      (error: unknown) => error as { stdout: string },
    );
    expect(done.stdout).toBe("");
  });

  it("refuse a field that is misspelt and a word that is not one of an enum's", async () => {
    const [dashboard] = dashboards;
    expect(await complaintsOf({ ...dashboard, refersh: "1m" }, "misspelt")).toContain("refersh");
    const panels = dashboard?.panels.map((panel) => ({
      ...panel,
      fieldConfig: { defaults: { thresholds: { mode: "sometimes", steps: [] } }, overrides: [] },
    }));
    expect(await complaintsOf({ ...dashboard, panels }, "mode")).toContain("sometimes");
  });
});

describe.skipIf(!HAS_GRAFANA || !hasPrometheus || !HAS_BROWSER)(
  "every panel, drawn by Grafana's own components",
  () => {
    let history: History;
    let browser: Browser;
    let site: FastifyInstance;
    let url: string;
    beforeAll(async () => {
      const built = join(temporaryFolder(), "panels");
      const { build } = (await import(createRequire(join(FOLDER, "package.json")).resolve("vite"))) as {
        build(settings: object): Promise<unknown>;
      };
      await build({
        root: join(FOLDER, "page"),
        configFile: false,
        logLevel: "silent",
        base: "./",
        define: { "process.env.NODE_ENV": '"production"' },
        mode: "production",
        esbuild: { jsx: "automatic", jsxDev: false },
        build: { outDir: built, emptyOutDir: true, minify: false, assetsInlineLimit: 1e9 },
      });
      history = await startHistory(SCREENSHOTS ? 30 : 15, SCREENSHOTS !== undefined);
      browser = await openBrowser();
      site = Fastify();
      site.get<{ Params: { "*": string } }>("/*", async ({ params }, reply) => {
        const name = params["*"] === "" ? "index.html" : params["*"];
        const file = join(built, name);
        if (!existsSync(file)) return reply.code(404).send("");
        const type = TYPES[extname(name)] ?? "font/woff2";
        return reply.type(type).send(readFileSync(file));
      });
      url = await site.listen({ host: "127.0.0.1", port: 0 });
    }, 600_000);
    afterAll(async () => {
      await browser?.close();
      await site?.close();
      await history?.stop();
    });

    type Drawing = { readonly panel: Panel; readonly answers: readonly object[]; fromMs: number; untilMs: number };

    async function drawn(title: string, drawings: readonly Drawing[], mode: "light" | "dark"): Promise<Page> {
      const page = await browser.newPage({ viewport: { width: 1_440, height: 900 }, deviceScaleFactor: SCALE });
      const complaints: string[] = [];
      page.on("pageerror", (error) => complaints.push(error.message));
      await page.goto(`${url}/#${mode}`);
      await page.evaluate(
        ([name, list]) =>
          (globalThis as unknown as { draw(name: unknown, list: unknown): Promise<void> }).draw(name, list),
        [title, drawings] as const,
      );
      await page.waitForTimeout(1_500);
      expect(complaints).toEqual([]);
      expect(await page.locator(".trouble").allTextContents()).toEqual([]);
      return page;
    }
    const wordsOf = async (shown: Locator, { title }: Panel): Promise<string> =>
      (await shown.innerText()).replace(title, "").trim();

    it.each(dashboards.map((dashboard) => [dashboard.title, dashboard] as const))("%s", async (title, dashboard) => {
      const drawings: Drawing[] = [];
      for (const panel of dashboard.panels) {
        const answers = [];
        for (const target of panel.targets ?? [])
          answers.push({
            refId: target.refId,
            legend: target.legendFormat ?? "",
            format: target.format ?? "time_series",
            series: await history.asker.answer(panel, target, dashboard.time.from),
          });
        const { fromMs, untilMs } = history.asker.rangeOf(panel, dashboard.time.from);
        drawings.push({ panel, answers, fromMs, untilMs });
      }
      for (const mode of ["light", "dark"] as const) {
        const page = await drawn(title, drawings, mode);
        for (const panel of dashboard.panels.filter(({ type }) => type !== "row")) {
          const shown = page.locator(`[data-panel=${JSON.stringify(panel.title)}]`);
          const words = await wordsOf(shown, panel);
          if (MAY_BE_EMPTY.has(nameOf(dashboard, panel))) continue;
          expect(words, panel.title).not.toBe(panel.fieldConfig.defaults.noValue);
          // Curves are drawn on a canvas; all others say their figures, or what they mean.
          if (panel.type === "timeseries")
            expect(await shown.locator("canvas").count(), panel.title).toBeGreaterThan(0);
          else expect(words, panel.title).toMatch(/\d|up|yes/);
          if (panel.type === "table") expect.soft(await cutWords(shown), `${panel.title}: nothing is cut`).toEqual([]);
        }
        if (SCREENSHOTS)
          await page.screenshot({ path: join(SCREENSHOTS, `${dashboard.uid}-${mode}.png`), fullPage: true });
        await page.close();
      }
    });

    it.each(dashboards.map((dashboard) => [dashboard.title, dashboard] as const))(
      "%s with nothing to show, or with shares of nothing, says why",
      async (title, dashboard) => {
        const shareOfNothing = [{ metric: {}, values: [[history.asker.rangeOf({}).untilMs / 1000, "NaN"]] }];
        for (const isShare of [false, true]) {
          const drawings = dashboard.panels.map((panel): Drawing => ({
            panel,
            answers: (panel.targets ?? []).map(({ refId, format = "time_series" }) => ({
              refId,
              legend: "",
              format,
              series: isShare && panel.type === "stat" ? shareOfNothing : [],
            })),
            ...history.asker.rangeOf(panel, dashboard.time.from),
          }));
          const page = await drawn(title, drawings, "light");
          for (const panel of dashboard.panels.filter(({ type }) => type !== "row")) {
            const words = await wordsOf(page.locator(`[data-panel=${JSON.stringify(panel.title)}]`), panel);
            // Of several figures each says so.
            expect(new Set(words.split(/\n+/)), panel.title).toContain(panel.fieldConfig.defaults.noValue);
            expect(words, panel.title).not.toMatch(/NaN|No data$/);
          }
          if (SCREENSHOTS && !isShare)
            await page.screenshot({ path: join(SCREENSHOTS, `${dashboard.uid}-new.png`), fullPage: true });
          await page.close();
        }
      },
    );
  },
);

/** What the page finds cut in a table. */
async function cutWords(shown: Locator): Promise<string[]> {
  return shown.evaluate((panel) => (globalThis as unknown as { cutWords(panel: unknown): string[] }).cutWords(panel));
}
