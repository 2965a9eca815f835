"""``python -m jebm`` is the same as ``jebm``."""

from jebm.cli import main

main()
