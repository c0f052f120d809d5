// The provider's side of an exchange: one state, whatever order the books, the client and undici speak in.
import type { Dispatcher } from "undici";
import { expect, it } from "vitest";
import { Upstream } from "../../proxy/upstream.ts";

function start() {
  const heard: string[] = [];
  const upstream = new Upstream(
    {
      begins: (status) => void heard.push(`begins ${status}`),
      takes: (chunk) => void heard.push(`takes ${chunk.toString()}`),
      ends: (how, error, timedOut) => void heard.push(`ends ${how} ${error ?? "-"} ${timedOut}`),
    },
    false,
  );
  const said: string[] = [];
  const controller = {
    rawHeaders: [],
    pause: () => void said.push("pause"),
    resume: () => void said.push("resume"),
    abort: (error: Error) => void said.push(`abort ${error.message}`),
  } as unknown as Dispatcher.DispatchController;
  return { upstream, controller, heard, said };
}

it("goes on for what it waits for, and for nothing else", () => {
  const { upstream, controller, said } = start();
  upstream.pause("client");
  expect(said).toEqual([]);
  upstream.onRequestStart(controller);
  upstream.pause("books");
  upstream.resume("client");
  expect(said).toEqual(["pause"]);
  // The books have come, and the client is full: it is waited for without a byte in between.
  upstream.pause("client");
  upstream.resume("books");
  expect(said).not.toContain("resume");
  upstream.resume("client");
  expect(said.at(-1)).toBe("resume");
  upstream.pause("books");
  upstream.resume(undefined);
  expect(said.at(-1)).toBe("resume");
});

it("is unreachable before it has a connection, and failed from then on", () => {
  const refused = start();
  refused.upstream.onResponseError(refused.controller, Object.assign(new Error("no"), { code: "ECONNREFUSED" }));
  expect(refused.heard).toEqual(["ends unreachable ECONNREFUSED false"]);
  expect(refused.upstream.sent).toBe(false);

  const slow = start();
  slow.upstream.onRequestStart(slow.controller);
  slow.upstream.onResponseError(slow.controller, Object.assign(new Error("no"), { code: "UND_ERR_HEADERS_TIMEOUT" }));
  expect(slow.heard).toEqual(["ends failed UND_ERR_HEADERS_TIMEOUT true"]);
  expect(slow.upstream.sent).toBe(true);
});

it("that is ended while it waits for a connection sends nothing", () => {
  const { upstream, controller, heard, said } = start();
  upstream.abort("client_left", "the client left");
  upstream.abort("stopped", "shutting down");
  expect(heard).toEqual([]);
  upstream.onRequestStart(controller);
  expect(said).toEqual(["abort the client left"]);
  upstream.onResponseError(controller, new Error("aborted"));
  expect(heard).toEqual(["ends client_left the client left false"]);
  expect(upstream.sent).toBe(false);
});

it("ends once, by the first word", () => {
  const { upstream, controller, heard, said } = start();
  upstream.onRequestStart(controller);
  upstream.onResponseStart(controller, 100);
  upstream.onResponseStart(controller, 307);
  upstream.onResponseError(controller, new Error("aborted"));
  upstream.onResponseEnd();
  upstream.abort("stopped", "shutting down");
  upstream.pause("books");
  expect(said).toEqual(["abort the provider answered with a redirect (307)"]);
  expect(heard).toEqual(["ends failed the provider answered with a redirect (307) false"]);
  expect(upstream).toMatchObject({ how: "failed", status: 307, sent: true });
});
