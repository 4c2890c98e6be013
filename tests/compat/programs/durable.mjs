// Durable work with iii's Node SDK: functions that queues and topics run. Every call is told to `notes::take`.
import { TriggerAction, registerWorker } from "iii-sdk";

const worker = registerWorker(process.env.III_URL, { workerName: `durable-${process.pid}`, otel: { enabled: false } });
const note = (name, data) =>
  worker.trigger({ function_id: "notes::take", payload: { name, data, pid: process.pid } });
const notes = (name) => async (data) => {
  await note(name, data);
  return null;
};

worker.registerFunction("durable::work", notes("work"));
worker.registerFunction("durable::first", notes("first"));
worker.registerFunction("durable::second", notes("second"));
worker.registerFunction("durable::filtered", notes("filtered"));
worker.registerFunction("durable::wanted", async ({ wanted }) => wanted);
let broken = true;
worker.registerFunction("durable::failing", async (data) => {
  await note("failing", data);
  if (broken) throw new Error("not today");
  return null;
});
worker.registerFunction("durable::repair", async () => {
  broken = false;
  return null;
});
worker.registerFunction("durable::enqueue", async ({ queue, function_id, payload }) =>
  worker.trigger({ function_id, payload, action: TriggerAction.Enqueue({ queue }) }),
);
worker.registerFunction("durable::publish", async (payload) =>
  worker.trigger({ function_id: "iii::durable::publish", payload }),
);

for (const name of ["first", "second"]) {
  worker.registerTrigger({ type: "durable:subscriber", function_id: `durable::${name}`, config: { topic: "orders" } });
}
worker.registerTrigger({
  type: "durable:subscriber",
  function_id: "durable::filtered",
  config: { topic: "filtered", condition_function_id: "durable::wanted" },
});
worker.registerTrigger({
  type: "durable:subscriber",
  function_id: "durable::failing",
  config: { topic: "failing", queue_config: { maxRetries: 1, backoffDelayMs: 1 } },
});
worker.registerFunction(`durable::ready-${process.pid}`, async () => true);
