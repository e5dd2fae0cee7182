// The server of npm's bittorrent-tracker, WebSocket only, on a free port: what `cargo xtask bench signal` compares with.

import { Server } from "bittorrent-tracker";

const server = new Server({ http: false, udp: false, ws: true, stats: false });
server.on("error", (error) => console.error(error.message));
server.on("warning", () => {});
server.listen(0, "127.0.0.1", () => console.log(`listening on ws://127.0.0.1:${server.ws.address().port}`));
