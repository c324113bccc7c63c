#!/usr/bin/env bash
# Runs one training as several processes on this machine.
#
#   launch/local.sh NUM_PROCESSES --config=CONFIG --workdir=RUN [flags of main]
#
# Every process writes RUN/process_N.log. If one fails, the others are stopped
# and the script ends with its status.
set -euo pipefail

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  sed -n '4s/^# */usage: /p' "$0" >&2
  exit 2
fi
num_processes=$1
shift
workdir=
for argument in "$@"; do
  [[ $argument == --workdir=* ]] && workdir=${argument#--workdir=}
done
if [[ -z $workdir ]]; then
  echo "launch/local.sh: give --workdir=DIR, where the logs go." >&2
  exit 2
fi
mkdir -p "$workdir"
port=$(python3 -c '
import socket
with socket.socket() as s:
  s.bind(("127.0.0.1", 0))
  print(s.getsockname()[1])')

pids=()
stop() { kill -TERM "${pids[@]}" 2>/dev/null || true; }
trap stop INT TERM
for ((i = 0; i < num_processes; i++)); do
  python3 -m slot_attention.main "$@" \
    --coordinator_address="127.0.0.1:$port" \
    --num_processes="$num_processes" --process_id="$i" \
    >"$workdir/process_$i.log" 2>&1 &
  pids+=($!)
done
status=0
for ((i = 0; i < num_processes; i++)); do
  wait -n "${pids[@]}" || { status=$?; stop; break; }
done
wait || true
if [[ $status != 0 ]]; then
  echo "A process failed with status $status; see $workdir/process_*.log." >&2
fi
exit "$status"
