"""``python -m pyg_mmrec.cli``."""

from pyg_mmrec.cli import main

if __name__ == "__main__":
    main()
