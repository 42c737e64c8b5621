"""``ctclip`` as a process, with the faults that a test asks for in its environment."""

from __future__ import annotations

import os
import time


def main() -> None:
    """Run the command line."""
    if limit := os.environ.get("CTCLIP_TEST_MAX_FILE_BYTES"):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    if seconds := os.environ.get("CTCLIP_TEST_SECONDS_PER_SLICE"):
        from ctclip.pipeline import series as pipeline

        read_slice = pipeline.read_slice

        def slow(path: object) -> object:
            time.sleep(float(seconds))
            return read_slice(path)  # type: ignore[arg-type]

        pipeline.read_slice = slow  # type: ignore[assignment]
    from ctclip.cli.main import run

    run()


if __name__ == "__main__":
    main()
