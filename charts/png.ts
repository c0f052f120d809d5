// SVG -> PNG, without a browser: resvg, with fonts of its own, so that it looks the same on a machine that has none.
import { fileURLToPath } from "node:url";
import { loadPackage } from "../service/package.ts";

/** `scale` 2: twice as many pixels as the drawing has points, for sharp screens. Rejects with PackageMissing where what draws is
 *  not installed. */
export async function toPng(svg: string, scale = 2): Promise<Uint8Array> {
  const { Resvg } = await loadPackage("@resvg/resvg-js", () => import("@resvg/resvg-js"));
  const image = new Resvg(svg, {
    fitTo: { mode: "zoom", value: scale },
    font: { fontFiles: await fonts(), loadSystemFonts: false, defaultFontFamily: "DejaVu Sans" },
  });
  return image.render().asPng();
}

function fonts(): Promise<string[]> {
  // oxlint-disable-next-line require-await -- what it throws is a rejection
  return loadPackage("dejavu-fonts-ttf", async () =>
    [
      import.meta.resolve("dejavu-fonts-ttf/ttf/DejaVuSans.ttf"),
      import.meta.resolve("dejavu-fonts-ttf/ttf/DejaVuSans-Bold.ttf"),
    ].map((url) => fileURLToPath(url)),
  );
}
