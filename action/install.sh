#!/usr/bin/env bash
# Installs this checkout of the harness, at the versions of its constraints, into an environment of its own, so that it
# meets no package of the job.
#
# Reads: RUNNER_TEMP, PIP_ARGUMENTS (further arguments of pip install, separated by white space; quotes mean nothing).
set -euo pipefail
source="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
environment="$RUNNER_TEMP/harness/venv"

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "::error title=harness::$(python3 --version) is too old: expected Python 3.11 or later, as actions/setup-python installs"
  exit 2
}
read -rd '' -a further <<< "${PIP_ARGUMENTS:-}" || true
python3 -m venv "$environment"
"$environment/bin/python" -m pip install -c "$source/constraints.txt" "${further[@]}" "$source"
"$environment/bin/harness" --version
