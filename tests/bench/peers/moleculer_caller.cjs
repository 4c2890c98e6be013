// Calls over Moleculer and NATS when told to: `moleculer_caller.cjs URL`.
const { ServiceBroker } = require("moleculer");
const { closedLoop, serveTurns, sized } = require("./turns.cjs");

const broker = new ServiceBroker({ nodeID: "caller", transporter: process.argv[2], logger: false });
broker.start().then(async () => {
  await broker.waitForServices("bench");
  await serveTurns(({ in_flight, payload_bytes, seconds }) => {
    const payload = sized(payload_bytes);
    return closedLoop(() => broker.call("bench.echo", payload), in_flight, seconds);
  });
});
