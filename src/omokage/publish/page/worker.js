// Runs the model beside the page, so that the page stays quick. One question, one answer, in order.
import * as ort from "./ort.js";

const ready = begin();

async function bytes(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

// The machine code is packed. A server that unpacks it on the way is welcome to.
async function machine() {
  const data = await bytes("ort.bin");
  if (data[0] !== 0x1f || data[1] !== 0x8b) return data.buffer;
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

async function begin() {
  const told = await (await fetch("config.json")).json();
  const names = told.styles ? ["model-mapping.onnx", "model-synthesis.onnx"] : ["model.onnx"];
  const [code, ...models] = await Promise.all([machine(), ...names.map(bytes)]);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = code;
  ort.env.wasm.wasmPaths = { mjs: new URL("ort-loader.js", import.meta.url).href };
  const sessions = [];
  for (const model of models) {
    sessions.push(await ort.InferenceSession.create(model, { executionProviders: ["wasm"] }));
  }
  return { told, sessions };
}

async function run(session, values, shape) {
  const input = new ort.Tensor("float32", values, [1, ...shape]);
  const found = (await session.run({ [session.inputNames[0]]: input }))[session.outputNames[0]];
  return { values: found.data, shape: found.dims.slice(1) };
}

self.onmessage = async ({ data }) => {
  try {
    const { told, sessions } = await ready;
    let answer = {};
    if (data.ask === "style") answer = await run(sessions[0], data.z, told.latent_shape);
    else if (data.ask === "image") {
      const shape = told.styles ? data.shape : told.latent_shape;
      answer = await run(sessions.at(-1), data.values, shape);
    }
    self.postMessage({ id: data.id, ...answer });
  } catch (error) {
    self.postMessage({ id: data.id, error: String(error?.message ?? error) });
  }
};
