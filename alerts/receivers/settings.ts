// What settings say of receivers beside Slack, and which of them says what.
import { z } from "zod";
import { tokenText, webUrl } from "../../service/config.ts";
import type { Secret } from "../../service/secret.ts";
import { secretOf, secretText } from "../../service/settings.ts";
import { HeldSecret } from "../../service/secrets/held.ts";
import type { Reading } from "../../service/settings.ts";
import { createDiscord } from "./discord.ts";
import { createEmail } from "./email.ts";
import { channelAt } from "./index.ts";
import type { Receiver } from "./receiver.ts";
import { createTeams } from "./teams.ts";
import { createTelegram } from "./telegram.ts";
import type { TelegramSettings } from "./telegram.ts";
import { createWebhook } from "./webhook.ts";

/** Port and TLS as the address says: smtp is TLS from STARTTLS on where the server offers it, smtps from the beginning. */
const SMTP = z.string().regex(/^smtps?:\/\/\S+$/, "an address such as smtps://user:password@mail.example.com");
const given = z.string().min(1);
const row = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("telegram"),
    token: given,
    chat: z
      .union([z.string(), z.number()])
      .transform(String)
      .pipe(z.string().regex(/^(-?\d{1,20}|@\w{3,64})$/, "a chat's id, such as -1001234567890")),
    topic: z.number().int().positive().optional(),
    url: webUrl.default("https://api.telegram.org"),
  }),
  z.strictObject({
    kind: z.literal("discord"),
    token: given,
    // YAML reads a long number as another one.
    channel: z.string().regex(/^\d{15,22}$/, 'a channel\'s id in quotes, such as "123456789012345678"'),
    url: webUrl.default("https://discord.com/api/v10"),
  }),
  z.strictObject({ kind: z.literal("webhook"), url: given, secret: given }),
  z.strictObject({ kind: z.literal("teams"), url: given }),
  z.strictObject({
    kind: z.literal("email"),
    smtp: given,
    from: z.email("an address such as keymeter@example.com"),
    to: z.array(z.email("an address")).min(1).max(50),
  }),
]);

export const receiverRows = z.record(
  z.string().regex(/^[a-z0-9][a-z0-9-]{0,40}$/, "a name of small letters, digits and -"),
  row,
);
export const routeRows = z.array(
  z.strictObject({ topic: z.string().min(1).optional(), team: z.string().min(1).optional(), to: z.string().min(1) }),
);

export type ReceiverRows = z.output<typeof receiverRows>;

/** What stands where these rows have a secret: itself, or a reference. */
export function receiverTexts(rows: ReceiverRows): string[] {
  return Object.values(rows).flatMap((one) => {
    switch (one.kind) {
      case "telegram":
      case "discord":
        return [one.token];
      case "webhook":
        return [one.url, one.secret];
      case "teams":
        return [one.url];
      case "email":
        return [one.smtp];
    }
  });
}

export type NamedReceiver = {
  readonly name: string;
  readonly kind: z.output<typeof row>["kind"];
  /** As the notifier calls it. */
  readonly channel: string;
  readonly make: (warn: (what: string) => void) => Receiver;
  /** How presses of Acknowledge are heard. */
  readonly telegram?: TelegramSettings;
};

export function readReceivers(rows: ReceiverRows, reading: Reading): readonly NamedReceiver[] {
  return Object.entries(rows).map(([name, one]) => {
    const held = (part: string, text: string, schema: z.ZodType<string> = secretText): Secret => {
      const place = `alerts.receivers.${name}.${part}`;
      const secret = secretOf({ place, schema }, text, reading);
      const parsed = secret instanceof HeldSecret ? undefined : schema.safeParse(text);
      if (parsed?.error) reading.problems.push(`${place}: ${parsed.error.issues[0]?.message ?? "not allowed"}`);
      return secret;
    };
    switch (one.kind) {
      case "telegram": {
        const { url, topic, chat } = one;
        const telegram = { token: held("token", one.token, tokenText), url: url.replace(/\/+$/, ""), topic };
        return { name, kind: one.kind, channel: channelAt(name, chat), telegram, make: () => createTelegram(telegram) };
      }
      case "discord": {
        const settings = { token: held("token", one.token, tokenText), url: one.url.replace(/\/+$/, "") };
        return { name, kind: one.kind, channel: channelAt(name, one.channel), make: () => createDiscord(settings) };
      }
      case "teams": {
        const settings = { url: held("url", one.url, webUrl) };
        return { name, kind: one.kind, channel: channelAt(name, "cards"), make: () => createTeams(settings) };
      }
      case "email": {
        const { from, to } = one;
        const settings = { smtp: held("smtp", one.smtp, SMTP), from, to };
        return { name, kind: one.kind, channel: channelAt(name, "mail"), make: (warn) => createEmail(settings, warn) };
      }
      case "webhook": {
        const settings = { url: held("url", one.url, webUrl), secret: held("secret", one.secret) };
        return {
          name,
          kind: one.kind,
          channel: channelAt(name, "events"),
          make: () => createWebhook(settings, Date.now),
        };
      }
    }
  });
}

export type Route = z.output<typeof routeRows>[number];

/** The channel of the first route that fits; undefined: none does. What is wrong with routes is told at the start. */
export function routeOf(
  routes: readonly Route[],
  receivers: readonly NamedReceiver[],
  labels: { readonly [label: string]: string | undefined },
): string | undefined {
  const route = routes.find(
    ({ topic = labels["topic"], team = labels["team"] }) => topic === labels["topic"] && team === labels["team"],
  );
  return receivers.find(({ name }) => name === route?.to)?.channel;
}

/** What is wrong with routes, a sentence each. */
export function routeProblems(
  routes: readonly Route[],
  digestTo: string | undefined,
  receivers: readonly NamedReceiver[],
  hasSlack: boolean,
): string[] {
  const known = new Set(receivers.map(({ name }) => name));
  const named = [...routes.map(({ to }) => to), ...(digestTo === undefined ? [] : [digestTo])];
  const unknown = [...new Set(named)].filter((name) => !known.has(name));
  const isAlways = routes.some(({ topic, team }) => topic === undefined && team === undefined);
  return [
    ...unknown.map(
      (name) => `alerts.routes names ${name}, and alerts.receivers has ${[...known].join(", ") || "none"}`,
    ),
    ...(receivers.length > 0 && !hasSlack && !isAlways
      ? ["without Slack the last of alerts.routes has to take what no other does: { to: NAME }"]
      : []),
  ];
}
