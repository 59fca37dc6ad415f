#!/bin/sh
# Makes the pictures of the generated slates, with FFmpeg (libx264, libx265, libvpx, libaom). Their form is what
# generated.py expects: one second of ten pictures, the first of which is a key frame, without B-frames.
# Baseline H264 plays in every browser over WebRTC.
set -e
cd "$(dirname "$0")"
font=${1:-/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf}
text="drawtext=fontfile=$font:text='stream is offline':fontcolor=0xd0d6dd:fontsize=84:x=(w-text_w)/2:y=(h-text_h)/2"
picture="color=c=0x20262e:size=1920x1080:rate=10:duration=1,$text,format=yuv420p"

make() {
    name=$1
    shift
    ffmpeg -hide_banner -loglevel error -nostdin -y -f lavfi -i "$picture" -bitexact -map_metadata -1 -color_range tv \
        "$@" -movflags +faststart "$name.mp4"
}

make h264 -c:v libx264 -profile:v baseline -level 4.0 -preset veryslow -crf 24 -g 10 -bf 0 -bsf:v filter_units=remove_types=6
make h265 -c:v libx265 -preset slow -crf 26 -x265-params keyint=10:bframes=0:info=0:log-level=none -tag:v hvc1
make vp9 -c:v libvpx-vp9 -crf 36 -b:v 0 -g 10 -lag-in-frames 0 -auto-alt-ref 0 -deadline good -cpu-used 2
make av1 -c:v libaom-av1 -crf 36 -b:v 0 -g 10 -cpu-used 6 -lag-in-frames 0
