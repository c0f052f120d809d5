// Runs worlds: node test/simulation/run.ts SEED STEPS. Exits 1 at the first disagreement, with the seed that shows it.
import { World } from "./world.ts";

const STEPS_PER_WORLD = 500;

/** As many steps, in worlds of their own. Throws with the seed and the step that disagreed. */
export async function simulate(seed: number, steps: number, onWorld: () => void = () => {}): Promise<void> {
  for (let done = 0, own = seed; done < steps; own += 1) {
    let step = 0;
    try {
      const world = new World(own);
      while (step < STEPS_PER_WORLD) step += world.step();
      await world.end();
      done += step;
    } catch (error) {
      throw new Error(`world ${own}, step ${step}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
    onWorld();
  }
}

if (process.argv[1] === import.meta.filename) {
  const [seed = "1", steps = "10000"] = process.argv.slice(2);
  await simulate(Number(seed), Number(steps)).catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  });
}
