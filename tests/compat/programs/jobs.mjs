// What a queue worker meets, with iii's Node SDK: enqueues with options, and a trigger that its code takes back.
import { registerWorker } from "iii-sdk";

const worker = registerWorker(process.env.III_URL, { workerName: "jobs", otel: { enabled: false } });
const trigger = worker.registerTrigger({ type: "feed", function_id: "jobs::on_feed", config: { topic: "own" } });
worker.registerTrigger({ type: "feed", function_id: "jobs::on_feed", config: { topic: "kept" } });

const handlers = {
  on_feed: async () => null,
  enqueue: async ({ action }) => worker.trigger({ function_id: "jobs::later", payload: { n: 1 }, action }),
  take_back: async () => {
    trigger.unregister();
    return null;
  },
};
for (const [verb, handler] of Object.entries(handlers)) worker.registerFunction(`jobs::${verb}`, handler);
worker.registerFunction("jobs::ready", async () => true);
worker.registerFunction("jobs::shut_down", async () => {
  setTimeout(() => worker.shutdown().then(() => process.exit(0)), 10);
  return null;
});
