#!/usr/bin/env bash
# Runs an experiment and gates it: what is suspect runs its further seeds, and is then judged once more.
#
# Reads: RUNNER_TEMP (with what install.sh made), MANIFEST, REFERENCE, and POLICY and SEEDS, which may be empty.
# Writes outcome, report and candidate to GITHUB_OUTPUT, and the reports to GITHUB_STEP_SUMMARY.
# Ends with 0 passed, 1 failed or a threshold or claim missed, 2 could not be judged, 3 undecided after all seeds.
set -euo pipefail
work="$RUNNER_TEMP/harness"
harness="$work/venv/bin/harness"
name="$(basename -s .toml -- "$MANIFEST")"
# It becomes part of paths and of lines that the runner reads; the same letters as in the manifest.
[[ "$name" =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || {
  echo "::error title=harness::the manifest's name has other letters than A-Z, a-z, 0-9, '.', '_' and '-'"
  exit 2
}
candidate="$work/results/records/$name"
report=""
export TOKENIZERS_PARALLELISM=false

# The code of the whole, and what it means.
end() {
  printf '%s\n' "outcome=$2" "report=$report" "candidate=$candidate" >> "$GITHUB_OUTPUT"
  cat "$work/run.md" >> "$GITHUB_STEP_SUMMARY" 2> /dev/null || true
  echo "outcome: $2"
  exit "$1"
}

run=("$harness" run "$MANIFEST" --results "$work/results" --store "$work/store")
[ -z "${SEEDS:-}" ] || run+=(--seeds "$SEEDS")
ran=0
# The verdict stands first in the summary, so that what the run says of itself waits.
GITHUB_STEP_SUMMARY="$work/run.md" "${run[@]}" || ran=$?

if [ ! -d "$REFERENCE" ]; then
  [ "$ran" -le 1 ] || end 2 "could not run"
  echo "::error title=no reference::there is nothing to compare with yet: accept these records, see the job's summary"
  {
    printf '\n## No reference yet\n\n'
    printf '%s\n\n' "The experiment was run, and there is nothing to compare it with. To make it the reference, get these records" \
      "(\`actions/upload-artifact\` of this action's output \`candidate\`) or run it yourself, then:"
    # shellcheck disable=SC2016 # backticks and $ are shown
    printf '```console\n$ harness accept --candidate %q --reference %q --yes\n```\n\n' "results/records/$name" "$REFERENCE"
    echo "and commit the folder of the reference."
  } >> "$GITHUB_STEP_SUMMARY"
  end 2 "no reference"
fi

# Also where it could not be run: the report then names what is missing.
report="$work/$name.gate.html"
gate=("$harness" gate --reference "$REFERENCE" --candidate "$candidate" --manifest "$MANIFEST" --html "$report")
[ -z "${POLICY:-}" ] || gate+=(--policy "$POLICY")
judged=0
"${gate[@]}" -- --store "$work/store" || judged=$?

[ "$ran" -le 1 ] || end 2 "could not run"
case "$judged" in
  0) [ "$ran" = 0 ] || end 1 "threshold missed"
     end 0 "passed" ;;
  1) end 1 "failed" ;;
  3) end 3 "undecided" ;;
  *) end 2 "cannot tell" ;;
esac
