// A page of metrics -> samples. Prometheus' text format, as prom-client writes it.
import type { Secret } from "../service/secret.ts";
import type { Sample } from "./expression.ts";

const TIMEOUT_MS = 5_000;
const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)/g;

/** The samples of some metrics. Rejects when the page does not answer: silence is no zero. */
export async function readSamples(url: string, wanted: ReadonlySet<string>, token?: Secret): Promise<Sample[]> {
  const answer = await fetch(url, {
    headers: token ? { authorization: `Bearer ${token.reveal()}` } : {},
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
  return parseSamples(await answer.text(), wanted);
}

export function parseSamples(text: string, wanted: ReadonlySet<string>): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const [, name = "", labels = "", value = ""] = LINE.exec(line) ?? [];
    if (!wanted.has(name)) continue;
    samples.push({ name, labels: labelsOf(labels), value: numberOf(value) });
  }
  return samples;
}

function labelsOf(text: string): { [name: string]: string } {
  const labels: { [name: string]: string } = {};
  for (const [, name = "", value = ""] of text.matchAll(LABEL))
    labels[name] = value.replace(/\\(["\\n])/g, (_whole, sign: string) => (sign === "n" ? "\n" : sign));
  return labels;
}

function numberOf(text: string): number {
  if (text === "+Inf") return Infinity;
  return text === "-Inf" ? -Infinity : Number(text);
}
