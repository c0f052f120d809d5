// What a setting is, and how every program reads its own: keymeter.yaml, overridden by the environment, checked in
// full. A setting is declared once, in the config.ts of its program (service/config.ts: of several); from there come
// the types of what is read, the example file, docs/settings.md, --help, the check of misspelt variables, and who gets
// to see a variable. All problems come in one message, each with its place, the value and what is allowed.
import { existsSync, readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";
import { createSecretRoom, keepRoom } from "./secrets/index.ts";
import type { SecretRoom } from "./secrets/index.ts";
import { MalformedReference, readReference } from "./secrets/reference.ts";
import { Secret } from "./secret.ts";

/** The environment as it was handed in: only the config files read process.env. */
export type Environment = { readonly [name: string]: string | undefined };

/** One setting: where it stands in the file and in the environment, what is allowed, and what holds without it. */
export type Setting<S extends z.ZodType = z.ZodType, F = unknown> = {
  /** Its place in keymeter.yaml, such as "proxy.durability". */
  readonly place: string;
  /** Its environment variable, which wins. */
  readonly env?: string;
  readonly schema: S;
  /** In the form of the file. */
  readonly fallback: F;
  /** What it does, in a sentence without a full stop. */
  readonly says: string;
  /** What the example file shows, as YAML, where the default would say nothing. Several lines: entries. */
  readonly example?: string | readonly string[];
  /** The text is wrapped: it cannot be printed by accident. */
  readonly isSecret?: true;
  /** It may be a reference, though it is no secret itself. */
  readonly mayRefer?: true;
};

/** Settings that make one value. */
export type Group<M extends SettingTree = SettingTree, R = unknown> = {
  readonly members: M;
  /** What they are together, for the example file. */
  readonly says?: string;
  readonly combine: (values: never, reading: Reading) => R;
};

/** The settings of a program, by the names that its config has. */
export type SettingTree = { readonly [name: string]: Setting | Group | SettingTree };

/** A reading under way: what combines values may look at the environment, and says what is wrong. */
export type Reading = {
  readonly environment: Environment;
  readonly problems: string[];
  /** Where secrets are that references name. */
  readonly room: SecretRoom;
};

/** What comes of reading them. */
export type Values<T> = { readonly [name in keyof T]: ValueOf<T[name]> };
type ValueOf<N> = N extends { readonly isSecret: true }
  ? Secret | undefined
  : N extends { readonly members: unknown; readonly combine: (...of: never[]) => infer R }
    ? R
    : N extends { readonly schema: infer S extends z.ZodType; readonly fallback: infer F }
      ? Either<z.output<S>, F>
      : Values<N>;
/** A fallback that the schema allows too says nothing new. */
type Either<V, F> = F extends Readonly<V> ? Readonly<V> : Readonly<V> | F;

/** A secret, which is undefined where nobody gave it. Other programs than those that declare it never see its
 *  variable. */
export function secret<
  const D extends Pick<Setting, "place" | "env" | "says"> & { readonly schema?: z.ZodType<string> },
>(declared: D): D & { readonly schema: z.ZodType<string>; readonly fallback: undefined; readonly isSecret: true } {
  return { schema: secretText, ...declared, fallback: undefined, isSecret: true };
}

/** Where people reach something. */
export const webUrl = z.url({ protocol: /^https?$/, error: "an http or https URL" });

/** A secret in any form. */
export const secretText = z
  .string()
  .min(1, "a secret that is not empty")
  .refine(
    (text) => !/^(\.{3,}|…|<.*>|x{3,}|changeme|your[-_ ].*)$/i.test(text),
    "a secret, not the placeholder of an example",
  );

/** Several settings as one value. What is wrong with them together goes into the problems of the reading. */
export function group<const M extends SettingTree, R>(
  members: M,
  combine: (values: Values<M>, reading: Reading) => R,
  says?: string,
): Group<M, R> {
  return { members, combine, ...(says === undefined ? {} : { says }) };
}

/** A list; in the environment its items are parted by commas. */
export function listOf(item: z.ZodType<string>): z.ZodType<readonly string[]> {
  return z.preprocess(
    (given) => (typeof given === "string" ? given.split(",").map((one) => one.trim()) : given),
    z.array(item),
  ) as z.ZodType<readonly string[]>;
}

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
/** The variable that names another file. */
export const FILE_VARIABLE = "KEYMETER_CONFIG";

/** What groups say, by the part of the file that they are. */
export function groupsIn(tree: SettingTree): { readonly [place: string]: string } {
  return Object.fromEntries(
    Object.values(tree).flatMap((node): [string, string][] => {
      if (isSetting(node)) return [];
      if (!isGroup(node)) return Object.entries(groupsIn(node));
      const [first] = Object.values(settingsIn(node.members));
      return first && node.says !== undefined ? [[first.place.replace(/\.[^.]+$/, ""), node.says]] : [];
    }),
  );
}

/** Each setting of a program, by the path of its name: "tls.cert". */
export function settingsIn(tree: SettingTree): { readonly [path: string]: Setting } {
  return Object.fromEntries(
    Object.entries(tree).flatMap(([name, node]): [string, Setting][] => {
      if (isSetting(node)) return [[name, node]];
      const members = settingsIn(isGroup(node) ? node.members : node);
      return Object.entries(members).map(([path, setting]) => [`${name}.${path}`, setting]);
    }),
  );
}

/** Reads the settings of a program, and makes its frozen config of them with `finish`. `section` is the program's own
 *  part of the file. Throws one SettingsError with everything that is wrong. */
export function readConfig<T extends SettingTree, C extends object>(
  tree: T,
  section: string,
  environment: Environment,
  finish: (values: Values<T>, reading: Reading) => C,
): Readonly<C> {
  const reading: Reading = { environment, problems: [], room: createSecretRoom(environment) };
  const settings = settingsIn(tree);
  const read = readSettings(settings, section, environment, reading.problems);
  const values = new Map(Object.entries(settings).map(([path, setting]) => [setting, read[path]]));
  const config = finish(combined(tree, values, reading), reading);
  reading.problems.push(...reading.room.problems());
  if (reading.problems.length > 0) throw new SettingsError(reading.problems);
  keepRoom(config, reading.room);
  return Object.freeze(config);
}

function combined<T extends SettingTree>(tree: T, values: ReadonlyMap<Setting, unknown>, reading: Reading): Values<T> {
  const valueOf = (node: SettingTree[string]): unknown => {
    if (isGroup(node)) return node.combine(combined(node.members, values, reading) as never, reading);
    if (!isSetting(node)) return combined(node, values, reading);
    const value = values.get(node);
    return node.isSecret && typeof value === "string" ? secretOf(node, value, reading) : value;
  };
  return Object.fromEntries(Object.entries(tree).map(([name, node]) => [name, valueOf(node)])) as Values<T>;
}

/** The secret itself, or where it is. What is wrong with a reference goes into the problems. */
export function secretOf(
  { place, schema }: Pick<Setting, "place" | "schema">,
  text: string,
  { room, problems }: Reading,
): Secret {
  const problem = referenceProblem(text, undefined);
  if (problem !== undefined) problems.push(`${place}: ${problem}`);
  const reference = problem === undefined ? readReference(text) : undefined;
  if (!reference) return new Secret(text);
  return room.hold(place, reference, (found) => {
    const parsed = schema.safeParse(found);
    return parsed.success ? undefined : `what it holds is not allowed: ${parsed.error.issues[0]?.message ?? ""}`;
  });
}

function isSetting(node: SettingTree[string]): node is Setting {
  return "place" in node;
}

function isGroup(node: SettingTree[string]): node is Group {
  return "combine" in node;
}

/** Reads settings by name, each value as it stands in the file. Of the file, the parts of other programs are left to
 *  them; anything else unknown is a problem. What is wrong goes into `problems`, and the fallback stands in for it, so
 *  that the caller can go on looking and say everything at once. */
export function readSettings(
  settings: { readonly [name: string]: Setting },
  section: string,
  environment: Environment,
  problems: string[],
): { readonly [name: string]: unknown } {
  const { file, values } = readFile(environment, problems);
  const read = new Map<Setting, unknown>();
  for (const setting of new Set(Object.values(settings)))
    read.set(setting, readOne(setting, file, values, environment, problems));
  const known = new Set([...read.keys()].map(({ place }) => place));
  for (const place of placesIn(values, section)) {
    if (!known.has(place) && ![...known].some((one) => place.startsWith(`${one}.`)))
      problems.push(`${file}: ${place} is no setting; \`keymeter.example.yaml\` lists them all`);
  }
  return Object.fromEntries(Object.entries(settings).map(([name, setting]) => [name, read.get(setting)]));
}

function readOne(
  { place, env, schema, fallback, isSecret }: Setting,
  file: string,
  values: unknown,
  environment: Environment,
  problems: string[],
): unknown {
  const fromEnv = env === undefined ? undefined : environment[env];
  const given = fromEnv !== undefined && fromEnv !== "" ? fromEnv : (valueAt(values, place.split(".")) ?? undefined);
  if (given === undefined) return fallback;
  if (isSecret && typeof given === "string") {
    const inFile = valueAt(values, place.split("."));
    // The file may say that it is in the very variable.
    const other = given === fromEnv && typeof inFile === "string" && inFile !== `env:${env}` ? inFile : undefined;
    const problem = referenceProblem(given, other);
    if (problem !== undefined) {
      problems.push(`${given === fromEnv ? env : `${file}: ${place}`}: ${problem}`);
      return fallback;
    }
    if (readReference(given)) return given;
  }
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const where = given === fromEnv ? env : `${file}: ${place}`;
  for (const issue of parsed.error.issues) {
    const path = issue.path.map(String);
    const wrong = isSecret ? "what it holds" : show(valueAt(given, path) ?? given);
    problems.push(`${[where, ...path].join(".")}: ${wrong} is not allowed: ${issue.message}`);
  }
  return fallback;
}

/** What is wrong with a text as a reference; undefined: nothing, or it is none. `other`: what stands in the file, beside a
 *  variable. */
function referenceProblem(text: string, other: string | undefined): string | undefined {
  try {
    const isReference = [text, other ?? ""].map(readReference).some((one) => one !== undefined);
    if (isReference && other !== undefined && other !== text)
      return "the variable and the file name two secrets, of which one is a reference; leave one of the two";
    return undefined;
  } catch (error) {
    if (error instanceof MalformedReference) return error.message;
    throw error;
  }
}

function readFile(environment: Environment, problems: string[]): { file: string; values: unknown } {
  const named = environment[FILE_VARIABLE];
  const file = named ?? DEFAULT_FILE;
  if (!existsSync(file)) {
    if (named !== undefined) problems.push(`${FILE_VARIABLE}: there is no file ${named}`);
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

function valueAt(values: unknown, place: readonly string[]): unknown {
  return place.reduce(
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
  // Whoever has a URL where none belongs may have one with a password.
  const text = (typeof value === "string" ? `"${value}"` : JSON.stringify(value, hideSecrets)).replace(
    /:\/\/[^@/"]*@/g,
    "://***@",
  );
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

/** Of a map in which something else is wrong. The path of an address may be what opens it: a webhook's. */
function hideSecrets(name: string, value: unknown): unknown {
  if (name === "url" && typeof value === "string") return value.replace(/^(\w+:\/\/[^/?#]*)[/?#].+$/s, "$1/…");
  return /key|token|secret|password/i.test(name) && !name.endsWith("_env") ? "***" : value;
}
