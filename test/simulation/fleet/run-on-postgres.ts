// Runs worlds of a fleet beside a real Postgres: node test/simulation/fleet/run-on-postgres.ts SEED STEPS [MISTAKE]. Exits 1
// at the first violation, or where both answer differently.
import { startPostgres } from "../../postgres.ts";
import { SQL_BUGS } from "./sql-bugs.ts";
import { startMirror } from "./mirror.ts";
import { FleetWorld } from "./world.ts";

const STEPS_PER_WORLD = 250;

const [seed = "1", steps = "1000", mistake] = process.argv.slice(2);
const bug = SQL_BUGS.find(({ what }) => what === mistake);
const mutate = (text: string): string => (bug ? text.replace(bug.is, () => bug.becomes) : text);
const server = await startPostgres();
try {
  for (let done = 0, own = Number(seed); done < Number(steps); own += 1) {
    let step = 0;
    try {
      const world = new FleetWorld(own);
      const url = await server.database(`world_${own}`);
      await world.mirrorTo((calendar, now) => startMirror(url, world.database, calendar, now, mutate));
      for (; step < STEPS_PER_WORLD; step++) await world.step();
      await world.end();
    } catch (error) {
      console.error(`world ${own}, step ${step}: ${error instanceof Error ? error.message : String(error)}`);
      process.exitCode = 1;
      break;
    }
    done += step;
  }
} finally {
  await server.stop();
}
process.exit();
