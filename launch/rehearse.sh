#!/usr/bin/env bash
# Several processes on one machine, as on a cluster: the same code, the same files.
#
#   launch/rehearse.sh 2 --config configs/probe.py --workdir runs/rehearsal
#
# Each process has its share of the cores. Exit code: the first that is not 0.
set -uo pipefail
n=${1:?"how many processes? for example: launch/rehearse.sh 2 --config configs/probe.py"}
shift
case $n in
  *[!0-9]* | 0 | "") echo "error: '$n' is no number of processes" >&2; exit 2 ;;
esac
cores=$(python -c 'from jaxattn.system.runtime import available_cores as f; print(f())')
share=$((cores / n > 0 ? cores / n : 1))
flag=--xla_force_host_platform_device_count
port=$(python -c 'import socket as s; x = s.socket(); x.bind(("127.0.0.1", 0))
print(x.getsockname()[1])')
pids=()
for ((i = 0; i < n; i++)); do
  XLA_FLAGS="${XLA_FLAGS:-} $flag=$share" \
    python -m jaxattn.train --distributed "127.0.0.1:$port,$n,$i" "$@" &
  pids+=($!)
done
trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM
trap 'kill -INT "${pids[@]}" 2>/dev/null' INT
code=0
for pid in "${pids[@]}"; do
  while true; do
    wait "$pid"
    ended=$?
    kill -0 "$pid" 2>/dev/null || break
  done
  [ "$code" -eq 0 ] && code=$ended
done
exit "$code"
