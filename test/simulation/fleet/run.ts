// Runs worlds of a fleet: node test/simulation/fleet/run.ts SEED STEPS. Exits 1 at the first violation, with the seed that
// shows it.
import { FleetWorld } from "./world.ts";

const STEPS_PER_WORLD = 400;

const [seed = "1", steps = "10000"] = process.argv.slice(2);
for (let done = 0, own = Number(seed); done < Number(steps); own += 1) {
  let step = 0;
  try {
    const world = new FleetWorld(own);
    for (; step < STEPS_PER_WORLD; step++) await world.step();
    await world.end();
  } catch (error) {
    console.error(
      `world ${own}, step ${step}: ${error instanceof Error ? (process.env["STACK"] ? error.stack : error.message) : String(error)}`,
    );
    process.exitCode = 1;
    break;
  }
  done += step;
}
