"""Notes the commit that a build is of in sparkgmm/commit.json; pyproject.toml has all else."""

import importlib.util
import json
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


def source():
    """Return the commit of this checkout, by the package's own function, or None."""
    path = HERE / "src" / "sparkgmm" / "runs" / "provenance.py"
    spec = importlib.util.spec_from_file_location("provenance", path)
    provenance = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(provenance)
    return provenance.of_checkout(provenance.PACKAGE)


class BuildWithCommit(build_py):
    """Note the commit in what is built; a checkout that is installed as it is keeps none."""

    def run(self):
        """Build, then note."""
        super().run()
        found = source()
        if found is not None and not self.editable_mode:
            noted = Path(self.build_lib) / "sparkgmm" / "commit.json"
            noted.write_text(json.dumps(found) + "\n", encoding="utf-8")


setup(cmdclass={"build_py": BuildWithCommit})
