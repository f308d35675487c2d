"""What setup.cfg cannot say: a source distribution holds the links of a checkout as links.

setuptools would follow them, or not, in the order in which the file system lists folders. Only
`sdist` needs this file; wheels are built without it as well.
"""

import os
from collections.abc import Iterable

from setuptools import setup
from setuptools.command.sdist import sdist

LINKS = ("deploy/tgi/shims", "fastav_plugin/hooks", "fastav_plugin/model_overrides")


class LinkedSdist(sdist):
    """Adds the links to the tree that is packed; MANIFEST.in leaves out what they lead to."""

    def make_release_tree(self, base_dir: str, files: Iterable[str]) -> None:
        """Copy the files, then make the links."""
        super().make_release_tree(base_dir, files)
        for link in LINKS:
            os.symlink(os.readlink(link), os.path.join(base_dir, link))


setup(cmdclass={"sdist": LinkedSdist})
