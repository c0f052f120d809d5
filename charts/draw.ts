// How every chart is drawn: by Vega, on the server, in one of two palettes. Series are told apart by brightness and
// order too, not by colour alone.
import type { Axis, Spec } from "vega";

/** Colours by what they are for. */
export type Palette = {
  /** What the chart stands on; undefined: whatever is behind it. */
  readonly ground: string | undefined;
  readonly ink: string;
  readonly quiet: string;
  /** What the chart is about. */
  readonly strong: string;
  readonly band: string;
  readonly grid: string;
  readonly limit: string;
  /** Series, the largest first. */
  readonly series: readonly string[];
};

export const FONT = "DejaVu Sans";

/** For pictures: they bring their own white. */
export const PAPER: Palette = {
  ground: "white",
  ink: "#24292f",
  quiet: "#57606a",
  strong: "#0550ae",
  band: "#d8dee4",
  grid: "#eaeef2",
  limit: "#a40e26",
  series: ["#0550ae", "#d4760a", "#1a7f64", "#8250df", "#a40e26", "#8c959f"],
};

/** How large a chart is drawn: for a picture and a phone, or as wide as a page. */
export type Size = { readonly width: number; readonly height: number };
export const USUAL: Size = { width: 720, height: 400 };
export const WIDE: Size = { width: 1_200, height: 380 };

/** For pages: custom properties of their style sheet, which knows light and dark. */
export const SCREEN: Palette = {
  ground: undefined,
  ink: "var(--ink)",
  quiet: "var(--quiet)",
  strong: "var(--strong)",
  band: "var(--band)",
  grid: "var(--grid)",
  limit: "var(--limit)",
  series: [1, 2, 3, 4, 5, 6].map((n) => `var(--series-${n})`),
};

/** The axis of money up to `most` USD, with lines across the picture. */
export function moneyAxis(most: number, { quiet, grid }: Palette, labelFontSize: number): Axis {
  return {
    orient: "left",
    scale: "y",
    tickCount: 4,
    grid: true,
    gridColor: grid,
    domain: false,
    ticks: false,
    labelColor: quiet,
    labelFontSize,
    format: moneyFormat(most),
  };
}

/** How an axis writes money up to `most` USD: in plain digits, and in thousands only where each step is some of them.
 *  "$250m" would be a quarter of a dollar to a program, and a quarter of a billion to whoever reads it. */
function moneyFormat(most: number): string {
  return most < 10 ? "$,.2f" : most < 20_000 ? "$,.0f" : "$,~s";
}

/** A specification as SVG. */
export async function draw(spec: Spec): Promise<string> {
  const { parse, View } = await import("vega");
  const view = new View(parse(spec), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}
