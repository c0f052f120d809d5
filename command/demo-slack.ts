// Enough of Slack's Web API to hold what the alerts program says, so that the demo can show it.
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";

export type SlackMessage = { readonly ts: string; text: string };

export async function startSlack(): Promise<{ url: string; server: Server; messages: SlackMessage[] }> {
  const messages: SlackMessage[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      // Without a scope for files, pictures are left out.
      if (request.url?.includes("files."))
        return void response
          .writeHead(200, { "content-type": "application/json" })
          .end('{"ok":false,"error":"missing_scope"}');
      const form = new URLSearchParams(Buffer.concat(chunks).toString("utf8"));
      const text = form.get("text") ?? "";
      const old = messages.find(({ ts }) => ts === form.get("ts"));
      const message = old ?? {
        ts: `${Math.floor(Date.now() / 1000)}.${String(messages.length).padStart(6, "0")}`,
        text,
      };
      if (old) old.text = text;
      else if (!form.has("thread_ts")) messages.push(message);
      response
        .writeHead(200, { "content-type": "application/json" })
        .end(JSON.stringify({ ok: true, channel: "C0DEMO", ts: message.ts }));
    });
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server, messages };
}
