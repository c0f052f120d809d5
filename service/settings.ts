// How every program reads its settings: keymeter.yaml, overridden by the environment, checked in full. All problems come
// in one message, each with its place, the value and what is allowed.
import { existsSync, readFileSync } from "node:fs";
import { parse } from "yaml";
import type { z } from "zod";

/** The environment as it was handed in: only the config files read process.env. */
export type Environment = { readonly [name: string]: string | undefined };

/** One setting: where it stands in the file and in the environment, what is allowed, and what holds without it. */
type Setting<T> = {
  /** Its place in keymeter.yaml, such as "proxy.durability". */
  readonly place: string;
  /** Its environment variable, which wins. */
  readonly env?: string;
  readonly schema: z.ZodType<T>;
  readonly fallback: T;
};
export type Settings<T> = { readonly [name in keyof T]: Setting<T[name]> };

/** Wrong settings: all of them, a line each. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    const count = problems.length === 1 ? "A setting is" : `${problems.length} settings are`;
    super(`${count} wrong:\n${problems.map((problem) => `  - ${problem}`).join("\n")}`);
    this.problems = problems;
  }
}

const SECTIONS = ["proxy", "collector", "alerts"];
const DEFAULT_FILE = "keymeter.yaml";

/** Reads all settings of a program, frozen. `section` is the program's own part of the file; parts of other programs
 *  are left to them, anything else unknown is a problem. What is wrong goes into `problems`, and the fallback stands in for
 *  it, so that the caller can go on looking and say everything at once. */
export function readSettings<T extends object>(
  settings: Settings<T>,
  section: string,
  environment: Environment,
  problems: string[],
): T {
  const { file, values } = readFile(environment, problems);
  const known = new Set<string>();
  const result: Record<string, unknown> = {};

  for (const [name, setting] of Object.entries<Setting<unknown>>(settings)) {
    known.add(setting.place);
    const fromEnv = setting.env === undefined ? undefined : environment[setting.env];
    const inFile = valueAt(values, setting.place);
    const given = fromEnv !== undefined && fromEnv !== "" ? fromEnv : (inFile ?? undefined);
    if (given === undefined) {
      result[name] = setting.fallback;
      continue;
    }
    const parsed = setting.schema.safeParse(given);
    if (parsed.success) {
      result[name] = parsed.data;
      continue;
    }
    result[name] = setting.fallback;
    const where = given === fromEnv ? setting.env : `${file}: ${setting.place}`;
    for (const issue of parsed.error.issues) {
      const deeper = issue.path.length > 0 ? `.${issue.path.join(".")}` : "";
      problems.push(`${where}${deeper}: ${show(given)} is not allowed: ${issue.message}`);
    }
  }
  for (const place of placesIn(values, section)) {
    if (!known.has(place) && ![...known].some((one) => place.startsWith(`${one}.`)))
      problems.push(`${file}: ${place} is no setting; \`keymeter.example.yaml\` lists them all`);
  }
  return Object.freeze(result) as T;
}

function readFile(environment: Environment, problems: string[]): { file: string; values: unknown } {
  const named = environment["KEYMETER_CONFIG"];
  const file = named ?? DEFAULT_FILE;
  if (!existsSync(file)) {
    if (named !== undefined) problems.push(`KEYMETER_CONFIG: there is no file ${named}`);
    return { file, values: {} };
  }
  try {
    const values: unknown = parse(readFileSync(file, "utf8")) ?? {};
    if (typeof values !== "object" || Array.isArray(values)) throw new Error("it must be a map of settings");
    return { file, values };
  } catch (error) {
    // Where it is, and the line itself with a mark under it.
    const said = (error instanceof Error ? error.message : String(error)).trimEnd().split("\n");
    problems.push(`${file}: ${said.filter((line) => line.trim() !== "").join("\n      ")}`);
    return { file, values: {} };
  }
}

function valueAt(values: unknown, place: string): unknown {
  return place
    .split(".")
    .reduce(
      (value, part) =>
        typeof value === "object" && value !== null ? (value as Record<string, unknown>)[part] : undefined,
      values,
    );
}

/** Every leaf of the file that this program must know: shared ones and those of its section. */
function placesIn(values: unknown, section: string, prefix = ""): string[] {
  // A section whose settings are all commented out is as good as absent.
  if (values === null) return [];
  if (typeof values !== "object" || Array.isArray(values)) return [prefix];
  return Object.entries(values).flatMap(([name, value]) => {
    if (prefix === "" && SECTIONS.includes(name) && name !== section) return [];
    return placesIn(value, section, prefix === "" ? name : `${prefix}.${name}`);
  });
}

function show(value: unknown): string {
  const text = typeof value === "string" ? `"${value}"` : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
