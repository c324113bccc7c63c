#!/usr/bin/env bash
# Trains on every host of a Cloud TPU slice, and starts again when preempted.
#
#   launch/tpu_pod.sh TPU_NAME ZONE --config=CONFIG --workdir=RUN [flags of main]
#
# The repository must be at REPO (default: slot_attention_jax in the home
# directory) on all hosts, installed with its extra `tpu`, and RUN on a disk
# that all of them share, such as Filestore. The project is gcloud's. Status 75
# means that a maintenance event or a preemption stopped and saved the run: it
# is started again, MAX_RESTARTS (default: 20) times at most.
set -euo pipefail

fail() {
  echo "launch/tpu_pod.sh: $1" >&2
  exit 2
}

[[ $# -ge 4 && $1 != --* && $2 != --* ]] || {
  sed -n '4s/^# */usage: /p' "$0" >&2
  exit 2
}
name=$1 zone=$2
shift 2
config='' workdir=''
for argument in "$@"; do
  case $argument in
    --config=*) config=${argument#--config=} ;;
    --workdir=*) workdir=${argument#--workdir=} ;;
  esac
done
[[ -n $config ]] || fail "give --config=CONFIG, a path in the repository."
[[ $workdir == /* ]] ||
  fail "give --workdir=/DIR, absolute, on a disk that all hosts share."
command -v gcloud >/dev/null || fail "gcloud is not installed."
state=$(gcloud compute tpus tpu-vm describe "$name" --zone="$zone" \
  --format='value(state)') || fail "there is no TPU $name in $zone."
[[ $state == READY ]] || fail "TPU $name in $zone is $state, not READY."

command="cd $(printf %q "${REPO:-slot_attention_jax}") &&
  exec python3 -m slot_attention.main --distributed $(printf '%q ' "$@")"
for ((i = 0; i <= ${MAX_RESTARTS:-20}; i++)); do
  status=0
  gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
    --command="$command" || status=$?
  ((status == 75)) || exit "$status"
  echo "The run was stopped and has saved its state; starting again." >&2
done
echo "launch/tpu_pod.sh: stopped $i times; run it again to go on." >&2
exit 75
