// The chart and the plain manifests: rendered by helm's SDK, held against Kubernetes' schemas and the Prometheus Operator's, against the
// settings that there are, and against themselves. No cluster can be had here: what a scheduler does with them is not shown.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { ALERTS_SETTINGS } from "../../alerts/config.ts";
import { COLLECTOR_SETTINGS } from "../../collector/config.ts";
import { PROXY_SETTINGS } from "../../proxy/config.ts";
import { settingsIn } from "../../service/settings.ts";
import { noteSkipped } from "../skipped.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { CHART, findSchemaFault, HAS_HELM, renderChart } from "./chart.ts";
import type { Manifest } from "./chart.ts";

if (!HAS_HELM) noteSkipped("the chart: helm's SDK is not installed (test/servers/requirements.txt)");

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const MODELS = join(ROOT, "test/servers/node_modules/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1");
const FLEET = { books: "postgres", secretName: "keymeter" };
/** Each way of the chart that has manifests of its own. */
const WAYS: { readonly [name: string]: object } = {
  "one pod": {},
  "one pod, watched": { secretName: "keymeter", monitoring: { enabled: true }, dashboards: { enabled: true } },
  fleet: FLEET,
  "fleet, with everything": {
    ...FLEET,
    image: { digest: `sha256:${"0".repeat(64)}`, pullSecrets: [{ name: "registry" }] },
    settings: { timezone: "Europe/Berlin", proxy: { openai: { api_key: "vault:secret/keymeter/openai#key" } } },
    proxy: {
      replicas: 5,
      env: [{ name: "OPENAI_API_KEY", valueFrom: { secretKeyRef: { name: "openai", key: "key" } } }],
      service: { type: "LoadBalancer", port: 8080, annotations: { a: "b" } },
    },
    serviceAccount: { tokenAudience: "vault", annotations: { role: "keymeter" } },
    networkPolicy: { clients: [{ namespaceSelector: { matchLabels: { team: "search" } } }] },
    monitoring: { enabled: true, labels: { release: "prometheus" } },
    dashboards: { enabled: true },
    nodeSelector: { disk: "ssd" },
    tolerations: [{ key: "a", operator: "Exists" }],
    affinity: { nodeAffinity: {} },
  },
};

const podsOf = (manifests: readonly Manifest[]): readonly Manifest[] =>
  manifests.flatMap((one) => (one.spec?.template?.spec ? [one.spec.template] : []));
const ofKind = (manifests: readonly Manifest[], kind: string): readonly Manifest[] =>
  manifests.filter((one) => one.kind === kind);
const fits = (labels: { [name: string]: string }, selector: { [name: string]: string }): boolean =>
  Object.entries(selector).every(([name, value]) => labels[name] === value);

describe.skipIf(!HAS_HELM)("the chart", () => {
  describe.each(Object.entries(WAYS))("%s", (_name, values) => {
    const { text, manifests } = HAS_HELM ? renderChart(values) : { text: "", manifests: [] };

    it("is what Kubernetes takes, of 1.27's and of newer schemas", () => {
      const file = join(temporaryFolder(), "manifests.yaml");
      writeFileSync(file, text);
      for (const version of ["1.27", "1.34"]) expect(findSchemaFault(file, version)).toBeUndefined();
    });

    it("lets pods do nothing but their work", () => {
      const pods = podsOf(manifests);
      expect(pods.length).toBeGreaterThan(0);
      for (const { spec } of pods) {
        expect(spec.securityContext).toMatchObject({
          runAsNonRoot: true,
          runAsUser: 10001,
          seccompProfile: { type: "RuntimeDefault" },
        });
        expect(spec.automountServiceAccountToken).toBe(false);
        for (const one of spec.containers) {
          expect(one.securityContext).toEqual({
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ["ALL"] },
          });
          expect(one.resources.requests).toMatchObject({ cpu: expect.any(String), memory: expect.any(String) });
          expect(one.resources.limits).toMatchObject({ memory: expect.any(String) });
        }
      }
    });

    it("gives each program settings that there are, and only its own secrets", () => {
      const trees = { proxy: PROXY_SETTINGS, collector: COLLECTOR_SETTINGS, alerts: ALERTS_SETTINGS };
      for (const { spec } of podsOf(manifests))
        for (const { name: program, env } of spec.containers as Manifest[]) {
          const tree = trees[program as keyof typeof trees];
          const known = new Set(
            Object.values(settingsIn(tree ?? PROXY_SETTINGS)).flatMap((one) => ("env" in one ? [one.env] : [])),
          );
          for (const { name, valueFrom } of env as Manifest[]) {
            // Which file, and what the supervisor alone reads.
            if (["KEYMETER_CONFIG", "KEYMETER_PROMETHEUS"].includes(name)) continue;
            expect([program, name, known.has(name)]).toEqual([program, name, true]);
            if (/TOKEN|PEPPER|SECRET|API_KEY|LEDGER_URL/.test(name)) expect(valueFrom?.secretKeyRef).toBeDefined();
          }
        }
    });

    it("has services, monitors, budgets and policies that fit its pods", () => {
      const pods = podsOf(manifests);
      const portsOf = (pod: Manifest): string[] =>
        pod.spec.containers.flatMap((one: Manifest) => (one.ports ?? []).map(({ name }: Manifest) => name));
      const services = ofKind(manifests, "Service");
      for (const { metadata, spec } of services) {
        const behind = pods.filter(({ metadata: { labels } }) => fits(labels, spec.selector));
        expect([metadata.name, behind.length]).toEqual([metadata.name, 1]);
        for (const { targetPort } of spec.ports) expect(portsOf(behind[0])).toContain(targetPort);
      }
      for (const { spec } of ofKind(manifests, "ServiceMonitor")) {
        const scraped = services.filter(({ metadata: { labels } }) => fits(labels, spec.selector.matchLabels));
        const named = scraped.flatMap((one) => one.spec.ports.map(({ name }: Manifest) => name) as string[]);
        for (const { port } of spec.endpoints) expect(named).toContain(port);
      }
      for (const { spec } of ofKind(manifests, "PodDisruptionBudget"))
        expect(pods.filter(({ metadata: { labels } }) => fits(labels, spec.selector.matchLabels)).length).toBe(1);
      for (const { spec } of ofKind(manifests, "NetworkPolicy")) {
        const all = pods.flatMap(portsOf);
        for (const rule of spec.ingress) for (const { port } of rule.ports) expect(all).toContain(port);
        // Everything but the proxy's own port says from whom.
        const open = spec.ingress.filter((rule: Manifest) => rule.from === undefined);
        expect(open.flatMap((rule: Manifest) => rule.ports.map(({ port }: Manifest) => port))).toEqual(
          "networkPolicy" in values ? [] : ["proxy"],
        );
      }
    });
  });

  it("has rules and dashboards that are the files of alerts/ and dashboards/, and that their operators take", async () => {
    const { manifests } = renderChart(WAYS["fleet, with everything"] ?? {});
    const groups = [
      ...readdirSync(join(ROOT, "alerts/rules"))
        .toSorted()
        .map((name) => `alerts/rules/${name}`),
      "dashboards/rules.yaml",
    ]
      .map((file) => parse(readFileSync(join(ROOT, file), "utf8")) as { groups: object[] })
      .flatMap((one) => one.groups);
    const [rule] = ofKind(manifests, "PrometheusRule");
    expect(rule.spec.groups).toEqual(groups);
    const dashboards = ofKind(manifests, "ConfigMap").filter(
      ({ metadata }) => metadata.labels.grafana_dashboard === "1",
    );
    const files = readdirSync(join(ROOT, "dashboards/json"));
    expect(Object.fromEntries(dashboards.flatMap(({ data }) => Object.entries(data as object)))).toEqual(
      Object.fromEntries(files.map((name) => [name, readFileSync(join(ROOT, "dashboards/json", name), "utf8")])),
    );
    const require = createRequire(import.meta.url);
    const monitors = ofKind(manifests, "ServiceMonitor");
    expect(monitors.map(({ spec }) => spec.endpoints[0].relabelings[0].replacement)).toEqual(
      ["proxy", "collector", "alerts"].map((program) => `keymeter-${program}`),
    );
    for (const one of [rule, ...monitors]) {
      const file = join(MODELS, `${one.kind}.js`);
      const { [one.kind as string]: Model } = require(file) as {
        [kind: string]: new (data: unknown) => { validate(): void };
      };
      if (!Model) throw new Error(`no schema of ${one.kind}`);
      new Model(one).validate();
      expect(() => new Model({ ...one, spec: 7 }).validate()).toThrow("spec");
    }
  });

  it.each([
    [{ boks: "volume" }, "boks"],
    [{ proxy: { replicas: 0 } }, "replicas"],
    [{ image: { digest: "latest" } }, "digest"],
    [{ books: "postgres" }, "needs secretName: a Secret with ledger-url"],
    [{ monitoring: { enabled: true } }, "needs secretName"],
  ])("says what is wrong with %j", (values, words) => {
    expect(() => renderChart(values)).toThrow(words);
  });

  it.each([
    ["one-pod", {}],
    ["fleet", FLEET],
  ])("is what deploy/manifests/%s.yaml is made of: npm run manifests", (name, values) => {
    const file = join(CHART, "..", "manifests", `${name}.yaml`);
    const head = `# Made of deploy/chart by \`npm run manifests\`, with ${JSON.stringify(values)}.\n`;
    const made = head + renderChart(values).text;
    if (process.env["KEYMETER_MANIFESTS"] === "write") writeFileSync(file, made);
    expect(readFileSync(file, "utf8")).toBe(made);
  });
});
