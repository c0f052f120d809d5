// Ahead of the disk: what is sent, and what a client gets, while an fsync of the real proxy does not return.
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { startFakeProvider } from "../fake/provider.ts";
import { answerSlowly } from "../fake/slow-chat.ts";
import { readAllEvents } from "../start-proxy.ts";
import { askSlowly, whileRunning } from "./program.ts";
import { canRecord, createRecorder } from "./recorder.ts";

/** Longer than anything here takes that does not wait for the disk, and than the tenth of a second. */
const A_WHILE_MS = 250;

/** What a client has got so far. */
type Got = { status?: number; text: string; isOver: boolean };

function ask(url: string, n: number, stream: boolean): { readonly got: Got; readonly over: Promise<void> } {
  const got: Got = { text: "", isOver: false };
  const read = async (): Promise<void> => {
    const answer = await askSlowly(url, n, stream);
    got.status = answer.status;
    const decoder = new TextDecoder();
    for await (const piece of answer.body ?? []) got.text += decoder.decode(piece as Uint8Array, { stream: true });
    got.isOver = true;
  };
  return { got, over: read() };
}

describe.skipIf(!canRecord).each(["power", "power_before_send", "process"])("with durability %s", (durability) => {
  it("what is sent and what is answered waits for the disk as it says", async () => {
    const { folder, environment, whileSyncs } = createRecorder();
    const provider = await startFakeProvider(answerSlowly);
    await whileRunning(provider.url, folder, { ...environment, KEYMETER_DURABILITY: durability }, async ({ url }) => {
      const whole = ask(url, 1, true);
      await whole.over;
      await sleep(A_WHILE_MS);
      const [stream, body, next] = await whileSyncs("wait", async () => {
        const first = [ask(url, 1, true), ask(url, 2, false)] as const;
        await sleep(A_WHILE_MS);
        const third = ask(url, 3, false);
        await sleep(A_WHILE_MS);
        expect(provider.journal.length).toBe({ power: 3, power_before_send: 1, process: 4 }[durability]);
        for (const { got } of [...first, third])
          expect([got.text.length > 0, got.isOver]).toEqual(durability === "process" ? [true, true] : [false, false]);
        return [...first, third] as const;
      });
      await Promise.all([stream.over, body.over, next.over]);
      expect(provider.journal.length).toBe(4);
      // What had to wait lost nothing, and kept its order.
      expect(stream.got).toEqual(whole.got);
      expect([body.got.status, next.got.status]).toEqual([200, 200]);
    });
    const events = await readAllEvents(folder);
    expect(events.map(({ outcome }) => outcome)).toEqual(Array(4).fill("complete"));
    await provider.close();
  });
});
