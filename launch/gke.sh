#!/usr/bin/env bash
# Trains on Google Kubernetes Engine: fills in launch/gke_jobset.yaml.
#
#   launch/gke.sh NAME --config=CONFIG --workdir=RUN [flags of main]
#
# Environment: IMAGE, a container with the repository in its working directory
# and the package installed; CLAIM, a ReadWriteMany volume claim, which is
# mounted at /runs, where RUN must lie; HOSTS, how many; GPUS, of each; or
# TPU_TYPE and TPU_TOPOLOGY, such as tpu-v5-lite-podslice and 4x4, with TPUS
# (chips) of each. DRY_RUN=1 prints what would be sent.
set -euo pipefail

fail() {
  echo "launch/gke.sh: $1" >&2
  exit 2
}

[[ $# -ge 3 && $1 =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] || {
  sed -n '4s/^# */usage: /p' "$0" >&2
  echo "NAME: small letters, digits and -, at most 40." >&2
  exit 2
}
name=$1
shift
config='' workdir=''
for argument in "$@"; do
  case $argument in
    --config=*) config=${argument#--config=} ;;
    --workdir=*) workdir=${argument#--workdir=} ;;
  esac
done
[[ -n $config ]] || fail "give --config=CONFIG, a path in the image."
[[ $workdir == /runs/* ]] || fail "give --workdir=/runs/DIR."
for variable in IMAGE CLAIM HOSTS; do
  [[ -n ${!variable:-} ]] || fail "set $variable, see the head of the script."
done
[[ $HOSTS =~ ^[1-9][0-9]*$ ]] || fail "HOSTS is $HOSTS, not a number."
if [[ -n ${TPU_TYPE:-} ]]; then
  [[ -n ${TPU_TOPOLOGY:-} && ${TPUS:-} =~ ^[1-9][0-9]*$ ]] ||
    fail "set TPU_TOPOLOGY and TPUS, chips of each host, with TPU_TYPE."
else
  [[ ${GPUS:-} =~ ^[1-9][0-9]*$ ]] || fail "set GPUS of each host, or TPU_TYPE."
fi
if [[ -z ${DRY_RUN:-} ]]; then
  command -v kubectl >/dev/null || fail "kubectl is not installed."
  kubectl api-resources --api-group=jobset.x-k8s.io -o name |
    grep -q '^jobsets' || fail "the cluster has no JobSet; install it first."
fi

manifest=$(NAME=$name python3 - "$(dirname "$0")/gke_jobset.yaml" "$@" <<'PYTHON'
import json
import os
import string
import sys

get = os.environ.get
if get("TPU_TYPE"):
  chips, kind = get("TPUS"), "google.com/tpu"
  selector = {
    "cloud.google.com/gke-tpu-accelerator": get("TPU_TYPE"),
    "cloud.google.com/gke-tpu-topology": get("TPU_TOPOLOGY"),
  }
else:
  chips, kind, selector = get("GPUS"), "nvidia.com/gpu", {}
with open(sys.argv[1], encoding="utf-8") as file:
  template = string.Template(file.read())
print(
  template.substitute(
    name=get("NAME"),
    image=json.dumps(get("IMAGE")),
    claim=json.dumps(get("CLAIM")),
    hosts=get("HOSTS"),
    resource=json.dumps({kind: int(chips)}),
    selector=json.dumps(selector),
    arguments=json.dumps(sys.argv[2:]),
  )
)
PYTHON
)
if [[ -n ${DRY_RUN:-} ]]; then
  echo "$manifest"
else
  kubectl apply -f - <<<"$manifest"
fi
