// A real Alertmanager: what it says is active, and a silence that holds for a group and for no other.
import { spawn } from "node:child_process";
import { afterEach, describe, expect, it } from "vitest";
import { createAlertmanagerApi, readGrouping } from "../../alerts/alertmanager.ts";
import type { AlertGroup } from "../../alerts/webhook.ts";
import { freePorts } from "../free-ports.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { hasPrometheus } from "../tools.ts";

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const LABELS = { alertname: "KeymeterSpendOverForecast", topic: "forecast", severity: "warning" };
const group = (labels: { readonly [name: string]: string }): AlertGroup => ({
  groupKey: JSON.stringify(labels),
  status: "firing",
  commonLabels: { ...LABELS, ...labels },
  commonAnnotations: {},
  alerts: [],
});

describe.skipIf(!hasPrometheus)("Alertmanager's API", () => {
  it("tells what of a group is active, and silences that group alone", async () => {
    const port = (await freePorts())["KEYMETER_ALERTMANAGER_PORT"] ?? "";
    const url = `http://127.0.0.1:${port}`;
    const child = spawn(
      "prometheus-alertmanager",
      [
        "--config.file=alerts/alertmanager.yaml",
        `--storage.path=${temporaryFolder()}`,
        `--web.listen-address=127.0.0.1:${port}`,
        "--cluster.listen-address=",
      ],
      { stdio: "ignore" },
    );
    closers.push(async () => {
      const exited = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await exited;
    });
    await expect
      .poll(async () => (await fetch(`${url}/-/ready`).catch(() => undefined))?.ok, { timeout: 20_000 })
      .toBe(true);
    const alerts = [{ team: "search" }, { team: "ads" }, {}].map((labels) => ({
      labels: { ...LABELS, ...labels },
      startsAt: new Date().toISOString(),
    }));
    await fetch(`${url}/api/v2/alerts`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(alerts),
    });
    const gone = "http://127.0.0.1:1";
    const api = createAlertmanagerApi([gone, url], readGrouping().groupBy);
    expect(await api.isActive(group({ team: "search" }))).toBe(true);
    expect(await api.isActive(group({ team: "web" }))).toBe(false);
    expect(await api.isActive(group({}))).toBe(true);
    expect(await api.isActive(group({ provider: "openai" }))).toBe(false);
    expect(await createAlertmanagerApi([gone], readGrouping().groupBy).isActive(group({}))).toBeUndefined();

    // Of the group without a team: that of a team goes on.
    expect((await api.silence(group({}), Date.now() + 60_000, "ana", Date.now())).length).toBe(1);
    type Active = { labels: { team?: string }; status: { state: string } }[];
    const states = async (): Promise<string[]> => {
      const active = (await (await fetch(`${url}/api/v2/alerts`)).json()) as Active;
      return active.map(({ labels, status }) => `${labels.team ?? ""} ${status.state}`).toSorted();
    };
    await expect.poll(states, { timeout: 10_000 }).toEqual([" suppressed", "ads active", "search active"]);
    // What is silenced is not over.
    expect(await api.isActive(group({}))).toBe(true);
  }, 60_000);
});
