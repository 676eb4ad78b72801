"""``python -m editthinker``: the command line."""

from editthinker.cli import main

if __name__ == "__main__":
    main()
