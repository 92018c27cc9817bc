#!/usr/bin/env bash
# One machine, all its cores or accelerators. Run again with the same words after a
# crash, a reboot or Ctrl-C: it goes on where it was.
#
#   launch/laptop.sh --config configs/probe.py --workdir runs/probe
set -euo pipefail
exec python -m jaxattn.train --distributed off "$@"
