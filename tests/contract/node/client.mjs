// The browser's client in Node: node --experimental-websocket client.mjs MODULE URL ORIGIN ROOM …
//
// Asks for a ticket by a line {"ticket": true} on standard output, takes it from a line of
// standard input, and prints every event of the client as a line. Where LOG_URL is set, the rooms'
// logs are there.
import { createInterface } from "node:readline";

const [module, url, origin, ...rooms] = process.argv.slice(2);
const { ChatbusClient } = await import(module);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const print = (line) => console.log(JSON.stringify(line));

const getTicket = async () => {
  print({ ticket: true });
  const { value } = await lines.next();
  const answer = JSON.parse(value);
  if (answer.status) throw Object.assign(new Error("refused"), answer);
  return { url, ...answer };
};
const openSocket = (address) => new WebSocket(address, { headers: { origin } });

const { LOG_URL } = process.env;
const getLog = async (roomId, position, { wait, signal }) => {
  const answer = await fetch(`${LOG_URL}/${roomId}?${new URLSearchParams({ wait, ...position })}`, { signal });
  if (!answer.ok) throw Object.assign(new Error("refused"), { status: answer.status });
  return answer.json();
};

const client = new ChatbusClient(getTicket, { openSocket, getLog: LOG_URL ? getLog : null });
for (const type of ["state", "subscribed", "reset", "event", "presence", "typing", "removed", "forbidden"]) {
  client.addEventListener(type, ({ detail }) => {
    print({ type, ...detail });
    if (type === "subscribed") client.typing(detail.roomId);
    if (type === "state" && detail.state === "stopped") process.exit(0);
  });
}
for (const room of rooms) client.subscribe(room);
client.start();
