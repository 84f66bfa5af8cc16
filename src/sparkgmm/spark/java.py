"""Is there a Java that Spark can run on? Standard library only: `make` runs this file by itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys

NEEDED = 17


def java_problem(needed: int = NEEDED) -> str | None:
    """Return one line that says what was found, what is needed and how to get it, or None."""
    home = os.environ.get("JAVA_HOME")
    command = os.path.join(home, "bin", "java") if home else "java"  # noqa: PTH118
    remedy = (
        f"Java {needed} or newer is needed: install it (apt-get install "
        f"openjdk-{needed}-jre-headless, brew install openjdk@{needed}) and point JAVA_HOME "
        "to it if you have several"
    )
    try:
        shown = subprocess.run([command, "-version"], capture_output=True, text=True, check=False)
    except OSError:
        return f"no Java was found (tried {command}), {remedy}"
    # 17.0.15, 21 or, before Java 9, 1.8.0_412
    version = re.search(r'version "((?:1\.)?(\d+)[^"]*)"', shown.stderr + shown.stdout)
    if version is None:
        return f"{command} -version did not answer with a version, {remedy}"
    if int(version.group(2)) < needed:
        return f"Java {version.group(1)} was found ({command}), {remedy}"
    return None


if __name__ == "__main__":
    problem = java_problem()
    if problem:
        sys.exit(f"error: {problem}")
