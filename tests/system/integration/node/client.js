// A client of the event service that knows the .proto files and nothing else of this project: @grpc/grpc-js speaks,
// @grpc/proto-loader makes the client from proto/ at run time. One command as JSON on stdin, one answer on stdout.
"use strict";

const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const SECONDS = 20;
const OPTIONS = { keepCase: true, longs: String, enums: String, oneofs: true, defaults: true };

const command = JSON.parse(fs.readFileSync(0, "utf8"));
const mesh = load(command.proto, "omnirelay/mesh/v1/events.proto");
const rpc = load(__dirname, "google/rpc/details.proto");
const { EventService } = grpc.loadPackageDefinition(mesh).omnirelay.mesh.v1;
const RecordSet = mesh["omnirelay.mesh.v1.RecordSet"];
const BatchHeader = mesh["omnirelay.mesh.v1.BatchHeader"];
const Status = rpc["google.rpc.Status"];

function load(folder, file) {
  return protoLoader.loadSync(file, { ...OPTIONS, includeDirs: [folder] });
}

function connect() {
  const [ca, key, certificate] = [command.ca, command.key, command.certificate].map((file) => fs.readFileSync(file));
  return new EventService(command.address, grpc.credentials.createSsl(ca, key, certificate));
}

function deadline() {
  return { deadline: Date.now() + SECONDS * 1000 };
}

// google.rpc.Status from the trailing metadata, its details by their message's name.
function explain(error) {
  const [trailer] = error.metadata.get("grpc-status-details-bin");
  const details = {};
  for (const any of trailer ? Status.deserialize(trailer).details : []) {
    const name = any.type_url.split("/").pop();
    details[name] = rpc[name].deserialize(any.value);
  }
  return { status: grpc.status[error.code], message: error.details, details };
}

// Publishes each batch once the one before it is acknowledged; ends as the stream ends.
function publish(client) {
  return new Promise((resolve) => {
    const answer = { opened: null, acks: [], error: null };
    const call = client.Publish(deadline());
    const batches = command.batches.map((values) =>
      RecordSet.serialize({ records: values.map((value) => ({ key: Buffer.from("node"), value: Buffer.from(value) })) }),
    );
    let next = 0;
    const sendOne = () => {
      if (next === batches.length) {
        call.end();
        return;
      }
      const sequence = Number(answer.opened.last_producer_sequence) + next + 1;
      call.write({ batch: { producer_sequence: sequence, records: batches[next] } });
      next += 1;
    };
    call.on("data", (response) => {
      if (response.message === "opened") answer.opened = response.opened;
      else answer.acks.push(response.ack);
      sendOne();
    });
    call.on("error", (error) => resolve({ ...answer, error: explain(error) }));
    call.on("end", () => resolve(answer));
    call.write({ open: { namespace: command.namespace, producer_id: command.producer, epoch: 0 } });
  });
}

// Reads a namespace from its start until `count` records have come.
function subscribe(client) {
  return new Promise((resolve) => {
    const answer = { records: [], headers: [], vector: {}, error: null };
    const call = client.Subscribe({ namespace: command.namespace, start_at: "START_AT_EARLIEST" }, deadline());
    call.on("data", (response) => {
      answer.vector = response.vector.sequences;
      if (response.message !== "batch") return;
      answer.headers.push(BatchHeader.deserialize(response.batch.header));
      answer.records.push(...RecordSet.deserialize(response.batch.records).records.map((r) => r.value.toString()));
      if (answer.records.length >= command.count) call.cancel();
    });
    call.on("error", (error) => {
      resolve(error.code === grpc.status.CANCELLED ? answer : { ...answer, error: explain(error) });
    });
    call.on("end", () => resolve(answer));
  });
}

const client = connect();
({ publish, subscribe })[command.verb](client).then((answer) => {
  client.close();
  process.stdout.write(JSON.stringify(answer));
});
