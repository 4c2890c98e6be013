// A worker on iii's own Node SDK that calls when told to: `iii_caller.cjs URL`.
const { registerWorker } = require("iii-sdk");
const { closedLoop, serveTurns, sized } = require("./turns.cjs");

const worker = registerWorker(process.argv[2], { workerName: "caller" });
serveTurns(({ in_flight, payload_bytes, seconds }) => {
  const request = { function_id: "bench::echo0", payload: sized(payload_bytes) };
  return closedLoop(() => worker.trigger(request), in_flight, seconds);
});
