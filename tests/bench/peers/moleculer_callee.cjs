// Answers what it is given over Moleculer and NATS: `moleculer_callee.cjs URL`.
const { ServiceBroker } = require("moleculer");

const broker = new ServiceBroker({ nodeID: "callee", transporter: process.argv[2], logger: false });
broker.createService({ name: "bench", actions: { echo: (context) => ({ text: context.params.text }) } });
broker.start().then(() => console.log("{}"));
