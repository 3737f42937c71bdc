"""The further seeds that decide what the gate suspects: `harness run` in a process of its own, beside the candidate."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RecordError


@dataclass(frozen=True, slots=True)
class FurtherSeeds:
    """Where further seeds of one experiment can be run.

    Attributes:
        manifest: of the experiment, which has its name.
        results: the folder whose records are the candidate.
        options: further ones of `harness run`, as the first seeds had them.
    """

    manifest: Path
    results: Path
    options: tuple[str, ...] = ()

    @classmethod
    def beside(cls, candidate: Path, manifest: Path, options: tuple[str, ...]) -> FurtherSeeds:
        """Find the results folder that a candidate lies in.

        Raises:
            RecordError: the candidate is not where `harness run` puts the records of this experiment.
        """
        folder = candidate.absolute()
        if (folder.parent.name, folder.name) != ("records", manifest.stem):
            raise RecordError(
                f"--candidate {candidate}: with --manifest {manifest} expected RESULTS/records/{manifest.stem}, where "
                "further seeds are written"
            )
        return cls(manifest, folder.parent.parent, options)

    def run(self, seeds: tuple[int, ...]) -> None:
        """Train and evaluate the seeds; thresholds that they miss end nothing, since what they are worth the gate says.

        Raises:
            RecordError: they could not be run.
        """
        wanted = ",".join(map(str, seeds))
        command = ["run", str(self.manifest), "--results", str(self.results), "--seeds", f"{wanted},", *self.options]
        code = subprocess.run([sys.executable, "-m", "harness", *command], check=False).returncode
        if code not in {0, 1}:
            raise RecordError(f"seeds {wanted} of {self.manifest} could not be run: exit code {code}, see above")
