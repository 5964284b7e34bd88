// Socket.IO: rooms, fed by node-redis. PORT, REDIS_URL.
const { createServer } = require("node:http");
const { createClient } = require("redis");
const { Server } = require("socket.io");

const server = createServer();
const io = new Server(server, { perMessageDeflate: false });
io.on("connection", (socket) => {
  socket.on("join", async (room) => {
    await socket.join(room);
    socket.emit("joined");
  });
});

async function main() {
  const redis = createClient({ url: process.env.REDIS_URL });
  await redis.connect();
  await redis.subscribe("bench", (message) => {
    const event = JSON.parse(message);
    io.to(event.room_id).emit("event", event);
  });
  server.listen(Number(process.env.PORT), "127.0.0.1");
}

main();
