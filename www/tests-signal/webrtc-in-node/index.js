// WebRTC for Node, from a package that carries its binary.

import wrtc from "@roamhq/wrtc";

export const { RTCPeerConnection, RTCSessionDescription, RTCIceCandidate } = wrtc;
