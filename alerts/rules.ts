// The rules, read from the files that Prometheus reads. Each says whether it can be evaluated here, or why it needs
// Prometheus.
import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { DAY_MS, HOUR_MS } from "../ledger/windows.ts";
import { parse } from "yaml";
import { z } from "zod";
import { NeedsPrometheus, parseExpression } from "./expression.ts";
import type { Expression, Labels } from "./expression.ts";

export type Rule = {
  readonly alert: string;
  readonly forMs: number;
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly expression: Expression | undefined;
  /** Why there is no expression. */
  readonly needsPrometheus: string | undefined;
};

const duration = z.string().regex(/^\d+[smhd]$/, "a number and s, m, h or d");
const file = z.object({
  groups: z.array(
    z.object({
      name: z.string(),
      rules: z.array(
        z.object({
          alert: z.string(),
          expr: z.string(),
          for: duration.default("0s"),
          labels: z.record(z.string(), z.string()).default({}),
          annotations: z.record(z.string(), z.string()).default({}),
        }),
      ),
    }),
  ),
});

const UNITS: { readonly [unit: string]: number } = { s: 1_000, m: 60_000, h: HOUR_MS, d: DAY_MS };

/** Reads every rule file of a folder. Throws an Error that names the file and the place for one that is no rule
 *  file. */
export function readRules(folder = fileURLToPath(new URL("rules/", import.meta.url))): Rule[] {
  return globSync("*.yaml", { cwd: folder })
    .toSorted()
    .flatMap((name) => {
      const parsed = file.safeParse(parse(readFileSync(`${folder}/${name}`, "utf8")));
      if (!parsed.success)
        throw new Error(
          `${folder}/${name}: ${parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ")}`,
        );
      return parsed.data.groups.flatMap(({ rules }) =>
        rules.map(({ alert, expr, for: lasts, labels, annotations }) => ({
          alert,
          forMs: Number(lasts.slice(0, -1)) * (UNITS[lasts.slice(-1)] ?? 0),
          labels,
          annotations,
          ...read(expr),
        })),
      );
    });
}

function read(expr: string): Pick<Rule, "expression" | "needsPrometheus"> {
  try {
    return { expression: parseExpression(expr), needsPrometheus: undefined };
  } catch (error) {
    if (!(error instanceof NeedsPrometheus)) throw error;
    return { expression: undefined, needsPrometheus: error.message };
  }
}
