// Load of our own, where wrk cannot say what is asked: latency at a fixed rate, the delay of single chunks, many open
// streams. Reads a job from its parent, answers with figures.
import { Agent, request as httpRequest } from "node:http";

type Job =
  | {
      readonly kind: "rate";
      readonly url: string;
      readonly key: string;
      readonly perSecond: number;
      readonly seconds: number;
    }
  | {
      readonly kind: "closed";
      readonly urls: readonly string[];
      readonly key: string;
      readonly connections: number;
      readonly requests: number;
    }
  | { readonly kind: "chunks"; readonly url: string; readonly key: string; readonly streams: number }
  | {
      readonly kind: "open";
      readonly url: string;
      readonly key: string;
      readonly streams: number;
      readonly seconds: number;
    };

const agent = new Agent({ keepAlive: true, maxSockets: Infinity });

process.on("message", (job: Job) => {
  run(job).then(
    (figures) => process.send?.(figures),
    (error: unknown) => process.send?.({ error: error instanceof Error ? error.message : String(error) }),
  );
});

async function run(job: Job): Promise<object> {
  switch (job.kind) {
    case "rate": {
      // Open loop: a request leaves when its time has come, whether the others are back or not.
      const latencies: number[] = [];
      const pending: Promise<void>[] = [];
      const total = job.perSecond * job.seconds;
      const started = performance.now();
      for (let i = 0; i < total; i++) {
        const due = started + (i * 1000) / job.perSecond;
        while (performance.now() < due)
          await new Promise((resolve) =>
            due - performance.now() > 1.5 ? setTimeout(resolve, 1) : setImmediate(resolve),
          );
        // From when it was due: a client that is late itself must not hide it.
        pending.push(ask(job.url, job.key, false, () => {}).then(() => void latencies.push(performance.now() - due)));
      }
      await Promise.all(pending);
      return { p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99) };
    }
    case "closed": {
      // Each connection asks again when it has its answer, of one address after the other.
      const latencies: number[] = [];
      const started = performance.now();
      let asked = 0;
      await Promise.all(
        Array.from({ length: job.connections }, async () => {
          while (asked < job.requests) {
            const url = job.urls[(asked += 1) % job.urls.length] ?? "";
            const sentAt = performance.now();
            await ask(url, job.key, false, () => {});
            latencies.push(performance.now() - sentAt);
          }
        }),
      );
      const perSecond = (latencies.length * 1_000) / (performance.now() - started);
      return { perSecond, p50: quantile(latencies, 0.5) };
    }
    case "chunks": {
      const delays: number[] = [];
      await Promise.all(
        Array.from({ length: job.streams }, () =>
          ask(job.url, job.key, true, (text) => {
            const now = process.hrtime.bigint();
            for (const [, sent] of text.matchAll(/"sent":"(\d+)"/g))
              delays.push(Number(now - BigInt(sent ?? "0")) / 1e6);
          }),
        ),
      );
      return { p50: quantile(delays, 0.5), p99: quantile(delays, 0.99), chunks: delays.length };
    }
    case "open": {
      let open = 0;
      for (let i = 0; i < job.streams; i++)
        void ask(
          job.url,
          job.key,
          true,
          () => {},
          () => (open += 1),
        ).catch(() => {});
      const deadline = performance.now() + job.seconds * 1000;
      while (open < job.streams && performance.now() < deadline)
        await new Promise((resolve) => setTimeout(resolve, 50));
      return { open };
    }
  }
}

function ask(
  url: string,
  key: string,
  stream: boolean,
  onText: (text: string) => void,
  onOpen: () => void = () => {},
): Promise<void> {
  const body = JSON.stringify({
    model: "gpt-4o-mini",
    max_tokens: 200,
    messages: [{ role: "user", content: "some words of a question ".repeat(72) }],
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
  }).replace(/"stream":\s*true/, '"stream":true');
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      url,
      {
        agent,
        method: "POST",
        headers: {
          "content-type": "application/json",
          authorization: `Bearer ${key}`,
          "content-length": Buffer.byteLength(body),
        },
      },
      (response) => {
        if (response.statusCode !== 200) return reject(new Error(`the answer has status ${response.statusCode}`));
        onOpen();
        response.on("data", (chunk: Buffer) => onText(chunk.toString("latin1")));
        response.on("end", resolve);
        response.on("error", reject);
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}

function quantile(values: readonly number[], at: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * at))] ?? Number.NaN;
}
