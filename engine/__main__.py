"""The engine without the app: `python -m engine --help`."""

from engine.cli.main import main

if __name__ == "__main__":
    main(prog_name="python -m engine")
