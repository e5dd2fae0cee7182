#!/usr/bin/env bash
# Makes the bundled sample with ffmpeg: hls/ (CMAF, two renditions, a minute) and ts/ (MPEG-TS, one rendition, 20 s).
# Needs ffmpeg with libx264, drawtext and fontconfig, and any monospace font. `cargo xtask sample` calls this script.
set -euo pipefail
cd "$(dirname "$0")"

command -v ffmpeg >/dev/null || { echo "ffmpeg is missing: install it (Debian: apt-get install ffmpeg) and run this again" >&2; exit 1; }

seconds=${SECONDS_OF_VIDEO:-60}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The picture: a slow zoom into the Mandelbrot set's seahorse valley, toned by a drifting gradient, so that it is pleasant
# to look at and still busy enough to need its bitrate. The clock is large: a stall, a seek or a wrap shows at a glance.
text="font=monospace:fontcolor=white:borderw=3:bordercolor=black@0.55"
graph="
[0:v]format=gray,gblur=sigma=0.7,eq=contrast=1.15:brightness=-0.04,format=gbrp[set];
[1:v]format=gbrp[tone];
[tone][set]blend=all_mode=softlight,format=yuv420p,
drawtext=$text:fontsize=64:x=40:y=h-110:text='%{pts\\:gmtime\\:0\\:%M\\\\\\:%S}.%{eif\\:mod(t*10\\,10)\\:d}',
drawtext=$text:fontsize=26:x=w-tw-40:y=h-84:text='Headwater sample',
drawbox=x=0:y=ih-6:w=iw:h=6:color=white@0.25:t=fill[v]"

# The sound: a soft chord that breathes, and a short tick on every second to hear lip sync by.
chord="0.10*sin(2*PI*110*t)+0.07*sin(2*PI*164.81*t)*(0.6+0.4*sin(2*PI*t/8))+0.05*sin(2*PI*220*t)*(0.6+0.4*sin(2*PI*t/5))"
tick="0.25*sin(2*PI*880*t)*exp(-40*mod(t\,1))"

echo "drawing $seconds s of picture and sound"
ffmpeg -hide_banner -v error -y \
  -f lavfi -i "mandelbrot=size=960x540:rate=25:start_scale=2.4:end_scale=0.004:end_pts=1500:maxiter=500:inner=mincol" \
  -f lavfi -i "gradients=size=960x540:rate=25:type=linear:speed=0.004:c0=0x17335c:c1=0x1f6f8b:c2=0x99d5c9:c3=0xf2a65a:nb_colors=4:seed=7" \
  -f lavfi -i "aevalsrc=$chord+$tick:s=48000" \
  -filter_complex "$graph" -map "[v]" -map 2:a -t "$seconds" \
  -c:v libx264 -preset ultrafast -qp 6 -c:a pcm_s16le "$work/master.mkv"

# Closed groups of pictures of exactly two seconds, so that every segment starts with a key frame in every rendition; no B
# frames, so that the first frame is shown at 0.
x264=(-c:v libx264 -profile:v main -preset veryslow -pix_fmt yuv420p -g 50 -keyint_min 50 -sc_threshold 0 -flags +cgop
  -bf 0 -map_metadata -1 -fflags +bitexact -flags:v +bitexact+cgop -flags:a +bitexact)
aac=(-c:a aac -ac 1 -ar 48000)

echo "encoding hls/ (CMAF, 360p and 540p)"
rm -rf hls ts
mkdir -p hls ts
ffmpeg -hide_banner -v error -y -i "$work/master.mkv" \
  -filter_complex "[0:v]split=2[a][b];[a]scale=640:360:flags=lanczos[low];[b]null[high]" \
  -map "[low]" -map 0:a -map "[high]" -map 0:a "${x264[@]}" "${aac[@]}" \
  -b:v:0 240k -maxrate:v:0 290k -bufsize:v:0 480k -b:v:1 500k -maxrate:v:1 600k -bufsize:v:1 1000k -b:a 48k \
  -f hls -hls_time 2 -hls_playlist_type vod -hls_flags independent_segments -hls_segment_type fmp4 \
  -hls_fmp4_init_filename init.mp4 -hls_segment_filename "hls/%v/seg-%03d.m4s" \
  -master_pl_name master.m3u8 -var_stream_map "v:0,a:0,name:360p v:1,a:1,name:540p" "hls/%v/index.m3u8"

echo "encoding ts/ (MPEG-TS, 360p)"
ffmpeg -hide_banner -v error -y -i "$work/master.mkv" -t 20 -vf scale=640:360:flags=lanczos "${x264[@]}" "${aac[@]}" \
  -b:v 260k -maxrate 320k -bufsize 520k -b:a 48k \
  -f hls -hls_time 4 -hls_playlist_type vod -hls_flags independent_segments \
  -hls_segment_filename "ts/seg-%03d.ts" ts/index.m3u8

du -sh hls ts
