// The alerts program as a fastify instance: the webhook that Alertmanager calls, the runbook, health and metrics.
import { Counter, Gauge, Registry } from "prom-client";
import type { FastifyInstance } from "fastify";
import { keepDelivery, readOutbox } from "../ledger/notices/notices.ts";
import type { NoticesBooks } from "../ledger/books.ts";
import { createListener } from "../service/listener.ts";
import type { MetricsGuard } from "../service/listener.ts";
import { bearerOf, createTokenCheck } from "../service/admin-routes.ts";
import type { Finding } from "../service/finding.ts";
import { addSecretGauges } from "../service/secrets/gauges.ts";
import type { Secret } from "../service/secret.ts";
import type { Notifier } from "./notifier.ts";
import { runbookPage } from "./runbook-page.ts";
import { OWN_SOURCE } from "./source.ts";
import type { OwnRules } from "./own-rules.ts";
import { isWatchdog, parseDelivery } from "./webhook.ts";

/** The source of what came without the token. */
const UNSIGNED = "unsigned";

/** Alertmanager hears 200 only when its delivery is durable; then it is ours to say. */
export function createAlertsApp(
  notices: NoticesBooks,
  notifier: Notifier,
  ownRules: Pick<OwnRules, "heardWatchdog" | "isSpeaking">,
  webhookToken: Secret,
  /** Looks at Slack and Alertmanager; true: sends a test message too. */
  check: (isSaid: boolean) => Promise<Finding[]> = async () => [],
  guard?: MetricsGuard,
  /** Whose secrets are shown. */
  settings: object = {},
): FastifyInstance {
  const isSigned = createTokenCheck(webhookToken, 0);
  const registry = new Registry();
  const registers = [registry];
  addSecretGauges(registry, settings);
  const received = new Counter({
    name: "keymeter_deliveries_received_total",
    help: "Webhook deliveries taken from Alertmanager.",
    registers,
  });
  const sent: Counter = new Counter({
    name: "keymeter_slack_messages_total",
    help: "What Slack took: posts, updates, replies, pictures.",
    registers,
    collect: () => (sent.reset(), sent.inc(notifier.status().sent)),
  });
  const failed: Counter = new Counter({
    name: "keymeter_slack_failures_total",
    help: "What Slack did not take.",
    registers,
    collect: () => (failed.reset(), failed.inc(notifier.status().failed)),
  });
  const waiting: Gauge = new Gauge({
    name: "keymeter_outbox_deliveries",
    help: "What waits for Slack.",
    registers,
    collect: async () => waiting.set((await readOutbox(notices)).length),
  });
  const oldest: Gauge = new Gauge({
    name: "keymeter_outbox_oldest_seconds",
    help: "How long the oldest of it has waited.",
    registers,
    collect: async () => {
      const [first] = await readOutbox(notices);
      oldest.set(first ? Math.max(0, (Date.now() - first.receivedAtMs) / 1000) : 0);
    },
  });
  const own: Gauge = new Gauge({
    name: "keymeter_own_rules_speaking",
    help: "1 while rules are evaluated here, because no Prometheus is heard.",
    registers,
    collect: () => own.set(ownRules.isSpeaking() ? 1 : 0),
  });

  const unsigned = new Gauge({
    name: "keymeter_unsigned_deliveries_timestamp_seconds",
    help: "When a delivery came last without the webhook's token; 0: none has.",
    registers,
  });
  unsigned.set(0);
  const refused = new Counter({
    name: "keymeter_deliveries_refused_total",
    help: "Webhook deliveries that nobody could ever say.",
    registers,
  });

  const app = createListener(registry, () => undefined, guard);
  app.post("/webhook", async (request, reply) => {
    const group = parseDelivery(request.body);
    // 4xx makes Alertmanager drop it: right for what nobody can ever understand, and counted there as failed.
    if (!group) refused.inc();
    if (!group) return reply.code(400).send({ error: "not a delivery of Alertmanager (webhook version 4)" });
    received.inc();
    if (!(await isSigned(bearerOf(request)))) {
      // Anybody on this machine can send one. For one release it is still said, marked; it ends, silences and proves
      // nothing.
      unsigned.set(Date.now() / 1000);
      if (isWatchdog(group) || group.status === "resolved") return { ok: true, ignored: "it brought no token" };
      const payload = JSON.stringify({ ...group, isSigned: undefined, isUnsigned: true });
      await keepDelivery(notices, group.groupKey, UNSIGNED, payload, Date.now());
      notifier.wake();
      return { ok: true };
    }
    if (isWatchdog(group)) {
      ownRules.heardWatchdog();
      return { ok: true };
    }
    // Our own rules speak under a name that nobody else has.
    const source =
      group.externalURL === undefined || group.externalURL === OWN_SOURCE ? "alertmanager" : group.externalURL;
    await keepDelivery(
      notices,
      group.groupKey,
      source,
      JSON.stringify({ ...group, isSigned: true, isUnsigned: undefined }),
      Date.now(),
    );
    notifier.wake();
    return { ok: true };
  });
  app.get<{ Querystring: { say?: string } }>("/check", async (request, reply) => {
    if (!(await isSigned(bearerOf(request))))
      return reply.code(401).send({ error: "the webhook's token is missing or wrong" });
    return { findings: await check(request.query.say === "1") };
  });
  const runbook = runbookPage();
  app.get("/runbook", async (_request, reply) => reply.type("text/html; charset=utf-8").send(runbook));
  return app;
}
