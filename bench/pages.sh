#!/bin/sh
# A picture of a page, by Chromium: bench/pages.sh PAGE PICTURE [WIDTH HEIGHT [dark]]
set -eu
page=$(realpath "$1") picture=$(realpath "$(dirname "$2")")/$(basename "$2")
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
dark=
if [ "${5:-}" = dark ]; then dark=--blink-settings=preferredColorScheme=0; fi
chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=3000 --user-data-dir="$profile" \
    --window-size="${3:-1200},${4:-900}" $dark --screenshot="$picture" "file://$page" 2>/dev/null
