// Nodes over which requests are spread, one after the other, each attempt on one of them: what they lack they ask each other
// for, and time stands still meanwhile.
import type { AttemptId } from "../../../ledger/ids.ts";
import { AT } from "../../../ledger/usage/event-columns.ts";
import { createNodeBooking } from "../../../ledger/usage/nodes/booking.ts";
import type { Asked, NodeBooking, NodeTask } from "../../../ledger/usage/nodes/booking.ts";
import type { Answer, Operation } from "../../../ledger/usage/wire.ts";
import { createCalendar } from "../../../ledger/windows.ts";
import { FleetDatabase } from "./database.ts";

const CALENDAR = createCalendar("UTC");
/** So often everybody is heard, until one that waits is answered. */
const MOST_TURNS = 20;

export function bookOnNodes(count: number, now: () => number): (operation: Operation) => Promise<Answer> {
  const database = new FleetDatabase(now, CALENDAR);
  database.isTrusted = true;
  const nodes = Array.from({ length: count }, (): NodeBooking => {
    const { node, epoch } = database.lease();
    let batches = 0;
    const store = {
      book: async (...[work, version]: Parameters<Parameters<typeof createNodeBooking>[0]["book"]>) =>
        database.book(node, epoch, (batches += 1), version, work),
      read: async (nowMs: number) => database.read(node, nowMs),
      servedNames: async () => database.read(node, now()).servedNames,
      elsewhere: async (ids: readonly AttemptId[]) => database.elsewhere(node, ids),
      again: () => Promise.reject(new Error("nobody is given up here")),
    };
    return createNodeBooking(store, { calendar: CALENDAR, capMode: "enforce", tagsCount: true }, now);
  });
  const ownerOf = new Map<AttemptId, NodeBooking>();
  let next = 0;

  const nodeOf = (task: NodeTask): NodeBooking => {
    const id =
      task.type === "reserve"
        ? task.request.attemptId
        : task.type === "settle"
          ? Number(task.row[AT.attemptId])
          : task.type === "extend"
            ? task.attemptId
            : 0;
    const known = ownerOf.get(id) ?? nodes[(next += 1) % count];
    if (!known) throw new Error("no node");
    ownerOf.set(id, known);
    return known;
  };

  return async (operation) => {
    if (operation.type === "change") {
      const { change } = operation;
      if (change.type !== "setBudget") throw new Error(`${change.type} is not played here`);
      database.change([change.budget], []);
      for (const node of nodes) node.forget();
      return { type: "done" };
    }
    const task = operation as NodeTask;
    const node = nodeOf(task);
    const asked: Asked = { task, waits: new Map() };
    for (let i = 0; i < MOST_TURNS; i++) {
      const { answers } = await node.turn([asked], true);
      const answer = answers.get(asked);
      if (answer?.type === "failure") throw new Error(answer.message);
      if (answer) return answer;
      for (const other of nodes) if (other !== node) await other.turn([], true);
      // What goes back goes with the turn after it was asked for.
      for (const other of nodes) if (other !== node) await other.turn([], true);
    }
    throw new Error("it waits for ever");
  };
}
