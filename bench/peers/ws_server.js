// ws: a set of sockets for each room, fed by node-redis. PORT, REDIS_URL.
const { createClient } = require("redis");
const { WebSocketServer } = require("ws");

const rooms = new Map();

function join(socket, room) {
  if (!rooms.has(room)) rooms.set(room, new Set());
  rooms.get(room).add(socket);
  socket.on("close", () => rooms.get(room).delete(socket));
  socket.send("joined");
}

async function main() {
  const redis = createClient({ url: process.env.REDIS_URL });
  await redis.connect();
  await redis.subscribe("bench", (message) => {
    const sockets = rooms.get(JSON.parse(message).room_id) ?? [];
    const data = Buffer.from(message);
    for (const socket of sockets) socket.send(data, { binary: false });
  });
  const server = new WebSocketServer({
    port: Number(process.env.PORT),
    host: "127.0.0.1",
    perMessageDeflate: false,
  });
  server.on("connection", (socket) => {
    socket.once("message", (room) => join(socket, room.toString()));
  });
}

main();
