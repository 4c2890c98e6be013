// The durable redirect with Fastify and better-sqlite3: `fastify_redirect.cjs FILE FULL|NORMAL`, a file with the tables of
// redirect_tables.sql. Statements are prepared once; both run in one transaction on the only thread.
const [file, synchronous] = process.argv.slice(2);
const app = require("fastify")();
const database = require("better-sqlite3")(file);
database.pragma("journal_mode = WAL");
database.pragma(`synchronous = ${synchronous}`);
const count = database.prepare("UPDATE links SET clicks = clicks + 1 WHERE code = ? RETURNING url");
const insert = database.prepare("INSERT INTO clicks (code, clicked_at) VALUES (?, ?)");
const click = database.transaction((code) => {
  const link = count.get(code);
  if (link !== undefined) insert.run(code, new Date().toISOString());
  return link;
}).immediate;

app.get("/s/:code", (request, reply) => {
  const link = click(request.params.code);
  if (link === undefined) return reply.code(404).send({ error: "link not found" });
  return reply.header("cache-control", "private, no-store").redirect(link.url, 302);
});
app.listen({ host: "127.0.0.1", port: 0 }).then(() => {
  console.log(JSON.stringify({ port: app.server.address().port }));
});
