// Enough of Slack's Web API to hold what the alerts program says, and a page that shows it as Slack would, pictures
// too.
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

type Block = {
  readonly type: string;
  readonly text?: { readonly text: string };
  readonly elements?: readonly { readonly text?: string | { readonly text: string } }[];
};
export type SlackMessage = {
  readonly ts: string;
  text: string;
  blocks: readonly Block[];
  readonly thread: { readonly text?: string; readonly picture?: number }[];
};
export type DemoSlack = {
  readonly url: string;
  readonly server: Server;
  readonly messages: readonly SlackMessage[];
  /** Hears each message when it is posted or changed. */
  onMessage: (message: SlackMessage, isNew: boolean) => void;
};

export async function startSlack(): Promise<DemoSlack> {
  const messages: SlackMessage[] = [];
  const pictures: Buffer[] = [];
  const server = createServer((request, response) => {
    void bodyOf(request).then((body) => {
      const path = new URL(request.url ?? "/", "http://slack").pathname;
      if (path === "/") return reply(response, "text/html; charset=utf-8", pageOf(messages));
      const wanted = /^\/picture\/(\d+)$/.exec(path)?.[1];
      if (wanted !== undefined) return reply(response, "image/png", pictures[Number(wanted)] ?? Buffer.alloc(0));
      const upload = /^\/upload\/(\d+)$/.exec(path)?.[1];
      if (upload !== undefined) {
        pictures[Number(upload)] = pngIn(body);
        return reply(response, "text/plain", "OK");
      }
      reply(response, "application/json", JSON.stringify(answer(path, new URLSearchParams(body.toString("utf8")))));
    });
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const slack: DemoSlack = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    server,
    messages,
    onMessage: () => {},
  };
  return slack;

  function answer(path: string, form: URLSearchParams): object {
    const method = path.replace(/^\/api\//, "");
    if (method === "auth.test") return { ok: true, team: "Demo", user: "keymeter", bot_id: "B0DEMO" };
    if (method === "files.getUploadURLExternal") {
      const id = pictures.push(Buffer.alloc(0)) - 1;
      return { ok: true, upload_url: `${slack.url}/upload/${id}`, file_id: `F${id}` };
    }
    if (method === "files.completeUploadExternal") {
      const [file] = JSON.parse(form.get("files") ?? "[]") as { id: string }[];
      const message = messages.find(({ ts }) => ts === form.get("thread_ts"));
      message?.thread.push({ picture: Number(file?.id.slice(1)) });
      return { ok: true, files: [{ id: file?.id }] };
    }
    if (!/^chat\.(postMessage|update)$/.test(method)) return { ok: true, messages: [] };
    const text = form.get("text") ?? "";
    const blocks = JSON.parse(form.get("blocks") ?? "[]") as Block[];
    const parent = messages.find(({ ts }) => ts === form.get("thread_ts"));
    const old = messages.find(({ ts }) => ts === form.get("ts"));
    const ts = `${Math.floor(Date.now() / 1000)}.${String(messages.length).padStart(6, "0")}`;
    if (parent) parent.thread.push({ text });
    else if (old) {
      Object.assign(old, { text, blocks });
      slack.onMessage(old, false);
    } else {
      const made: SlackMessage = { ts, text, blocks, thread: [] };
      messages.push(made);
      slack.onMessage(made, true);
    }
    return { ok: true, channel: "C0DEMO", ts: old?.ts ?? (parent ? `${ts}1` : ts) };
  }
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function reply(response: ServerResponse, type: string, body: string | Buffer): void {
  response.writeHead(200, { "content-type": type }).end(body);
}

/** The picture in an upload, whether it came bare or in a form. */
function pngIn(body: Buffer): Buffer {
  const start = body.indexOf(Buffer.from([0x89, 0x50, 0x4e, 0x47]));
  const end = body.indexOf("IEND", start);
  return start < 0 || end < 0 ? Buffer.alloc(0) : body.subarray(start, end + 8);
}

function pageOf(messages: readonly SlackMessage[]): string {
  const shown = messages.map(
    ({ ts, text, blocks, thread }) => `<article>
      <div class="face">K</div>
      <div>
        <p class="who"><b>keymeter</b> <span>APP</span> ${new Date(Number(ts) * 1000).toISOString().slice(11, 16)} UTC</p>
        ${blocks.length > 0 ? blocks.map(blockOf).join("\n") : `<p>${mrkdwn(text)}</p>`}
        ${thread.map((one) => (one.picture === undefined ? `<p class="reply">${mrkdwn(one.text ?? "")}</p>` : `<p class="reply"><img src="/picture/${one.picture}" alt=""></p>`)).join("\n")}
      </div>
    </article>`,
  );
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width, initial-scale=1"><title># keymeter-demo</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 15px/1.45 system-ui, sans-serif; max-width: 48rem; margin: 0 auto; padding: 1rem; }
  article { display: flex; gap: 0.75rem; margin: 1.25rem 0; }
  .face { flex: none; width: 2.4rem; height: 2.4rem; border-radius: 6px; background: #0550ae; color: white; display: grid; place-items: center; font-weight: 700; }
  .who { margin: 0; } .who span { font-size: 0.7em; background: #8884; padding: 0 0.3em; border-radius: 3px; }
  h2 { font-size: 1.15rem; margin: 0.4rem 0; } p { margin: 0.4rem 0; white-space: pre-line; overflow-wrap: anywhere; }
  button { font: inherit; font-weight: 600; padding: 0.25rem 0.8rem; border: 1px solid #8888; border-radius: 6px; background: none; margin-right: 0.5rem; }
  code { background: #8883; padding: 0 0.25em; border-radius: 3px; } .small { font-size: 0.85em; opacity: 0.75; }
  .reply { border-left: 3px solid #8886; padding-left: 0.75rem; } img { max-width: 100%; border-radius: 6px; }
</style>
<h1># keymeter-demo</h1>
<p class="small">What Slack would show. The page renews itself.</p>
${shown.length > 0 ? shown.join("\n") : "<p>Nothing yet: the first alert comes about a minute after the leak begins.</p>"}
</html>`;
}

function blockOf({ type, text, elements = [] }: Block): string {
  const words = elements.map((one) => (typeof one.text === "string" ? one.text : (one.text?.text ?? "")));
  switch (type) {
    case "header":
      return `<h2>${mrkdwn(text?.text ?? "")}</h2>`;
    case "actions":
      return `<p>${words.map((word) => `<button type="button">${mrkdwn(word)}</button>`).join("")}</p>`;
    case "context":
      return `<p class="small">${words.map(mrkdwn).join(" ")}</p>`;
    default:
      return `<p>${mrkdwn(text?.text ?? "")}</p>`;
  }
}

/** Slack's own few marks; everything else is text. */
function mrkdwn(text: string): string {
  const links: string[] = [];
  return text
    .replace(/&(?!amp;|lt;|gt;)/g, "&amp;")
    .replace(
      /<(https?:[^|>"]+)\|([^>]+)>/g,
      (_all, url: string, words: string) => `[link ${links.push(`<a href="${url}">${words}</a>`) - 1}]`,
    )
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replace(/\[link (\d+)\]/g, (all, i: string) => links[Number(i)] ?? all)
    .replace(/\*([^*\n]+)\*/g, "<b>$1</b>")
    .replace(/`([^`\n]+)`/g, "<code>$1</code>");
}
