// Draws the picture of README.md: `node charts/example.ts charts/example.png`.
import { writeFileSync } from "node:fs";
import { toPng } from "./png.ts";
import { drawSpend } from "./spend.ts";

const HOUR_MS = 3_600_000;
const startMs = Date.parse("2026-11-23T00:00:00Z");
const usual = (hour: number): number => (hour >= 8 && hour < 18 ? 12 : 2);
const svg = await drawSpend({
  title: "Team search: spend today against forecast",
  startMs,
  endMs: startMs + 24 * HOUR_MS,
  nowMs: startMs + 14.4 * HOUR_MS,
  spent: Array.from({ length: 15 }, (_, hour) => usual(hour) * (hour > 10 ? 2.2 : 1.05)),
  expected: Array.from({ length: 24 }, (_, hour) => usual(hour)),
  ahead: {
    hours: Array.from({ length: 10 }, (_, i) => usual(14 + i) * (i === 0 ? 0.6 : 1) * 1.6),
    low: 0.75,
    high: 1.35,
  },
  budget: 250,
  timezone: "UTC",
});
writeFileSync(process.argv[2] ?? "example.png", await toPng(svg, Number(process.argv[3] ?? 2)));
