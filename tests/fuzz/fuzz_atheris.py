"""Coverage-guided fuzzing of the reader with atheris; no test, and no dependency of ctclip.

    python -m pip install atheris                      # into an environment that also holds ctclip
    python -m tests.fuzz.fuzz_atheris -max_total_time=60 -rss_limit_mb=2048 -timeout=10 [CORPUS_FOLDER]

All that the commands do with a file is done with every input; an exception that is no ``CtclipError``, a warning of
numpy, more than 10 seconds or 2 GB end the run, and libFuzzer writes the input to ``crash-*``. It starts from the valid
files of ``tests.fuzz.mutations``, and from those of the folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ctclip.dicom", "pydicom"]):
    from tests.fuzz.mutations import bases
    from tests.fuzz.test_fuzz_dicom import use


def main() -> None:
    """Run libFuzzer with the arguments of the command line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, target, corpus = folder / "in", folder / "out", folder / "corpus"
        for each in (source, target, corpus):
            each.mkdir()
        for number, content in enumerate(bases()):
            (corpus / str(number)).write_bytes(content)

        def one_input(content: bytes) -> None:
            (source / "file").write_bytes(content)
            use(source, target)
            for path in target.iterdir():
                path.unlink()

        atheris.Setup([*sys.argv, str(corpus)], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
