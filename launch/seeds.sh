#!/usr/bin/env bash
# Trains several seeds one after another and puts their scores together.
#
#   launch/seeds.sh NUM_SEEDS --config=CONFIG --workdir=DIR [flags of main]
#
# Seed N trains in DIR/seed_N; then DIR/aggregate.json and .csv hold mean,
# spread and how many runs failed to bind: those whose METRIC (default
# eval/ari_fg) is below THRESHOLD (default 0.8), two environment variables.
# Started again, it goes on where it stopped.
set -euo pipefail

if [[ $# -lt 3 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  sed -n '4s/^# */usage: /p' "$0" >&2
  exit 2
fi
num_seeds=$1
shift
workdir=
arguments=()
for argument in "$@"; do
  case $argument in
    --workdir=*) workdir=${argument#--workdir=} ;;
    --config.seed=*)
      echo "launch/seeds.sh: leave out $argument, seeds are 0, 1, ..." >&2
      exit 2
      ;;
    *) arguments+=("$argument") ;;
  esac
done
if [[ -z $workdir ]]; then
  echo "launch/seeds.sh: give --workdir=DIR, below which the runs go." >&2
  exit 2
fi

runs=()
for ((seed = 0; seed < num_seeds; seed++)); do
  runs+=("$workdir/seed_$seed")
  python3 -m slot_attention.main "${arguments[@]}" \
    --config.seed="$seed" --workdir="$workdir/seed_$seed"
done
python3 -m slot_attention.aggregate \
  --workdirs="$(IFS=,; echo "${runs[*]}")" \
  --metric="${METRIC:-eval/ari_fg}" --threshold="${THRESHOLD:-0.8}" \
  --output="$workdir/aggregate.json"
