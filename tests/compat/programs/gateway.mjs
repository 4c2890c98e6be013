// HTTP handlers as their author writes them with iii's Node SDK: streams, server-sent events, raw bodies.
import { createHash } from "node:crypto";
import { http } from "@iii-dev/helpers/http";
import { registerWorker } from "iii-sdk";

const worker = registerWorker(process.argv[2], { workerName: "client", otel: { enabled: false } });

const handlers = {
  stream: async (request, response) => {
    response.status(203);
    response.headers({ "content-type": "application/pdf", "x-from": "client" });
    for (let part = 0; part < Number(request.query_params.parts); part++) {
      response.stream.write(Buffer.from("%PDF".repeat(10000)));
    }
    response.stream.end();
  },
  events: async (request, response) => {
    response.headers({ "content-type": "text/event-stream" });
    for (let number = 0; number < 3; number++) response.stream.write(`data: ${number}\n\n`);
    response.stream.end();
  },
  upload: async (request) => {
    const raw = await request.request_body.readAll();
    const sha256 = createHash("sha256").update(raw).digest("hex");
    return {
      status_code: 201,
      headers: { "content-type": "application/json" },
      body: { size: raw.length, sha256, parsed: request.body },
    };
  },
  text: async () => ({ status_code: 200, headers: { "content-type": "text/xml" }, body: "<a>é</a>" }),
  fail: async () => {
    throw new Error("on purpose");
  },
};
for (const [name, handler] of Object.entries(handlers)) {
  worker.registerFunction("client::" + name, http(handler));
  worker.registerTrigger({
    type: "http",
    function_id: "client::" + name,
    config: { api_path: "/gw/" + name, http_method: name === "upload" ? "POST" : "GET" },
  });
}
worker.registerFunction("client::ready", async () => true);
process.stdin.on("end", () => worker.shutdown().then(() => process.exit(0)));
process.stdin.resume();
