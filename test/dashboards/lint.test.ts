// Dashboards held to the rules of Grafana's own linter, and to ours: every panel says what it answers, in what unit,
// and of what kind its money is.
import { describe, expect, it } from "vitest";
import { DASHBOARDS } from "../../dashboards/all.ts";

type Target = { refId?: string; expr?: string; datasource?: { uid?: string }; instant?: boolean; range?: boolean };
type Panel = {
  id?: number;
  type: string;
  title?: string;
  description?: string;
  datasource?: { uid?: string };
  options?: { readonly legend?: { readonly showLegend?: boolean } };
  fieldConfig?: {
    defaults?: {
      unit?: string;
      decimals?: number;
      noValue?: string;
      color?: { mode?: string };
      thresholds?: { steps: { value: number | null; color: string }[] };
    };
    overrides?: { properties: { id: string; value?: unknown }[] }[];
  };
  targets?: Target[];
  gridPos?: { x: number; y: number; w: number; h: number };
};
type Variable = { name: string; type: string; query?: unknown; refresh?: number; multi?: boolean };
const all = Object.entries(DASHBOARDS).map(([name, built]) => ({
  name,
  ...(JSON.parse(JSON.stringify(built)) as {
    title: string;
    uid: string;
    editable: boolean;
    time: { from: string };
    panels: Panel[];
    links: { url?: string; type: string; placement?: unknown }[];
    templating: { list: Variable[] };
    annotations: { list: { name: string; expr: string; datasource: { uid: string } }[] };
  }),
}));
const panelsOf = (panels: readonly Panel[]): Panel[] => panels.filter(({ type }) => type !== "row");
const UIDS = new Set(all.map(({ uid }) => uid));
/** Labels that our gauges have: what `by` and variables may name. */
const LABELS = new Set(
  "scope id window quantile kind team project env provider model key class outcome name user day cause billed_key unit budget alertname severity reason le".split(
    " ",
  ),
);

describe("every dashboard", () => {
  it.each(all.map((one) => [one.title, one] as const))(
    "%s can be loaded as it is: ids, uid, the templated data source, variables that reload, nothing to edit",
    (_title, { uid, editable, time, panels, templating, links, annotations }) => {
      expect(uid).toMatch(/^keymeter-[a-z-]{1,31}$/);
      expect(editable).toBe(false);
      expect(time.from, "shows something on the first of a month too").toMatch(/^now-\d+[hd]$/);
      const ids = panels.map(({ id }) => id);
      expect(new Set(ids).size).toBe(panels.length);
      expect(ids).not.toContain(undefined);
      const [source, ...variables] = templating.list;
      expect(source).toMatchObject({ name: "datasource", type: "datasource" });
      for (const variable of variables) {
        expect(variable.refresh, variable.name).toBe(2);
        expect(JSON.stringify(variable.query)).toMatch(/label_values\(keymeter_|query_result\(keymeter_/);
      }
      expect(annotations.list.map(({ name }) => name)).toEqual([
        "Alerts",
        "Caps refuse",
        "Price changes",
        "Closed days",
      ]);
      for (const one of [...links, ...annotations.list]) expect(one).not.toHaveProperty("placement");
      expect(JSON.stringify({ panels, templating, links }), "no name of a host or a person").not.toMatch(
        /https?:\/\/|localhost|127\.0\.0\.1/,
      );
    },
  );

  it("has an address of its own, and a title of its own", () => {
    expect(UIDS.size).toBe(all.length);
    expect(new Set(all.map(({ title }) => title)).size).toBe(all.length);
  });

  it("uses each variable that it offers", () => {
    for (const { title, panels, templating, links } of all) {
      const text = JSON.stringify([panels, links, templating.list.map(({ query }) => query)]);
      for (const { name } of templating.list.filter((one) => one.name !== "datasource"))
        expect(text.includes(`$${name}`) || text.includes(`\${${name}`), `${title}: $${name}`).toBe(true);
    }
  });

  it("asks no question twice: no expression stands in two panels", () => {
    const seen = new Map<string, string>();
    for (const { title, panels } of all)
      for (const panel of panelsOf(panels)) {
        const text = (panel.targets ?? []).map(({ expr }) => expr).join("\n");
        expect(seen.get(text), `${title} / ${panel.title}`).toBeUndefined();
        seen.set(text, `${title} / ${panel.title}`);
      }
  });
});

describe("every panel", () => {
  it.each(all.flatMap((one) => panelsOf(one.panels).map((panel) => [one.title, panel.title ?? "", panel] as const)))(
    "%s / %s: a question, the unit, the kind of money, limits that are explained, expressions by the linter's rules",
    (_dashboard, title, panel) => {
      expect(title).not.toBe("");
      const words = panel.description ?? "";
      expect(words).toContain("?");
      expect(words).toMatch(/Unit: [A-Za-z ]+\./);
      expect(words).toMatch(/(Metered|Billed|Forecast|Hypothetical) money:|As it looks now:|No money\./);
      const { unit, decimals, noValue = "" } = panel.fieldConfig?.defaults ?? {};
      expect(unit).toBeTruthy();
      expect(unit, "17 Mil, 8.92 weeks").not.toMatch(/^(short|none|d)$/);
      if (unit === "currency:financial:$") expect(decimals, "money has its cents").toBeGreaterThanOrEqual(2);
      expect(noValue, "says why it is empty").toMatch(/^[A-Z].{8,}/);
      expect(panel.datasource?.uid).toBe("${datasource}");
      const steps = panel.fieldConfig?.defaults?.thresholds?.steps ?? [];
      if (steps.length > 1) expect(words, "what its colours mean").toMatch(/orange|green/i);
      else expect(steps).toEqual([{ value: null, color: "text" }]);
      if (panel.type === "timeseries") {
        expect(panel.options?.legend?.showLegend, "curves have names").toBe(true);
        expect(panel.fieldConfig?.defaults?.color?.mode, "and each its own colour").toBe("palette-classic");
      }
      expect(panel.targets?.length).toBeGreaterThan(0);
      for (const { refId, expr = "", datasource, instant, range } of panel.targets ?? []) {
        expect(refId).toMatch(/^[A-Z]$/);
        expect(datasource?.uid).toBe("${datasource}");
        expect(Boolean(instant) !== Boolean(range), "one kind of query").toBe(true);
        // Counters are for speed; a figure that people quote is a gauge.
        if (/_total\b/.test(expr) && !/have no price|priced by family|use estimated/.test(title))
          expect(expr).toMatch(/rate\(/);
        if (/rate\(/.test(expr)) expect(expr).toContain("$__rate_interval");
        expect(expr, "increase() invents money").not.toMatch(/increase\(/);
        for (const [, list = ""] of expr.matchAll(/(?:by|on|group_left) \(([^)]*)\)/g))
          for (const label of list
            .split(",")
            .map((one) => one.trim())
            .filter(Boolean))
            expect(LABELS, label).toContain(label);
      }
    },
  );

  it("lies on no other", () => {
    for (const { title, panels } of all)
      for (const panel of panels) {
        const { x = 0, y = 0, w = 0, h = 0 } = panel.gridPos ?? {};
        expect(x + w).toBeLessThanOrEqual(24);
        const overlaps = panels.filter(
          (other) =>
            other !== panel &&
            other.gridPos &&
            other.gridPos.x < x + w &&
            x < other.gridPos.x + other.gridPos.w &&
            other.gridPos.y < y + h &&
            y < other.gridPos.y + other.gridPos.h,
        );
        expect(
          overlaps.map((other) => other.title),
          `${title}: ${panel.title}`,
        ).toEqual([]);
      }
  });

  it("leads only to dashboards and pages that there are", () => {
    const pages = "overview changes teams team keys key bills bill models refused chargeback".split(" ");
    const text = JSON.stringify(all);
    const uids = [...text.matchAll(/\/d\/([a-z-]+)/g)].map(([, uid]) => uid ?? "");
    expect(uids.length).toBeGreaterThan(1);
    for (const uid of uids) expect(UIDS).toContain(uid);
    const names = [...text.matchAll(/\$\{pages\}\/([a-z]+)/g)].map(([, name]) => name ?? "");
    expect(names.length).toBeGreaterThan(all.length);
    for (const name of names) expect(pages).toContain(name);
  });
});
