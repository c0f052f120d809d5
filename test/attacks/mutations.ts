// Changes at random places, for fuzzing: JSON values, the text of answers, frames, cuts and encodings. All of it by a
// generator with a seed.
import { brotliCompressSync, gzipSync, zstdCompressSync } from "node:zlib";

export type Next = () => number;

/** One of them. */
export function pick<T>(next: Next, list: readonly T[]): T {
  const one = list[Math.floor(next() * list.length)];
  if (one === undefined) throw new Error("nothing to pick from");
  return one;
}

const ODD: readonly unknown[] = [
  null,
  true,
  false,
  -1,
  0,
  1,
  1.5,
  1e300,
  2 ** 53,
  "",
  "text",
  "12",
  '\u0000\u{1F600}"\\',
  [],
  {},
  [null],
  [[[[]]]],
  { x: { y: { z: [1, null] } } },
];

type Slot = { readonly holder: Record<string, unknown>; readonly name: string };

function slots(value: unknown, fixed: ReadonlySet<string>): Slot[] {
  if (typeof value !== "object" || value === null) return [];
  const holder = value as Record<string, unknown>;
  return Object.keys(holder).flatMap((name) =>
    fixed.has(name) ? [] : [{ holder, name }, ...slots(holder[name], fixed)],
  );
}

/** Changes one place of a JSON value: what stands there goes, is replaced, is put into something else, or another
 *  number. What is `fixed` stays. */
export function mutate(value: object, next: Next, fixed: ReadonlySet<string> = new Set()): void {
  const all = slots(value, fixed);
  if (all.length === 0) return;
  const { holder, name } = pick(next, all);
  const was = holder[name];
  const ways: (() => void)[] = [
    () => (Array.isArray(holder) ? holder.splice(Number(name), 1) : delete holder[name]),
    () => (holder[name] = structuredClone(pick(next, ODD))),
    () => (holder[name] = pick(next, [[was], { [name]: was }, [was, was]])),
    () => (holder[pick(next, ["usage", "error", "model", "id", "x", "total_tokens"])] ??= structuredClone(was)),
  ];
  if (typeof was === "number")
    ways.push(
      () => (holder[name] = pick(next, [-was, was + 0.5, was * 1e6, String(was), Number.MAX_SAFE_INTEGER, was + 1])),
      () => (holder[name] = Math.floor(next() * 1_000)),
    );
  pick(next, ways)();
}

/** Lets a field of the outermost object stand twice in the text, or breaks it at one byte. */
export function mutateText(text: string, next: Next): string {
  if (next() < 0.5) {
    const again = pick(next, [
      '"usage":{"prompt_tokens":5,"completion_tokens":0},',
      '"model":"other",',
      '"x":1,',
      '"id":null,',
    ]);
    return text.replace("{", `{${again}`);
  }
  const at = Math.floor(next() * text.length);
  return text.slice(0, at) + pick(next, ["", "\u0000", "{", '"', "\n", "\\", "]"]) + text.slice(at + 1);
}

/** Events as a stream, with all the freedom that its format gives. */
export function renderEvents(events: readonly string[], next: Next): string {
  const end = pick(next, ["\n", "\n", "\r\n", "\r"]);
  const colon = pick(next, ["data: ", "data:"]);
  const parts = events.map((event) => {
    const before = pick(next, ["", "", "", `: comment${end}`, `event: x${end}`, `id: 7${end}retry: 10${end}`, end]);
    return `${before}${colon}${event}${end}${end}`;
  });
  // The blank line that ends the last event may be missing.
  const text = parts.join("");
  return next() < 0.1 ? text.slice(0, -end.length) : text;
}

export const ENCODINGS = {
  "": (bytes: Buffer): Buffer => bytes,
  gzip: gzipSync,
  br: brotliCompressSync,
  zstd: zstdCompressSync,
} as const;
