// A worker on iii's own Node SDK that answers what it is given: `iii_callee.cjs URL`.
const { registerWorker } = require("iii-sdk");

const worker = registerWorker(process.argv[2], { workerName: "callee" });
worker.registerFunction("bench::echo0", async (payload) => ({ text: payload.text }));
console.log("{}");
