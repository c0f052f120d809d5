// Ahead of the disk: what is sent, and what a client gets, while an fsync of the real proxy does not return.
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { startFakeProvider } from "../fake/provider.ts";
import { answerSlowly, slowChat } from "../fake/slow-chat.ts";
import { readAllEvents } from "../start-proxy.ts";
import { askSlowly, setBudget, whileRunning } from "./program.ts";
import { canRecord, createRecorder } from "./recorder.ts";

/** Longer than the tenth of a second. */
const LEAST_WHILE_MS = 250;

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

/** What such a provider says to whoever asks it directly. */
async function wordsOf(body: string): Promise<string> {
  const provider = await startFakeProvider(answerSlowly);
  const answer = await fetch(`${provider.url}/v1/chat/completions`, { method: "POST", body });
  const words = await answer.text();
  await provider.close();
  return words;
}

describe.skipIf(!canRecord)("what is sent and what is answered waits for the disk as it says", () => {
  it.concurrent.each(["power", "power_before_send", "process"])("with durability %s", async (durability) => {
    const waitsForNothing = durability === "process";
    const { folder, environment, whileSyncs } = createRecorder();
    const provider = await startFakeProvider(answerSlowly);
    const words = await wordsOf(slowChat(1, true));
    await whileRunning(provider.url, folder, { ...environment, KEYMETER_DURABILITY: durability }, async (program) => {
      const { url } = program;
      const startedMs = performance.now();
      const whole = ask(url, 1, true);
      await whole.over;
      expect(whole.got.text).toBe(words);
      // Longer than anything here takes that does not wait for the disk, however slow the machine is now.
      const aWhileMs = Math.max(LEAST_WHILE_MS, 2 * (performance.now() - startedMs));
      await sleep(LEAST_WHILE_MS);
      const asked = await whileSyncs("wait", async () => {
        const first = [ask(url, 1, true), ask(url, 2, false)];
        await sleep(aWhileMs);
        const all = [...first, ask(url, 3, false)];
        let isSet = false;
        const change = setBudget(program, folder, "waits").then(() => (isSet = true));
        // What does not wait ends, however slow the machine; that the others wait shows after a while.
        await (waitsForNothing ? Promise.all([...all.map(({ over }) => over), change]) : sleep(aWhileMs));
        expect(provider.journal.length).toBe({ power: 3, power_before_send: 1, process: 4 }[durability]);
        for (const { got } of all) expect([got.text.length > 0, got.isOver]).toEqual(Array(2).fill(waitsForNothing));
        expect(isSet).toBe(waitsForNothing);
        return { all, change };
      });
      await Promise.all([...asked.all.map(({ over }) => over), asked.change]);
      expect(provider.journal.length).toBe(4);
      // What had to wait lost nothing, and kept its order.
      expect(asked.all[0]?.got).toEqual(whole.got);
      expect(asked.all.map(({ got }) => got.status)).toEqual([200, 200, 200]);
    });
    const events = await readAllEvents(folder);
    expect(events.map(({ outcome }) => outcome)).toEqual(Array(4).fill("complete"));
    await provider.close();
  });
});
