// What the Node programs that are measured share: turns.py for Node.
const readline = require("node:readline");

const percentiles = (waits) => {
  const ordered = Float64Array.from(waits).sort();
  return {
    "p50 ms": ordered[Math.floor(ordered.length / 2)],
    "p99 ms": ordered[Math.floor((ordered.length * 99) / 100)],
  };
};

exports.closedLoop = async (call, inFlight, seconds) => {
  const waits = [];
  const started = performance.now();
  const end = started + seconds * 1000;
  const caller = async () => {
    for (let before; (before = performance.now()) < end; ) {
      await call();
      waits.push(performance.now() - before);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  return { count: waits.length, seconds: (performance.now() - started) / 1000, ...percentiles(waits) };
};

exports.serveTurns = async (turn) => {
  console.log("{}");
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await turn(JSON.parse(line))));
  }
};

exports.sized = (payloadBytes) => ({ text: "x".repeat(payloadBytes - '{"text":""}'.length) });
