"""Denoisers on simulated low dose of real scans: the commands of docs/results/ldct.md, one after another.

    python benchmarks/ldct_results.py FULL OUT --name filters --baseline median,nlm --model none --no-physics

Makes every volume in the folder FULL into low-dose partners (``ctclip simulate``; two doses, three seeds), judges
methods (``ctclip evaluate``, which gets all further options), and prints Markdown: mean over scans, then mean and SD
over seeds. What is in OUT already is not made again, so that an interrupted run goes on, and several names share the
low-dose volumes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from ctclip.report.markdown import mean_and_sd, table

DOSES, SEEDS = ("0.25", "0.1"), (0, 1, 2)

Table = dict[str, dict[str, list[float]]]
"""Values of all seeds by method and measure."""


def main() -> None:
    """Simulate, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("full", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", required=True)
    # everything that this script does not know is for ctclip evaluate
    args, options = parser.parse_known_args()
    for dose in DOSES:
        results = []
        for seed in SEEDS:
            pairs = simulate(args.full, args.out / f"dose{dose}_seed{seed}", dose, seed)
            result = pairs.parent / args.name
            if not result.exists():
                run("evaluate", pairs, "--output", result, "--seed", seed, "--quiet", *options)
            results.append(json.loads((result / "results.json").read_text()))
        print(f"\n## Dose {float(dose):.0%}\n")
        print(markdown(measures(results)))
        accepted = acceptance(results)
        if accepted:
            print("\n" + markdown(accepted), flush=True)


def simulate(full: Path, folder: Path, dose: str, seed: int) -> Path:
    """Low-dose partners of all volumes, and the list of pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["low,full,patient"]
    for number, volume in enumerate(sorted(full.iterdir())):
        low = folder / volume.name
        if not low.exists():
            run("simulate", volume, low, "--dose", dose, "--seed", seed, "--quiet")
        lines.append(f"{low.name},{volume.resolve()},{number}")
    pairs = folder / "pairs.csv"
    pairs.write_text("\n".join(lines) + "\n")
    return pairs


def run(*command: object) -> None:
    """Run a command of ctclip; exit code 3 (something left out) is shown in its report."""
    done = subprocess.run([Path(sys.executable).with_name("ctclip"), *(str(each) for each in command)])
    if done.returncode not in (0, 3):
        sys.exit(f"ctclip {command[0]} failed with exit code {done.returncode}")


def measures(results: list[dict]) -> Table:
    """Means over scans of each measure."""
    table: Table = {}
    for result in results:
        for row in result["summary"]:
            name = " ".join(part for part in (row["metric"], row["window"]) if part)
            table.setdefault(row["method"], {}).setdefault(name, []).append(_number(row["mean"]))
    return table


def acceptance(results: list[dict]) -> Table:
    """Values of the acceptance criteria."""
    table: Table = {}
    for result in results:
        for row in result["acceptance"]:
            name = f"{row['criterion']} ({row['limit']})"
            table.setdefault(row["method"], {}).setdefault(name, []).append(_number(row["value"]))
    return table


def markdown(found: Table) -> str:
    """Mean and SD over seeds, methods as rows."""
    columns = list(next(iter(found.values())))
    rows = [
        [method, *(mean_and_sd(values[name], ".3g", ".1g") for name in columns)] for method, values in found.items()
    ]
    return "\n".join(table(["method", *columns], rows))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


if __name__ == "__main__":
    main()
