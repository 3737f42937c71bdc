#!/usr/bin/env bash
# Installs this checkout of the harness, at the versions of its constraints (on Linux x86-64 with Python 3.11: held
# against their hashes), into an environment of its own, so that it meets no package of the job.
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
install_hashed() {
  "$environment/bin/python" -m pip install --no-deps --require-hashes -r "$source/requirements/$1.txt"
}
# As the noxfile does: each file is held against its SHA-256 where there are such. pip refuses others beside them.
if [[ "$(uname -sm)" == "Linux x86_64" && "$(python3 --version)" == "Python 3.11."* && -z "${PIP_ARGUMENTS:-}" ]]; then
  install_hashed run
  if command -v nvidia-smi > /dev/null || ! install_hashed cpu; then
    install_hashed cuda
  fi
  "$environment/bin/python" -m pip install --no-deps --no-build-isolation "$source"
else
  "$environment/bin/python" -m pip install -c "$source/constraints.txt" "${further[@]}" "$source"
fi
"$environment/bin/harness" --version
