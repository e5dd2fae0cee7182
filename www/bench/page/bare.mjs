// hls.js alone, and beside it bare data channels that carry as many bytes a second as Headwater did: what the browser itself
// takes for them. Both ends are on this page: a viewer gives what it takes, by and large.

import Hls from "/hls.mjs";
import { bench, told } from "/bench/watch.mjs";

/** Headwater's largest message. */
const MESSAGE = 64 * 1024;

async function connect() {
  const [sender, receiver] = [new RTCPeerConnection(), new RTCPeerConnection()];
  sender.onicecandidate = ({ candidate }) => receiver.addIceCandidate(candidate);
  receiver.onicecandidate = ({ candidate }) => sender.addIceCandidate(candidate);
  const channel = sender.createDataChannel("bare");
  receiver.ondatachannel = ({ channel: incoming }) => {
    incoming.binaryType = "arraybuffer";
    incoming.onmessage = ({ data }) => (bench.carried += data.byteLength);
  };
  await sender.setLocalDescription();
  await receiver.setRemoteDescription(sender.localDescription);
  await receiver.setLocalDescription();
  await sender.setRemoteDescription(receiver.localDescription);
  await new Promise((resolve) => (channel.onopen = resolve));
  return channel;
}

bench.carried = 0;
const player = new Hls();
let http = 0;
player.on(Hls.Events.FRAG_LOADED, (_, { payload }) => (http += payload.byteLength));
bench.bytes = () => ({ http, seed: 0, viewers: bench.carried });
bench.play(player, told.src);
const channel = await connect();
setInterval(() => channel.send(new Uint8Array(MESSAGE)), (MESSAGE / Number(told.rate)) * 1000);
