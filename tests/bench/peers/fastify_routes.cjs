// Many routes with Fastify: `fastify_routes.cjs NUMBER`.
const app = require("fastify")();
for (let number = 0; number < Number(process.argv[2]); number += 1) {
  const path = `/r/${String(number).padStart(7, "0")}/:name`;
  app.get(path, async (request) => ({ message: request.params.name }));
}
app.listen({ host: "127.0.0.1", port: 0 }).then(() => {
  console.log(JSON.stringify({ port: app.server.address().port }));
});
