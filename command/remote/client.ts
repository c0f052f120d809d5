// A verb that runs at a Keymeter elsewhere: its words go there, and files with them; what it says, and files, come back.
import { closeSync, openSync, readFileSync, statSync, writeSync } from "node:fs";
import { basename, dirname, extname } from "node:path";
import { createInterface } from "node:readline";
import { Agent, request } from "undici";
import type { Dispatcher } from "undici";
import { z } from "zod";
import { readWork } from "../run.ts";
import { UsageError } from "../usage-error.ts";
import { FILES, MOST_FILE_BYTES } from "./rules.ts";
import type { Question } from "./rules.ts";
import { RemoteError } from "./remote-error.ts";
import type { Where } from "./where.ts";

/** A command may be silent for long: an import, an export of a year. */
const MOST_SILENT_MS = 15 * 60_000;
const CONNECT_MS = 10_000;

const me = z.object({ name: z.string(), role: z.string(), team: z.string().optional() });
type Me = z.infer<typeof me>;

/** Whose the token is. Rejects with a RemoteError. */
export async function askMe(where: Where): Promise<Me> {
  const { body } = await ask(where, "GET", "command/me");
  const parsed = me.safeParse(await body.json().catch(() => undefined));
  if (parsed.success) return parsed.data;
  throw new RemoteError(`${where.server.href} does not answer as a Keymeter`);
}

/** Runs a verb there. Resolves to its exit code. */
export async function runThere(where: Where, words: readonly string[]): Promise<number> {
  const { question, outs } = await questionOf(words);
  // Before anything is done there.
  for (const path of outs.values()) requireFolderOf(path);
  const { body } = await ask(where, "POST", "command", JSON.stringify(question));
  const opened = new Map<string, number>();
  try {
    for await (const text of createInterface({ input: body })) {
      const line = readLine(text);
      if (line.code !== undefined) return line.code;
      const path = line.file === undefined ? undefined : outs.get(line.file);
      if (path !== undefined) {
        if (!opened.has(path)) opened.set(path, openSync(path, "w"));
        writeSync(opened.get(path) ?? 0, Buffer.from(line.bytes ?? "", "base64"));
      }
      if (line.out !== undefined) await write(process.stdout, line.out);
      if (line.err !== undefined) await write(process.stderr, line.err);
    }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new RemoteError(`${brokeOff(where)} (${why})`);
  } finally {
    for (const file of opened.values()) closeSync(file);
  }
  throw new RemoteError(brokeOff(where));
}

function brokeOff({ server }: Where): string {
  return `${server.href} broke off before the command was over: look what it did before you say it again`;
}

const answerLine = z.object({
  out: z.string().optional(),
  err: z.string().optional(),
  file: z.string().optional(),
  bytes: z.string().optional(),
  code: z.number().int().min(0).max(255).optional(),
});

/** Throws an Error for what is no line of an answer. */
function readLine(text: string): z.infer<typeof answerLine> {
  try {
    return answerLine.parse(JSON.parse(text));
  } catch {
    throw new Error(`it says ${JSON.stringify(text.slice(0, 80))}, which is no answer`);
  }
}

function requireFolderOf(path: string): void {
  if (!statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory())
    throw new UsageError(`there is no folder ${dirname(path)}`);
}

async function write(to: NodeJS.WriteStream, bytes: string): Promise<void> {
  if (to.write(Buffer.from(bytes, "base64"))) return;
  await new Promise<void>((resolve) => to.once("drain", resolve));
}

async function ask(
  { server, token }: Where,
  method: "GET" | "POST",
  path: string,
  body?: string,
): Promise<Dispatcher.ResponseData> {
  const base = server.href.endsWith("/") ? server.href : `${server.href}/`;
  const answer = await request(new URL(path, base), {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    body: body ?? null,
    dispatcher: new Agent({
      connect: { timeout: CONNECT_MS },
      headersTimeout: MOST_SILENT_MS,
      bodyTimeout: MOST_SILENT_MS,
    }),
  }).catch((error: unknown) => {
    const why = error instanceof Error ? error.message || error.name : String(error);
    throw new RemoteError(`${server.href} does not answer as a Keymeter: ${why}`);
  });
  if (answer.statusCode === 200) return answer;
  const text = await answer.body.text().catch(() => "");
  throw new RemoteError(whyRefused(server, answer.statusCode, text));
}

function whyRefused(server: URL, status: number, text: string): string {
  let error: unknown;
  try {
    error = (JSON.parse(text) as { error?: unknown }).error;
  } catch {
    // Something else answered: a proxy on the way, a page.
  }
  if (typeof error === "string" && (status === 403 || status === 429)) return error;
  const why = typeof error === "string" ? `: ${error}` : "";
  if (status === 401) return `${server.href} does not know this token${why}`;
  if (status === 404) return `${server.href} has no command to ask: is it where the pages of Keymeter's collector are?`;
  return `${server.href} answered ${status}${why}`;
}

/** The words with names in the place of paths, the files that they name, and where those that come back belong. */
async function questionOf(
  words: readonly string[],
): Promise<{ readonly question: Question; readonly outs: ReadonlyMap<string, string> }> {
  const [verb = ""] = words;
  const named = FILES[verb] ?? {};
  const files: { [name: string]: string } = {};
  const outs = new Map<string, string>();
  const send = (path: string): string => {
    const file = statSync(path, { throwIfNoEntry: false });
    if (!file?.isFile()) throw new UsageError(`there is no file ${path}`);
    if (file.size > MOST_FILE_BYTES)
      throw new UsageError(`${path} is larger than 128 MiB, which is all that goes along`);
    const name = plainName(path, Object.keys(files));
    files[name] = readFileSync(path).toString("base64");
    return name;
  };
  const bring = (path: string): string => {
    const name = plainName(path, [...outs.keys()]);
    outs.set(name, path);
    return name;
  };
  const args: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? "";
    const [option = "", ...rest] = word.split("=");
    const turn = named.in?.includes(option) ? send : named.out?.includes(option) ? bring : undefined;
    if (turn && rest.length > 0) args.push(`${option}=${turn(rest.join("="))}`);
    else if (turn && words[at + 1] !== undefined) {
      at += 1;
      args.push(word, turn(words[at] ?? ""));
    } else args.push(named.words && at > 0 && !word.startsWith("-") ? send(word) : word);
  }
  const isHelp = words.includes("--help") || words.includes("-h");
  if (verb === "report" && !isHelp) args.push(...workHere(words));
  const input = verb === "rotate" && words[1] === "accept" && !isHelp ? await readInput() : undefined;
  return { question: { args, files, ...(input === undefined ? {} : { input }) }, outs };
}

/** A name that both sides can have, with the ending of the path. */
function plainName(path: string, taken: readonly string[]): string {
  const name = basename(path);
  if (/^\w[\w.-]{0,99}$/.test(name) && !taken.includes(name)) return name;
  const ending = /^\.\w{1,10}$/.exec(extname(name))?.[0] ?? "";
  return `file-${taken.length}${ending}`;
}

/** The folder that somebody works in is here, and not there. */
function workHere(words: readonly string[]): string[] {
  const { repo, branch } = readWork();
  const isGiven = (option: string): boolean => words.some((word) => word === option || word.startsWith(`${option}=`));
  return [
    ...(repo === undefined || isGiven("--repo") ? [] : ["--repo", repo]),
    ...(branch === undefined || isGiven("--branch") ? [] : ["--branch", branch]),
  ];
}

async function readInput(): Promise<string> {
  if (process.stdin.isTTY) process.stderr.write("Paste the new key, then Enter and Ctrl-D:\n");
  const pieces: Buffer[] = [];
  for await (const piece of process.stdin) pieces.push(Buffer.from(piece as Uint8Array));
  return Buffer.concat(pieces).toString("base64");
}
