// Two clients without a name in one Node process; its argument is the prefix of their function ids.
import { registerWorker } from "iii-sdk";

const prefix = process.argv[2];
for (const half of ["left", "right"]) {
  const worker = registerWorker(process.env.III_URL, { otel: { enabled: false } });
  const id = `${prefix}_${half}`;
  worker.registerFunction(`${id}::say`, async (data) => ({ half, heard: data.word }));
  worker.registerFunction(`${id}::pass`, async (data) =>
    worker.trigger({ function_id: `${data.to}::say`, payload: { word: data.word } }),
  );
  worker.registerFunction(`${id}::ready`, async () => true);
}
