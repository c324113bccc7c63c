#!/usr/bin/env bash
# Runs one training as several processes on this machine.
#
#   launch/local.sh NUM_PROCESSES --config=CONFIG --workdir=RUN [flags of main]
#
# Every process writes RUN/process_N.log. If one fails, the others are stopped
# and the script ends with its status; 75 means that a signal stopped the run
# after its state was saved.
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

# Seconds in which the others of a failed process may end by themselves.
patience=60

pids=() status=0 deadline=
stop() { kill -TERM "${pids[@]}" 2>/dev/null || true; }
trap stop INT TERM
for ((i = 0; i < num_processes; i++)); do
  python3 -m slot_attention.main "$@" \
    --coordinator_address="127.0.0.1:$port" \
    --num_processes="$num_processes" --process_id="$i" \
    >"$workdir/process_$i.log" 2>&1 &
  pids+=($!)
done
while ((${#pids[@]})); do
  sleep 0.2
  left=()
  for pid in "${pids[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then
      left+=("$pid")
      continue
    fi
    code=0
    wait "$pid" || code=$?
    # 75 says that the state was saved; another status says more.
    if ((code != 0 && (status == 0 || status == 75))); then
      status=$code
    fi
  done
  pids=("${left[@]}")
  if ((status != 0 && ${#pids[@]})); then
    [[ -n $deadline ]] || { stop; deadline=$((SECONDS + patience)); }
    if ((SECONDS > deadline)); then
      kill -KILL "${pids[@]}" 2>/dev/null || true
    fi
  fi
done
if ((status == 75)); then
  echo "Stopped by a signal, the state is saved; run the same command." >&2
elif ((status != 0)); then
  echo "A process failed with status $status; see $workdir/process_*.log." >&2
fi
exit "$status"
