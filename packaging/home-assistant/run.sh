#!/bin/sh
# Starts the server with the configuration of the user, which is written when the add-on starts for the first time.
set -e

config="${POLYCAST_CONFIG:-/config}/polycast.yml"
options="${POLYCAST_OPTIONS:-/data/options.json}"
if [ ! -e "$config" ]; then
    cp "$(dirname "$0")/polycast.yml" "$config"
fi
if [ -e "$options" ]; then
    POLYCAST_LOGLEVEL=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["log_level"])' "$options")
    export POLYCAST_LOGLEVEL
fi
exec polycast "$config"
