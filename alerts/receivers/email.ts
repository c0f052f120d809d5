// E-mail by SMTP: a message is a mail, what follows answers it: that it got worse, and that it is over. A mail that may have gone out goes
// again with the same Message-ID, which mail programs show once. The picture is an answer of its own.
import { createHash } from "node:crypto";
import type { Secret } from "../../service/secret.ts";
import { isLoopback } from "../../service/network.ts";
import { clientOf } from "../../service/secrets/client.ts";
import type { Message } from "../message.ts";
import { AGAIN_MS, failed } from "./http.ts";
import type { Outcome, Receiver } from "./receiver.ts";
import { HTML, PLAIN, writeMessage, writeText } from "./words.ts";

const MOST = 100_000;
const TIMEOUT_MS = 10_000;
/** Filters for spam look at a mail before they say that they have it. */
const TAKING_MS = 60_000;
/** After what a server does not take yet: greylisting, a full disk. */
const LATER_MS = 15_000;
/** What SMTP servers say for now, and for good. */
const FOR_GOOD = 500;

export type EmailSettings = { readonly smtp: Secret; readonly from: string; readonly to: readonly string[] };

/** `channel` is nothing: the addresses stand in the settings. */
export function createEmail({ smtp, from, to }: EmailSettings, warn: (what: string) => void): Receiver {
  // Loaded where there is e-mail.
  const transport = clientOf(smtp, async (url) => {
    const { createTransport } = await import("nodemailer");
    const times = { connectionTimeout: TIMEOUT_MS, greetingTimeout: TIMEOUT_MS, socketTimeout: TAKING_MS };
    const { username, hostname } = new URL(url);
    // A password goes to no server that offers no TLS, or somebody between who takes the offer away.
    const requireTLS = username !== "" && !isLoopback(hostname);
    return createTransport({ url, ...times, requireTLS, disableFileAccess: true, disableUrlAccess: true });
  });
  /** Mails that some of their addresses have. */
  const takenBy = new Map<string, ReadonlySet<string>>();
  const domain =
    from
      .split("@")
      .at(-1)
      ?.replace(/[^\w.-]/g, "") ?? "keymeter";
  const idOf = (nonce: string): string =>
    `<${createHash("sha256").update(nonce).digest("hex").slice(0, 32)}@${domain}>`;
  const send = async (
    channel: string,
    ts: string,
    mail: {
      readonly id: string;
      readonly subject: string;
      readonly text: string;
      readonly html: string;
      readonly png?: Uint8Array;
    },
  ): Promise<Outcome> => {
    const answers = mail.id === ts ? {} : { inReplyTo: ts, references: [ts] };
    try {
      const taken = takenBy.get(mail.id) ?? new Set();
      const { accepted, rejectedErrors = [] } = await (
        await transport()
      ).sendMail({
        from,
        to: [...to],
        envelope: { from, to: to.filter((one) => !taken.has(one)) },
        messageId: mail.id,
        subject: mail.subject.replace(/\s+/g, " ").slice(0, 200),
        text: mail.text,
        html: mail.html.replaceAll("\n", "<br>\n"),
        ...answers,
        ...(mail.png ? { attachments: [{ filename: "spend.png", content: Buffer.from(mail.png) }] } : {}),
        headers: { "Auto-Submitted": "auto-generated" },
      });
      const later = rejectedErrors.find(({ responseCode = FOR_GOOD }) => responseCode < FOR_GOOD);
      if (later) {
        // The others have it: next time it goes to those that are left.
        takenBy.set(mail.id, new Set([...taken, ...accepted.map(String)]));
        return failed("everything", `some addresses: ${firstLine(later)}`, LATER_MS);
      }
      takenBy.delete(mail.id);
      for (const one of rejectedErrors) warn(`a mail of alerts did not go to all of its addresses: ${firstLine(one)}`);
      return { ok: true, channel, ts };
    } catch (error) {
      return failureOf(error);
    }
  };
  const said = (channel: string, ts: string, id: string, message: Message): Promise<Outcome> =>
    send(channel, ts, {
      id,
      subject: message.headline,
      text: writeMessage(message, PLAIN, MOST),
      html: writeMessage(message, HTML, MOST),
    });
  return {
    // What is over may have been said before: a mail with the same id would not be shown.
    post: (channel, message, nonce) =>
      said(channel, idOf(nonce), idOf(isOver(message) ? `${nonce} resolved` : nonce), message),
    // Figures that moved are not worth a mail.
    update: async (channel, ts, message, nonce) =>
      isOver(message) ? said(channel, ts, idOf(`${nonce} resolved`), message) : { ok: true, channel, ts },
    // That it is over was a mail already.
    reply: async (channel, ts, text, nonce, isLoud) =>
      isLoud
        ? send(channel, ts, {
            id: idOf(nonce),
            subject: writeText(text.split("\n")[0] ?? "", PLAIN, 200),
            text: writeText(text, PLAIN, MOST),
            html: writeText(text, HTML, MOST),
          })
        : { ok: true, channel, ts },
    picture: (channel, ts, { png, title, alt }, nonce) =>
      send(channel, ts, { id: idOf(nonce), subject: title, text: alt, html: writeText(alt, HTML, MOST), png }),
    find: async () => undefined,
    async check() {
      try {
        await (await transport()).verify();
      } catch (error) {
        const outcome = failureOf(error);
        throw new Error(outcome.ok ? "" : outcome.error, { cause: error });
      }
      return from;
    },
  };
}

function isOver({ headline }: Message): boolean {
  return headline.startsWith("Resolved after ");
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}

/** nodemailer says what the server said, and whether a mail was on its way when it broke off. */
function failureOf(error: unknown): Outcome {
  const { responseCode, code = "", command = "" } = error as { responseCode?: number; code?: string; command?: string };
  const why = firstLine(error);
  if (code === "EAUTH" || code === "ENOAUTH")
    return failed("everything", `${why}: look at user and password in the SMTP address`);
  if (responseCode !== undefined && responseCode < FOR_GOOD) return failed("everything", why, LATER_MS);
  if (code === "EENVELOPE") return failed("channel", `${why}: look at the addresses`);
  if (responseCode !== undefined) return failed("call", why);
  const isSent = command === "DATA" || code === "ESOCKET" || code === "ETIMEDOUT" || code === "ECONNECTION";
  return { ok: false, retryAfterMs: AGAIN_MS, error: why, isKnown: !isSent, about: "call" };
}
