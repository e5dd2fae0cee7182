#!/usr/bin/env bash
# Makes the bench's stream in the folder named: 160 s of 2 s fMP4 segments at about 2 Mbit/s, as VOD. `cargo xtask bench
# browser` calls this. The noise is what makes the encoder use its bits.
set -euo pipefail
mkdir -p "$1"
cd "$1"
ffmpeg -hide_banner -v error -y \
  -f lavfi -i "testsrc2=size=640x360:rate=25:duration=160,noise=alls=20:allf=t" \
  -f lavfi -i "sine=frequency=440:sample_rate=48000:duration=160" \
  -c:v libx264 -preset veryfast -profile:v main -level 3.0 -pix_fmt yuv420p -b:v 1900k -maxrate 1900k -bufsize 950k \
  -x264-params "keyint=50:min-keyint=50:scenecut=0:nal-hrd=cbr" -c:a aac -b:a 96k \
  -f hls -hls_time 2 -hls_segment_type fmp4 -hls_playlist_type vod -hls_flags independent_segments \
  -hls_fmp4_init_filename init.mp4 -hls_segment_filename seg-%03d.m4s index.m3u8
cat > master.m3u8 <<'END'
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-STREAM-INF:BANDWIDTH=2200000,CODECS="avc1.4d401e,mp4a.40.2",RESOLUTION=640x360,FRAME-RATE=25
index.m3u8
END
