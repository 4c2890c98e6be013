// One of several programs that offer the same function and the same route; its argument is its name.
import { registerWorker } from "iii-sdk";

const name = process.argv[2];
const worker = registerWorker(process.env.III_URL, { workerName: name });
worker.registerFunction("replica::who", async () => ({ status_code: 200, body: name }));
worker.registerTrigger({
  type: "http",
  function_id: "replica::who",
  config: { api_path: "/replica", http_method: "GET" },
});
worker.registerFunction(`${name}::ready`, async () => true);
